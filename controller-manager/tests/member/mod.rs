//! A member's API as a person and a CNI use it: objects of any kind, put and removed.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{collections::BTreeMap, time::Duration};

use api::{Cluster, ClusterNode};
use k8s_openapi::{
    api::core::v1::Node, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support;

/// Far beyond what anything here needs, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Kinds that no watch names.
const OTHERS: [(&str, &str, &str); 8] = [
    ("v1", "Namespace", "namespaces"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
    ("rbac.authorization.k8s.io/v1", "Role", "roles"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"),
    ("v1", "Service", "services"),
];

fn plural(api_version: &str, kind: &str) -> String {
    let watches = cni_adapters::watches().into_iter().chain(cni_adapters::service_cidrs::SERVICE_CIDRS);
    let watched = watches.map(|watch| (watch.api_version(), watch.kind, watch.plural));
    let others = OTHERS.into_iter().map(|(version, kind, plural)| (version.to_owned(), kind, plural));
    let found = watched.chain(others).find(|(of, its, _)| of == api_version && *its == kind);
    found.unwrap_or_else(|| panic!("no plural of {api_version} {kind}")).2.to_owned()
}

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural(api_version, kind),
    };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Makes an object, or gives it this state. While the API server is away or begins, again.
pub(crate) async fn put(client: &Client, object: &Value) {
    let mut object = object.clone();
    // What an API server wrote before is not for another.
    for field in
        ["resourceVersion", "uid", "creationTimestamp", "generation", "ownerReferences", "managedFields"]
    {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    let parameters = PatchParams::apply("cni").force();
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        match api(client, &object).patch(name(&object), &parameters, &Patch::Apply(&object)).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
                panic!("{object} is refused: {}", status.message)
            }
            Err(error) => assert!(tokio::time::Instant::now() < end, "{object}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Removes an object that may not be there.
pub(crate) async fn remove(client: &Client, object: &Value) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        match api(client, object).delete(name(object), &DeleteParams::default()).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => assert!(tokio::time::Instant::now() < end, "{object}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Makes CRDs, and waits until they are served.
pub(crate) async fn install(client: &Client, crds: &[Value]) {
    for crd in crds {
        put(client, crd).await;
    }
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds {
        let look = || async { api.get_opt(name(crd)).await.unwrap() };
        support::eventually("an established CRD", look, |crd| {
            let conditions = crd.as_ref().and_then(|crd| crd.status.as_ref()?.conditions.clone());
            conditions.unwrap_or_default().iter().any(|it| it.type_ == "Established" && it.status == "True")
        })
        .await;
    }
}

/// Removes CRDs, their objects with them, and waits until they are gone.
pub(crate) async fn uninstall(client: &Client, crds: &[Value]) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds {
        remove(client, crd).await;
    }
    for crd in crds {
        let look = || async { api.get_opt(name(crd)).await.unwrap().map(|crd| crd.name_any()) };
        support::eventually("no CRD", look, Option::is_none).await;
    }
}

/// A Node as kube-controller-manager leaves it.
pub(crate) fn node(name: &str, cidrs: &[&str]) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs}})
}

/// Removes all Nodes.
pub(crate) async fn remove_nodes(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    for node in nodes.list(&Default::default()).await.unwrap() {
        nodes.delete(&node.name_any(), &DeleteParams::default()).await.unwrap();
    }
}

/// What is published of a cluster's addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Published {
    pub(crate) adapter: String,
    pub(crate) pods: Vec<String>,
    pub(crate) services: Vec<String>,
    pub(crate) nodes: BTreeMap<String, Vec<String>>,
    /// Status and message of the condition CIDRsKnown.
    pub(crate) known: Option<(bool, String)>,
}

impl Published {
    /// The CIDRs of one node.
    pub(crate) fn node(&self, name: &str) -> Vec<&str> {
        self.nodes.get(name).into_iter().flatten().map(String::as_str).collect()
    }

    /// Whether everything is known and nothing kept. The nodes are objects of their own: they may show it a moment later.
    pub(crate) fn is_known(&self) -> bool {
        self.known.as_ref().is_some_and(|(known, _)| *known)
    }
}

/// What the control cluster shows of a cluster.
pub(crate) async fn published(control: &Client, cluster: &str) -> Published {
    let status = support::get::<Cluster>(control, cluster).await.and_then(|cluster| cluster.status);
    let status = status.unwrap_or_default();
    let known = status.conditions.into_iter().find(|condition| condition.type_ == "CIDRsKnown");
    let found = status.cluster_link_status.unwrap_or_default();
    let nodes = Api::<ClusterNode>::all(control.clone()).list(&Default::default()).await.unwrap();
    let own = nodes.into_iter().filter(|node| node.spec.cluster_name.as_deref() == Some(cluster));
    Published {
        adapter: found.adapter.unwrap_or_default(),
        pods: found.pod_cidrs,
        services: found.service_cidrs,
        nodes: own.map(|node| (node.spec.node_name.unwrap_or_default(), node.spec.pod_cidrs)).collect(),
        known: known.map(|known| (known.status == "True", known.message)),
    }
}

/// Waits until the control cluster shows what it should.
pub(crate) async fn shows(
    what: &str,
    (control, cluster): (&Client, &str),
    is_so: impl Fn(&Published) -> bool,
) -> Published {
    support::eventually(what, || published(control, cluster), is_so).await
}

/// Changes of the objects of several CNIs, drawn from a seed. A run shows its seed where it fails.
pub(crate) struct History {
    seed: u64,
    state: u64,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        History { seed, state: seed }
    }

    /// SplitMix64.
    pub(crate) fn draw(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(below).unwrap()).unwrap()
    }

    /// Puts or removes some object.
    pub(crate) async fn change(&mut self, client: &Client) {
        let all = catalogue();
        let object = &all[self.draw(all.len())];
        // A Node keeps its podCIDRs for life.
        if self.draw(4) == 0 || object["kind"] == "Node" {
            remove(client, object).await;
        }
        if self.draw(4) != 0 {
            put(client, object).await;
        }
    }

    /// Leaves a cluster of which everything is known.
    pub(crate) async fn end(&mut self, client: &Client) {
        let nodes = ["n1", "n2", "n3"].into_iter().zip(["10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
        for (name, cidr) in nodes {
            let node = node(name, &[cidr]);
            remove(client, &node).await;
            put(client, &node).await;
        }
        let all = catalogue();
        let of = |kind: &str| all.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
        let kinds = if self.seed.is_multiple_of(2) {
            remove(client, of("ConfigMap")[0]).await;
            ["IPPool", "BlockAffinity"]
        } else {
            ["ConfigMap", "CiliumNode"]
        };
        for kind in kinds {
            let states = of(kind);
            put(client, states[self.draw(states.len())]).await;
        }
        if self.seed.is_multiple_of(2) {
            put(client, of("IPPool")[0]).await;
            put(client, of("BlockAffinity")[0]).await;
        }
    }
}

/// Several states of the same objects.
fn catalogue() -> Vec<Value> {
    let pool = |name: &str, cidr: &str, disabled: bool| {
        json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": {"name": name},
            "spec": {"cidr": cidr, "disabled": disabled, "blockSize": 26, "nodeSelector": "all()"}})
    };
    let block = |node: &str, state: &str| {
        json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "BlockAffinity",
            "metadata": {"name": format!("{node}-192-168-7-0-26")},
            "spec": {"cidr": "192.168.7.0/26", "deleted": "false", "node": node, "state": state}})
    };
    let config = |ipam: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "cilium-config", "namespace": "kube-system"},
            "data": {"ipam": ipam, "cluster-pool-ipv4-cidr": "10.64.0.0/12"}})
    };
    let held = |name: &str, ipam: Value| json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": name}, "spec": {"ipam": ipam}});
    let allocated = |cidr: &str| json!({"pools": {"allocated": [{"pool": "default", "cidrs": [cidr]}]}});
    vec![
        node("n1", &["10.244.1.0/24"]),
        node("n2", &["10.244.2.0/24"]),
        node("n3", &[]),
        pool("default-ipv4-ippool", "192.168.0.0/16", false),
        pool("default-ipv4-ippool", "192.168.0.0/16", true),
        pool("new-pool", "10.128.0.0/9", false),
        block("n1", "confirmed"),
        block("n1", "pendingDeletion"),
        block("n2", "pending"),
        block("n2", "confirmed"),
        config("cluster-pool"),
        config("kubernetes"),
        held("n1", json!({"podCIDRs": ["10.64.1.0/24"]})),
        held("n2", json!({"podCIDRs": ["10.64.2.0/24"]})),
        held("n2", allocated("10.64.2.0/24")),
    ]
}

/// Waits until the control cluster shows what another one, that has never seen anything else, shows of the same member.
pub(crate) async fn ends_as_a_fresh_start_would(member: &Client, control: &Client, seed: u64) {
    let fresh = support::cluster("fresh").await.client;
    support::join(&fresh, "east", json!({})).await;
    let _running = support::Running::start("east", member, &fresh);
    let both = || async { (published(control, "east").await, published(&fresh, "east").await) };
    let equal = |(ours, fresh): &(Published, Published)| ours == fresh && fresh.is_known();
    support::eventually(&format!("what a fresh start shows, after history {seed}"), both, equal).await;
}
