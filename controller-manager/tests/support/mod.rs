//! A member and a control cluster in this process, and a controller-manager between them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use api::{Cluster, ClusterNode, NodeConfig};
use embedded_api::{Server, User};
use k8s_openapi::{
    api::core::v1::Node, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Far beyond what anything here needs, also on a loaded machine; a test fails then, and asserts no time.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct TestCluster {
    pub(crate) server: Arc<Server>,
    pub(crate) client: Client,
}

/// An API server with our CRDs.
pub(crate) async fn cluster(name: &str) -> TestCluster {
    let cluster = bare_cluster(embedded_api::Config::named(name));
    install_crds(&cluster.client).await;
    cluster
}

/// An API server as it comes.
pub(crate) fn bare_cluster(config: embedded_api::Config) -> TestCluster {
    let server = Arc::new(Server::new(config).unwrap());
    let client = Client::new(server.service_as(User::in_process()), "default");
    TestCluster { server, client }
}

/// Installs our CRDs, and waits until they are served: a real API server takes a moment for each.
pub(crate) async fn install_crds(client: &Client) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in api::crd::all() {
        crds.create(&PostParams::default(), &crd).await.unwrap();
    }
    let served = || async {
        let all = ListParams::default();
        Api::<Cluster>::all(client.clone()).list(&all).await.is_ok()
            && Api::<ClusterNode>::all(client.clone()).list(&all).await.is_ok()
            && Api::<NodeConfig>::all(client.clone()).list(&all).await.is_ok()
    };
    eventually("our CRDs are served", served, |served| *served).await;
}

/// A controller-manager that runs until it is stopped or dropped.
pub(crate) struct Running(JoinHandle<()>);

impl Running {
    pub(crate) fn start(cluster: &str, member: &Client, control: &Client) -> Self {
        let config = controller_manager::Config {
            cluster: cluster.to_owned(),
            member: member.clone(),
            control: control.clone(),
        };
        Running(tokio::spawn(controller_manager::run(config, std::future::pending())))
    }

    /// As a kill would.
    pub(crate) async fn kill(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until something is so, and says what was seen last if it never is.
pub(crate) async fn eventually<T: Debug, F: Future<Output = T>>(
    what: &str,
    mut look: impl FnMut() -> F,
    is_so: impl Fn(&T) -> bool,
) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let seen = look().await;
        if is_so(&seen) {
            return seen;
        }
        assert!(tokio::time::Instant::now() < end, "{what}: last seen {seen:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Looks for a while that something stays so.
pub(crate) async fn stays<T: Debug, F: Future<Output = T>>(
    what: &str,
    mut look: impl FnMut() -> F,
    is_so: impl Fn(&T) -> bool,
) {
    for _ in 0..25 {
        let seen = look().await;
        assert!(is_so(&seen), "{what}: {seen:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn create<K>(client: &Client, object: Value) -> K
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap()
}

/// Server-side apply by a manager, of an object or of its status.
pub(crate) async fn apply<K>(client: &Client, manager: &str, status: bool, object: Value)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let parameters = PatchParams::apply(manager).force();
    let patch = Patch::Apply(&object);
    if status {
        api.patch_status(&name, &parameters, &patch).await.unwrap();
    } else {
        api.patch(&name, &parameters, &patch).await.unwrap();
    }
}

pub(crate) async fn delete<K>(client: &Client, name: &str)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    Api::<K>::all(client.clone()).delete(name, &DeleteParams::default()).await.unwrap();
}

pub(crate) async fn get<K>(client: &Client, name: &str) -> Option<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    Api::<K>::all(client.clone()).get_opt(name).await.unwrap()
}

pub(crate) async fn names<K>(client: &Client) -> Vec<String>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let objects = Api::<K>::all(client.clone()).list(&Default::default()).await.unwrap();
    let mut names: Vec<String> = objects.iter().map(ResourceExt::name_any).collect();
    names.sort();
    names
}

pub(crate) async fn join(client: &Client, name: &str, options: Value) {
    let cluster = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": name}, "spec": {"clusterLinkOptions": options}});
    create::<Cluster>(client, cluster).await;
}

/// A Node that is ready.
pub(crate) async fn add_node(client: &Client, name: &str, cidr: &str) {
    add_node_with(client, name, cidr, json!({}), json!({})).await;
}

pub(crate) async fn add_node_with(
    client: &Client,
    name: &str,
    cidr: &str,
    labels: Value,
    annotations: Value,
) {
    create::<Node>(
        client,
        json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}),
    )
    .await;
    set_ready(client, name, true, "2026-01-01T00:00:00Z").await;
}

pub(crate) async fn set_ready(client: &Client, name: &str, ready: bool, since: &str) {
    let status = if ready { "True" } else { "Unknown" };
    let condition = json!({"type": "Ready", "status": status, "reason": "Test", "message": "",
        "lastTransitionTime": since, "lastHeartbeatTime": since});
    apply::<Node>(
        client,
        "kubelet",
        true,
        json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name}, "status": {"conditions": [condition]}}),
    )
    .await;
}

/// What an agent reports of its node, as it does.
pub(crate) async fn report(client: &Client, cluster: &str, node: &str, ip: &str) {
    let head = |part: &str, value: Value| {
        json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode",
            "metadata": {"name": format!("{cluster}-{node}")}, part: value})
    };
    let agent = "clusterlink-agent";
    apply::<ClusterNode>(client, agent, false, head("spec", json!({"ip": ip, "interfaceName": "eth0"})))
        .await;
    let status = json!({"mtu": 1500, "capabilities": ["nftables"]});
    apply::<ClusterNode>(client, agent, true, head("status", status)).await;
}

/// What the network-manager plans.
pub(crate) async fn plan(client: &Client, cluster: &str, node: &str, spec: Value) {
    apply::<NodeConfig>(
        client,
        "clusterlink-network-manager",
        false,
        json!({
        "apiVersion": "kosmos.io/v1alpha1", "kind": "NodeConfig",
        "metadata": {"name": format!("{cluster}-{node}"), "labels": {"kosmos.io/cluster": cluster}},
        "spec": spec}),
    )
    .await;
}

/// A condition's status, reason and message.
pub(crate) async fn condition(
    client: &Client,
    cluster: &str,
    kind: &str,
) -> Option<(String, String, String)> {
    let conditions = get::<Cluster>(client, cluster).await?.status?.conditions;
    let found = conditions.into_iter().find(|condition| condition.type_ == kind)?;
    Some((found.status, found.reason, found.message))
}
