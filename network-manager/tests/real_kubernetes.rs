//! Two network-managers with the rights of the manifests before a real API server that forgets, restarts and loses one of
//! them: in the end everything stands as a fresh start would leave it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{sync::Arc, time::Duration};

use api::{Cluster, ClusterNode, NodeConfig};
use component::election::Candidate;
use embedded_api::Server;
use k8s_openapi::{
    api::coordination::v1::Lease,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use kubernetes::{Binaries, ControlPlane, Options, Part};
use serde_json::json;
use support::{Control, Running, condition};
use tokio::task::JoinHandle;

/// What the manifests let a network-manager do.
const RIGHTS: &str = include_str!("../../daemonset/control/network-manager-rbac.yaml");
const NAMESPACE: &str = "clusterlink-system";
const NAME: &str = "clusterlink-network-manager";

struct Replica(Running, JoinHandle<()>);

impl Replica {
    fn start(control: &Control, client: &Client, name: &str) -> Self {
        let (mut candidate, leadership) = Candidate::new(client.clone(), NAMESPACE, NAME, name);
        let config = network_manager::Config { leadership, ..network_manager::Config::alone(client.clone()) };
        let stands = tokio::spawn(async move { match candidate.stand().await {} });
        Replica(control.manage_as(config), stands)
    }

    async fn kill(self) {
        self.1.abort();
        self.0.kill().await;
    }
}

/// The CRDs, and a client with the rights of the manifests.
async fn prepare(plane: &ControlPlane, admin: &Client) -> Client {
    let crds: Api<CustomResourceDefinition> = Api::all(admin.clone());
    for crd in api::crd::all() {
        crds.create(&PostParams::default(), &crd).await.unwrap();
    }
    are_served(admin).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let rights: Vec<serde_json::Value> = serde_saphyr::from_multiple(RIGHTS).unwrap();
    for object in [namespace].into_iter().chain(rights) {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let types = object.types.clone().unwrap();
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let kind = kube::api::GroupVersionKind::gvk(group, version, &types.kind);
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(admin.clone(), namespace, &resource),
            None => Api::all_with(admin.clone(), &resource),
        };
        let name = object.metadata.name.clone().unwrap();
        api.patch(&name, &PatchParams::apply("tests"), &Patch::Apply(&object)).await.unwrap();
    }
    let kubeconfig = plane.kubeconfig_of_account(NAMESPACE, NAME).await.unwrap();
    plane.client_of(&kubeconfig).await.unwrap()
}

/// An API server serves a new kind a moment after it took its CRD.
async fn are_served(admin: &Client) {
    for _ in 0..600 {
        let all = ListParams::default();
        if Api::<Cluster>::all(admin.clone()).list(&all).await.is_ok()
            && Api::<ClusterNode>::all(admin.clone()).list(&all).await.is_ok()
            && Api::<NodeConfig>::all(admin.clone()).list(&all).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("our kinds are not served");
}

async fn is_planned(control: &Control, node: &str) {
    let planned = |node: Option<&ClusterNode>| {
        let status = node.and_then(|node| node.status.as_ref());
        status.and_then(|status| condition(&status.conditions, "Planned")).is_some_and(|c| c.0 == "True")
    };
    control.until(&format!("{node} is planned"), node, planned).await;
}

/// Every object of ours, in its version.
async fn versions(control: &Control) -> Vec<String> {
    let mut versions = Vec::new();
    for name in control.names::<Cluster>().await {
        versions.push(control.get::<Cluster>(&name).await.unwrap().metadata);
    }
    for name in control.names::<ClusterNode>().await {
        versions.push(control.get::<ClusterNode>(&name).await.unwrap().metadata);
    }
    for name in control.names::<NodeConfig>().await {
        versions.push(control.get::<NodeConfig>(&name).await.unwrap().metadata);
    }
    versions.into_iter().map(|meta| format!("{:?} {:?}", meta.name, meta.resource_version)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_after_all_that_is_what_a_fresh_start_would_leave() {
    let start = || -> Option<ControlPlane> {
        let binaries = Binaries::find_or_skip()?;
        Some(ControlPlane::start(&Options::named("topology", binaries)).expect("a control plane starts"))
    };
    let Some(plane) = tokio::task::spawn_blocking(start).await.unwrap() else { return };
    let plane = Arc::new(plane);
    let admin = plane.client().await.unwrap();
    let own = prepare(&plane, &admin).await;
    let server = Arc::new(Server::new(embedded_api::Config::named("unused")).unwrap());
    let control = Control { server, client: admin };
    let with = |act: fn(&ControlPlane) -> Result<(), kubernetes::Error>| {
        let plane = Arc::clone(&plane);
        async move { tokio::task::spawn_blocking(move || act(&plane)).await.unwrap().unwrap() }
    };

    let first = Replica::start(&control, &own, "first");
    control.two_clusters().await;
    is_planned(&control, "b-n1").await;
    let second = Replica::start(&control, &own, "second");
    control.node("b", "n2", "192.168.2.2", "10.2.2.0/24").await;
    with(ControlPlane::forget_history).await;
    control.delete::<ClusterNode>("b-n2").await;
    control.node("b", "n3", "192.168.2.3", "10.2.3.0/24").await;
    control.routed("a-n1", &["10.2.1.0/24", "10.2.3.0/24", "10.92.0.0/16"]).await;

    first.kill().await;
    control.node("b", "n4", "192.168.2.4", "10.2.4.0/24").await;
    with(|plane| plane.kill(Part::ApiServer).and_then(|()| plane.start_again(Part::ApiServer))).await;
    control.routed("a-n1", &["10.2.1.0/24", "10.2.3.0/24", "10.2.4.0/24", "10.92.0.0/16"]).await;
    is_planned(&control, "b-n4").await;
    let leases: Api<Lease> = Api::namespaced(control.client.clone(), NAMESPACE);
    let lease = leases.get(NAME).await.unwrap().spec.unwrap();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_transitions), (Some("second"), Some(1)));

    // Until everything stands that it writes: what it is killed over would be the next one's to write.
    control.are_well(&["a", "b"], &["a-n1", "b-n1", "b-n3", "b-n4"]).await;
    for name in ["b-n1", "b-n3", "b-n4"] {
        control.routed(name, &["10.1.1.0/24", "10.91.0.0/16"]).await;
    }
    control.until::<NodeConfig>("that of a node that went", "b-n2", |config| config.is_none()).await;
    second.kill().await;
    let before = versions(&control).await;
    assert_eq!(before.len(), 2 + 4 + 4, "{before:?}");
    let _fresh = control.manage();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(versions(&control).await, before);
}
