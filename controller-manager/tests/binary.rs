//! The binary that ships, over TLS, with kubeconfigs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{net::TcpListener, path::PathBuf, process::Stdio, sync::Arc};

use api::ClusterNode;
use embedded_api::{Config, Token};
use serde_json::json;
use support::*;
use tokio::{io::AsyncReadExt, process::Command};

const BINARY: &str = env!("CARGO_BIN_EXE_clusterlink-controller-manager");

/// A server behind TLS, and the kubeconfig that leads to it.
async fn served(name: &str, directory: &std::path::Path) -> (TestCluster, PathBuf) {
    let user = "controller-manager".to_owned();
    let token = Token { token: format!("{name}-token"), user, groups: Vec::new() };
    let cluster = bare_cluster(Config { tokens: vec![token], ..Config::named(name) });
    install_crds(&cluster.client).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let kubeconfig = directory.join(name);
    std::fs::write(&kubeconfig, cluster.server.kubeconfig(&url, &format!("{name}-token"))).unwrap();
    tokio::spawn(Arc::clone(&cluster.server).serve(vec![listener], std::future::pending()));
    (cluster, kubeconfig)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_publishes_over_tls_and_ends_when_told_to() {
    let directory = std::env::temp_dir().join(format!("controller-manager-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (member, member_config) = served("east", &directory).await;
    let (control, control_config) = served("control", &directory).await;
    join(&control.client, "east", json!({})).await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    let mut child = Command::new(BINARY)
        .args(["--cluster", "east", "--log-format", "json", "--log-level", "info", "--kubeconfig"])
        .arg(member_config)
        .arg("--control-kubeconfig")
        .arg(control_config)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("the node", || names::<ClusterNode>(&control.client), |names| *names == ["east-n1"]).await;
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).await.unwrap();
    assert!(child.wait().await.unwrap().success(), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
    assert!(log.contains(r#""message":"stopped""#), "{log}");
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_read_is_named() {
    let output =
        Command::new(BINARY).args(["--cluster", "east", "--kubeconfig", "/nowhere"]).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("kubeconfig /nowhere: "), "{said}");
}
