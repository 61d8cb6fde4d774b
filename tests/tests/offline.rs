//! No API, no controller: `kosmosctl plan` on documents, `clusterlink-agent --config` on each node, and `cleanup`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::Command;

use api::{Cluster, ClusterLinkOptions, ClusterNode, ClusterNodeSpec, ClusterSpec, Family};
use e2e::{eventually, printed, scenario, sh, unjoined};
use sandbox::Sandbox;
use sandbox::addressing::{ClusterLayout, NodeLayout};
use sandbox::components::Binaries;
use sandbox::scenario::Firewall;
use serde_json::{Value, json};

/// What a person would write of these clusters.
fn documents(sandbox: &Sandbox) -> Vec<Value> {
    let clusters = sandbox.layout().clusters.iter().map(cluster);
    let nodes = sandbox.layout().nodes().map(|(cluster, node)| cluster_node(cluster, node));
    clusters.chain(nodes).collect()
}

fn cluster(layout: &ClusterLayout) -> Value {
    let options = ClusterLinkOptions { network_type: layout.mode, ..ClusterLinkOptions::default() };
    let spec = ClusterSpec { cluster_link_options: Some(options), ..ClusterSpec::default() };
    let mut document = serde_json::to_value(Cluster::new(&layout.name, spec)).unwrap();
    document["status"] =
        json!({"clusterLinkStatus": {"podCIDRs": layout.pod_cidrs, "serviceCIDRs": layout.service_cidrs}});
    document
}

fn cluster_node(cluster: &ClusterLayout, node: &NodeLayout) -> Value {
    let underlay =
        |family| node.underlay.iter().find(|ip| Family::of(**ip) == family).map(ToString::to_string);
    let spec = ClusterNodeSpec {
        cluster_name: Some(cluster.name.clone()),
        node_name: Some(node.name.clone()),
        pod_cidrs: node.pod_cidrs.iter().map(ToString::to_string).collect(),
        ip: underlay(Family::V4),
        ip6: underlay(Family::V6),
        interface_name: Some("eth0".to_owned()),
        roles: if node.gateway { vec!["gateway".to_owned()] } else { Vec::new() },
        ..ClusterNodeSpec::default()
    };
    serde_json::to_value(ClusterNode::new(&format!("{}-{}", cluster.name, node.name), spec)).unwrap()
}

/// Everything of a node's network that has no counter and no index in it.
fn dump(sandbox: &Sandbox, place: &str) -> String {
    let script = "ip -o link | sed 's/^[0-9]*: //; s/ state [A-Z]* / /'; ip -o address | sed 's/^[0-9]*: //'; ip route show table all; \
        ip -6 route show table all; ip rule; ip -6 rule; ip nexthop; ip neigh show nud permanent; nft -s list ruleset; \
        grep -r . /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/forwarding";
    // Addresses age and routers are discovered: neither is ours.
    sh(sandbox, place, script)
        .lines()
        .filter(|line| !line.contains("expires"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn plan(sandbox: &Sandbox) -> Vec<Value> {
    let file = sandbox.state().path().join("topology.json");
    fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": documents(sandbox)}).to_string())
        .unwrap();
    let kosmosctl = Binaries::find().program("kosmosctl").unwrap();
    let output = Command::new(kosmosctl).args(["plan", "-o", "json", "-f"]).arg(&file).output().unwrap();
    let list: Value = serde_json::from_str(&printed("kosmosctl plan", &output)).unwrap();
    list["items"].as_array().expect("a List").clone()
}

fn ping(sandbox: &Sandbox, from: &str, to: &str) -> Result<(), String> {
    let output = sandbox.exec(from, ["ping", "-c", "1", "-W", "1", to]).unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{from} -> {to}: {}", String::from_utf8_lossy(&output.stdout)))
    }
}

#[test]
fn a_plan_on_paper_joins_clusters_and_is_taken_away_without_a_trace() {
    let Some(sandbox) = unjoined("offline", &scenario(Firewall::Iptables, &["a:gateway:2:1", "c:p2p:1"]))
    else {
        return;
    };
    let places: Vec<String> = sandbox.layout().nodes().map(|(_, node)| node.place.clone()).collect();
    let before: Vec<String> = places.iter().map(|place| dump(&sandbox, place)).collect();
    let agent = Binaries::find().program("clusterlink-agent").unwrap().display().to_string();

    for config in plan(&sandbox) {
        let (cluster, node) = config["metadata"]["name"].as_str().unwrap().split_once('-').unwrap();
        let file = sandbox.state().path().join(format!("{cluster}-{node}.json"));
        fs::write(&file, config.to_string()).unwrap();
        let apply = format!("{agent} --config {}", file.display());
        sh(&sandbox, &format!("{cluster}/{node}"), &apply);
        let again = sh(&sandbox, &format!("{cluster}/{node}"), &apply);
        assert!(!again.is_empty(), "a second pass says what it found");
    }
    let address = |pod: &str| {
        let pods = sandbox.layout().nodes().flat_map(|(_, node)| &node.pods);
        pods.filter(|p| p.place == pod)
            .flat_map(|p| &p.addresses)
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    for to in address("c1-pod1") {
        eventually(|| ping(&sandbox, "a2-pod1", &to));
    }

    for (place, before) in places.iter().zip(before) {
        sh(&sandbox, place, &format!("{agent} cleanup"));
        similar(place, &before, &dump(&sandbox, place));
    }
}

fn similar(place: &str, before: &str, after: &str) {
    let (before, after): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    let left: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(gone.is_empty() && left.is_empty(), "{place}: gone {gone:#?}, left behind {left:#?}");
}
