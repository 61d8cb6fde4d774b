//! What only the embedded server can be asked: by its configuration, its clock, its ways in, and what it does not serve.

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::fixture::*;

async fn create(api: &Api<ConfigMap>, name: &str) {
    api.create(&PostParams::default(), &config_map(name, json!({}))).await.unwrap();
}

async fn current(api: &Api<ConfigMap>) -> String {
    api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap()
}

fn say(event: &WatchEvent<ConfigMap>) -> String {
    match event {
        WatchEvent::Added(map) => format!("+{}", map.metadata.name.as_deref().unwrap_or_default()),
        WatchEvent::Bookmark(_) => "bookmark".to_owned(),
        WatchEvent::Error(status) => format!("error {}", status.code),
        other => format!("{other:?}"),
    }
}

async fn next(stream: &mut (impl Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin)) -> String {
    say(&stream.try_next().await.unwrap().expect("the watch goes on"))
}

#[tokio::test]
async fn a_client_in_the_process_needs_no_socket() {
    let server = server(config());
    let api = config_maps(&in_process(&server));
    create(&api, "a").await;
    assert_eq!(
        config_maps(&over_tls(&server, "admin-token").await).get("a").await.unwrap().data.unwrap()["a"],
        "1"
    );
    server.close();
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_gets_bookmarks_and_ends_in_time() {
    let api = config_maps(&in_process(&server(config())));
    let from = current(&api).await;
    let mut stream = api.watch(&WatchParams::default().timeout(70), &from).await.unwrap().boxed();
    assert_eq!(next(&mut stream).await, "bookmark");
    assert_eq!(next(&mut stream).await, "bookmark");
    assert_eq!(next(&mut stream).await, "bookmark", "the last one comes at the end");
    assert!(stream.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_watch_that_is_not_read_is_overtaken() {
    let server = server(embedded_api::Config { watch_window: 3, ..config() });
    let api = config_maps(&in_process(&server));
    let from = current(&api).await;
    let mut late = api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    for i in 0..5 {
        create(&api, &format!("c{i}")).await;
    }
    assert_eq!(next(&mut late).await, "error 410");
}

#[tokio::test]
async fn closing_the_server_ends_its_watches() {
    let server = server(config());
    let client = over_tls(&server, "admin-token").await;
    let api = config_maps(&client);
    let mut stream = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    create(&api, "a").await;
    assert_eq!(next(&mut stream).await, "+a");
    server.close();
    assert!(!matches!(stream.next().await, Some(Ok(_))));
}

#[tokio::test]
async fn the_range_is_no_object_where_that_api_is_not_served() {
    let without = server(embedded_api::Config { serve_service_cidr_api: false, ..config() });
    let api: Api<ServiceCIDR> = Api::all(in_process(&without));
    assert_eq!(refusal(api.get("kubernetes").await).code, 404);
}

#[tokio::test]
async fn only_masters_read_the_secrets_of_the_system() {
    let server = server(config());
    let agent = over_tls(&server, "agent-token").await;
    let secrets: Api<Secret> = Api::namespaced(agent.clone(), "kube-system");
    let refused = refusal(secrets.get("x").await);
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    assert!(refused.message.contains("User \"agent\" cannot get resource \"secrets\""));
    assert_eq!(refusal(config_maps(&agent).get("x").await).code, 404);
    let stranger = over_tls(&server, "unknown").await;
    assert_eq!(stranger.apiserver_version().await.unwrap().minor, "33");
    server.close();
}

/// What Kubernetes has and this server has not is refused in words that say so: 501 for kinds and subresources of
/// Kubernetes, 404 for what discovery does not show, and never an answer that only looks right.
#[tokio::test]
async fn what_is_not_served_says_so() {
    use http_body_util::BodyExt as _;
    let server = server(config());
    let client = in_process(&server);
    config_maps(&client).create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    let ask = async |method: &str, path: &str| {
        let body = kube::client::Body::from(b"{}".to_vec());
        let request = request(method, path).header("content-type", "application/json").body(body).unwrap();
        let answer = client.send(request).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["kind"], &body["code"]), (&json!("Status"), &json!(code)), "{method} {path}");
        (code, body["message"].as_str().unwrap().to_owned())
    };
    for (method, path) in [
        ("POST", "/api/v1/namespaces/default/serviceaccounts/default/token"),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
        ("GET", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"),
        ("GET", "/apis/apps/v1/deployments"),
        ("GET", "/apis/apps/v1/daemonsets"),
        ("GET", "/apis/policy/v1/poddisruptionbudgets"),
        ("GET", "/apis/networking.k8s.io/v1/networkpolicies"),
        ("GET", "/api/v1/namespaces/default/pods/p/log"),
        ("POST", "/api/v1/namespaces/default/pods/p/eviction"),
        ("POST", "/api/v1/namespaces/default/pods/p/binding"),
        ("GET", "/api/v1/persistentvolumes"),
    ] {
        let (code, message) = ask(method, path).await;
        assert!(
            code == 501 && message.contains("is not served by the embedded API"),
            "{path}: {code} {message}"
        );
    }
    for path in ["/apis/example.com/v1/things", "/apis/apps/v1", "/api/v2", "/nowhere"] {
        assert_eq!(ask("GET", path).await.0, 404, "{path}");
    }
    assert_eq!(ask("OPTIONS", "/api/v1/pods").await.0, 405);
}
