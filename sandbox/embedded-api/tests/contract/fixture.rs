//! A server, clients of it, and a custom resource.

use std::sync::Arc;

use embedded_api::{Config, MASTERS, Server, Token, User};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

pub(crate) const NOW: &str = "2026-01-01T00:00:00Z";

/// A server with a clock that stands still and uids from a seed.
pub(crate) fn config() -> Config {
    Config {
        seed: Some("contract".to_owned()),
        clock: Arc::new(|| NOW.parse().unwrap()),
        tokens: vec![
            Token {
                token: "admin-token".to_owned(),
                user: "admin".to_owned(),
                groups: vec![MASTERS.to_owned()],
            },
            Token { token: "agent-token".to_owned(), user: "agent".to_owned(), groups: Vec::new() },
        ],
        ..Config::named("contract")
    }
}

pub(crate) fn server(config: Config) -> Arc<Server> {
    Arc::new(Server::new(config).unwrap())
}

pub(crate) fn in_process(server: &Server) -> Client {
    Client::new(server.service_as(User::in_process()), "default")
}

pub(crate) fn client() -> Client {
    in_process(&server(config()))
}

/// A client that knows the server by its kubeconfig only.
pub(crate) async fn over_tls(server: &Arc<Server>, token: &str) -> Client {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = server.kubeconfig(&format!("https://{}", listener.local_addr().unwrap()), token);
    tokio::spawn(Arc::clone(server).serve(vec![listener], std::future::pending()));
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Whatever a client may be: the same test runs in process and over TLS.
pub(crate) async fn both<F: AsyncFn(Client)>(test: F) {
    test(client()).await;
    let server = server(config());
    let client = over_tls(&server, "admin-token").await;
    test(client).await;
    server.close();
}

pub(crate) fn config_maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

pub(crate) fn config_map(name: &str, labels: Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})).unwrap()
}

/// A CRD with a status subresource, a default, printer columns and a selectable field.
pub(crate) fn widget_crd() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.mode"}],
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status", "priority": 1},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "minimum": 1},
                        "mode": {"type": "string", "default": "fast", "enum": ["fast", "slow"]},
                        "color": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "color stays"}]},
                        "peers": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "ip": {"type": "string"}}}},
                    }},
                    "status": {"type": "object", "properties": {
                        "phase": {"type": "string"},
                        "conditions": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                            "items": {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}, "status": {"type": "string"}}}},
                    }},
                }}},
            }],
        },
    }))
    .unwrap()
}

pub(crate) async fn widgets(client: &Client) -> Api<DynamicObject> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = crds.create(&PostParams::default(), &widget_crd()).await.unwrap();
    let conditions = crd.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|c| c.type_ == "Established" && c.status == "True"));
    Api::all_with(client.clone(), &widget_resource())
}

pub(crate) fn widget_resource() -> ApiResource {
    ApiResource {
        group: "example.com".into(),
        version: "v1alpha1".into(),
        api_version: "example.com/v1alpha1".into(),
        kind: "Widget".into(),
        plural: "widgets".into(),
    }
}

pub(crate) fn widget(name: &str, spec: Value) -> DynamicObject {
    DynamicObject::new(name, &widget_resource()).data(json!({"spec": spec}))
}

/// The refusal of a call that must be refused.
pub(crate) fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> kube::core::Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// A request by hand, for what the typed client cannot ask: its status code and body.
pub(crate) async fn raw(server: &Server, request: http::Request<Vec<u8>>) -> (http::response::Parts, Value) {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let request = request.map(|body| http_body_util::Full::new(bytes::Bytes::from(body)));
    let response = server.service_as(User::in_process()).oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (
        head,
        serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned())),
    )
}

pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(path)
}
