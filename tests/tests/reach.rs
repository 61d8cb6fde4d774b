//! The reach matrix: every cell by a payload that comes back and by the source address that the far side saw, while the
//! CNI masquerades, FORWARD drops by policy, services are translated with an INVALID drop, and rp_filter is strict.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use e2e::{joined, scenario, sh};
use sandbox::Sandbox;
use sandbox::matrix::{MatrixOptions, Scope};
use sandbox::scenario::{Firewall, Masquerade};

fn everybody_reaches_everybody(name: &str, firewall: Firewall, clusters: &[&str]) {
    let Some(sandbox) = joined(name, &scenario(firewall, clusters)) else { return };
    let scope = Scope { remote: true, own: true };
    let matrix = sandbox.matrix(&MatrixOptions { scope, flows: 2, ..MatrixOptions::default() }).unwrap();
    assert!(matrix.all_ok(), "{}\n{:?}", matrix.failures(), matrix.missing);
    assert!(matrix.skipped.is_empty(), "{:?}", matrix.skipped);
}

#[test]
fn p2p_with_p2p_iptables() {
    everybody_reaches_everybody("pp-ipt", Firewall::Iptables, &["a:p2p:2", "b:p2p:2"]);
}

#[test]
fn p2p_with_p2p_nft() {
    everybody_reaches_everybody("pp-nft", Firewall::Nft, &["a:p2p:2", "b:p2p:2"]);
}

#[test]
fn one_gateway_each_iptables() {
    everybody_reaches_everybody("g1-ipt", Firewall::Iptables, &["a:gateway:2:1", "b:gateway:2:1"]);
}

#[test]
fn one_gateway_each_nft() {
    everybody_reaches_everybody("g1-nft", Firewall::Nft, &["a:gateway:2:1", "b:gateway:2:1"]);
}

#[test]
fn two_gateways_each_iptables() {
    everybody_reaches_everybody("g2-ipt", Firewall::Iptables, &["a:gateway:4:2", "b:gateway:3:2"]);
}

#[test]
fn two_gateways_each_nft() {
    everybody_reaches_everybody("g2-nft", Firewall::Nft, &["a:gateway:4:2", "b:gateway:3:2"]);
}

#[test]
fn p2p_with_two_gateways_iptables() {
    everybody_reaches_everybody("pg-ipt", Firewall::Iptables, &["a:gateway:3:2", "c:p2p:2"]);
}

#[test]
fn p2p_with_two_gateways_nft() {
    everybody_reaches_everybody("pg-nft", Firewall::Nft, &["a:gateway:3:2", "c:p2p:2"]);
}

/// Neither kube-proxy nor the CNI masquerades what enters for a service, and of two gateways the other one may deliver: all is
/// well with our masquerade and our loose reverse path, and the matrix notices when either is gone.
#[test]
fn answers_come_back_by_our_masquerade_and_our_loose_reverse_path() {
    let mut alone = scenario(Firewall::Iptables, &["a:gateway:3:2", "b:gateway:3:2"]);
    alone.families = vec![api::Family::V4];
    alone.proxy_cluster_cidr = false;
    alone.masquerade = Masquerade::Outgoing;
    let Some(sandbox) = joined("alone", &alone) else { return };
    let failed = || {
        let matrix =
            sandbox.matrix(&MatrixOptions { flows: 2, retries: 1, ..MatrixOptions::default() }).unwrap();
        (matrix.failed().count(), matrix.failures())
    };
    let (count, failures) = failed();
    assert_eq!(count, 0, "{failures}");

    stop_agents(&sandbox);
    let gateways = ["a1", "a2", "b1", "b2"];
    let reverse_path = |value: u8| {
        for node in gateways {
            sh(&sandbox, node, &format!("echo {value} > /proc/sys/net/ipv4/conf/vx-local/rp_filter"));
        }
    };
    reverse_path(1);
    let (count, _) = failed();
    assert!(count > 0, "a packet from another cluster may arrive from one's own other gateway");
    reverse_path(2);
    assert_eq!(failed().0, 0);

    let rules = "nft -a list chain inet clusterlink postrouting | sed -n 's/.*masquerade # handle //p'";
    let without =
        format!("for rule in $({rules}); do nft delete rule inet clusterlink postrouting handle $rule; done");
    for node in gateways {
        sh(&sandbox, node, &without);
    }
    let (count, failures) = failed();
    assert!(count > 0, "nobody else masquerades what enters for a service");
    let elsewhere = failures.lines().find(|line| !line.contains("service"));
    assert_eq!(elsewhere, None, "only services need it");
}

/// From now on nobody repairs anything.
fn stop_agents(sandbox: &Sandbox) {
    let processes = sandbox.status().unwrap().processes;
    let agents = processes.iter().filter(|process| process.name.starts_with("agent-"));
    let pids: Vec<String> = agents.filter_map(|agent| agent.pid).map(|pid| pid.to_string()).collect();
    assert!(!pids.is_empty());
    sh(sandbox, "root", &format!("kill -STOP {}", pids.join(" ")));
}
