//! What lies where the credential for the control cluster should: nothing, rubbish, something dangerous, the right thing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{net::TcpListener, sync::Arc};

use api::{Cluster, ClusterNode};
use component::election::Leadership;
use controller_manager::{Config, Metrics, Uplink, run, uplink};
use embedded_api::Token;
use jiff::Timestamp;
use serde_json::{Value, json};
use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_lies_there_is_named_and_the_right_thing_is_used_at_last() {
    let user = "controller-manager".to_owned();
    let token = Token { token: "do-not-tell".to_owned(), user, groups: Vec::new() };
    let control =
        bare_cluster(embedded_api::Config { tokens: vec![token], ..embedded_api::Config::named("control") });
    install_crds(&control.client).await;
    join(&control.client, "east", json!({})).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let good = control.server.kubeconfig(&url, "do-not-tell");
    tokio::spawn(Arc::clone(&control.server).serve(vec![listener], std::future::pending()));

    let member = cluster("east").await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    // As it was mirrored on a better day.
    create::<Cluster>(
        &member.client,
        json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "east", "labels": {"kosmos.io/cluster": "east"}}, "spec": {"clusterLinkOptions": {}}}),
    )
    .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    let options = uplink::Options {
        kubeconfig: file.clone(),
        member: member.client.clone(),
        cluster: "east".to_owned(),
        namespace: "clusterlink-system".to_owned(),
        secret: "clusterlink-control".to_owned(),
        now: Timestamp::now,
    };
    let (uplink, client) = Uplink::open(options, Leadership::unrivalled(), Metrics::default()).await;
    let config = Config { cluster: "east".to_owned(), member: member.client.clone(), control: client };
    let kept = tokio::spawn(async move { match uplink.keep().await {} });
    let work = tokio::spawn(run(config, std::future::pending()));

    let told = || condition(&member.client, "east", "ControlClusterReachable");
    let says = async |part: &str| {
        let seen =
            eventually(part, told, |told| told.as_ref().is_some_and(|told| told.2.contains(part))).await;
        let (status, _, message) = seen.unwrap();
        assert!(!message.contains("do-not-tell"), "{message}");
        status
    };
    assert_eq!(says("No such file or directory").await, "False");
    std::fs::write(&file, format!("[{good}")).unwrap();
    assert_eq!(says("not the YAML of a kubeconfig").await, "False");
    let mut blind: Value = serde_saphyr::from_str(&good).unwrap();
    blind["clusters"][0]["cluster"] = json!({"server": url, "insecure-skip-tls-verify": true});
    std::fs::write(&file, blind.to_string()).unwrap();
    assert_eq!(says("insecure-skip-tls-verify is set for").await, "False");
    assert_eq!(names::<ClusterNode>(&control.client).await, Vec::<String>::new());
    std::fs::write(&file, good).unwrap();
    assert_eq!(says("facts go up and plans come down").await, "True");
    eventually("the node", || names::<ClusterNode>(&control.client), |names| *names == ["east-n1"]).await;
    kept.abort();
    work.abort();
}
