//! What goes wrong between a controller-manager and its API servers, and what is said of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use api::{Cluster, ClusterNode, NodeConfig};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_would_share_a_name_are_told_apart() {
    let (ab, a, control) = (cluster("a-b").await, cluster("a").await, cluster("control").await);
    join(&control.client, "a-b", json!({})).await;
    join(&control.client, "a", json!({})).await;
    add_node(&ab.client, "c", "10.1.0.0/24").await;
    add_node(&a.client, "b-c", "10.2.0.0/24").await;
    add_node(&a.client, "d", "10.2.1.0/24").await;
    let _first = Running::start("a-b", &ab.client, &control.client);
    let nodes = || names::<ClusterNode>(&control.client);
    // A node is claimed by its name first; what stands in it is the next write.
    let first = || get::<ClusterNode>(&control.client, "a-b-c");
    let whole = |node: &ClusterNode| !node.spec.pod_cidrs.is_empty();
    eventually("the first comer", first, |node| node.as_ref().is_some_and(whole)).await;
    let _second = Running::start("a", &a.client, &control.client);
    let published = || condition(&control.client, "a", "Published");
    let told =
        eventually("the collision", published, |seen| seen.as_ref().is_some_and(|seen| seen.0 == "False"));
    let (_, reason, message) = told.await.unwrap();
    assert_eq!(reason, "NameCollision");
    assert_eq!(
        message,
        r#"Node b-c: its ClusterNode would be named a-b-c, which belongs to cluster "a-b" (spec.clusterName); it is left out until one of the two clusters or nodes is renamed"#
    );
    eventually("the rest goes on", nodes, |names| *names == ["a-b-c", "a-d"]).await;
    let kept = get::<ClusterNode>(&control.client, "a-b-c").await.unwrap();
    assert_eq!(
        (kept.spec.cluster_name.as_deref(), kept.spec.pod_cidrs),
        (Some("a-b"), vec!["10.1.0.0/24".to_owned()])
    );
    // The first leaves: the name is free.
    delete::<k8s_openapi::api::core::v1::Node>(&ab.client, "c").await;
    let owner = || async {
        get::<ClusterNode>(&control.client, "a-b-c").await.and_then(|node| node.spec.cluster_name)
    };
    eventually("the second has it", owner, |owner| owner.as_deref() == Some("a")).await;
    eventually("all is well", published, |seen| seen.as_ref().is_some_and(|seen| seen.0 == "True")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_our_crds_is_waited_for() {
    let (member, control) = (bare_cluster(embedded_api::Config::named("east")), cluster("control").await);
    join(&control.client, "east", json!({})).await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    plan(&control.client, "east", "n1", json!({})).await;
    let _running = Running::start("east", &member.client, &control.client);
    let nodes = || names::<ClusterNode>(&control.client);
    stays("nothing is written", nodes, Vec::is_empty).await;
    install_crds(&member.client).await;
    eventually("the node", nodes, |names| *names == ["east-n1"]).await;
    eventually("the mirror", || names::<NodeConfig>(&member.client), |names| *names == ["east-n1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_does_not_exist_yet_is_waited_for() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    let _running = Running::start("east", &member.client, &control.client);
    let nodes = || names::<ClusterNode>(&control.client);
    stays("nothing is written", nodes, Vec::is_empty).await;
    join(&control.client, "east", json!({})).await;
    eventually("the node", nodes, |names| *names == ["east-n1"]).await;
}

async fn service_cidrs(client: &Client) -> (Vec<String>, Option<String>) {
    let status = get::<Cluster>(client, "east").await.and_then(|cluster| cluster.status);
    let found = status.and_then(|status| status.cluster_link_status).unwrap_or_default();
    (found.service_cidrs, found.service_cidr_source)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_service_cidr_objects_the_api_servers_refusal_is_read() {
    let config = embedded_api::Config {
        serve_service_cidr_api: false,
        service_cidrs: vec!["10.43.0.0/16".to_owned(), "fd00:43::/112".to_owned()],
        ..embedded_api::Config::named("east")
    };
    let (member, control) = (bare_cluster(config), cluster("control").await);
    install_crds(&member.client).await;
    join(&control.client, "east", json!({})).await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    let services = Api::<k8s_openapi::api::core::v1::Service>::namespaced(member.client.clone(), "default");
    let before = services.list(&Default::default()).await.unwrap().items.len();
    let _running = Running::start("east", &member.client, &control.client);
    let (_, source) = eventually(
        "the ranges",
        || service_cidrs(&control.client),
        |(cidrs, _)| *cidrs == ["10.43.0.0/16", "fd00:43::/112"],
    )
    .await;
    assert_eq!(source.as_deref(), Some("the API server's refusal of a Service outside of its range"));
    assert_eq!(services.list(&Default::default()).await.unwrap().items.len(), before, "it was a dry run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_service_may_be_created_the_api_servers_command_line_is_read() {
    let config = embedded_api::Config {
        serve_service_cidr_api: false,
        authorizer: Some(Arc::new(|_, request| {
            !(request.resource == "services" && request.verb == embedded_api::Verb::Create)
        })),
        ..embedded_api::Config::named("east")
    };
    let (member, control) = (bare_cluster(config), cluster("control").await);
    install_crds(&member.client).await;
    join(&control.client, "east", json!({})).await;
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "kube-apiserver-0",
        "labels": {"component": "kube-apiserver"}}, "spec": {"containers": [{"name": "kube-apiserver",
            "image": "kube-apiserver", "command": ["kube-apiserver"],
            "args": ["--service-cluster-ip-range", "10.50.0.0/16"]}]}}))
    .unwrap();
    let pods = Api::<Pod>::namespaced(member.client.clone(), "kube-system");
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let _running = Running::start("east", &member.client, &control.client);
    let found =
        eventually("the range", || service_cidrs(&control.client), |(cidrs, _)| *cidrs == ["10.50.0.0/16"]);
    let source = found.await.1.unwrap();
    assert_eq!(source, "Pod kube-system/kube-apiserver-0, --service-cluster-ip-range");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_refused_is_named_and_tried_again() {
    let refuse = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&refuse);
    let config = embedded_api::Config {
        authorizer: Some(Arc::new(move |_, request| {
            let write = request.resource == "nodeconfigs" && request.verb == embedded_api::Verb::Patch;
            !(write && switch.load(Ordering::SeqCst))
        })),
        ..embedded_api::Config::named("east")
    };
    let (member, control) = (bare_cluster(config), cluster("control").await);
    install_crds(&member.client).await;
    join(&control.client, "east", json!({})).await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    plan(&control.client, "east", "n1", json!({})).await;
    let _running = Running::start("east", &member.client, &control.client);
    let published = || condition(&control.client, "east", "Published");
    let told =
        eventually("the refusal", published, |seen| seen.as_ref().is_some_and(|seen| seen.0 == "False"));
    let (_, reason, message) = told.await.unwrap();
    assert_eq!(reason, "WriteRejected");
    assert!(
        message.starts_with(
            "NodeConfig east-n1 was not accepted by its API server: nodeconfigs.kosmos.io \"east-n1\" is forbidden"
        ),
        "{message}"
    );
    eventually("the rest goes on", || names::<ClusterNode>(&control.client), |names| *names == ["east-n1"])
        .await;
    refuse.store(false, Ordering::SeqCst);
    eventually("the mirror", || names::<NodeConfig>(&member.client), |names| *names == ["east-n1"]).await;
    eventually("all is well", published, |seen| seen.as_ref().is_some_and(|seen| seen.0 == "True")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_out_of_reach_is_waited_for_and_nothing_is_removed_meanwhile() {
    let reachable = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&reachable);
    let config = embedded_api::Config {
        authorizer: Some(Arc::new(move |user, _| user.name == "person" || switch.load(Ordering::SeqCst))),
        ..embedded_api::Config::named("control")
    };
    let (member, control) = (cluster("east").await, bare_cluster(config));
    let person = embedded_api::User { name: "person".to_owned(), groups: Vec::new() };
    let person = Client::new(control.server.service_as(person), "default");
    install_crds(&person).await;
    join(&person, "east", json!({})).await;
    plan(&member.client, "east", "n1", json!({"unreachable": ["10.80.0.0/16"]})).await;
    let _running = Running::start("east", &member.client, &control.client);
    let mirrors = || names::<NodeConfig>(&member.client);
    stays("the mirror stands while its original cannot be read", mirrors, |names| names.len() == 1).await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    reachable.store(true, Ordering::SeqCst);
    eventually("the node", || names::<ClusterNode>(&person), |names| *names == ["east-n1"]).await;
    eventually("an original that is really not there", mirrors, Vec::is_empty).await;
}
