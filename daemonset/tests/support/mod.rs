//! A real control plane with the manifests in it, and clients with the tokens that their pods would have.

use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use kubernetes::{Binaries, ControlPlane, Options};
use serde_json::{Value, json};

/// A control plane that has taken these manifests without a word of warning. `None`: it was said that the binaries are missing.
pub(crate) fn start(name: &str, manifests: &[&str]) -> Option<ControlPlane> {
    let plane = ControlPlane::start(&Options::named(name, Binaries::find_or_skip()?)).expect("it starts");
    for (number, yaml) in manifests.iter().enumerate() {
        let said =
            apply(&plane, &format!("manifest-{number}"), yaml, &[]).expect("a real API server takes it");
        assert!(!said.contains("Warning"), "{said}");
    }
    Some(plane)
}

/// Objects that are there as well. An API server serves kinds, and has read what its policies go by, a moment after it took
/// the manifests.
pub(crate) fn add(plane: &ControlPlane, objects: &[Value]) {
    let deadline = Instant::now() + Duration::from_secs(90);
    for (number, object) in objects.iter().enumerate() {
        let (name, text) = (format!("object-{number}"), object.to_string());
        while let Err(said) = apply(plane, &name, &text, &[]) {
            assert!(Instant::now() < deadline, "{said}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// As `kosmosctl join` does it: whoever applies the manifest again does not own this key.
pub(crate) fn set_cluster(plane: &ControlPlane, cluster: &str) {
    let settings = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "clusterlink", "namespace": "clusterlink-system"}});
    let patch = format!(r#"--patch={{"data":{{"cluster":"{cluster}"}}}}"#);
    kubectl(plane, "settings", &settings.to_string(), &["patch", "--type=merge", &patch])
        .expect("it was applied");
}

/// A Node and the pod of its agent.
pub(crate) fn node(name: &str, spec: &Value, status: &Value) -> [Value; 2] {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec, "status": status});
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("agent-{name}"), "namespace": "clusterlink-system"},
        "spec": {"nodeName": name, "serviceAccountName": "clusterlink-agent", "hostNetwork": true,
            "containers": [{"name": "agent", "image": "clusterlink"}]}});
    [node, pod]
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

/// Somebody with a token of a service account that is bound to nothing.
pub(crate) async fn account(plane: &ControlPlane, namespace: &str, name: &str) -> Client {
    client(plane, (namespace, name), None).await
}

/// An agent with the token that its pod has.
pub(crate) async fn agent(plane: &ControlPlane, node: &str) -> Client {
    let pod = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(format!("agent-{node}")),
        uid: None,
    };
    client(plane, ("clusterlink-system", "clusterlink-agent"), Some(pod)).await
}

async fn client(
    plane: &ControlPlane,
    (namespace, name): (&str, &str),
    bound: Option<BoundObjectReference>,
) -> Client {
    let pod = bound.as_ref().and_then(|pod| pod.name.clone()).unwrap_or_default();
    let file = format!("{namespace}.{name}.{pod}");
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client().await.unwrap(), namespace);
    let spec = TokenRequestSpec { bound_object_ref: bound, ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    let kubeconfig = plane.kubeconfig_with_token(&file, &answer.status.unwrap().token).unwrap();
    plane.client_of(&kubeconfig).await.unwrap()
}
