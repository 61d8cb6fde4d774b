//! An engine of network policy at the pod's node sees the pods of other clusters as themselves, and both directions of their
//! connections: rules in the manner of kube-router, for a policy with one `ipBlock`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::IpAddr;
use std::time::Duration;

use e2e::{eventually, joined, scenario, sh};
use netperf::reach::{ReachOptions, ReachReport};
use netperf::target::Target;
use sandbox::Sandbox;
use sandbox::scenario::Firewall;

/// What kube-router writes on the pod's node: nobody but `allowed` begins anything with the pod.
fn policy(pod: IpAddr, allowed: IpAddr) -> String {
    format!(
        "set -e
        iptables -N KUBE-ROUTER-FORWARD
        iptables -N KUBE-POD-FW
        iptables -N KUBE-NWPLCY
        iptables -A KUBE-NWPLCY -s {allowed}/32 -j MARK --set-xmark 0x10000/0x10000
        iptables -A KUBE-POD-FW -m conntrack --ctstate INVALID -j DROP
        iptables -A KUBE-POD-FW -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        iptables -A KUBE-POD-FW -s {pod} -j RETURN
        iptables -A KUBE-POD-FW -d {pod} -j KUBE-NWPLCY
        iptables -A KUBE-POD-FW -m mark ! --mark 0x10000/0x10000 -j DROP
        iptables -A KUBE-POD-FW -j MARK --set-xmark 0x0/0x10000
        iptables -A KUBE-POD-FW -j MARK --set-xmark 0x20000/0x20000
        iptables -A KUBE-ROUTER-FORWARD -d {pod} -j KUBE-POD-FW
        iptables -A KUBE-ROUTER-FORWARD -s {pod} -j KUBE-POD-FW
        iptables -A KUBE-ROUTER-FORWARD -m mark --mark 0x20000/0x20000 -j ACCEPT
        iptables -I FORWARD 1 -j KUBE-ROUTER-FORWARD"
    )
}

/// Whoever is answered is so in time on a busy machine too.
const ANSWERED: Duration = Duration::from_secs(30);
/// Whoever is dropped waits no longer.
const DROPPED: Duration = Duration::from_millis(300);

fn asked(sandbox: &Sandbox, from: &str, pod: &str, address: IpAddr, timeout: Duration) -> ReachReport {
    let mut options = ReachOptions::new(vec![Target::new(pod, address)]);
    options.flows = 4;
    options.timeout = timeout;
    options.retries = 1;
    sandbox.netperf(from, &options.to_args()).unwrap()
}

fn address(sandbox: &Sandbox, pod: &str) -> IpAddr {
    let pods = sandbox.layout().nodes().flat_map(|(_, node)| &node.pods);
    pods.into_iter().find(|layout| layout.place == pod).unwrap().addresses[0]
}

fn is_enforced(sandbox: &Sandbox, pod: &str, allowed: &str, denied: &str) {
    let target = address(sandbox, pod);
    let report = asked(sandbox, allowed, pod, target, ANSWERED);
    assert!(report.all_ok(), "{allowed} is allowed: {report}");
    let report = asked(sandbox, denied, pod, target, DROPPED);
    assert_eq!(report.failed().count(), report.cells.len(), "{denied} is not allowed: {report}");
}

#[test]
fn a_policy_by_address_block_holds_for_pods_of_other_clusters() {
    let mut scenario = scenario(Firewall::Iptables, &["a:gateway:3:2", "c:p2p:2"]);
    scenario.families = vec![api::Family::V4];
    let Some(sandbox) = joined("policy", &scenario) else { return };
    // Behind two gateways, on one of them, and on a node of its own.
    let cases = [("a3", "c1-pod1", "c2-pod1"), ("a1", "c1-pod1", "c2-pod1"), ("c2", "a3-pod1", "a1-pod1")];
    for (node, allowed, denied) in cases {
        let pod = format!("{node}-pod1");
        let before = asked(&sandbox, denied, &pod, address(&sandbox, &pod), ANSWERED);
        assert!(before.all_ok(), "there is no policy yet: {before}");
        sh(&sandbox, node, &policy(address(&sandbox, &pod), address(&sandbox, allowed)));
        is_enforced(&sandbox, &pod, allowed, denied);
    }
    // The agents put their accept back behind the strangers' rules, so that nobody is let past them.
    let without_ours = "iptables -S FORWARD | grep 0x20000 | sed 's/^-A/iptables -D/' | sh";
    for (node, ..) in cases {
        sh(&sandbox, node, without_ours);
    }
    for (node, allowed, denied) in cases {
        eventually(|| accept_stands_behind_the_engine(&sandbox, node));
        is_enforced(&sandbox, &format!("{node}-pod1"), allowed, denied);
    }
}

fn accept_stands_behind_the_engine(sandbox: &Sandbox, node: &str) -> Result<(), String> {
    let rules = sh(sandbox, node, "iptables -S FORWARD");
    let at = |what: &str| rules.lines().position(|line| line.contains(what));
    match (at("KUBE-ROUTER-FORWARD"), at("0x20000")) {
        (Some(engine), Some(ours)) if engine < ours => Ok(()),
        _ => Err(format!("{node}: our accept is not behind the engine's chain:\n{rules}")),
    }
}
