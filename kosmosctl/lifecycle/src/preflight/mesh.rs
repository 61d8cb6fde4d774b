//! What the mesh would say of the cluster if it joined: the plan's own words, of the plan's own code.

use std::{collections::BTreeSet, net::IpAddr};

use api::{
    Cluster, ClusterNode, ClusterNodeSpec, ClusterStatus, EXCLUDE_LABEL, GATEWAY_LABEL, GATEWAY_ROLE, NodeId,
    PUBLIC_IP_ANNOTATION, VIRTUAL_NODE_LABEL, cluster::ClusterLinkStatus,
};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use network_plan::{Effect, Problem, Rejection, Snapshot, Use};

use super::{Check, Findings, Mesh, observe::Seen};

pub(super) fn check(mesh: &Mesh, candidate: &Cluster, seen: &Seen, findings: &mut Findings) {
    found(candidate, seen, findings);
    let name = candidate.name_any();
    let clusters = mesh.clusters.iter().filter(|cluster| cluster.name_any() != name);
    let others: Vec<Cluster> = clusters.cloned().collect();
    let is_own = |node: &&ClusterNode| node.spec.cluster_name.as_deref() == Some(name.as_str());
    let other_nodes: Vec<ClusterNode> = mesh.nodes.iter().filter(|node| !is_own(node)).cloned().collect();
    let before = rejections(&others, &other_nodes);

    let clusters: Vec<Cluster> = others.into_iter().chain([would_be(candidate, seen)]).collect();
    let own = seen.nodes.iter().filter(|node| takes_part(node)).map(|node| node_of(&name, node, seen));
    let mut nodes: Vec<ClusterNode> = other_nodes.into_iter().chain(own).collect();
    network_plan::election::fill_roles(&clusters, &mut nodes);
    let new: Vec<Rejection> = rejections(&clusters, &nodes).difference(&before).cloned().collect();
    if new.is_empty() {
        let message =
            format!("nothing of cluster {name:?} overlaps any of the {} joined clusters", clusters.len() - 1);
        findings.ok(Check::Addresses, message);
    }
    for rejection in new.iter().filter(|rejection| is_news(rejection, &name)) {
        if is_fatal(rejection) {
            findings.fail(Check::Addresses, rejection.to_string());
        } else {
            findings.warn(Check::Addresses, rejection.to_string());
        }
    }
}

fn rejections(clusters: &[Cluster], nodes: &[ClusterNode]) -> BTreeSet<Rejection> {
    network_plan::topology(&Snapshot::new(clusters, nodes)).1.into_iter().collect()
}

/// An overlap is said of both ends, and a cluster's fault of each of its nodes: what is said of the cluster is enough.
fn is_news(rejection: &Rejection, name: &str) -> bool {
    let of_own = rejection.subject == network_plan::Subject::cluster(name);
    let follows = matches!(rejection.problem, Problem::ClusterUnplanned { .. } | Problem::ClusterLeft { .. });
    of_own || !follows && rejection.problem.effect() != Effect::Overlap
}

/// What leaves a cluster or its pods without any use for another one. An overlap of services costs those services only.
fn is_fatal(rejection: &Rejection) -> bool {
    match &rejection.problem {
        Problem::CidrOverlap { use_, other_use, .. } => *use_ == Use::Pod && *other_use == Use::Pod,
        Problem::CoversUnderlay { .. } | Problem::OverlapsPool { .. } => true,
        problem => problem.effect() == Effect::Unplanned,
    }
}

fn found(candidate: &Cluster, seen: &Seen, findings: &mut Findings) {
    let name = candidate.name_any();
    for problem in seen.pods.problems.iter().chain(&seen.services.problems) {
        findings.warn(Check::Addresses, format!("cluster {name:?}: {problem}"));
    }
    let texts = |cidrs: &[ipnetwork::IpNetwork]| {
        let texts: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
        if texts.is_empty() { "not known".to_owned() } else { texts.join(", ") }
    };
    findings.ok(
        Check::Addresses,
        format!(
            "cluster {name:?}: pods {} (by {}), services {}",
            texts(&seen.pods.pod_cidrs),
            if seen.pods.adapter.is_empty() { "no adapter" } else { &seen.pods.adapter },
            texts(&seen.services.cidrs)
        ),
    );
    if seen.services.cidrs.is_empty() {
        findings.warn(
            Check::Addresses,
            format!("cluster {name:?}: its service CIDR cannot be read: its services are not reached from other clusters until it can"),
        );
    }
}

fn would_be(candidate: &Cluster, seen: &Seen) -> Cluster {
    let texts = |cidrs: &[ipnetwork::IpNetwork]| cidrs.iter().map(ToString::to_string).collect();
    let found = ClusterLinkStatus {
        pod_cidrs: texts(&seen.pods.pod_cidrs),
        service_cidrs: texts(&seen.services.cidrs),
        ..ClusterLinkStatus::default()
    };
    let status = ClusterStatus { cluster_link_status: Some(found), ..ClusterStatus::default() };
    Cluster { status: Some(status), ..candidate.clone() }
}

fn takes_part(node: &Node) -> bool {
    let is = |label: &str| node.labels().get(label).is_some_and(|value| value == "true");
    !is(EXCLUDE_LABEL) && !is(VIRTUAL_NODE_LABEL)
}

fn node_of(cluster: &str, node: &Node, seen: &Seen) -> ClusterNode {
    let id = NodeId::new(cluster, node.name_any());
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal: Vec<IpAddr> = addresses
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect();
    let first = |is: fn(&IpAddr) -> bool| internal.iter().find(|ip| is(ip)).map(ToString::to_string);
    let blocks = seen.pods.per_node.get(&id.node).into_iter().flatten();
    let is_gateway = node.labels().get(GATEWAY_LABEL).is_some_and(|value| value == "true");
    let spec = ClusterNodeSpec {
        cluster_name: Some(id.cluster.clone()),
        node_name: Some(id.node.clone()),
        pod_cidrs: blocks.map(ToString::to_string).collect(),
        ip: first(IpAddr::is_ipv4),
        ip6: first(IpAddr::is_ipv6),
        // Its agent will find it; until then any name does.
        interface_name: Some("eth0".to_owned()),
        roles: if is_gateway { vec![GATEWAY_ROLE.to_owned()] } else { Vec::new() },
        public_ip: node.annotations().get(PUBLIC_IP_ANNOTATION).cloned(),
    };
    ClusterNode::new(&id.object_name(), spec)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use cni_adapters::{Facts, service_cidrs::ServiceFacts};

    use super::*;
    use crate::preflight::Level;

    fn cluster(name: &str, pods: &str, services: &str) -> Cluster {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
            "spec": {"clusterLinkOptions": {"networkType": "p2p"}},
            "status": {"clusterLinkStatus": {"podCIDRs": [pods], "serviceCIDRs": [services]}}}))
        .unwrap()
    }

    fn node(name: &str, ip: &str) -> Node {
        serde_json::from_value(serde_json::json!({"metadata": {"name": name},
            "status": {"addresses": [{"type": "InternalIP", "address": ip}]}}))
        .unwrap()
    }

    fn seen(pods: &str, services: &str, node_name: &str) -> Seen {
        let pods = vec![pods.parse().unwrap()];
        let facts = Facts {
            adapter: "node".to_owned(),
            per_node: [(node_name.to_owned(), pods.clone())].into(),
            pod_cidrs: pods,
            ..Facts::default()
        };
        let services = ServiceFacts { cidrs: vec![services.parse().unwrap()], ..ServiceFacts::default() };
        Seen { nodes: vec![node(node_name, "192.168.9.1")], pods: facts, services }
    }

    fn findings(mesh: &Mesh, seen: &Seen) -> Vec<(Level, String)> {
        let mut candidate = cluster("east", "10.0.0.0/8", "10.0.0.0/8");
        candidate.status = None;
        let mut findings = Findings::default();
        check(mesh, &candidate, seen, &mut findings);
        findings.0.into_iter().map(|finding| (finding.level, finding.message)).collect()
    }

    fn mesh() -> Mesh {
        let mut west = ClusterNode::new("west-n1", ClusterNodeSpec::default());
        west.spec = ClusterNodeSpec {
            cluster_name: Some("west".to_owned()),
            node_name: Some("n1".to_owned()),
            pod_cidrs: vec!["10.1.0.0/24".to_owned()],
            ip: Some("192.168.1.1".to_owned()),
            interface_name: Some("eth0".to_owned()),
            ..ClusterNodeSpec::default()
        };
        Mesh { clusters: vec![cluster("west", "10.1.0.0/16", "10.96.0.0/12")], nodes: vec![west] }
    }

    #[test]
    fn what_overlaps_nothing_is_ok() {
        let found = findings(&mesh(), &seen("10.2.0.0/16", "10.112.0.0/16", "n1"));
        assert!(found.iter().all(|(level, _)| *level == Level::Ok), "{found:?}");
    }

    #[test]
    fn overlapping_pods_fail_and_overlapping_services_are_warned_about() {
        let found = findings(&mesh(), &seen("10.1.0.0/24", "10.96.0.0/16", "n1"));
        let of = |level| -> Vec<&str> {
            found.iter().filter(|(of, _)| *of == level).map(|(_, message)| message.as_str()).collect()
        };
        assert_eq!(
            of(Level::Failure),
            [
                "Cluster east: CIDROverlap: pod CIDR 10.1.0.0/24 overlaps pod CIDR 10.1.0.0/16 of cluster west: neither is routed from the other's cluster; give one of them another range"
            ]
        );
        assert_eq!(
            of(Level::Warning),
            [
                "Cluster east: CIDROverlap: service CIDR 10.96.0.0/16 overlaps service CIDR 10.96.0.0/12 of cluster west: neither is routed from the other's cluster; give one of them another range"
            ]
        );
    }

    #[test]
    fn a_node_that_would_share_its_objects_name_fails() {
        let mut mesh = mesh();
        mesh.clusters.push(cluster("east-n", "10.7.0.0/16", "10.8.0.0/16"));
        let mut other = ClusterNode::new("east-n-1", ClusterNodeSpec::default());
        other.spec = ClusterNodeSpec {
            cluster_name: Some("east-n".to_owned()),
            node_name: Some("1".to_owned()),
            ip: Some("192.168.7.1".to_owned()),
            interface_name: Some("eth0".to_owned()),
            ..ClusterNodeSpec::default()
        };
        mesh.nodes.push(other);
        let found = findings(&mesh, &seen("10.2.0.0/16", "10.112.0.0/16", "n-1"));
        assert!(
            found
                .iter()
                .any(|(level, message)| *level == Level::Failure && message.contains("NameCollision")),
            "{found:?}"
        );
    }

    #[test]
    fn a_pool_of_the_mesh_that_the_pods_use_fails() {
        let found = findings(&mesh(), &seen("241.1.0.0/16", "10.112.0.0/16", "n1"));
        assert!(
            found.iter().any(|(level, message)| *level == Level::Failure && message.contains("PoolOverlap")),
            "{found:?}"
        );
    }
}
