//! `kosmosctl` as an operator types it, against real clusters with kubelets: install, join, status, gather, unjoin, uninstall;
//! and every node's kernel is afterwards as it was before.
//!
//! The only test of its program, so that no other sandbox with real control planes is beside it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use e2e::{eventually, printed, real_kubectl, scenario, sh, unjoined};
use sandbox::Sandbox;
use sandbox::components::Binaries;
use sandbox::matrix::MatrixOptions;
use sandbox::scenario::{ControlPlane, Firewall};
use serde_json::{Value, json};

const MEMBERS: [&str; 2] = ["a", "b"];

/// The control cluster's API server as the nodes reach it; kubeconfigs on the host name the host's loopback.
const CONTROL_SERVER: &str = "https://172.31.0.1:6443";

/// Everything that a node's kernel holds and that somebody has set: no counters, no timers, no handles.
const DUMP: &str = r#"
show() { echo "== $*"; "$@" 2>/dev/null; }
{
  show ip -d -o link
  show ip -o address
  show ip -4 -N route show table all
  show ip -6 -N route show table all
  show ip -4 -N rule
  show ip -6 -N rule
  show ip nexthop
  show ip neigh show nud permanent
  show bridge fdb show state permanent
  show nft list ruleset
  for family in iptables ip6tables; do
    show $family-legacy-save
    show $family-nft-save
  done
} | sed -E '
  /^#/d
  s/(gc|hello|tcn|topology_change|message_age|forward_delay|hold)_timer +[0-9.]+//g
  s/(valid_lft|preferred_lft|expires) [0-9a-z]+//g
  s/packets [0-9]+ bytes [0-9]+//
  s/\[[0-9]+:[0-9]+\]//
'"#;

/// An operator at the host, whose kubeconfig has a context for each cluster.
struct Operator {
    kosmosctl: PathBuf,
    kubeconfig: PathBuf,
}

impl Operator {
    fn new(sandbox: &Sandbox, directory: &Path) -> Self {
        let kubeconfig = directory.join("kubeconfig");
        std::fs::write(&kubeconfig, contexts(sandbox).to_string()).unwrap();
        Operator { kosmosctl: Binaries::find().program("kosmosctl").unwrap(), kubeconfig }
    }

    fn types(&self, line: &str) -> Output {
        let mut command = Command::new(&self.kosmosctl);
        command.env("KUBECONFIG", &self.kubeconfig).args(line.split(' '));
        command.output().unwrap()
    }

    fn succeeds(&self, line: &str) -> String {
        printed(&format!("kosmosctl {line}"), &self.types(line))
    }
}

/// The administrators' kubeconfigs in one.
fn contexts(sandbox: &Sandbox) -> Value {
    let mut merged = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "control",
        "clusters": [], "users": [], "contexts": [],
    });
    for name in ["control", "a", "b"] {
        let view = real_kubectl(sandbox, name, &["config", "view", "--raw", "-o", "json"], "");
        let view: Value = serde_json::from_str(&printed("kubectl config view", &view)).unwrap();
        let add = |to: &mut Value, entry: Value| to.as_array_mut().unwrap().push(entry);
        add(&mut merged["clusters"], json!({"name": name, "cluster": view["clusters"][0]["cluster"]}));
        add(&mut merged["users"], json!({"name": name, "user": view["users"][0]["user"]}));
        add(&mut merged["contexts"], json!({"name": name, "context": {"cluster": name, "user": name}}));
    }
    merged
}

#[test]
fn clusters_come_and_go_as_an_operator_types_it() {
    if let Some(missing) = sandbox::machines::missing() {
        return skip::skip(missing);
    }
    let mut scenario = scenario(Firewall::Iptables, &["a:gateway:2:1", "b:p2p:1"]);
    scenario.control_plane = ControlPlane::Kubernetes;
    let Some(sandbox) = unjoined("k-joined", &scenario) else { return };
    let directory = tempfile::tempdir().unwrap();
    let operator = Operator::new(&sandbox, directory.path());
    let (kernels, apis) = (settled(&sandbox), apis(&sandbox));

    operator.succeeds("install --wait");
    operator.succeeds(&format!(
        "join a --member-context a --control-server {CONTROL_SERVER} --network-type gateway --gateways 1"
    ));
    operator.succeeds(&format!("join b --member-context b --control-server {CONTROL_SERVER}"));
    it_becomes_well(&operator);
    let matrix = sandbox.matrix(&MatrixOptions::default()).unwrap();
    assert!(matrix.all_ok(), "{}\n{:?}", matrix.failures(), matrix.missing);
    a_bundle_says_what_is_not_in_it(&operator, &directory.path().join("bundle.tar.gz"));
    assert_ne!(self::kernels(&sandbox), kernels, "the dump shows nothing of ours");

    operator.succeeds("unjoin b --member-context b");
    operator.succeeds("unjoin a --member-context a");
    operator.succeeds("uninstall");
    for (node, before) in &kernels {
        eventually(|| as_before(before, &dump(&sandbox, node)).map_err(|left| format!("{node}:\n{left}")));
    }
    assert_eq!(self::apis(&sandbox), apis);
}

fn it_becomes_well(operator: &Operator) {
    eventually(|| {
        let status = operator.types("status --member-context a --member-context b");
        if status.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&status.stdout).into_owned())
        }
    });
}

/// The sandbox's kubelets serve neither logs nor exec: what is missing is named with the reason, and the rest is there.
fn a_bundle_says_what_is_not_in_it(operator: &Operator, file: &Path) {
    let line = format!("gather --member-context a --member-context b --file {}", file.display());
    let output = operator.types(&line);
    printed("kosmosctl gather", &output);
    assert!(file.metadata().unwrap().len() > 0);
    let remarks = [output.stdout, output.stderr].concat();
    let remarks = String::from_utf8_lossy(&remarks);
    let missing: Vec<&str> = remarks.lines().filter(|line| line.contains("kernel.json: pod ")).collect();
    assert_eq!(missing.len(), 3, "{remarks}");
    assert!(missing.iter().all(|line| !line.trim_end().ends_with(':')), "each says why: {missing:?}");
}

/// The nodes' kernels once kube-proxy has programmed every service and nothing moves any more.
fn settled(sandbox: &Sandbox) -> BTreeMap<String, String> {
    eventually(|| {
        let before = kernels(sandbox);
        for cluster in &sandbox.layout().clusters {
            for address in cluster.services.iter().flat_map(|service| &service.addresses) {
                let lacks = |node: &&sandbox::addressing::NodeLayout| {
                    !before[&node.place].contains(&address.to_string())
                };
                if let Some(node) = cluster.nodes.iter().find(lacks) {
                    return Err(format!("kube-proxy of {} does not know {address}", node.place));
                }
            }
        }
        thread::sleep(Duration::from_secs(2));
        let after = kernels(sandbox);
        if before == after { Ok(after) } else { Err(format!("they still change: {before:?} {after:?}")) }
    })
}

fn kernels(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let nodes = sandbox.layout().nodes().map(|(_, node)| node.place.clone());
    nodes.map(|node| (node.clone(), dump(sandbox, &node))).collect()
}

fn dump(sandbox: &Sandbox, node: &str) -> String {
    let dump = sh(sandbox, node, DUMP);
    assert!(dump.contains("cni0") && dump.contains("KUBE-SERVICES"), "{node}: {dump}");
    dump
}

/// Says which lines came and went.
fn as_before(before: &str, after: &str) -> Result<(), String> {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.sort();
        lines
    };
    let (before, after) = (sorted(before), sorted(after));
    if before == after {
        return Ok(());
    }
    let lacks = |these: &[String], those: &[String], sign: &str| -> String {
        let lines = these.iter().filter(|line| !those.contains(line));
        lines.map(|line| format!("{sign} {line}\n")).collect()
    };
    Err(lacks(&before, &after, "-") + &lacks(&after, &before, "+"))
}

/// What each API serves of ours: definitions, namespaces, rights and policies.
fn apis(sandbox: &Sandbox) -> BTreeMap<&'static str, String> {
    let kinds = "crd,namespaces,clusterroles,clusterrolebindings,roles,rolebindings,validatingadmissionpolicies,\
                 validatingadmissionpolicybindings";
    let get = |cluster: &'static str| {
        let all = real_kubectl(sandbox, cluster, &["get", kinds, "-A", "-o", "name"], "");
        (cluster, printed("kubectl get", &all))
    };
    std::iter::once("control").chain(MEMBERS).map(get).collect()
}
