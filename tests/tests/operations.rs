//! What an operator does and sees, through a real kubectl.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use e2e::{eventually, joined, kubectl, printed, scenario, sh};
use sandbox::Sandbox;
use sandbox::matrix::{EndKind, MatrixOptions};
use sandbox::scenario::{Firewall, Scenario};
use serde_json::Value;

/// Standard output of a kubectl that must succeed.
fn get(sandbox: &Sandbox, cluster: &str, arguments: &[&str]) -> Option<String> {
    kubectl(sandbox, cluster, arguments, "").map(|output| printed(&format!("kubectl {arguments:?}"), &output))
}

fn object(sandbox: &Sandbox, cluster: &str, kind: &str, name: &str) -> Option<Value> {
    get(sandbox, cluster, &["get", kind, name, "-o", "json"]).map(|text| serde_json::from_str(&text).unwrap())
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

#[test]
fn kubectl_shows_and_waits_for_what_is_there() {
    let Some(sandbox) = joined("kubectl", &scenario(Firewall::Nft, &["a:gateway:2:1", "c:p2p:1"])) else {
        return;
    };
    let Some(clusters) = get(&sandbox, "control", &["get", "clusters"]) else { return };
    assert!(
        clusters.contains("NETWORK_TYPE") && clusters.contains("gateway") && clusters.contains("p2p"),
        "{clusters}"
    );
    get(&sandbox, "control", &["wait", "--for=condition=Applied", "nodeconfigs", "--all", "--timeout=60s"]);
    // The member has a mirror of its own nodes, and of nobody else's.
    let mirror = get(&sandbox, "a", &["get", "nodeconfigs", "-o", "name"]).unwrap();
    assert_eq!(mirror.lines().count(), 2, "{mirror}");
    eventually(|| {
        let described = get(&sandbox, "control", &["describe", "cluster", "a"]).unwrap();
        let known = described.contains("CIDRs Known") || described.contains("CIDRsKnown");
        if known { Ok(()) } else { Err(described) }
    });
}

#[test]
fn objects_of_a_kosmos_user_apply_and_wrong_ones_are_refused_with_path_and_value() {
    let Some(sandbox) = joined("kosmos", &scenario(Firewall::Nft, &["a:p2p:1", "b:p2p:1"])) else { return };
    let kosmos = include_str!("data/kosmos.yaml");
    let Some(applied) = kubectl(&sandbox, "control", &["apply", "-f", "-"], kosmos) else { return };
    let applied = printed("kubectl apply", &applied);
    assert_eq!(applied.matches("created").count(), 3, "{applied}");
    let again =
        kubectl(&sandbox, "control", &["apply", "--server-side", "--force-conflicts", "-f", "-"], kosmos)
            .unwrap();
    printed("kubectl apply --server-side", &again);

    let wrong = kosmos.replace("220.0.0.0/8", "220.0.0.0/40");
    let refused = kubectl(&sandbox, "control", &["apply", "-f", "-"], &wrong).unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "a /40 of IPv4 was taken");
    assert!(
        words.contains("spec.clusterLinkOptions.bridgeCIDRs.ip") && words.contains("220.0.0.0/40"),
        "{words}"
    );
}

#[test]
fn a_node_that_leaves_is_forgotten_and_its_kernel_is_left_as_it_was() {
    let Some(sandbox) = joined("leaves", &scenario(Firewall::Iptables, &["a:p2p:2", "b:p2p:1"])) else {
        return;
    };
    eventually(|| there(&sandbox, "b1", "ip route show table 200", "10.1.2.0/24"));
    eventually(|| there(&sandbox, "a2", "ip -o link", "vx-bridge"));
    if get(&sandbox, "a", &["label", "node", "node2", "kosmos.io/exclude=true"]).is_none() {
        return;
    }
    eventually(|| gone(&sandbox, "b1", "ip route show table 200", "10.1.2.0/24"));
    eventually(|| gone(&sandbox, "a2", "ip -o link", "vx-bridge"));
    eventually(|| gone(&sandbox, "a2", "ip rule", "lookup 200"));
    eventually(|| {
        let left = get(&sandbox, "control", &["get", "clusternodes", "-o", "name"]).unwrap();
        if left.lines().count() == 2 { Ok(()) } else { Err(format!("not two are left: {left}")) }
    });

    get(&sandbox, "a", &["label", "node", "node2", "kosmos.io/exclude-"]);
    eventually(|| sandbox.wait_applied(std::time::Duration::from_secs(1)).map_err(|error| error.to_string()));
    // Its own NodeConfig may be there before that of a peer is told of it.
    eventually(|| there(&sandbox, "b1", "ip route show table 200", "10.1.2.0/24"));
}

fn there(sandbox: &Sandbox, place: &str, script: &str, what: &str) -> Result<(), String> {
    let text = sh(sandbox, place, script);
    if text.contains(what) { Ok(()) } else { Err(format!("{place} has no {what}: {text}")) }
}

fn gone(sandbox: &Sandbox, place: &str, script: &str, what: &str) -> Result<(), String> {
    let text = sh(sandbox, place, script);
    if text.contains(what) { Err(format!("{place} still has {what}: {text}")) } else { Ok(()) }
}

#[test]
fn clusters_whose_pods_overlap_keep_their_services_and_say_so() {
    let mut overlapping: Scenario = scenario(Firewall::Nft, &["a:p2p:1", "b:p2p:1"]);
    overlapping.families = vec![api::Family::V4];
    overlapping.clusters[0].pod_cidrs = vec!["10.50.0.0/16".to_owned()];
    overlapping.clusters[1].pod_cidrs = vec!["10.50.0.0/16".to_owned()];
    let Some(sandbox) = joined("overlap", &overlapping) else { return };
    if object(&sandbox, "control", "cluster", "a").is_none() {
        return;
    }
    // The conditions of a cluster and the NodeConfigs of its nodes are written side by side.
    let cluster = eventually(|| {
        let cluster = object(&sandbox, "control", "cluster", "a").unwrap();
        let unique = condition(&cluster, "CIDRsUnique");
        let message = unique["message"].as_str().unwrap_or_default();
        let said = unique["status"] == "False" && message.contains("10.50.") && message.contains("cluster b");
        if said { Ok(cluster) } else { Err(format!("nothing is said of the overlap: {cluster:#}")) }
    });
    assert_eq!(
        condition(&cluster, "Planned")["status"],
        "True",
        "an overlap never rejects a cluster: {cluster:#}"
    );

    // Trouble that passes while a cluster joins is no Event; this one stays.
    eventually(|| {
        let events = get(&sandbox, "control", &["get", "events", "-A"]).unwrap();
        if events.contains("10.50.") { Ok(()) } else { Err(format!("no Event tells of it: {events}")) }
    });
    // Services of b are routed all the same.
    eventually(|| there(&sandbox, "a1", "ip route show table 200", "10.102.0.0/16"));
    let routes = sh(&sandbox, "a1", "ip route show table 200");
    assert!(
        !routes.lines().any(|route| route.contains("10.50.") && !route.starts_with("10.102.")),
        "{routes}"
    );

    // A host has an address that b can answer to; a pod has not, and is told so at once.
    let matrix = sandbox.matrix(&MatrixOptions::default()).unwrap();
    let services: Vec<_> =
        matrix.cells.iter().filter(|cell| cell.probe.to.kind == EndKind::Service).collect();
    let from = |kind: EndKind| services.iter().filter(move |cell| cell.probe.from.kind == kind);
    assert!(
        from(EndKind::Host).count() > 0 && from(EndKind::Host).all(|cell| cell.is_ok()),
        "{}",
        matrix.failures()
    );
    let pod = sandbox.exec("a1-pod1", ["ping", "-c", "1", "-W", "2", "10.102.0.10"]).unwrap();
    let words = String::from_utf8_lossy(&pod.stdout);
    assert!(words.contains("Packet filtered"), "a refused pair is answered with an ICMP error: {words}");
}

#[test]
fn kube_proxy_in_ipvs_mode_is_told_to_be_unsupported() {
    let Some(sandbox) = joined("ipvs", &scenario(Firewall::Nft, &["a:p2p:1", "b:p2p:1"])) else { return };
    // As kube-proxy makes it, but for its kind: what counts is that it is there.
    sh(&sandbox, "a1", "ip link add kube-ipvs0 type bridge");
    if get(&sandbox, "control", &["get", "nodeconfigs"]).is_none() {
        return;
    }
    let applied = || {
        let config = object(&sandbox, "control", "nodeconfig", "a-node1").unwrap();
        condition(&config, "Applied").clone()
    };
    eventually(|| match applied() {
        told if told["reason"] == "IpvsProxy" => Ok(()),
        told => Err(format!("no word of IPVS: {told:#}")),
    });
    let message = applied()["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("kube-ipvs0") && message.contains("not supported"), "{message}");
    sh(&sandbox, "a1", "ip link delete kube-ipvs0");
    eventually(|| match applied() {
        told if told["reason"] == "AsDesired" => Ok(()),
        told => Err(format!("it is gone, and still spoken of: {told:#}")),
    });
}
