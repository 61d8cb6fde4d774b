//! Two controller-managers: one leads, the other is ready to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use api::ClusterNode;
use component::election::Candidate;
use controller_manager::{Config, Surroundings, run_among};
use embedded_api::User;
use http::{Method, Request};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Namespace};
use kube::{Api, Client, client::Body};
use serde_json::json;
use support::*;
use tokio::task::JoinHandle;
use tower::Service;

const NAMESPACE: &str = "clusterlink-system";
const LEASE: &str = "clusterlink-controller-manager";

struct Replica(Vec<JoinHandle<()>>, Surroundings);

impl Replica {
    fn start(name: &str, member: &Client, control: &Client) -> Self {
        let (mut candidate, leadership) = Candidate::new(member.clone(), NAMESPACE, LEASE, name);
        let around = Surroundings { leadership, ..Surroundings::alone() };
        let config = Config { cluster: "east".to_owned(), member: member.clone(), control: control.clone() };
        let work = run_among(config, around.clone());
        let stands = tokio::spawn(async move { match candidate.stand().await {} });
        Replica(vec![stands, tokio::spawn(async move { match work.await {} })], around)
    }

    async fn is_ready(&self) {
        eventually("ready", async || self.1.readiness.not_ready(), Option::is_none).await;
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn holder(member: &Client) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(member.clone(), NAMESPACE);
    leases.get_opt(LEASE).await.unwrap()?.spec?.holder_identity
}

async fn gateways(control: &Client) -> Vec<String> {
    let nodes = Api::<ClusterNode>::all(control.clone()).list(&Default::default()).await.unwrap();
    nodes.iter().filter(|node| node.spec.is_gateway()).filter_map(|node| node.metadata.name.clone()).collect()
}

async fn joins(member: &Client, number: u8) {
    let node = format!("n{number}");
    add_node(member, &node, &format!("10.244.{number}.0/24")).await;
    report(member, "east", &node, &format!("192.168.0.{number}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_takes_over_from_one_that_is_killed_and_keeps_its_gateways() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    create::<Namespace>(&member.client, json!({"metadata": {"name": NAMESPACE}})).await;
    join(&control.client, "east", json!({"networkType": "gateway"})).await;
    for number in [3, 4] {
        joins(&member.client, number).await;
    }
    let first = Replica::start("first", &member.client, &control.client);
    let chosen = eventually("gateways", || gateways(&control.client), |gateways| gateways.len() == 2).await;
    let second = Replica::start("second", &member.client, &control.client);
    second.is_ready().await;
    assert_eq!(holder(&member.client).await.as_deref(), Some("first"));
    drop(first);
    // Names that would be chosen first, if anybody chose anew.
    for number in [1, 2] {
        joins(&member.client, number).await;
    }
    eventually("all nodes", || names::<ClusterNode>(&control.client), |names| names.len() == 4).await;
    assert_eq!(holder(&member.client).await.as_deref(), Some("second"));
    assert_eq!(gateways(&control.client).await, chosen);
    second.is_ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_panics_is_tried_again() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    join(&control.client, "east", json!({})).await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    let server = control.server.service_as(User::in_process());
    let panics = Arc::new(AtomicBool::new(true));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (mut server, panics) = (server.clone(), Arc::clone(&panics));
        async move {
            let creates = request.method() == Method::POST && request.uri().path().ends_with("/clusternodes");
            assert!(!(creates && panics.swap(false, Ordering::SeqCst)), "a fault in the midst of a write");
            server.call(request).await
        }
    });
    let _running = Running::start("east", &member.client, &Client::new(service, "default"));
    eventually("the node", || names::<ClusterNode>(&control.client), |names| *names == ["east-n1"]).await;
}
