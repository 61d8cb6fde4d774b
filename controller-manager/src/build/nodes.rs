//! The own cluster's nodes as the whole mesh shall know them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use api::{
    ClusterNode, ClusterNodeSpec, EXCLUDE_LABEL, GATEWAY_LABEL, GATEWAY_ROLE, NodeId, PUBLIC_IP_ANNOTATION,
    VIRTUAL_NODE_LABEL,
};
use cni_adapters::NODES;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    DesiredNode,
    cidrs::{Cidrs, texts},
    status::Obstacle,
};
use crate::index::Index;

/// A Node that takes part.
pub(crate) struct Member<'a> {
    pub(crate) id: NodeId,
    /// Whether it is labelled as a gateway.
    pub(crate) labelled: bool,
    /// Since when it has not been ready.
    pub(crate) not_ready_since: Option<Timestamp>,
    public_ip: Option<&'a str>,
}

/// The Nodes that take part: those that no label keeps out.
pub(crate) fn members(index: &Index) -> Vec<Member<'_>> {
    let nodes = index.observed.of(&NODES).filter(|node| !is_kept_out(node));
    nodes.map(|node| member(&index.cluster, node)).collect()
}

fn is_kept_out(node: &Value) -> bool {
    [EXCLUDE_LABEL, VIRTUAL_NODE_LABEL].into_iter().any(|label| node["metadata"]["labels"][label] == "true")
}

fn member<'a>(cluster: &str, node: &'a Value) -> Member<'a> {
    let metadata = &node["metadata"];
    Member {
        id: NodeId::new(cluster, metadata["name"].as_str().unwrap_or_default()),
        labelled: metadata["labels"][GATEWAY_LABEL] == "true",
        not_ready_since: not_ready_since(node),
        public_ip: metadata["annotations"][PUBLIC_IP_ANNOTATION].as_str().filter(|text| !text.is_empty()),
    }
}

/// A Node without the condition has nobody's word that it is not ready.
fn not_ready_since(node: &Value) -> Option<Timestamp> {
    let conditions = node["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    let since = ready["lastTransitionTime"].as_str().and_then(|text| text.parse().ok());
    (ready["status"] != "True").then(|| since.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The ClusterNodes, and what stands in the way of some.
pub(crate) fn build(
    index: &Index,
    members: &[Member<'_>],
    cidrs: &Cidrs,
    gateways: &BTreeSet<String>,
) -> (BTreeMap<String, DesiredNode>, Vec<Obstacle>) {
    let mut obstacles = Vec::new();
    let mut nodes = BTreeMap::new();
    for member in members {
        let name = member.id.object_name();
        let before = index.control.cluster_nodes.get(&name);
        if let Some(owner) = before.and_then(|before| foreign_owner(before, &index.cluster)) {
            obstacles.push(collision(&member.id, owner));
            continue;
        }
        let mut node = relayed(index, &name, before);
        node.spec.cluster_name = Some(member.id.cluster.clone());
        node.spec.node_name = Some(member.id.node.clone());
        node.spec.pod_cidrs = pod_cidrs(cidrs, &member.id.node, before);
        if gateways.contains(&member.id.node) {
            node.spec.roles = vec![GATEWAY_ROLE.to_owned()];
        }
        node.spec.public_ip = public_ip(member, before, &mut obstacles);
        nodes.insert(name, node);
    }
    (nodes, obstacles)
}

/// The other cluster that a ClusterNode belongs to.
pub(crate) fn foreign_owner<'a>(node: &'a ClusterNode, cluster: &str) -> Option<&'a str> {
    node.spec.cluster_name.as_deref().filter(|owner| *owner != cluster)
}

/// `a-b` + `c` and `a` + `b-c` share a name.
pub(crate) fn collision(id: &NodeId, owner: &str) -> Obstacle {
    let message = format!(
        "Node {}: its ClusterNode would be named {}, which belongs to cluster {owner:?} (spec.clusterName); it is left out until one of the two clusters or nodes is renamed",
        id.node,
        id.object_name()
    );
    Obstacle { reason: "NameCollision", message }
}

/// What the node's agent found, as far as it is ours to write. Facts stay as they were while there are no newer ones.
fn relayed(index: &Index, name: &str, before: Option<&ClusterNode>) -> DesiredNode {
    if index.same_server {
        return DesiredNode::default();
    }
    let reported = index.member.cluster_nodes.get(name);
    let reported = reported.filter(|node| foreign_owner(node, &index.cluster).is_none());
    let facts = |node: &ClusterNode| ClusterNodeSpec {
        ip: node.spec.ip.clone(),
        ip6: node.spec.ip6.clone(),
        interface_name: node.spec.interface_name.clone(),
        ..ClusterNodeSpec::default()
    };
    let spec = reported
        .map(facts)
        .filter(|facts| *facts != ClusterNodeSpec::default())
        .or_else(|| before.map(facts))
        .unwrap_or_default();
    let status = |node: &ClusterNode| {
        let status = node.status.as_ref()?;
        let known = status.mtu.is_some() || !status.capabilities.is_empty();
        known.then(|| (status.mtu, status.capabilities.clone()))
    };
    let (mtu, capabilities) =
        reported.and_then(status).or_else(|| before.and_then(status)).unwrap_or_default();
    DesiredNode { spec, mtu, capabilities }
}

/// What is known stays while what is found may be out of date, or another CNI's.
fn pod_cidrs(cidrs: &Cidrs, node: &str, before: Option<&ClusterNode>) -> Vec<String> {
    let known = before.map(|before| &before.spec.pod_cidrs).filter(|known| !known.is_empty());
    match (known, cidrs.per_node.get(node)) {
        (Some(known), _) if cidrs.stale => known.clone(),
        (_, Some(found)) => texts(found),
        (_, None) => Vec::new(),
    }
}

/// The address in the Node's annotation; one that is none leaves what was known.
fn public_ip(
    member: &Member<'_>,
    before: Option<&ClusterNode>,
    obstacles: &mut Vec<Obstacle>,
) -> Option<String> {
    let text = member.public_ip?;
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Some(address.to_string()),
        Err(_) => {
            let message = format!(
                "Node {}: annotation {PUBLIC_IP_ANNOTATION} is {text:?}, which is not an IP address such as 203.0.113.7; correct or remove it",
                member.id.node
            );
            obstacles.push(Obstacle { reason: "InvalidValue", message });
            before.and_then(|before| before.spec.public_ip.clone())
        }
    }
}
