//! Real Kubernetes: own API servers with RBAC, kube-proxy and flannel on every node, and ClusterLink from its manifests, each
//! component a process with the rights that its pod has and no others.
//!
//! One sandbox at a time: each of its control planes takes half a gigabyte.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use e2e::{eventually, joined, printed, real_kubectl, scenario, sh};
use netperf::outage::{OutageOptions, OutageReport};
use netperf::reach::{ReachOptions, ReachReport};
use netperf::target::{Protocol, Target};
use sandbox::Sandbox;
use sandbox::matrix::{MatrixOptions, Scope};
use sandbox::scenario::{ControlPlane, Firewall, Proxy, Scenario};
use serde_json::{Value, json};

const CLUSTERS: [&str; 2] = ["a:gateway:3:2", "b:p2p:2"];

/// A joined sandbox with real control planes, and nobody else's beside it.
fn real(name: &str, mut scenario: Scenario) -> Option<(Sandbox, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    if let Some(missing) = sandbox::machines::missing() {
        skip::skip(missing);
        return None;
    }
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    scenario.control_plane = ControlPlane::Kubernetes;
    Some((joined(name, &scenario)?, guard))
}

fn everything_is_reached(sandbox: &Sandbox, scope: Scope) {
    let matrix = sandbox.matrix(&MatrixOptions { scope, flows: 2, ..MatrixOptions::default() }).unwrap();
    assert!(matrix.all_ok(), "{}\n{:?}", matrix.failures(), matrix.missing);
    assert!(matrix.skipped.is_empty(), "{:?}", matrix.skipped);
}

/// Where ClusterLink is.
const SYSTEM: &str = "clusterlink-system";
const EVERYTHING: Scope = Scope { remote: true, own: true };
const REMOTE: Scope = Scope { remote: true, own: false };

#[test]
fn iptables_proxy_with_the_cluster_cidr() {
    let Some((sandbox, _guard)) = real("k-ipt", scenario(Firewall::Iptables, &CLUSTERS)) else { return };
    everything_is_reached(&sandbox, EVERYTHING);
    every_pod_becomes_ready(&sandbox);
    agents_have_two_capabilities(&sandbox);
    agents_keep_where_their_api_servers_are(&sandbox);
    a_member_may_write_what_is_its_own_only(&sandbox);
    node_ports_answer_from_another_cluster(&sandbox);
    agents_that_are_replaced_lose_no_packet(&sandbox);
    nothing_is_left(sandbox);
}

#[test]
fn iptables_proxy_without_the_cluster_cidr() {
    let scenario = Scenario {
        proxy_cluster_cidr: false,
        ..scenario(Firewall::Iptables, &["a:gateway:2:1", "b:gateway:2:2"])
    };
    let Some((sandbox, _guard)) = real("k-ipt-no", scenario) else { return };
    everything_is_reached(&sandbox, EVERYTHING);
    an_api_server_that_dies_comes_back_and_is_heard_again(&sandbox);
}

#[test]
fn nftables_proxy_with_the_cluster_cidr() {
    let scenario = Scenario { proxy: Proxy::Nftables, ..scenario(Firewall::Iptables, &CLUSTERS) };
    let Some((sandbox, _guard)) = real("k-nft", scenario) else { return };
    everything_is_reached(&sandbox, EVERYTHING);
    node_ports_answer_from_another_cluster(&sandbox);
}

/// flannel's nftables rules masquerade nothing that enters, and neither does this kube-proxy: what enters for a service is
/// ours alone. (Within a cluster a host then cannot ask a service behind another node under strict reverse paths, with us or
/// without us.)
#[test]
fn nftables_proxy_without_the_cluster_cidr_beside_nftables_flannel() {
    let mut scenario = scenario(Firewall::Nft, &["a:gateway:3:2", "b:gateway:3:2"]);
    scenario.proxy = Proxy::Nftables;
    scenario.proxy_cluster_cidr = false;
    let Some((sandbox, _guard)) = real("k-nft-no", scenario) else { return };
    everything_is_reached(&sandbox, REMOTE);
}

fn get(sandbox: &Sandbox, cluster: &str, arguments: &[&str]) -> Value {
    let output = real_kubectl(sandbox, cluster, &[arguments, &["-o", "json"]].concat(), "");
    serde_json::from_str(&printed(&format!("kubectl {arguments:?}"), &output)).unwrap()
}

fn every_pod_becomes_ready(sandbox: &Sandbox) {
    for cluster in ["control", "a", "b"] {
        eventually(|| {
            let pods = get(sandbox, cluster, &["get", "pods", "-n", SYSTEM]);
            let pods = pods["items"].as_array().cloned().unwrap_or_default();
            let unready: Vec<&Value> =
                pods.iter().filter(|pod| !is_ready(pod)).map(|pod| &pod["metadata"]["name"]).collect();
            if pods.is_empty() || !unready.is_empty() {
                return Err(format!("cluster {cluster}: of {} pods are not ready: {unready:?}", pods.len()));
            }
            Ok(())
        });
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// `CAP_NET_ADMIN` (12) and `CAP_NET_RAW` (13), and no way to more.
fn agents_have_two_capabilities(sandbox: &Sandbox) {
    let processes = sandbox.status().unwrap().processes;
    let agents: Vec<u32> = processes
        .iter()
        .filter(|process| process.name.contains("clusterlink-agent"))
        .filter_map(|agent| agent.pid)
        .collect();
    assert_eq!(agents.len(), 5);
    for pid in agents {
        let status =
            sh(sandbox, "root", &format!("mount -t proc proc /proc && cat /proc/{pid}/status; umount /proc"));
        let of = |key: &str| {
            status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
        };
        assert_eq!(
            (of("CapEff:").as_str(), of("CapBnd:").as_str()),
            ("0000000000003000", "0000000000003000"),
            "{status}"
        );
        assert_eq!(of("NoNewPrivs:"), "1");
    }
}

/// With the rights of their pods, and for the next boot.
fn agents_keep_where_their_api_servers_are(sandbox: &Sandbox) {
    for (cluster, node) in sandbox.layout().nodes() {
        let slice = get(sandbox, &cluster.name, &["get", "endpointslice", "kubernetes", "-n", "default"]);
        let disk = sandbox.state().path().join("machines").join(&node.place).join("var/lib/clusterlink");
        eventually(|| {
            let kept = fs::read_to_string(disk.join("last-good.json")).map_err(|error| error.to_string())?;
            let content: Value =
                kept.lines().nth(1).and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
            let (known, told) = (&content["apiEndpoints"], &slice["endpoints"][0]["addresses"]);
            if known == told { Ok(()) } else { Err(format!("{}: {known}, and not {told}", node.place)) }
        });
    }
}

/// The rights and the policies of the manifests are in force: whatever runs here runs under them.
fn a_member_may_write_what_is_its_own_only(sandbox: &Sandbox) {
    let as_member_a = |arguments: &[&str]| {
        let who = [
            "--as=system:serviceaccount:clusterlink-members:a",
            "--as-group=system:serviceaccounts:clusterlink-members",
        ];
        real_kubectl(sandbox, "control", &[arguments, &who].concat(), "")
    };
    let delete = |node: &str| as_member_a(&["delete", "clusternodes.kosmos.io", node, "--dry-run=server"]);
    printed("of its own", &delete("a-node1"));
    let refused = [delete("b-node1"), as_member_a(&["get", "secrets", "--all-namespaces"])];
    for (output, words) in
        refused.iter().zip(["belongs to another cluster", "cannot list resource \"secrets\""])
    {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{words}: {said}");
    }
}

/// A cluster's node ports, and who asks from another cluster.
struct NodePorts {
    cluster: &'static str,
    /// The node with the backend, and another one.
    nodes: [&'static str; 2],
    asker: &'static str,
}

/// Of a P2P node by a pod behind gateways, of a gateway and an internal node by a pod of a P2P node.
const NODE_PORTS: [NodePorts; 2] = [
    NodePorts { cluster: "b", nodes: ["b1", "b2"], asker: "a3-pod1" },
    NodePorts { cluster: "a", nodes: ["a1", "a3"], asker: "b2-pod1" },
];

/// At the nodes' overlay addresses, with both traffic policies.
fn node_ports_answer_from_another_cluster(sandbox: &Sandbox) {
    for ports in NODE_PORTS {
        for (name, policy, port) in [("local", "Local", 30_080), ("cluster", "Cluster", 30_081)] {
            let service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "type": "NodePort", "externalTrafficPolicy": policy, "ipFamilyPolicy": "PreferDualStack",
                    "selector": {"service/first": "true"},
                    "ports": [{"port": 80, "targetPort": netperf::PORT, "nodePort": port}],
                },
            });
            let applied = real_kubectl(sandbox, ports.cluster, &["apply", "-f", "-"], &service.to_string());
            printed("kubectl apply", &applied);
        }
        node_ports_are_asked(sandbox, &ports);
    }
}

fn node_ports_are_asked(sandbox: &Sandbox, ports: &NodePorts) {
    let overlays = sandbox.overlays().unwrap();
    let pods = sandbox.layout().nodes().flat_map(|(_, node)| &node.pods);
    let own = &pods.into_iter().find(|pod| pod.place == ports.asker).unwrap().addresses;
    let [behind, elsewhere] = ports.nodes;
    let at = |node: &str, port: u16, seen_as: &[IpAddr]| -> Vec<Target> {
        let target = |&address: &IpAddr| {
            let seen = seen_as.iter().copied().filter(move |seen| seen.is_ipv4() == address.is_ipv4());
            Target::new(format!("{behind}-pod1"), address).port(port).seen_as(seen).only([Protocol::Tcp])
        };
        // A gateway has a local address too, which only its own cluster asks for.
        overlays[node].iter().take(2).map(target).collect()
    };
    // Where the backend is, whoever asks is seen as itself; anywhere else nobody answers.
    let answered = [at(behind, 30_080, own), at(behind, 30_081, &[]), at(elsewhere, 30_081, &[])].concat();
    assert_eq!(answered.len(), 6);
    eventually(|| {
        let report = asked(sandbox, ports.asker, answered.clone());
        if report.all_ok() { Ok(()) } else { Err(report.to_string()) }
    });
    let silent = asked(sandbox, ports.asker, at(elsewhere, 30_080, &[]));
    assert_eq!(silent.failed().count(), silent.cells.len(), "{silent}");
}

fn asked(sandbox: &Sandbox, from: &str, targets: Vec<Target>) -> ReachReport {
    sandbox.netperf(from, &ReachOptions::new(targets).to_args()).unwrap()
}

/// All agents of a cluster go at once. Their successors are other pods, and find everything in the kernel as it should be: of
/// a flow that runs all the while not one packet is lost.
fn agents_that_are_replaced_lose_no_packet(sandbox: &Sandbox) {
    let before: Vec<String> = agents(sandbox).into_iter().map(|(name, _)| name).collect();
    let routes = sh(sandbox, "b1", "ip route show table 200");
    let address = sandbox.layout().clusters[1].nodes[0].pods[0].addresses[0];
    let mut flow = OutageOptions::new(Target::new("b1-pod1", address));
    flow.rate = 200;
    flow.duration = Duration::from_secs(8);
    let report = thread::scope(|scope| {
        let flow = scope.spawn(|| sandbox.netperf::<OutageReport>("a3-pod1", &flow.to_args()).unwrap());
        thread::sleep(Duration::from_secs(1));
        let names: Vec<&str> = before.iter().map(String::as_str).collect();
        let delete = [&["delete", "pod", "-n", SYSTEM], &names[..]].concat();
        printed("kubectl delete pod", &real_kubectl(sandbox, "b", &delete, ""));
        assert_eq!(
            sh(sandbox, "b1", "ip route show table 200"),
            routes,
            "an agent that ends leaves the data plane"
        );
        flow.join().unwrap()
    });
    let account = &report.account;
    assert!(account.sent > 1000, "{report}");
    assert_eq!((account.forward.lost, account.backward.lost, account.unknown.lost), (0, 0, 0), "{report}");
    eventually(|| {
        let now = agents(sandbox);
        let new = now.iter().all(|(name, ready)| *ready && !before.contains(name));
        if now.len() == 2 && new { Ok(()) } else { Err(format!("no successors are ready: {now:?}")) }
    });
    everything_is_reached(sandbox, REMOTE);
}

/// Cluster b's agents, and whether each is ready.
fn agents(sandbox: &Sandbox) -> Vec<(String, bool)> {
    let pods =
        get(sandbox, "b", &["get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=clusterlink-agent"]);
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    pods.iter().map(|pod| (name(pod), is_ready(pod))).collect()
}

/// Every watch of the member ends in the middle, and what is changed afterwards is seen by everybody all the same.
fn an_api_server_that_dies_comes_back_and_is_heard_again(sandbox: &Sandbox) {
    let server = || {
        let processes = sandbox.status().unwrap().processes;
        let server = processes.into_iter().find(|process| process.name == "kube-apiserver-a").unwrap();
        (server.pid, server.restarts)
    };
    let (pid, restarts) = server();
    sh(sandbox, "root", &format!("kill -9 {}", pid.unwrap()));
    everything_is_reached(sandbox, REMOTE);
    eventually(|| match server() {
        (Some(_), now) if now > restarts => Ok(()),
        // between an end and the next start it has no number
        (now, _) => Err(format!("kube-apiserver-a, once {pid:?}, is {now:?}")),
    });
    eventually(|| {
        let labelled = real_kubectl(
            sandbox,
            "a",
            &["label", "--overwrite", "node", "node2", "kosmos.io/exclude=true"],
            "",
        );
        if labelled.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&labelled.stderr).into_owned())
        }
    });
    eventually(|| {
        let known = real_kubectl(sandbox, "control", &["get", "clusternodes", "-o", "name"], "");
        let known = printed("kubectl get clusternodes", &known);
        if known.contains("a-node2") { Err(format!("nobody has heard of it: {known}")) } else { Ok(()) }
    });
}

/// Of the clusters' programs, of their files on the nodes, and of what they set, nothing is left on the host.
fn nothing_is_left(sandbox: Sandbox) {
    let (directory, name) = (sandbox.state().path().to_owned(), sandbox.state().name().to_owned());
    sandbox.down().unwrap();
    assert!(!directory.exists(), "{} is left", directory.display());
    eventually(|| {
        let commands = std::fs::read_dir("/proc").unwrap().flatten();
        let commands = commands.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let left = commands.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        let left: Vec<String> = left.filter(|line| line.contains(&format!("/{name}/"))).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}")) }
    });
}
