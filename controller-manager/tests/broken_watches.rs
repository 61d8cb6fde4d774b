//! Watches that expire and lists that fail, made to happen on the way to a real API server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod member;
mod support;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use api::{ClusterNode, NodeConfig};
use axum::body::Body;
use bytes::Bytes;
use embedded_api::{Server, User};
use futures::{FutureExt, StreamExt};
use http::{Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use member::{History, ends_as_a_fresh_start_would};
use serde_json::{Value, json};
use support::*;
use tokio::sync::watch;
use tower::ServiceExt;

/// What goes wrong on the way, by the name of a resource.
#[derive(Clone, Default)]
struct Faults {
    /// Each change ends the watches that are open, with "too old resource version".
    expired: Arc<watch::Sender<u32>>,
    failing: Arc<Mutex<BTreeMap<&'static str, bool>>>,
    lists: Arc<Mutex<BTreeMap<String, u32>>>,
    watches: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Faults {
    fn expire(&self) {
        self.expired.send_modify(|count| *count += 1);
    }

    fn fail(&self, resource: &'static str, fail: bool) {
        self.failing.lock().unwrap().insert(resource, fail);
    }

    fn lists_of(&self, resource: &str) -> u32 {
        self.lists.lock().unwrap().get(resource).copied().unwrap_or(0)
    }

    /// How many watches were begun: those that an expiry ends.
    fn watches_of(&self, resource: &str) -> u32 {
        self.watches.lock().unwrap().get(resource).copied().unwrap_or(0)
    }

    fn client(&self, server: &Server) -> Client {
        let (service, faults) = (server.service_as(User::in_process()), self.clone());
        let through = move |request: Request<kube::client::Body>| {
            let (service, faults) = (service.clone(), faults.clone());
            async move {
                let resource = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
                // From here on: whatever is let through ends with the next expiry.
                let expired = faults.expired.subscribe();
                if faults.failing.lock().unwrap().get(resource.as_str()) == Some(&true) {
                    return Ok::<_, Infallible>(unavailable());
                }
                if is_watch {
                    *faults.watches.lock().unwrap().entry(resource).or_default() += 1;
                } else if request.method() == http::Method::GET {
                    *faults.lists.lock().unwrap().entry(resource).or_default() += 1;
                }
                let Ok(response) = service.oneshot(request).await;
                Ok(if is_watch { until(expired, response) } else { response })
            }
        };
        Client::new(tower::service_fn(move |request| through(request).boxed()), "default")
    }
}

fn unavailable() -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503,
        "reason": "ServiceUnavailable", "message": "the server is out to lunch"});
    let mut response = Response::new(Body::from(status.to_string()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// The watch, until it expires.
fn until(mut expired: watch::Receiver<u32>, response: Response<Body>) -> Response<Body> {
    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": 410, "reason": "Expired", "message": "too old resource version"}});
    response.map(|body| {
        let events = body.into_data_stream().take_until(async move { expired.changed().await.is_ok() });
        let last = futures::stream::once(async move { Ok(Bytes::from(format!("{gone}\n"))) });
        Body::from_stream(events.chain(last))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_watch_lists_again_and_loses_nothing() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    let faults = Faults::default();
    join(&control.client, "east", json!({})).await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    let _running = Running::start("east", &faults.client(&member.server), &faults.client(&control.server));
    let nodes = || names::<ClusterNode>(&control.client);
    eventually("the first node", nodes, |names| *names == ["east-n1"]).await;
    let mut expected = vec!["east-n1".to_owned()];
    let mut watches = 0;
    for round in 2..8 {
        // A watch that is not begun yet would not end: it begins a moment after its list.
        let (before, begun) = (watches, || async { faults.watches_of("nodes") });
        watches = eventually("another watch", begun, |now| *now > before).await;
        let lists = faults.lists_of("nodes");
        faults.expire();
        add_node(&member.client, &format!("n{round}"), &format!("10.244.{round}.0/24")).await;
        expected.push(format!("east-n{round}"));
        if round % 2 == 0 {
            delete::<Node>(&member.client, &format!("n{}", round - 1)).await;
            expected.remove(expected.len() - 2);
        }
        eventually("the nodes that there are", nodes, |names| *names == expected).await;
        let again = || async { faults.lists_of("nodes") };
        eventually("a new list", again, |now| *now > lists).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_fails_removes_nothing() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    let faults = Faults::default();
    join(&control.client, "east", json!({})).await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    plan(&control.client, "east", "n1", json!({"unreachable": ["10.80.0.0/16"]})).await;
    let _running = Running::start("east", &faults.client(&member.server), &faults.client(&control.server));
    let (nodes, mirrors) = (|| names::<ClusterNode>(&control.client), || names::<NodeConfig>(&member.client));
    eventually("the node", nodes, |names| names.len() == 1).await;
    eventually("the mirror", mirrors, |names| names.len() == 1).await;
    for resource in ["nodes", "nodeconfigs"] {
        faults.fail(resource, true);
    }
    faults.expire();
    stays("nodes while they cannot be listed", nodes, |names| names.len() == 1).await;
    stays("mirrors while their originals cannot be listed", mirrors, |names| names.len() == 1).await;
    // What goes meanwhile is noticed afterwards.
    delete::<Node>(&member.client, "n1").await;
    delete::<NodeConfig>(&control.client, "east-n1").await;
    stays("nobody knows yet", nodes, |names| names.len() == 1).await;
    for resource in ["nodes", "nodeconfigs"] {
        faults.fail(resource, false);
    }
    eventually("no node", nodes, Vec::is_empty).await;
    eventually("no mirror", mirrors, Vec::is_empty).await;
}

/// The schemas of third parties do not matter to this API server.
fn open_crd(group: &str, version: &str, kind: &str, plural: &str) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Cluster",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
            "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

/// Random histories between expired watches, lists that fail for a while, and controller-managers that are killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_ends_as_a_fresh_start_would() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    let crds = [
        open_crd("crd.projectcalico.org", "v1", "IPPool", "ippools"),
        open_crd("crd.projectcalico.org", "v1", "BlockAffinity", "blockaffinities"),
        open_crd("cilium.io", "v2", "CiliumNode", "ciliumnodes"),
    ];
    member::install(&member.client, &crds).await;
    join(&control.client, "east", json!({})).await;
    let faults = Faults::default();
    let (through, to_control) = (faults.client(&member.server), faults.client(&control.server));
    for seed in 1..=6 {
        let mut history = History::new(seed);
        let mut running = Running::start("east", &through, &to_control);
        let mut failing = None;
        for _ in 0..20 {
            history.change(&member.client).await;
            match history.draw(6) {
                0 => faults.expire(),
                1 => {
                    let resources =
                        ["nodes", "ippools", "blockaffinities", "configmaps", "ciliumnodes", "clusternodes"];
                    let resource = resources[history.draw(resources.len())];
                    if let Some(before) = failing.replace(resource) {
                        faults.fail(before, false);
                    }
                    faults.fail(resource, true);
                    faults.expire();
                }
                2 => {
                    running.kill().await;
                    running = Running::start("east", &through, &to_control);
                }
                _ => {}
            }
        }
        if let Some(resource) = failing {
            faults.fail(resource, false);
        }
        history.end(&member.client).await;
        ends_as_a_fresh_start_would(&member.client, &control.client, seed).await;
    }
}
