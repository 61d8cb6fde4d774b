//! The agent and an API: what it follows, what it says, and what it leaves alone.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::condition::APPLIED;
use api::{Cluster, ClusterNode, NodeConfig, NodeId};
use embedded_api::{Config, RequestInfo, Server, User, Verb};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::world::{GATEWAY, Host, on_host, spec};

/// Far beyond what anything here needs: a test fails then, and asserts no time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the API server of every test is, as it says itself: nothing that a test's NodeConfig routes, unless it means it.
pub(crate) const API_SERVER: &str = "10.7.0.7";

pub(crate) struct Mesh {
    client: Client,
    pub(crate) configs: Api<NodeConfig>,
}

/// Runs a test beside an agent, both on the test's host.
fn with_agent<F: Future<Output = ()>>(host: &Host, test: impl FnOnce(Mesh) -> F) {
    with_agent_of(host, Config::named("a"), test);
}

fn with_agent_of<F: Future<Output = ()>>(host: &Host, config: Config, test: impl FnOnce(Mesh) -> F) {
    let state = tempfile::tempdir().unwrap();
    with_agent_in(host, config, options(state.path()), test);
}

/// An agent that keeps its state in this directory and serves nothing.
pub(crate) fn options(state: &Path) -> agent::Options {
    agent::Options {
        state_directory: state.to_owned(),
        listen: None,
        proc_sys_net: agent::PROC_SYS_NET.into(),
        api_server: None,
    }
}

pub(crate) fn with_agent_in<F: Future<Output = ()>>(
    host: &Host,
    config: Config,
    options: agent::Options,
    test: impl FnOnce(Mesh) -> F,
) {
    host.sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Arc::new(Server::new(config).unwrap());
        let client = Client::new(server.service_as(User::in_process()), "default");
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in api::crd::all() {
            crds.create(&PostParams::default(), &crd).await.unwrap();
        }
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
        slices.create(&PostParams::default(), &api_servers()).await.unwrap();
        let mesh = Mesh { client: client.clone(), configs: Api::all(client.clone()) };
        tokio::select! {
            ended = agent::run(client, NodeId::new("a", "a1"), options) => panic!("the agent ended: {ended:?}"),
            () = test(mesh) => {}
        }
    });
}

/// What a kube-apiserver at [`API_SERVER`] keeps of itself.
fn api_servers() -> EndpointSlice {
    let slice = json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [API_SERVER], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
    });
    serde_json::from_value(slice).unwrap()
}

pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Mesh {
    pub(crate) async fn create(&self) -> NodeConfig {
        self.create_of(GATEWAY).await
    }

    pub(crate) async fn create_of(&self, yaml: &str) -> NodeConfig {
        let config = NodeConfig::new("a-a1", spec(yaml));
        self.configs.create(&PostParams::default(), &config).await.unwrap()
    }

    pub(crate) async fn applied(&self, generation: Option<i64>) -> NodeConfig {
        eventually("Applied for the generation", || async {
            let config = self.configs.get("a-a1").await.unwrap();
            let status = config.status.clone()?;
            let applied = api::condition::is_true(&status.conditions, APPLIED);
            (applied && status.observed_generation == generation).then_some(config)
        })
        .await
    }
}

fn exists(host: &Host, device: &str) -> bool {
    host.try_sh(&format!("ip link show {device}")).status.success()
}

#[test]
fn a_node_config_is_followed_repaired_and_torn_down_by_its_deletion_only() {
    on_host(|host| {
        with_agent(host, |mesh| async move {
            // Not known is not empty: what an earlier agent left stays.
            host.sh("ip link add vx-local type vxlan id 55 dstport 4877 local 172.31.1.1 dev eth0 nolearning; ip link set vx-local alias clusterlink");
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(exists(host, "vx-local"));

            let created = mesh.create().await;
            let config = mesh.applied(created.metadata.generation).await;
            assert!(exists(host, "vx-bridge"));
            let status = config.status.clone().unwrap();
            assert_eq!(status.entries.unwrap().differing, 0);
            assert!(status.last_sync_time.is_some() && status.last_change_time.is_some());
            assert_eq!(config.finalizers(), [agent::FINALIZER]);

            // Somebody deletes: it comes back. The status is not written for that alone.
            host.sh("ip nexthop flush proto 193; nft delete table inet clusterlink; ip rule del pref 200");
            eventually("everything repaired", || async {
                let routes = host.sh("ip route show table 200 proto 193 | wc -l");
                let table = host.try_sh("nft list table inet clusterlink").status.success();
                let rule = host.sh("ip rule show pref 200").contains("lookup 200");
                (routes.trim() == "14" && table && rule).then_some(())
            })
            .await;

            // A new spec.
            let patch = json!({"spec": {"rulePriority": 150}});
            let changed =
                mesh.configs.patch("a-a1", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
            mesh.applied(changed.metadata.generation).await;
            assert!(host.sh("ip rule").contains("150:"));
            assert!(!host.sh("ip rule").contains("200:\t"));

            // Its deletion waits for the node to be clean.
            mesh.configs.delete("a-a1", &DeleteParams::default()).await.unwrap();
            eventually("the object gone", || async {
                mesh.configs.get_opt("a-a1").await.unwrap().is_none().then_some(())
            })
            .await;
            assert!(!exists(host, "vx-bridge") && !exists(host, "vx-local"));
        });
    });
}

#[test]
fn an_object_that_vanishes_keeps_the_data_plane() {
    on_host(|host| {
        let frozen = Arc::new(AtomicBool::new(false));
        let refuses = Arc::clone(&frozen);
        // The agent may write no more: it cannot put its finalizer on again.
        let allow = move |_: &User, request: &RequestInfo| {
            !(refuses.load(Ordering::Relaxed) && request.verb == Verb::Patch)
        };
        let config = Config { authorizer: Some(Arc::new(allow)), ..Config::named("a") };
        with_agent_of(host, config, |mesh| async move {
            let created = mesh.create().await;
            let mut config = mesh.applied(created.metadata.generation).await;
            frozen.store(true, Ordering::Relaxed);
            config.metadata.finalizers = None;
            mesh.configs.replace("a-a1", &PostParams::default(), &config).await.unwrap();
            mesh.configs.delete("a-a1", &DeleteParams::default()).await.unwrap();
            assert!(mesh.configs.get_opt("a-a1").await.unwrap().is_none());
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(exists(host, "vx-bridge"));
            // And it is still kept in order.
            host.sh("ip rule del pref 200");
            eventually("the rule", || async { host.sh("ip rule").contains("200:").then_some(()) }).await;
        });
    });
}

#[test]
fn what_differs_stands_in_the_status() {
    on_host(|host| {
        host.sh("ip link add flannel.1 type vxlan id 54 dstport 4876 local 172.31.1.1 dev eth0 nolearning");
        with_agent(host, |mesh| async move {
            mesh.create().await;
            let status = eventually("a status", || async {
                mesh.configs.get("a-a1").await.unwrap().status.filter(|status| !status.conditions.is_empty())
            })
            .await;
            let applied = status.conditions.iter().find(|condition| condition.type_ == APPLIED).unwrap();
            assert_eq!((applied.status.as_str(), applied.reason.as_str()), ("False", "Differs"));
            assert!(applied.message.contains("device flannel.1 holds VNI 54"), "{}", applied.message);
            assert!(status.differing.len() <= 20);
            // It works once the other one has gone: the kernel tells.
            host.sh("ip link del flannel.1");
            mesh.applied(Some(1)).await;
        });
    });
}

#[test]
fn the_underlay_is_published_and_follows_its_address() {
    on_host(|host| {
        with_agent(host, |mesh| async move {
            let cluster = json!({"spec": {"clusterLinkOptions": {}}, "metadata": {"name": "a"},
                "apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster"});
            let clusters: Api<Cluster> = Api::all(mesh.client.clone());
            clusters.create(&PostParams::default(), &serde_json::from_value(cluster).unwrap()).await.unwrap();
            let nodes: Api<Node> = Api::all(mesh.client.clone());
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a1"}});
            nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
            let internal =
                json!({"status": {"addresses": [{"type": "InternalIP", "address": "172.31.1.1"}]}});
            nodes.patch_status("a1", &PatchParams::default(), &Patch::Merge(internal)).await.unwrap();

            let published: Api<ClusterNode> = Api::all(mesh.client.clone());
            let facts = |wanted_ip6: &'static str| {
                let published = published.clone();
                move || {
                    let published = published.clone();
                    async move {
                        let node = published.get_opt("a-a1").await.unwrap()?;
                        (node.spec.ip6.as_deref() == Some(wanted_ip6) && node.status.is_some())
                            .then_some(node)
                    }
                }
            };
            let node = eventually("the facts", facts("fc00:31::1")).await;
            assert_eq!(node.spec.interface_name.as_deref(), Some("eth0"));
            assert_eq!(node.spec.ip.as_deref(), Some("172.31.1.1"));
            assert_eq!(node.labels()[api::CLUSTER_LABEL], "a");
            let status = node.status.unwrap();
            assert_eq!(status.mtu, Some(1500));
            assert!(status.capabilities.contains(&"nftables".to_owned()));
            host.sh("ip -6 addr del fc00:31::1/64 dev eth0; ip -6 addr add fc00:31::9/64 dev eth0 nodad");
            eventually("the new address", facts("fc00:31::9")).await;
        });
    });
}
