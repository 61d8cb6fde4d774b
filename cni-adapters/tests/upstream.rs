//! What the adapters make of the objects that Calico, Cilium and flannel ship in their manifests, documentation and
//! tests, and of what those projects document to happen to them.

mod support;

use std::collections::BTreeMap;

use cni_adapters::Facts;
use serde_json::{Value, json};
use support::{documents, facts, observed};
use upstream::{Project, Upstream};

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn per_node(facts: &Facts) -> BTreeMap<&str, Vec<String>> {
    facts.per_node.iter().map(|(node, cidrs)| (node.as_str(), texts(cidrs))).collect()
}

fn nodes(expected: &[(&'static str, &[&str])]) -> BTreeMap<&'static str, Vec<String>> {
    expected.iter().map(|(node, cidrs)| (*node, texts(cidrs))).collect()
}

fn node(name: &str, cidrs: &[&str]) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs}})
}

fn pool(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec})
}

/// As Calico names and writes them.
fn block(node: &str, cidr: &str, state: &str) -> Value {
    let name = format!("{node}-{}", cidr.replace(['.', '/', ':'], "-"));
    json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "BlockAffinity", "metadata": {"name": name},
        "spec": {"cidr": cidr, "deleted": "false", "node": node, "state": state}})
}

fn in_v3(objects: &[Value]) -> Vec<Value> {
    let mut objects = objects.to_vec();
    for object in &mut objects {
        object["apiVersion"] = json!("projectcalico.org/v3");
    }
    objects
}

/// Calico's `confd/tests/mock_data/kdd/ipam.yaml`: its own BGP configuration (`bird_aggr.cfg.template`) announces the
/// blocks without a state as "implicitly confirmed", and the confirmed one.
#[test]
fn a_block_without_a_state_is_held() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let objects = upstream.objects(Project::Calico, "confd/tests/mock_data/kdd/ipam.yaml");
    let found = facts("calico", &observed(&objects));
    let expected = ["10.0.0.0/30", "10.1.0.0/24", "10.2.0.1/32", "192.168.221.64/26", "192.168.221.192/26"];
    assert_eq!(per_node(&found), nodes(&[("kube-master", &expected)]));
}

/// `confd/tests/mock_data/calicoctl/mesh/vxlan-always/input.yaml`: a pool of each family.
#[test]
fn pools_of_both_families_in_v3() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let path = "confd/tests/mock_data/calicoctl/mesh/vxlan-always/input.yaml";
    let mut objects = upstream.objects(Project::Calico, path);
    objects.retain(|object| object["kind"] == "IPPool");
    let found = facts("auto", &observed(&objects));
    assert_eq!(found.adapter, "calico (auto: IPPools of projectcalico.org/v3 found)");
    assert_eq!(texts(&found.pod_cidrs), ["192.168.0.0/16", "dead:beef::/64"]);
    assert!(found.stale().is_some(), "nobody holds a block yet");
}

/// `manifests/custom-resources.yaml`, before the operator has made the pool it names.
#[test]
fn the_operators_installation_comes_before_its_pool() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let mut objects = upstream.objects(Project::Calico, "manifests/custom-resources.yaml");
    objects.retain(|object| object["kind"] == "Installation");
    objects.push(node("n1", &["10.244.0.0/24"]));
    let found = facts("auto", &observed(&objects));
    assert_eq!(found.adapter, "calico (auto: the Tigera operator's Installation found)");
    assert!(found.pod_cidrs.is_empty() && found.stale().is_some());
}

/// `manifests/calico.yaml` configures `calico-ipam`; the same chart makes `host-local` of it (`charts/calico/templates/
/// calico-config.yaml`, value `ipam`), and the operator with `spec.cni.ipam.type: HostLocal`.
#[test]
fn with_host_local_a_nodes_cidrs_are_kubernetes_own() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let mut manifest = upstream.objects(Project::Calico, "manifests/calico.yaml");
    manifest.retain(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == "calico-config");
    let rest = [
        pool("default-ipv4-ippool", json!({"cidr": "10.244.0.0/16", "ipipMode": "Always"})),
        node("n1", &["10.244.0.0/24"]),
        node("n2", &["10.244.1.0/24"]),
    ];
    let with_calico_ipam: Vec<Value> = manifest.iter().chain(&rest).cloned().collect();
    assert!(facts("auto", &observed(&with_calico_ipam)).per_node.is_empty());

    let network = manifest[0]["data"]["cni_network_config"].as_str().unwrap();
    let host_local =
        network.replace(r#""type": "calico-ipam""#, r#""type": "host-local", "subnet": "usePodCidr""#);
    assert_ne!(network, host_local);
    manifest[0]["data"]["cni_network_config"] = json!(host_local);
    let installation = json!({"apiVersion": "operator.tigera.io/v1", "kind": "Installation",
        "metadata": {"name": "default"}, "spec": {"cni": {"type": "Calico", "ipam": {"type": "HostLocal"}}}});
    for by in [manifest.remove(0), installation] {
        let objects: Vec<Value> = rest.iter().chain([&by]).cloned().collect();
        let found = facts("auto", &observed(&objects));
        assert_eq!(texts(&found.pod_cidrs), ["10.244.0.0/16"]);
        assert_eq!(per_node(&found), nodes(&[("n1", &["10.244.0.0/24"]), ("n2", &["10.244.1.0/24"])]));
        assert_eq!(found.stale(), None);
    }
}

/// `manifests/canal.yaml`: Calico's CRDs and policies over flannel's network. Calico runs without networking there and
/// makes no pool; flanneld annotates its Nodes.
#[test]
fn canal_is_flannel() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let mut objects = upstream.objects(Project::Calico, "manifests/canal.yaml");
    let mut annotated = node("n1", &["10.244.0.0/24"]);
    annotated["metadata"]["annotations"] = json!({"flannel.alpha.coreos.com/backend-type": "vxlan"});
    objects.push(annotated);
    let found = facts("auto", &observed(&objects));
    assert_eq!(found.adapter, "flannel (auto: flannel's annotations found on Nodes)");
    assert_eq!(per_node(&found), nodes(&[("n1", &["10.244.0.0/24"])]));
    assert_eq!(found.stale(), None);
}

/// Calico's documentation, "Migrate from one IP pool to another": add a pool, disable the old one, make the pods anew,
/// delete the old one. Until they are made anew, pods keep the addresses they have.
#[test]
fn a_disabled_pool_counts_until_the_last_node_gives_its_block_back() {
    let old = |disabled| pool("default-ipv4-ippool", json!({"cidr": "192.168.0.0/16", "disabled": disabled}));
    let new = pool("new-pool", json!({"cidr": "10.0.0.0/16"}));
    let (held, moved) =
        (block("n1", "192.168.7.0/26", "confirmed"), block("n1", "10.0.3.64/26", "confirmed"));
    let steps: [(Vec<Value>, &[&str]); 6] = [
        (vec![old(false), held.clone()], &["192.168.0.0/16"]),
        (vec![old(false), new.clone(), held.clone()], &["10.0.0.0/16", "192.168.0.0/16"]),
        (vec![old(true), new.clone(), held.clone(), moved.clone()], &["10.0.0.0/16", "192.168.0.0/16"]),
        // Deleted by kubectl, past Calico's own client, which gives blocks back first.
        (vec![new.clone(), held, moved.clone()], &["10.0.0.0/16", "192.168.7.0/26"]),
        (
            vec![old(true), new.clone(), block("n1", "192.168.7.0/26", "pendingDeletion"), moved.clone()],
            &["10.0.0.0/16"],
        ),
        (vec![new, moved], &["10.0.0.0/16"]),
    ];
    for (objects, expected) in steps {
        let found = facts("calico", &observed(&objects));
        assert_eq!(texts(&found.pod_cidrs), expected);
        assert_eq!(found.stale(), None);
        for cidr in found.per_node["n1"].iter() {
            assert!(
                found.pod_cidrs.iter().any(|pods| pods.contains(cidr.ip())),
                "{cidr} is not the cluster's"
            );
        }
    }
}

/// A disabled pool that nobody holds a block of only keeps Calico from masquerading.
#[test]
fn a_pool_disabled_from_the_start_never_counts() {
    let objects = [
        pool("default-ipv4-ippool", json!({"cidr": "10.0.0.0/16"})),
        pool(
            "no-nat-to-the-office",
            json!({"cidr": "172.20.0.0/16", "disabled": true, "natOutgoing": false}),
        ),
        pool("clusterlink-west-pod", json!({"cidr": "10.9.0.0/16", "disabled": true})),
        block("n1", "10.0.0.0/26", "confirmed"),
    ];
    assert_eq!(texts(&facts("calico", &observed(&objects)).pod_cidrs), ["10.0.0.0/16"]);
}

/// Tunnel addresses and load balancers' come out of blocks too.
#[test]
fn blocks_of_pools_that_hold_no_pods_do_not_count() {
    let objects = [
        pool("default-ipv4-ippool", json!({"cidr": "10.0.0.0/16", "allowedUses": ["Workload"]})),
        pool("tunnels", json!({"cidr": "10.1.0.0/24", "allowedUses": ["Tunnel"]})),
        block("n1", "10.0.0.0/26", "confirmed"),
        block("n1", "10.1.0.64/26", "confirmed"),
    ];
    let found = facts("calico", &observed(&objects));
    assert_eq!(texts(&found.pod_cidrs), ["10.0.0.0/16"]);
    assert_eq!(per_node(&found), nodes(&[("n1", &["10.0.0.0/26"])]));
}

/// kubeadm's `--pod-network-cidr` allots 10.244.x.0/24 to each Node, which Calico does not look at.
#[test]
fn a_pool_larger_than_the_clusters_cidr_is_what_counts() {
    let objects = [
        node("n1", &["10.244.0.0/24"]),
        pool("default-ipv4-ippool", json!({"cidr": "10.128.0.0/9", "blockSize": 26})),
        block("n1", "10.140.3.0/26", "confirmed"),
    ];
    let found = facts("auto", &observed(&objects));
    assert_eq!(texts(&found.pod_cidrs), ["10.128.0.0/9"]);
    assert_eq!(per_node(&found), nodes(&[("n1", &["10.140.3.0/26"])]));
}

/// Calico's documentation, "Migrate from API server to native CRDs" (v3.32): objects are copied from v1 to v3, and from
/// the phase `Converged` on only those in v3 are kept up to date; v1's are removed with the DatastoreMigration.
#[test]
fn v3_takes_over_where_its_migration_says_so() {
    let v1 = [
        pool("default-ipv4-ippool", json!({"cidr": "10.0.0.0/16"})),
        block("n1", "10.0.0.0/26", "confirmed"),
    ];
    let newer = [v1[0].clone(), v1[1].clone(), block("n2", "10.0.0.64/26", "confirmed")];
    let migration = |phase: &str| {
        json!({"apiVersion": "migration.projectcalico.org/v1beta1", "kind": "DatastoreMigration",
            "metadata": {"name": "v1-to-v3"}, "spec": {"type": "APIServerToCRDs"}, "status": {"phase": phase}})
    };
    let both = |more: &[Value]| [&v1[..], &in_v3(&newer), more].concat();
    for (objects, expected) in [
        (both(&[]), vec!["n1"]),
        (both(&[migration("Pending")]), vec!["n1"]),
        (both(&[migration("Migrating")]), vec!["n1"]),
        (both(&[migration("Converged")]), vec!["n1", "n2"]),
        (both(&[migration("Complete")]), vec!["n1", "n2"]),
        (in_v3(&newer), vec!["n1", "n2"]),
    ] {
        let found = facts("auto", &observed(&objects));
        assert_eq!(per_node(&found).into_keys().collect::<Vec<_>>(), expected);
        assert_eq!(found.stale(), None);
    }
}

const POOLS: &str = "operator/pkg/ipam/testdata/multipool/multiple-pools.txtar";
const MIGRATION: &str = "operator/pkg/ipam/testdata/multipool/from-cluster-pool-migration.txtar";

/// `cilium-config` with what matters here of `install/kubernetes/cilium/templates/cilium-configmap.yaml`.
fn cilium(ipam: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cilium-config", "namespace": "kube-system"},
        "data": {"enable-ipv4": "true", "enable-ipv6": "true", "ipam": ipam,
            "cluster-pool-ipv4-cidr": "10.244.0.0/16", "cluster-pool-ipv4-mask-size": "24",
            "cluster-pool-ipv6-cidr": "fd00::/104", "cluster-pool-ipv6-mask-size": "120"}})
}

/// Cilium's own test of its operator with three pools and three nodes.
#[test]
fn nodes_hold_cidrs_of_several_cilium_pools() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let files = ["ippool-green.yaml", "ippool-red.yaml", "ippool-blue.yaml"];
    let files = files.into_iter().chain(["expected-v2.yaml", "expected-v3.yaml", "expected-v4.yaml"]);
    let mut objects: Vec<Value> =
        files.flat_map(|file| upstream.archived(Project::Cilium, POOLS, file)).collect();
    objects.push(cilium("multi-pool"));
    let found = facts("auto", &observed(&objects));
    assert_eq!(found.source, "CiliumPodIPPool blue-pool, green-pool, red-pool");
    assert_eq!(texts(&found.pod_cidrs), ["10.10.0.0/16", "10.20.0.0/16", "10.30.0.0/16"]);
    let expected: &[(_, &[&str])] = &[
        ("test-node1", &["10.10.0.0/24", "10.20.0.0/27", "10.20.0.32/28"]),
        ("test-node2", &["10.10.1.0/24"]),
        ("test-node3", &["10.30.0.0/26"]),
    ];
    assert_eq!(per_node(&found), nodes(expected));
    assert_eq!(found.problems, []);
}

/// Cilium's own test of its operator that moves a cluster from `cluster-pool` to `multi-pool`, and what its documentation
/// says of the time between: each state that the API shows keeps every node's CIDRs.
#[test]
fn no_node_loses_its_cidrs_while_cilium_moves_to_multi_pool() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let file = |name: &str| upstream.archived(Project::Cilium, MIGRATION, name).remove(0);
    let (a, b, pool) = (file("node-a.yaml"), file("node-b.yaml"), file("custom-pool.yaml"));
    let (new_a, new_b) = (file("expected-node-a.yaml"), file("expected-node-b.yaml"));
    let (before, after) = (cilium("cluster-pool"), cilium("multi-pool"));
    let steps = [
        vec![before.clone(), a.clone(), b.clone()],
        vec![before, pool.clone(), a.clone(), b.clone()],
        vec![after.clone(), pool.clone(), a, b.clone()],
        vec![after.clone(), pool.clone(), new_a.clone(), b],
        vec![after, pool, new_a, new_b],
    ];
    let expected: &[(_, &[&str])] =
        &[("node-a", &["10.244.1.0/24", "fd00::/124"]), ("node-b", &["10.244.2.0/24", "fd00::10/124"])];
    for objects in steps {
        let found = facts("auto", &observed(&objects));
        assert_eq!(per_node(&found), nodes(expected));
        assert!(texts(&found.pod_cidrs).contains(&"10.244.0.0/16".to_owned()));
        assert_eq!(found.stale(), None);
    }
}

/// Cilium's documentation, "Updating existing CiliumPodIPPools": a pool gets another CIDR while nodes still hold the old.
#[test]
fn a_cidr_that_a_node_holds_outlives_its_pool() {
    let pools = |cidr: &str| {
        json!({"apiVersion": "cilium.io/v2alpha1", "kind": "CiliumPodIPPool", "metadata": {"name": "default"},
            "spec": {"ipv4": {"cidrs": [cidr], "maskSize": 24}}})
    };
    let held = |node: &str, cidr: &str| {
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": node},
            "spec": {"ipam": {"pools": {"allocated": [{"pool": "default", "cidrs": [cidr]}]}}}})
    };
    let (worker, control) = (held("kind-worker", "10.10.1.0/24"), held("kind-control-plane", "10.10.0.0/24"));
    let moved = held("kind-worker", "10.20.4.0/24");
    for (objects, expected) in [
        (vec![pools("10.10.0.0/16"), worker.clone(), control.clone()], vec!["10.10.0.0/16"]),
        (vec![pools("10.20.0.0/16"), worker, control.clone()], vec!["10.10.0.0/23", "10.20.0.0/16"]),
        (vec![pools("10.20.0.0/16"), moved, control], vec!["10.10.0.0/24", "10.20.0.0/16"]),
    ] {
        let objects: Vec<Value> = objects.into_iter().chain([cilium("multi-pool")]).collect();
        assert_eq!(texts(&facts("auto", &observed(&objects)).pod_cidrs), expected);
    }
}

/// `pkg/k8s/testutils/testdata/ciliumnode.yaml`: what an agent writes in a dual-stack cluster.
#[test]
fn a_dual_stack_cilium_node_is_read() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let mut objects = upstream.objects(Project::Cilium, "pkg/k8s/testutils/testdata/ciliumnode.yaml");
    objects.push(cilium("cluster-pool"));
    let found = facts("cilium", &observed(&objects));
    assert_eq!(per_node(&found), nodes(&[("kind-worker", &["10.244.1.0/24", "fd00:10:244:1::/64"])]));
}

/// `test/controlplane/node/ciliumnodes/v1.26`: the Nodes of a kind cluster, without another CNI's objects.
#[test]
fn the_nodes_of_a_kind_cluster_are_read() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let objects = upstream.objects(Project::Cilium, "test/controlplane/node/ciliumnodes/v1.26/state4.yaml");
    let found = facts("auto", &observed(&objects));
    assert_eq!(found.adapter, "node (auto: no other CNI found)");
    let expected: &[(_, &[&str])] =
        &[("cilium-nodes-control-plane", &["10.244.0.0/24"]), ("cilium-nodes-worker", &["10.244.1.0/24"])];
    assert_eq!(per_node(&found), nodes(expected));
}

/// `Documentation/kube-flannel.yml`, and with what `Documentation/configuration.md` says of dual stack.
#[test]
fn flannels_own_manifest_is_read() {
    let Some(upstream) = Upstream::find_or_skip() else { return };
    let mut objects = upstream.objects(Project::Flannel, "Documentation/kube-flannel.yml");
    objects.retain(|object| object["kind"] == "ConfigMap");
    objects.push(node("n1", &["10.244.0.0/24", "fd00:10:244::/64"]));
    objects.push(node("without", &[]));
    let found = facts("auto", &observed(&objects));
    assert_eq!(found.adapter, "flannel (auto: ConfigMap kube-flannel-cfg found)");
    assert_eq!(texts(&found.pod_cidrs), ["10.244.0.0/16"]);
    assert_eq!(per_node(&found), nodes(&[("n1", &["10.244.0.0/24", "fd00:10:244::/64"])]));
    assert_eq!(found.problems, []);
    let mut net_conf: Value =
        serde_json::from_str(objects[0]["data"]["net-conf.json"].as_str().unwrap()).unwrap();
    net_conf["EnableIPv6"] = json!(true);
    net_conf["IPv6Network"] = json!("fd00:10:244::/56");
    objects[0]["data"]["net-conf.json"] = json!(net_conf.to_string());
    assert_eq!(texts(&facts("auto", &observed(&objects)).pod_cidrs), ["10.244.0.0/16", "fd00:10:244::/56"]);
}

/// Where the kind that holds each node's CIDRs shows nothing at all, nothing is known of the nodes.
#[test]
fn no_block_and_no_cilium_node_at_all_is_not_known() {
    let mut calico = documents("calico-v3.26-manifest.yaml");
    calico.retain(|object| object["kind"] != "BlockAffinity");
    let mut cilium = documents("cilium-v1.14-cluster-pool.yaml");
    cilium.retain(|object| object["kind"] != "CiliumNode");
    for (objects, message) in [
        (
            calico,
            "calico: no BlockAffinity in the member cluster; Calico makes a node's first one with its first pod; let this controller read them",
        ),
        (
            cilium,
            "cilium: no CiliumNode in the member cluster; Cilium's agents make one for each node; let this controller read them",
        ),
    ] {
        let found = facts("auto", &observed(&objects));
        assert_eq!(texts(&found.problems), [message]);
        assert!(!found.pod_cidrs.is_empty() && found.stale().is_some());
    }
}
