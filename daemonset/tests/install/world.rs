//! One control plane for all tests here: control cluster and member `a` at once, so that the policies of both meet. There
//! are the members `a` and `a-b` and, of member `a`, the nodes `n1` and `b-c`: the ClusterNode of the latter would bear the
//! name of that of node `c` of `a-b`.

use std::sync::LazyLock;

use kubernetes::ControlPlane;
use manifests::{CONTROL, MEMBER};
use serde_json::{Value, json};

use crate::actor::Actor;
use crate::support;

/// `None`: it was said that the binaries are missing.
static PLANE: LazyLock<Option<ControlPlane>> = LazyLock::new(|| {
    let plane = support::start("manifests", &[CONTROL, MEMBER])?;
    support::set_cluster(&plane, "a");
    support::add(&plane, &objects());
    Some(plane)
});

/// What stands there beside the manifests.
fn objects() -> Vec<Value> {
    let mut objects: Vec<Value> = ["a", "a-b"].into_iter().flat_map(manifests::membership).collect();
    objects.extend(["a", "a-b"].map(cluster));
    objects.push(api_servers());
    for node in ["n1", "n2", "b-c"] {
        objects.extend(support::node(node, &json!({}), &json!({})));
    }
    for (name, cluster, node) in [("a-n1", "a", "n1"), ("a-n2", "a", "n2"), ("a-b-c", "a-b", "c")] {
        objects.push(cluster_node(name, cluster, node));
        objects.push(node_config(name, cluster));
    }
    objects
}

/// As an API server keeps it that does not listen on a loopback address, as this one does.
fn api_servers() -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["192.168.0.10"]}],
        "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]})
}

pub(crate) fn cluster(name: &str) -> Value {
    json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
        "spec": {"kubeconfig": "c2VjcmV0"}})
}

pub(crate) fn cluster_node(name: &str, cluster: &str, node: &str) -> Value {
    json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode",
        "metadata": {"name": name, "labels": {"kosmos.io/cluster": cluster}},
        "spec": {"clusterName": cluster, "nodeName": node, "podCIDRs": ["10.1.0.0/24"]}})
}

pub(crate) fn node_config(name: &str, cluster: &str) -> Value {
    json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "NodeConfig",
        "metadata": {"name": name, "labels": {"kosmos.io/cluster": cluster}, "finalizers": ["example.org/other"]},
        "spec": {"devices": [], "routes": [], "unreachable": ["10.9.0.0/16"]}})
}

pub(crate) fn plane() -> Option<&'static ControlPlane> {
    PLANE.as_ref()
}

/// The credential that `join` gives a member.
pub(crate) async fn member(plane: &ControlPlane, cluster: &str) -> Actor {
    account(plane, "clusterlink-members", cluster).await
}

/// Any service account, with a token that is bound to nothing.
pub(crate) async fn account(plane: &ControlPlane, namespace: &str, name: &str) -> Actor {
    Actor { client: support::account(plane, namespace, name).await }
}

/// The agent of a node of member `a`, with the token that its pod has.
pub(crate) async fn agent(plane: &ControlPlane, node: &str) -> Actor {
    Actor { client: support::agent(plane, node).await }
}
