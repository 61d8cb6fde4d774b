//! The real managers, in two real clusters, with nothing but the rights of the manifests: what a node says reaches the
//! control cluster, and what is planned there reaches the node's cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use api::{Cluster, ClusterNode, NodeConfig};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use kubernetes::ControlPlane;
use manifests::{CONTROL, MEMBER};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);

/// A peer for the plan, of which only the facts are there, and the Cluster of the member.
fn topology() -> Vec<Value> {
    let cluster = |name: &str| {
        json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
            "spec": {"clusterLinkOptions": {"networkType": "p2p", "cni": "node"}}})
    };
    let node = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode",
        "metadata": {"name": "south-s1", "labels": {"kosmos.io/cluster": "south"}},
        "spec": {"clusterName": "south", "nodeName": "s1", "ip": "192.168.2.1", "interfaceName": "eth0",
            "podCIDRs": ["10.2.0.0/24"]}});
    vec![cluster("north"), cluster("south"), node]
}

async fn apply<K>(client: &Client, name: &str, part: Value)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut body = part;
    body["apiVersion"] = json!(K::api_version(&()));
    body["kind"] = json!(K::kind(&()));
    body["metadata"]["name"] = json!(name);
    let api: Api<K> = Api::all(client.clone());
    let parameters = PatchParams::apply("clusterlink-agent").force();
    let deadline = Instant::now() + PATIENCE;
    // Policies and what they read take a moment to be in force.
    loop {
        let written = match body.get("status") {
            Some(_) => api.patch_status(name, &parameters, &Patch::Apply(&body)).await,
            None => api.patch(name, &parameters, &Patch::Apply(&body)).await,
        };
        match written {
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < deadline, "{name}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until an object is as it should be; `None` is one that is not there.
async fn until<K>(client: &Client, name: &str, what: &str, is_so: impl Fn(Option<&K>) -> bool)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let object = api.get_opt(name).await.unwrap();
        if is_so(object.as_ref()) {
            return;
        }
        assert!(Instant::now() < deadline, "{name}: {what}; it is {object:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn says(cluster: &Cluster, kind: &str) -> bool {
    cluster.status.as_ref().is_some_and(|status| api::condition::is_true(&status.conditions, kind))
}

async fn start_managers(control: &ControlPlane, member: &ControlPlane) {
    let planner = support::account(control, "clusterlink-system", "clusterlink-network-manager").await;
    tokio::spawn(network_manager::run(network_manager::Config::alone(planner)));
    let config = controller_manager::Config {
        cluster: "north".to_owned(),
        member: support::account(member, "clusterlink-system", "clusterlink-controller-manager").await,
        control: support::account(control, "clusterlink-members", "north").await,
    };
    tokio::spawn(controller_manager::run(config, std::future::pending()));
}

#[tokio::test]
async fn the_managers_work_with_their_own_rights_alone() {
    let Some(control) = support::start("control", &[CONTROL]) else { return };
    let Some(member) = support::start("north", &[MEMBER]) else { return };
    support::add(&control, &manifests::membership("north"));
    support::add(&control, &topology());
    support::set_cluster(&member, "north");
    let addresses = json!({"addresses": [{"type": "InternalIP", "address": "192.168.1.1"}]});
    support::add(
        &member,
        &support::node("n1", &json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"]}), &addresses),
    );
    let (above, below) = (control.client().await.unwrap(), member.client().await.unwrap());
    let pods = json!({"status": {"clusterLinkStatus": {"podCIDRs": ["10.2.0.0/16"], "serviceCIDRs": ["10.97.0.0/16"]}}});
    apply::<Cluster>(&above, "south", pods).await;

    start_managers(&control, &member).await;
    let agent = support::agent(&member, "n1").await;
    let facts = json!({"metadata": {"labels": {"kosmos.io/cluster": "north"}},
        "spec": {"interfaceName": "eth0", "ip": "192.168.1.1"}});
    apply::<ClusterNode>(&agent, "north-n1", facts).await;
    apply::<ClusterNode>(&agent, "north-n1", json!({"status": {"mtu": 1500, "capabilities": ["nftables"]}}))
        .await;

    until(&above, "north", "published, its CIDRs known, planned", |cluster: Option<&Cluster>| {
        cluster.is_some_and(|c| ["Published", "CIDRsKnown", "Planned"].into_iter().all(|kind| says(c, kind)))
    })
    .await;
    until(&above, "north-n1", "what its agent says, and addresses", |node: Option<&ClusterNode>| {
        let status = node.and_then(|node| node.status.clone()).unwrap_or_default();
        status.mtu == Some(1500)
            && status.overlay.is_some()
            && node.is_some_and(|node| node.spec.ip.as_deref() == Some("192.168.1.1"))
    })
    .await;
    until(&below, "north-n1", "mirrored", |config: Option<&NodeConfig>| {
        config
            .is_some_and(|config| config.spec.routes.iter().any(|route| route.cidr.starts_with("10.2.0.0/")))
    })
    .await;
    apply::<NodeConfig>(
        &agent,
        "north-n1",
        json!({"status": {"conditions": [{"type": "Applied", "status": "True",
        "reason": "Applied", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}),
    )
    .await;
    until(&above, "north-n1", "the agent's status", |config: Option<&NodeConfig>| {
        let status = config.and_then(|config| config.status.clone()).unwrap_or_default();
        api::condition::is_true(&status.conditions, "Applied")
    })
    .await;
    told(&above).await;

    let nodes: Api<Node> = Api::all(below.clone());
    nodes.delete("n1", &DeleteParams::default()).await.unwrap();
    until(&above, "north-n1", "removed", |node: Option<&ClusterNode>| node.is_none()).await;
    until(&above, "north-n1", "removed", |config: Option<&NodeConfig>| config.is_none()).await;
    until(&below, "north-n1", "removed", |config: Option<&NodeConfig>| config.is_none()).await;
    until(&below, "north-n1", "removed", |node: Option<&ClusterNode>| node.is_none()).await;
    without_settings_nobody_writes(&below, &agent).await;
}

/// The policy cannot know which cluster an agent speaks for: it is closed, for administrators too.
async fn without_settings_nobody_writes(admin: &Client, agent: &Client) {
    let settings: Api<ConfigMap> = Api::namespaced(admin.clone(), "clusterlink-system");
    settings.delete("clusterlink", &DeleteParams::default()).await.unwrap();
    let node = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode", "spec": {"ip": "192.168.1.1"},
        "metadata": {"name": "north-n1", "labels": {"kosmos.io/cluster": "north"}}});
    let dry_run = PatchParams { dry_run: true, ..PatchParams::apply("tests").force() };
    for client in [agent, admin] {
        let nodes: Api<ClusterNode> = Api::all(client.clone());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = nodes.patch("north-n1", &dry_run, &Patch::Apply(&node)).await;
            if answer
                .as_ref()
                .is_err_and(|error| error.to_string().contains("no params found for policy binding"))
            {
                break;
            }
            assert!(Instant::now() < deadline, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The controller-manager's Event about its Cluster has come through.
async fn told(above: &Client) {
    let events: Api<Event> = Api::namespaced(above.clone(), "default");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = events.list(&ListParams::default()).await.unwrap();
        let component = |event: &Event| event.source.as_ref().and_then(|source| source.component.clone());
        if list
            .items
            .iter()
            .any(|event| component(event).as_deref() == Some(controller_manager::FIELD_MANAGER))
        {
            return;
        }
        assert!(Instant::now() < deadline, "no Events but {:?}", list.items);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
