//! One control plane for all tests here: control cluster and member `a` at once, so that the policies of both meet. There
//! are the members `a` and `a-b` and, of member `a`, the nodes `n1` and `b-c`: the ClusterNode of the latter would bear the
//! name of that of node `c` of `a-b`.

use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use kubernetes::{Binaries, ControlPlane, Options};
use manifests::{CONTROL, MEMBER};
use serde_json::{Value, json};

use crate::actor::{Actor, in_namespace, named};

/// `None`: it was said that the binaries are missing.
static PLANE: LazyLock<Option<ControlPlane>> = LazyLock::new(|| {
    let plane =
        ControlPlane::start(&Options::named("manifests", Binaries::find_or_skip()?)).expect("it starts");
    for (part, yaml) in [("control", CONTROL), ("member", MEMBER)] {
        let said = apply(&plane, part, yaml, &[]).expect("a real API server takes it");
        assert!(!said.contains("Warning"), "{said}");
    }
    for (number, object) in objects().into_iter().enumerate() {
        apply(&plane, &format!("object-{number}"), &object.to_string(), &[]).expect("it is valid");
    }
    // As `kosmosctl join` does it: whoever applies the manifest again does not own this key.
    let settings = in_namespace("clusterlink-system", named("v1", "ConfigMap", "clusterlink")).to_string();
    let patch = ["patch", "--type=merge", r#"--patch={"data":{"cluster":"a"}}"#];
    kubectl(&plane, "settings", &settings, &patch).expect("it was applied");
    Some(plane)
});

/// What stands there beside the manifests.
fn objects() -> Vec<Value> {
    let mut objects: Vec<Value> = ["a", "a-b"].into_iter().flat_map(manifests::membership).collect();
    objects.extend(["a", "a-b"].map(cluster));
    for node in ["n1", "n2", "b-c"] {
        objects.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}));
        objects.push(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("agent-{node}"), "namespace": "clusterlink-system"},
            "spec": {"nodeName": node, "serviceAccountName": "clusterlink-agent", "hostNetwork": true,
                "containers": [{"name": "agent", "image": "clusterlink"}]}}));
    }
    for (name, cluster, node) in [("a-n1", "a", "n1"), ("a-n2", "a", "n2"), ("a-b-c", "a-b", "c")] {
        objects.push(cluster_node(name, cluster, node));
        objects.push(node_config(name, cluster));
    }
    objects
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

/// What `kubectl apply` says on both its outputs, or why it failed.
pub(crate) fn apply(plane: &ControlPlane, name: &str, text: &str, flags: &[&str]) -> Result<String, String> {
    kubectl(plane, name, text, &[&["apply"], flags].concat())
}

/// What kubectl says of a file with this text.
pub(crate) fn kubectl(
    plane: &ControlPlane,
    name: &str,
    text: &str,
    arguments: &[&str],
) -> Result<String, String> {
    let file = plane.directory().join(format!("{name}.yaml"));
    fs::write(&file, text).unwrap();
    let mut command = Command::new(plane.binaries().path("kubectl"));
    command.arg("--kubeconfig").arg(plane.admin_kubeconfig()).args(arguments).arg("-f").arg(&file);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
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
    let admin = plane.client().await.unwrap();
    actor(plane, &admin, (namespace, name), None).await
}

/// The agent of a node of member `a`, with the token that its pod has.
pub(crate) async fn agent(plane: &ControlPlane, node: &str) -> Actor {
    let admin = plane.client().await.unwrap();
    let pod = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(format!("agent-{node}")),
        uid: None,
    };
    actor(plane, &admin, ("clusterlink-system", "clusterlink-agent"), Some(pod)).await
}

async fn actor(
    plane: &ControlPlane,
    admin: &Client,
    (namespace, name): (&str, &str),
    bound: Option<BoundObjectReference>,
) -> Actor {
    let file = match &bound {
        Some(pod) => format!("{name}.{}", pod.name.as_deref().unwrap_or_default()),
        None => format!("{namespace}.{name}"),
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    let spec = TokenRequestSpec { bound_object_ref: bound, ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    let kubeconfig = plane.kubeconfig_with_token(&file, &answer.status.unwrap().token).unwrap();
    Actor { client: plane.client_of(&kubeconfig).await.unwrap() }
}
