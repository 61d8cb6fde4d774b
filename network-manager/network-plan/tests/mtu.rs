//! The MTU of a route is that of the narrowest tunnel on its way, as far as they are known.
#![allow(clippy::unwrap_used, reason = "tests")]

use api::{Cluster, ClusterNode, NodeConfigSpec};
use network_plan::{Snapshot, plan, render, topology};
use serde_json::json;

/// Clusters `a` and `b` in gateway mode, a gateway `g` and an internal node `n` each, with these underlay MTUs.
fn configs(mtus: [(&str, Option<u32>); 4]) -> impl Fn(&str) -> NodeConfigSpec {
    let clusters = [("a", 1), ("b", 2)].map(|(name, number)| -> Cluster {
        let status = json!({"clusterLinkStatus": {"podCIDRs": [format!("10.{number}.0.0/16")]}});
        let spec = json!({"clusterLinkOptions": {"networkType": "gateway", "ipFamily": "ipv4"}});
        serde_json::from_value(json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": name}, "spec": spec, "status": status}))
        .unwrap()
    });
    let nodes = mtus.map(|(name, mtu)| -> ClusterNode {
        let (cluster, node) = name.split_once('-').unwrap();
        let number = if cluster == "a" { 1 } else { 2 };
        let (host, roles) = if node == "g" { (1, vec!["gateway"]) } else { (2, vec![]) };
        let spec = json!({"clusterName": cluster, "nodeName": node, "interfaceName": "eth0", "roles": roles,
            "ip": format!("192.168.{number}.{host}"), "podCIDRs": [format!("10.{number}.{host}.0/24")]});
        serde_json::from_value(json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode",
            "metadata": {"name": name}, "spec": spec, "status": {"mtu": mtu}}))
        .unwrap()
    });
    let (topology, rejections) = topology(&Snapshot::new(&clusters, &nodes));
    assert_eq!(rejections, []);
    let plan = plan(&topology);
    move |name| render(plan.iter().find(|(id, _)| id.object_name() == name).unwrap().1)
}

fn mtu(config: &NodeConfigSpec, cidr: &str) -> Option<u32> {
    config.routes.iter().find(|route| route.cidr == cidr).unwrap().mtu
}

#[test]
fn equal_mtus_need_no_word() {
    let configs =
        configs([("a-g", Some(1500)), ("a-n", Some(1500)), ("b-g", Some(1500)), ("b-n", Some(1500))]);
    for name in ["a-g", "a-n", "b-g", "b-n"] {
        assert!(configs(name).routes.iter().all(|route| route.mtu.is_none()), "{name}");
    }
}

#[test]
fn the_last_hop_inside_the_other_cluster_counts() {
    let configs =
        configs([("a-g", Some(1500)), ("a-n", Some(1500)), ("b-g", Some(1500)), ("b-n", Some(1400))]);
    for name in ["a-g", "a-n"] {
        assert_eq!(mtu(&configs(name), "10.2.0.0/16"), Some(1350), "{name}");
    }
    let hosts = configs("a-n").routes.into_iter().filter(|route| route.cidr.starts_with("24"));
    // The own gateway is not beyond anything.
    let beyond: Vec<Option<u32>> =
        hosts.filter(|route| !route.cidr.ends_with("/32")).map(|route| route.mtu).collect();
    assert!(!beyond.is_empty() && beyond.iter().all(|mtu| *mtu == Some(1350)), "{beyond:?}");
    assert_eq!(mtu(&configs("b-g"), "10.1.0.0/16"), None);
}

#[test]
fn what_is_unknown_hides_nothing_that_is_known() {
    let configs = configs([("a-g", Some(1400)), ("a-n", Some(1500)), ("b-g", Some(1500)), ("b-n", None)]);
    assert_eq!(mtu(&configs("a-n"), "10.2.0.0/16"), Some(1350));
    let configs = self::configs([("a-g", Some(1400)), ("a-n", Some(1500)), ("b-g", None), ("b-n", None)]);
    assert_eq!(mtu(&configs("a-n"), "10.2.0.0/16"), Some(1350));
}
