//! What is served, and how it is shown.

use serde_json::{Value, json};

use super::comparison::{compare, differences, order, strip};
use super::request::*;
use crate::fixture::*;

#[test]
fn paths() {
    compare(vec![
        get("/livez").in_other_words(),
        get("/readyz").in_other_words(),
        get("/healthz").in_other_words(),
        get("/api").only(&["/versions"]),
        get("/apis/coordination.k8s.io"),
        get("/apis/coordination.k8s.io/v1"),
        get("/nowhere").in_other_words(),
        get("/apis/nowhere.io").in_other_words(),
        get("/apis/nowhere.io/v1").in_other_words(),
        get("/api/v2").in_other_words(),
        get("/api/v1/nothing").in_other_words(),
        get("/api/v1/namespaces/NS").only(&["/metadata/labels", "/spec", "/status"]),
        get("/api/v1/namespaces/nowhere/pods"),
        delete("/api/v1/namespaces/kube-system"),
        delete("/api/v1/namespaces"),
        delete("/api/v1/configmaps"),
        post(
            "/api/v1/namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a.b"}}),
        ),
        patch(
            "/api/v1/namespaces/NS",
            MERGE,
            json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "x"}}}),
        )
        .only(&["/metadata/labels"]),
    ]);
}

/// Every resource that the embedded server shows in discovery is the one that kube-apiserver shows.
#[test]
fn discovery() {
    on_both(async |embedded: World, kubernetes: World| {
        let mut found = Vec::new();
        for path in [
            "/api/v1",
            "/apis/apiextensions.k8s.io/v1",
            "/apis/coordination.k8s.io/v1",
            "/apis/discovery.k8s.io/v1",
            "/apis/events.k8s.io/v1",
            "/apis/networking.k8s.io/v1",
        ] {
            let [ours, theirs] = [&embedded, &kubernetes].map(async |world| {
                let mut body = world.get(path).await.body;
                strip(&mut body);
                order(&mut body);
                body["resources"].as_array().unwrap().clone()
            });
            let theirs = theirs.await;
            for resource in ours.await {
                let name = &resource["name"];
                let same = theirs.iter().find(|theirs| theirs["name"] == *name).cloned().unwrap_or_default();
                differences(&format!("{path} {name}"), &resource, &same, &mut found);
            }
        }
        assert!(found.is_empty(), "the servers differ:\n{}", found.join("\n"));
    });
}

/// People see the same columns.
#[test]
fn columns() {
    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    on_both(async |embedded: World, kubernetes: World| {
        let mut found = Vec::new();
        for path in [
            "/api/v1/nodes",
            "/api/v1/pods",
            "/api/v1/services",
            "/api/v1/endpoints",
            "/api/v1/namespaces",
            "/api/v1/configmaps",
            "/api/v1/secrets",
            "/api/v1/serviceaccounts",
            "/api/v1/events",
            "/apis/coordination.k8s.io/v1/leases",
            "/apis/discovery.k8s.io/v1/endpointslices",
            "/apis/networking.k8s.io/v1/servicecidrs",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        ] {
            let [ours, theirs] = [&embedded, &kubernetes].map(async |world| {
                let ask = request("GET", path).header("accept", TABLE).body(Vec::new()).unwrap();
                let body = world.ask(ask).await.body;
                let columns = body["columnDefinitions"].as_array().unwrap();
                let said = |column: &Value| {
                    json!([column["name"], column["type"], column["format"], column["priority"]])
                };
                Value::Array(columns.iter().map(said).collect())
            });
            differences(path, &ours.await, &theirs.await, &mut found);
        }
        assert!(found.is_empty(), "the servers differ:\n{}", found.join("\n"));
    });
}
