//! What has to be written so that both APIs hold what they should; pure.

use std::collections::BTreeSet;

use api::{
    CLUSTER_LABEL, Cluster, ClusterNode, ClusterNodeSpec, GROUP, NodeConfig, NodeId,
    cluster::ClusterLinkStatus, condition::PUBLISHED,
};
use cni_adapters::NODES;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde_json::{Value, json};

use crate::{
    build::{Desired, DesiredNode, OwnStatus, foreign_owner},
    index::{Index, Kind, Seen, Side, Target, labelled, terminating},
};

/// One thing to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What is written.
    pub target: Target,
    /// How.
    pub action: Action,
    /// The version of the object that it was compared with.
    pub live: Option<String>,
    /// What an operator is told once it is written: conditions that have changed.
    pub notices: Vec<Condition>,
}

/// How something is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A ClusterNode that is not known to exist: only if nobody else's bears its name.
    Create(Value),
    /// Server-side apply.
    Apply(Value),
    /// Only this very object, by its uid.
    Delete(Option<String>),
}

/// What has to be written, in the order of targets: nothing where everything is as it should be.
pub fn diff(index: &Index, desired: &Desired<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    cluster_nodes(index, desired, &mut changes);
    if !index.same_server {
        mirrored_cluster(index, desired, &mut changes);
        node_configs(index, desired, &mut changes);
        leftovers(index, &mut changes);
        relayed(index, desired, &mut changes);
    }
    own_status(index, desired.status.as_ref(), &mut changes);
    changes.sort_by(|a, b| a.target.cmp(&b.target));
    changes
}

fn change(side: Side, kind: Kind, name: &str, live: Option<&ObjectMeta>, action: Action) -> Change {
    Change {
        target: Target { side, kind, name: name.to_owned(), status: false },
        action: only_to(live, action),
        live: live.and_then(|live| live.resource_version.clone()),
        notices: Vec::new(),
    }
}

/// What was compared is what is written to: not another object that has come to bear its name.
fn only_to(live: Option<&ObjectMeta>, mut action: Action) -> Action {
    if let (Action::Apply(body), Some(uid)) = (&mut action, live.and_then(|live| live.uid.as_ref())) {
        body["metadata"]["uid"] = json!(uid);
    }
    action
}

fn of_status(change: Change) -> Change {
    Change { target: Target { status: true, ..change.target }, ..change }
}

/// An object as server-side apply wants it.
fn body(kind: Kind, name: &str, labels: Option<&str>, key: &str, part: Value) -> Value {
    let mut body = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": format!("{kind:?}"),
        "metadata": {"name": name},
        key: part,
    });
    if let Some(cluster) = labels {
        body["metadata"]["labels"] = json!({CLUSTER_LABEL: cluster});
    }
    body
}

fn own_status(index: &Index, desired: Option<&OwnStatus>, changes: &mut Vec<Change>) {
    let (Some(desired), Some(live)) = (desired, index.own()) else { return };
    let status = live.status.clone().unwrap_or_default();
    let mut conditions = desired.conditions.clone();
    if changes.iter().any(|change| !change.target.status) {
        not_before_it_is_so(&mut conditions, &status.conditions);
    }
    let notices = changed_conditions(&status.conditions, &conditions);
    if status.cluster_link_status.as_ref() == Some(&desired.found) && notices.is_empty() {
        return;
    }
    let part = json!({"clusterLinkStatus": found(&desired.found), "conditions": conditions});
    let action = Action::Apply(body(Kind::Cluster, &index.cluster, None, "status", part));
    let change = change(Side::Control, Kind::Cluster, &index.cluster, Some(&live.metadata), action);
    changes.push(Change { notices, ..of_status(change) });
}

/// While objects are still to be written, nobody is told that all of them are: what was said before is said again.
fn not_before_it_is_so(conditions: &mut Vec<Condition>, live: &[Condition]) {
    let before = live.iter().find(|condition| condition.type_ == PUBLISHED);
    let early = |condition: &Condition| condition.type_ == PUBLISHED && condition.status == "True";
    if before.is_some_and(|before| before.status == "True") || !conditions.iter().any(early) {
        return;
    }
    conditions.retain(|condition| condition.type_ != PUBLISHED);
    conditions.extend(before.cloned());
}

/// Empty lists are written out, so that they also replace what other writers left there.
fn found(found: &ClusterLinkStatus) -> Value {
    let mut value = json!(found);
    value["podCIDRs"] = json!(found.pod_cidrs);
    value["serviceCIDRs"] = json!(found.service_cidrs);
    value
}

fn changed_conditions(live: &[Condition], desired: &[Condition]) -> Vec<Condition> {
    desired.iter().filter(|condition| !live.contains(condition)).cloned().collect()
}

fn cluster_nodes(index: &Index, desired: &Desired<'_>, changes: &mut Vec<Change>) {
    // Without its Cluster, what should be there is unknown, not nothing.
    if desired.status.is_none() {
        return;
    }
    let live = &index.control.cluster_nodes;
    for (name, node) in &desired.cluster_nodes {
        if index.control.is_unreadable(Kind::ClusterNode, name) {
            continue;
        }
        match live.get(name) {
            Some(live) if terminating(live) => {}
            Some(live) => existing_node(index, live, name, node, changes),
            None => {
                let action = Action::Create(node_body(index, name, node));
                changes.push(change(Side::Control, Kind::ClusterNode, name, None, action));
            }
        }
    }
    let own = live.iter().filter(|(_, live)| live.spec.cluster_name.as_deref() == Some(&index.cluster));
    for (name, live) in
        own.filter(|(name, live)| !desired.cluster_nodes.contains_key(*name) && !terminating(*live))
    {
        let action = Action::Delete(live.metadata.uid.clone());
        changes.push(change(Side::Control, Kind::ClusterNode, name, Some(&live.metadata), action));
    }
}

fn node_body(index: &Index, name: &str, node: &DesiredNode) -> Value {
    let mut spec = json!(node.spec);
    spec["podCIDRs"] = json!(node.spec.pod_cidrs);
    spec["roles"] = json!(node.spec.roles);
    body(Kind::ClusterNode, name, Some(&index.cluster), "spec", spec)
}

fn existing_node(
    index: &Index,
    live: &ClusterNode,
    name: &str,
    desired: &DesiredNode,
    changes: &mut Vec<Change>,
) {
    let write = |action| change(Side::Control, Kind::ClusterNode, name, Some(&live.metadata), action);
    if ours(index, &live.spec) != desired.spec || !labelled(&live.metadata, &index.cluster) {
        changes.push(write(Action::Apply(node_body(index, name, desired))));
    }
    if index.same_server {
        return;
    }
    let status = live.status.clone().unwrap_or_default();
    if (status.mtu, &status.capabilities) != (desired.mtu, &desired.capabilities) {
        let mut part = json!({"capabilities": desired.capabilities});
        if let Some(mtu) = desired.mtu {
            part["mtu"] = json!(mtu);
        }
        let action = Action::Apply(body(Kind::ClusterNode, name, None, "status", part));
        changes.push(of_status(write(action)));
    }
}

/// The fields of a ClusterNode's spec that this controller-manager writes.
fn ours(index: &Index, spec: &ClusterNodeSpec) -> ClusterNodeSpec {
    if index.same_server {
        ClusterNodeSpec { ip: None, ip6: None, interface_name: None, ..spec.clone() }
    } else {
        spec.clone()
    }
}

fn mirrored_cluster(index: &Index, desired: &Desired<'_>, changes: &mut Vec<Change>) {
    let name = &index.cluster;
    let live: Option<&Cluster> = index.member.clusters.get(name);
    let write = |action| change(Side::Member, Kind::Cluster, name, live.map(|live| &live.metadata), action);
    if index.member.is_unreadable(Kind::Cluster, name) || live.is_some_and(terminating) {
        return;
    }
    match (&desired.cluster, live) {
        (Some(spec), Some(live)) if live.spec == *spec && labelled(&live.metadata, name) => {}
        (Some(spec), _) => {
            let action = Action::Apply(body(Kind::Cluster, name, Some(name), "spec", json!(spec)));
            changes.push(write(action));
        }
        // Only a copy of ours goes with its original, and an original that cannot be read is not gone.
        (None, Some(live)) if labelled(&live.metadata, name) => {
            if !index.control.is_unreadable(Kind::Cluster, name) {
                changes.push(write(Action::Delete(live.metadata.uid.clone())));
            }
        }
        (None, _) => {}
    }
}

fn node_configs(index: &Index, desired: &Desired<'_>, changes: &mut Vec<Change>) {
    let live = &index.member.node_configs;
    for (name, above) in &desired.node_configs {
        let below = live.get(*name);
        if index.member.is_unreadable(Kind::NodeConfig, name) || is_as_above(index, above, below) {
            continue;
        }
        let spec = json!(above.object.spec);
        let action = Action::Apply(body(Kind::NodeConfig, name, Some(&index.cluster), "spec", spec));
        let live = below.map(|below| &below.object.metadata);
        changes.push(change(Side::Member, Kind::NodeConfig, name, live, action));
    }
    for (name, below) in live {
        let metadata = &below.object.metadata;
        let wanted = desired.node_configs.contains_key(name.as_str())
            || index.control.is_unreadable(Kind::NodeConfig, name);
        if !wanted && labelled(metadata, &index.cluster) && !terminating(&below.object) {
            let action = Action::Delete(metadata.uid.clone());
            changes.push(change(Side::Member, Kind::NodeConfig, name, Some(metadata), action));
        }
    }
}

/// One that is being torn down is written again when it is gone.
fn is_as_above(index: &Index, above: &Seen<NodeConfig>, below: Option<&Seen<NodeConfig>>) -> bool {
    below.is_some_and(|below| {
        let metadata = &below.object.metadata;
        terminating(&below.object) || (below.digest == above.digest && labelled(metadata, &index.cluster))
    })
}

/// What an agent reported of a Node that is not there any more, excluded or not: nobody else removes it.
fn leftovers(index: &Index, changes: &mut Vec<Change>) {
    let names = index.observed.of(&NODES).filter_map(|node| node["metadata"]["name"].as_str());
    let present: BTreeSet<String> =
        names.map(|name| NodeId::new(&index.cluster, name).object_name()).collect();
    for (name, reported) in &index.member.cluster_nodes {
        let metadata = &reported.metadata;
        let is_ours = labelled(metadata, &index.cluster) && foreign_owner(reported, &index.cluster).is_none();
        if is_ours && !present.contains(name) && !terminating(reported) {
            let action = Action::Delete(metadata.uid.clone());
            changes.push(change(Side::Member, Kind::ClusterNode, name, Some(metadata), action));
        }
    }
}

fn relayed(index: &Index, desired: &Desired<'_>, changes: &mut Vec<Change>) {
    for (name, status) in &desired.relayed {
        let Some(above) = index.control.node_configs.get(*name) else { continue };
        if above.object.status.as_ref() == Some(status) {
            continue;
        }
        let action = Action::Apply(body(Kind::NodeConfig, name, None, "status", json!(status)));
        changes.push(of_status(change(
            Side::Control,
            Kind::NodeConfig,
            name,
            Some(&above.object.metadata),
            action,
        )));
    }
}
