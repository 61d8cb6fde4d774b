//! What the facts come to; pure.

use std::collections::BTreeMap;

use api::{Cluster, ClusterNode, NetworkType, NodeConfig, condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use semver::Version;

use super::{ClusterState, Component, Facts, NodeState, Status};
use crate::{join::is_applied, version};

/// Conditions that say that something is not used, while everything that can work does.
const NOTICES: [&str; 3] = [condition::CIDRS_UNIQUE, condition::OPTIONS_SUPPORTED, condition::SPEC_SUPPORTED];

pub(super) fn judge(facts: Facts, only: Option<&str>) -> Status {
    let is_wanted = |cluster: &str| only.is_none_or(|only| only == cluster);
    let mut status = Status { problems: facts.missing.clone(), ..Status::default() };
    let mut nodes: Vec<NodeState> = facts
        .nodes
        .iter()
        .filter(|node| is_wanted(node.spec.cluster_name.as_deref().unwrap_or_default()))
        .map(|node| node_state(node, &facts, &mut status))
        .collect();
    nodes.sort_by(|a, b| (&a.cluster, &a.node).cmp(&(&b.cluster, &b.node)));
    let clusters = facts.clusters.iter().filter(|cluster| is_wanted(&cluster.name_any()));
    let mut clusters: Vec<ClusterState> =
        clusters.map(|cluster| cluster_state(cluster, &nodes, &mut status)).collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(only) = only.filter(|only| clusters.iter().all(|cluster| cluster.name != *only)) {
        status.problems.push(format!("there is no Cluster {only}"));
    }
    status.components = facts
        .components
        .iter()
        .filter(|part| part.cluster == "control" || is_wanted(&part.cluster))
        .cloned()
        .collect();
    components(&mut status);
    strangers(&facts, &is_wanted, &mut status);
    (status.nodes, status.clusters) = (nodes, clusters);
    status.well = status.problems.is_empty();
    status
}

/// Conditions that are not true, and what they mean for the whole.
fn untrue(whose: &str, conditions: &[Condition], status: &mut Status) -> BTreeMap<String, String> {
    let mut untrue = BTreeMap::new();
    for found in conditions.iter().filter(|condition| condition.status != "True") {
        let text =
            format!("{whose}: {} is {} ({}): {}", found.type_, found.status, found.reason, found.message);
        let list =
            if NOTICES.contains(&found.type_.as_str()) { &mut status.notices } else { &mut status.problems };
        list.push(text);
        untrue.insert(found.type_.clone(), format!("{}: {}", found.reason, found.message));
    }
    untrue
}

fn cluster_state(cluster: &Cluster, nodes: &[NodeState], status: &mut Status) -> ClusterState {
    let name = cluster.name_any();
    let whose = format!("Cluster {name}");
    let conditions = cluster.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    let options = cluster.spec.cluster_link_options.as_ref();
    for (kind, who) in [
        (
            condition::CIDRS_KNOWN,
            "its controller-manager has never reported: does it run, and does it reach the control cluster? (kosmosctl join gives it a new credential)",
        ),
        (condition::PLANNED, "the network-manager has not looked at it: does it run?"),
    ] {
        if conditions.iter().all(|condition| condition.type_ != kind) {
            status.problems.push(format!("{whose}: no word on {kind}: {who}"));
        }
    }
    let own: Vec<&NodeState> = nodes.iter().filter(|node| node.cluster == name).collect();
    if own.is_empty() {
        status.problems.push(format!("{whose}: it has no node"));
    }
    let found =
        cluster.status.as_ref().and_then(|status| status.cluster_link_status.clone()).unwrap_or_default();
    ClusterState {
        mode: match options.map(|options| options.network_type) {
            Some(NetworkType::Gateway) => "gateway",
            Some(NetworkType::P2p) => "p2p",
            None => "none",
        }
        .to_owned(),
        nodes: own.len(),
        applied: own.iter().filter(|node| node.state == APPLIED).count(),
        pod_cidrs: found.pod_cidrs,
        service_cidrs: found.service_cidrs,
        conditions: untrue(&whose, &conditions, status),
        name,
    }
}

const APPLIED: &str = "applied";

fn node_state(node: &ClusterNode, facts: &Facts, status: &mut Status) -> NodeState {
    let name = node.name_any();
    let spec = &node.spec;
    let (cluster, node_name) =
        (spec.cluster_name.clone().unwrap_or_default(), spec.node_name.clone().unwrap_or_default());
    let config = facts.configs.iter().find(|config| config.name_any() == name);
    let own = node.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    let mut conditions = untrue(&format!("ClusterNode {name}"), &own, status);
    let has_agent = facts.agents.get(&(cluster.clone(), node_name.clone())).copied();
    if has_agent == Some(false) {
        status.problems.push(format!("node {node_name} of cluster {cluster}: no agent of it is ready"));
    }
    let addresses: Vec<String> = spec.ip.iter().chain(&spec.ip6).cloned().collect();
    let state = match config {
        _ if addresses.is_empty() => {
            status.problems.push(format!("ClusterNode {name}: its agent has never reported an address"));
            "no agent"
        }
        None => "not planned",
        Some(config) => {
            let said = config.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
            conditions.extend(untrue(&format!("NodeConfig {name}"), &said, status));
            state_of(config, &name, status)
        }
    };
    let measured = config.and_then(|config| config.status.clone()).unwrap_or_default();
    NodeState {
        addresses,
        gateway: spec.is_gateway() && facts.mode(&cluster) == Some(NetworkType::Gateway),
        state: state.to_owned(),
        entries: measured.entries.map(|entries| entries.desired),
        differing: measured.differing,
        conditions,
        cluster,
        node: node_name,
    }
}

fn state_of(config: &NodeConfig, name: &str, status: &mut Status) -> &'static str {
    let Some(measured) = &config.status else {
        status.problems.push(format!("NodeConfig {name}: its agent has not reported"));
        return "silent";
    };
    if config.metadata.deletion_timestamp.is_some() {
        status.problems.push(format!(
            "NodeConfig {name}: it is being removed, and its agent has not cleaned the host yet"
        ));
        return "leaving";
    }
    if measured.observed_generation != config.metadata.generation {
        let seen = measured.observed_generation.map_or("none".to_owned(), |seen| seen.to_string());
        let newest = config.metadata.generation.unwrap_or_default();
        status.problems.push(format!(
            "NodeConfig {name}: its agent reports on generation {seen}, and {newest} is the newest"
        ));
        return "behind";
    }
    if is_applied(config) { APPLIED } else { "differs" }
}

fn components(status: &mut Status) {
    let control =
        status.components.iter().find(|part| part.cluster == "control").and_then(|part| part.version.clone());
    let parsed = |version: &Option<String>| Version::parse(version.as_ref()?).ok();
    let above = parsed(&control);
    let mut said: Vec<(bool, String)> = Vec::new();
    for Component { cluster, name, version, available, wanted } in &status.components {
        if available < wanted {
            said.push((
                true,
                format!("{name} of cluster {cluster}: {available} of {wanted} pods are available"),
            ));
        }
        let Some((above, below)) = above.clone().zip(parsed(version)) else { continue };
        match version::skew(&above, &below) {
            0 if above == below => {}
            0 | 1 => said.push((false, format!("{name} of cluster {cluster} is {below}, the control cluster {above}: kosmosctl upgrade brings them together"))),
            _ => said.push((true, format!("{name} of cluster {cluster} is {below}, the control cluster {above}: more than one minor version is never tested; kosmosctl upgrade"))),
        }
    }
    for (is_problem, text) in said {
        if is_problem { status.problems.push(text) } else { status.notices.push(text) }
    }
}

/// NodeConfigs without a node.
fn strangers(facts: &Facts, is_wanted: &impl Fn(&str) -> bool, status: &mut Status) {
    for config in &facts.configs {
        let cluster = config.labels().get(api::CLUSTER_LABEL).cloned().unwrap_or_default();
        let name = config.name_any();
        if is_wanted(&cluster) && facts.nodes.iter().all(|node| node.name_any() != name) {
            status.problems.push(format!("NodeConfig {name}: there is no ClusterNode of that name"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn condition(kind: &str, status: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": "Because", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn facts() -> Facts {
        Facts {
            clusters: vec![of(
                json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "east"},
                "spec": {"clusterLinkOptions": {"networkType": "gateway"}},
                "status": {"clusterLinkStatus": {"podCIDRs": ["10.1.0.0/16"], "serviceCIDRs": ["10.96.0.0/12"]},
                    "conditions": [condition("CIDRsKnown", "True", ""), condition("Planned", "True", "")]}}),
            )],
            nodes: vec![of(
                json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode", "metadata": {"name": "east-n1"},
                "spec": {"clusterName": "east", "nodeName": "n1", "ip": "192.168.0.1", "roles": ["gateway"]}}),
            )],
            configs: vec![of(json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "NodeConfig",
                "metadata": {"name": "east-n1", "generation": 4, "labels": {"kosmos.io/cluster": "east"}}, "spec": {},
                "status": {"observedGeneration": 4, "entries": {"desired": 12, "differing": 0},
                    "conditions": [condition("Applied", "True", "")]}}))],
            components: vec![Component {
                cluster: "control".to_owned(),
                name: "clusterlink-network-manager".to_owned(),
                version: Some("0.2.0".to_owned()),
                available: 2,
                wanted: 2,
            }],
            ..Facts::default()
        }
    }

    #[test]
    fn a_mesh_of_which_nothing_is_said_is_well() {
        let status = judge(facts(), None);
        assert_eq!((status.well, &status.problems, &status.notices), (true, &vec![], &vec![]));
        insta::assert_snapshot!(super::super::text::render(&status), @r"
        CLUSTER   COMPONENT                     VERSION   AVAILABLE
        control   clusterlink-network-manager   0.2.0     2/2

        CLUSTER   MODE      APPLIED   PODS          SERVICES       NOT TRUE
        east      gateway   1/1       10.1.0.0/16   10.96.0.0/12   -

        CLUSTER   NODE   ADDRESSES     ROLE      STATE     ENTRIES   DIFFERING
        east      n1     192.168.0.1   gateway   applied   12        0

        1 clusters, 1 nodes: all is well
        ");
    }

    #[test]
    fn what_is_wrong_is_said_and_is_not_well() {
        let mut facts = facts();
        let cluster = facts.clusters[0].status.as_mut().unwrap();
        cluster.conditions.push(of(condition("CIDRsUnique", "False", "service CIDR 10.96.0.0/12 overlaps")));
        let measured = facts.configs[0].status.as_mut().unwrap();
        measured.conditions = vec![of(condition("Applied", "False", "route 10.2.0.0/16: no such device"))];
        measured.differing = vec!["route 10.2.0.0/16: no such device".to_owned()];
        facts.components.push(Component {
            cluster: "east".to_owned(),
            name: "clusterlink-agent".to_owned(),
            version: Some("0.1.3".to_owned()),
            available: 0,
            wanted: 1,
        });
        facts.agents.insert(("east".to_owned(), "n1".to_owned()), false);
        let status = judge(facts, Some("east"));
        assert!(!status.well);
        insta::assert_snapshot!(super::super::text::render(&status), @r"
        CLUSTER   COMPONENT                     VERSION   AVAILABLE
        control   clusterlink-network-manager   0.2.0     2/2
        east      clusterlink-agent             0.1.3     0/1

        CLUSTER   MODE      APPLIED   PODS          SERVICES       NOT TRUE
        east      gateway   0/1       10.1.0.0/16   10.96.0.0/12   CIDRsUnique

        CLUSTER   NODE   ADDRESSES     ROLE      STATE     ENTRIES   DIFFERING
        east      n1     192.168.0.1   gateway   differs   12        1

        NOTICES
          Cluster east: CIDRsUnique is False (Because): service CIDR 10.96.0.0/12 overlaps
          clusterlink-agent of cluster east is 0.1.3, the control cluster 0.2.0: kosmosctl upgrade brings them together

        PROBLEMS
          node n1 of cluster east: no agent of it is ready
          NodeConfig east-n1: Applied is False (Because): route 10.2.0.0/16: no such device
          clusterlink-agent of cluster east: 0 of 1 pods are available

        1 clusters, 1 nodes: NOT well, 3 problems
        ");
    }

    #[test]
    fn an_agent_that_is_silent_or_behind_is_named() {
        let mut silent = facts();
        silent.configs[0].status = None;
        assert_eq!(judge(silent, None).problems, ["NodeConfig east-n1: its agent has not reported"]);
        let mut behind = facts();
        behind.configs[0].metadata.generation = Some(5);
        let status = judge(behind, None);
        assert_eq!(
            status.problems,
            ["NodeConfig east-n1: its agent reports on generation 4, and 5 is the newest"]
        );
        assert_eq!(status.clusters[0].applied, 0);
        let mut never = facts();
        never.nodes[0].spec.ip = None;
        assert_eq!(
            judge(never, None).problems,
            ["ClusterNode east-n1: its agent has never reported an address"]
        );
    }

    #[test]
    fn a_cluster_of_which_nobody_has_heard_is_a_problem() {
        let mut facts = facts();
        facts.clusters[0].status = None;
        facts.nodes.clear();
        let status = judge(facts, None);
        assert_eq!(status.problems.len(), 4, "{:?}", status.problems);
        assert!(
            status.problems.iter().any(|text| text.contains("its controller-manager has never reported"))
        );
        assert!(status.problems.iter().any(|text| text.contains("there is no ClusterNode of that name")));
    }
}
