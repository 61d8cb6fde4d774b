//! The endpoints, as a kubelet and a Prometheus ask them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, time::Duration};

use component::{Endpoints, Liveness, Readiness, Registry};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The status line's code, and the head and body.
async fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn probes_and_metrics_are_answered() {
    let mut registry = Registry::with_prefix("clusterlink_test");
    let writes = Counter::<u64>::default();
    registry.register("writes", "Objects written", writes.clone());
    let (liveness, readiness) =
        (Liveness::within(Duration::from_secs(600)), Readiness::waiting_for("the first list of Clusters"));
    let endpoints = Endpoints::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoints.address();
    tokio::spawn(endpoints.serve(registry, liveness, readiness.clone()));

    assert_eq!(ask(address, "/livez").await.0, 200);
    let (code, answer) = ask(address, "/readyz").await;
    assert!(code == 503 && answer.ends_with("\r\n\r\nthe first list of Clusters\n"), "{answer}");
    readiness.set(None);
    assert_eq!(ask(address, "/readyz").await.0, 200);
    writes.inc_by(7);
    let (code, answer) = ask(address, "/metrics").await;
    assert!(code == 200 && answer.contains("\nclusterlink_test_writes_total 7\n"), "{answer}");
    assert!(answer.contains("application/openmetrics-text; version=1.0.0"), "{answer}");
    assert_eq!(ask(address, "/elsewhere").await.0, 404);
}

#[tokio::test]
async fn a_loop_that_is_stuck_is_not_alive() {
    let endpoints = Endpoints::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoints.address();
    let liveness = Liveness::within(Duration::ZERO);
    tokio::spawn(endpoints.serve(Registry::default(), liveness, Readiness::waiting_for("")));
    let (code, answer) = ask(address, "/livez").await;
    assert!(code == 503 && answer.contains("the loop has not turned for "), "{answer}");
}

#[test]
fn an_address_that_is_taken_is_named_with_its_flag() {
    let first = Endpoints::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = Endpoints::bind(first.address()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("--listen {}: ", first.address())), "{error}");
    assert!(error.contains("in use") && error.contains("choose another address"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_taken_is_had_once_it_is_free() {
    let first = Endpoints::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.address();
    let second = tokio::spawn(Endpoints::obtain(address));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(second.await.unwrap().address(), address);
}
