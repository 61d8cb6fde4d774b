//! A control cluster in this process, and a network-manager that watches it.

#![allow(dead_code, clippy::unwrap_used, reason = "tests: each file uses its own part of this")]

use std::{fmt::Debug, sync::Arc, time::Duration};

use api::{Cluster, ClusterNode, NodeConfig};
use embedded_api::{Server, User};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Far beyond what anything here needs, also on a loaded machine; a test fails then, and asserts no time.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Control {
    pub(crate) server: Arc<Server>,
    pub(crate) client: Client,
}

impl Control {
    /// An API server with our CRDs.
    pub(crate) async fn new() -> Self {
        Control::with(embedded_api::Config::named("control")).await
    }

    pub(crate) async fn with(config: embedded_api::Config) -> Self {
        let server = Arc::new(Server::new(config).unwrap());
        let client = Client::new(server.service_as(User::in_process()), "default");
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in api::crd::all() {
            crds.create(&PostParams::default(), &crd).await.unwrap();
        }
        Control { server, client }
    }

    pub(crate) fn manage(&self) -> Running {
        self.manage_as(network_manager::Config::alone(self.client.clone()))
    }

    pub(crate) fn manage_as(&self, config: network_manager::Config) -> Running {
        Running(tokio::spawn(async move { match network_manager::run(config).await {} }))
    }

    /// Server-side apply by another writer.
    pub(crate) async fn apply<K>(&self, manager: &str, name: &str, part: Value)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let mut body = part;
        body["apiVersion"] = json!(K::api_version(&()));
        body["kind"] = json!(K::kind(&()));
        body["metadata"]["name"] = json!(name);
        let api: Api<K> = Api::all(self.client.clone());
        let parameters = PatchParams::apply(manager).force();
        if body.get("status").is_some() {
            api.patch_status(name, &parameters, &Patch::Apply(&body)).await.unwrap();
        } else {
            api.patch(name, &parameters, &Patch::Apply(&body)).await.unwrap();
        }
    }

    /// A Cluster with `options`, whose pods and services are known.
    pub(crate) async fn cluster(&self, name: &str, options: Value, pods: &str, services: &str) {
        self.apply::<Cluster>("person", name, json!({"spec": {"clusterLinkOptions": options}})).await;
        let status = json!({"clusterLinkStatus": {"podCIDRs": [pods], "serviceCIDRs": [services]}});
        self.apply::<Cluster>("clusterlink-controller-manager", name, json!({"status": status})).await;
    }

    pub(crate) async fn node(&self, cluster: &str, node: &str, ip: &str, block: &str) {
        let spec = json!({"clusterName": cluster, "nodeName": node, "ip": ip, "interfaceName": "eth0",
            "podCIDRs": [block]});
        let part = json!({"metadata": {"labels": {"kosmos.io/cluster": cluster}}, "spec": spec});
        self.apply::<ClusterNode>("clusterlink-controller-manager", &format!("{cluster}-{node}"), part).await;
    }

    /// Two P2P clusters of one node each: `a-n1` and `b-n1`.
    pub(crate) async fn two_clusters(&self) {
        self.cluster("a", json!({"networkType": "p2p"}), "10.1.0.0/16", "10.91.0.0/16").await;
        self.cluster("b", json!({"networkType": "p2p"}), "10.2.0.0/16", "10.92.0.0/16").await;
        self.node("a", "n1", "192.168.1.1", "10.1.1.0/24").await;
        self.node("b", "n1", "192.168.2.1", "10.2.1.0/24").await;
    }

    pub(crate) async fn get<K>(&self, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        Api::<K>::all(self.client.clone()).get_opt(name).await.unwrap()
    }

    pub(crate) async fn delete<K>(&self, name: &str)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        Api::<K>::all(self.client.clone()).delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn names<K>(&self) -> Vec<String>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let objects = Api::<K>::all(self.client.clone()).list(&Default::default()).await.unwrap();
        let mut names: Vec<String> = objects.iter().map(ResourceExt::name_any).collect();
        names.sort();
        names
    }

    /// Waits until an object is so, and says what was seen last if it never is.
    pub(crate) async fn until<K>(
        &self,
        what: &str,
        name: &str,
        is_so: impl Fn(Option<&K>) -> bool,
    ) -> Option<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let seen = self.get::<K>(name).await;
            if is_so(seen.as_ref()) {
                return seen;
            }
            assert!(tokio::time::Instant::now() < end, "{what}: last seen {seen:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it is said of these that all is well: conditions are writes of their own, beside those of NodeConfigs.
    pub(crate) async fn are_well(&self, clusters: &[&str], nodes: &[&str]) {
        let is_true = |conditions: &[Condition], kind: &str| {
            condition(conditions, kind).is_some_and(|(status, ..)| status == "True")
        };
        for name in clusters {
            let is_well = |cluster: Option<&Cluster>| {
                let status = cluster.and_then(|cluster| cluster.status.as_ref());
                let kinds = ["Planned", "CIDRsUnique", "OptionsSupported"];
                status.is_some_and(|status| kinds.iter().all(|kind| is_true(&status.conditions, kind)))
            };
            self.until("the Cluster is well", name, is_well).await;
        }
        for name in nodes {
            let is_well = |node: Option<&ClusterNode>| {
                let status = node.and_then(|node| node.status.as_ref());
                status.is_some_and(|status| is_true(&status.conditions, "Planned"))
            };
            self.until("the ClusterNode is well", name, is_well).await;
        }
    }

    /// Waits until a NodeConfig has routes to exactly these pod and service CIDRs (and to whatever overlay addresses).
    pub(crate) async fn routed(&self, name: &str, cidrs: &[&str]) -> NodeConfig {
        let of = |config: &NodeConfig| {
            let cidrs = config.spec.routes.iter().map(|route| route.cidr.clone());
            cidrs.filter(|cidr| !cidr.starts_with("24") && !cidr.contains(':')).collect::<Vec<_>>()
        };
        let what = format!("{name} routes {cidrs:?}");
        self.until(&what, name, |config| config.is_some_and(|config| of(config) == cidrs)).await.unwrap()
    }
}

/// A network-manager that runs until it is stopped or dropped.
pub(crate) struct Running(JoinHandle<()>);

impl Running {
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

/// A condition's status, reason and message.
pub(crate) fn condition(conditions: &[Condition], kind: &str) -> Option<(String, String, String)> {
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone(), found.message.clone()))
}
