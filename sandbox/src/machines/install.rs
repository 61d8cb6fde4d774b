//! Installs ClusterLink as an operator does: `daemonset/control.yaml` and what a person says of the members in the control
//! cluster, `daemonset/member.yaml` in each member, and for each member the one credential that it has for the control
//! cluster.

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use serde_json::{Value, json};

use super::MachineError;
use super::apply::apply;
use super::planes::{Plane, Planes};
use crate::addressing::{ClusterLayout, Layout};
use crate::objects;

const SYSTEM: &str = "clusterlink-system";
const MEMBERS: &str = "clusterlink-members";
/// As `kosmosctl join` asks for.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// Installs everything in every cluster.
pub(super) async fn install(layout: &Layout, planes: &Planes) -> Result<(), MachineError> {
    let control = planes.control();
    apply(control, documents("daemonset/control.yaml", manifests::CONTROL)?).await?;
    apply(control, objects::clusters(layout)).await?;
    let joins = layout.clusters.iter().map(|cluster| join(control, planes.of(&cluster.name), cluster));
    futures::future::try_join_all(joins).await.map(drop)
}

async fn join(control: &Plane, member: &Plane, cluster: &ClusterLayout) -> Result<(), MachineError> {
    apply(control, manifests::membership(&cluster.name)).await?;
    let token = token(control, &cluster.name).await?;
    let mut objects = documents("daemonset/member.yaml", manifests::MEMBER)?;
    for object in &mut objects {
        if object["kind"] == "ConfigMap" && object["metadata"]["name"] == "clusterlink" {
            object["data"]["cluster"] = cluster.name.clone().into();
        }
    }
    // Before the Deployment that mounts it.
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "clusterlink-control", "namespace": SYSTEM},
        "stringData": {"kubeconfig": kubeconfig(control, &cluster.name, &token).to_string()},
    });
    let namespaces = objects.iter().rposition(|object| object["kind"] == "Namespace").map_or(0, |at| at + 1);
    objects.insert(namespaces, secret);
    apply(member, objects).await
}

fn documents(manifest: &'static str, yaml: &str) -> Result<Vec<Value>, MachineError> {
    manifests::objects(yaml).map_err(|error| MachineError::Manifest { manifest, problem: error.to_string() })
}

async fn token(control: &Plane, account: &str) -> Result<String, MachineError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(control.client(), MEMBERS);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(account, &Default::default(), &request).await;
    let what = format!("a token of {MEMBERS}/{account}");
    let answer = answer.map_err(MachineError::api(&control.cluster, what))?;
    Ok(answer.status.map(|status| status.token).unwrap_or_default())
}

fn kubeconfig(control: &Plane, member: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "control",
        "clusters": [{"name": "control", "cluster": {
            "server": control.control_plane.url(),
            "certificate-authority-data": base64(control.control_plane.ca().as_bytes()),
        }}],
        "users": [{"name": member, "user": {"token": token}}],
        "contexts": [{"name": "control", "context": {"cluster": "control", "user": member}}],
    })
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
