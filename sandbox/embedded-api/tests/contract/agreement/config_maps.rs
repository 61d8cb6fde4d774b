//! Everything that can be asked of one kind: reads, writes of every sort, refusals of each.

use serde_json::{Value, json};

use super::comparison::compare;
use super::request::*;

const MAPS: &str = "/api/v1/namespaces/NS/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

#[test]
fn config_maps() {
    let a = "/api/v1/namespaces/NS/configmaps/a";
    compare(vec![
        get(a),
        post(MAPS, map("a")),
        post(MAPS, map("a")),
        get(a),
        get("/api/v1/namespaces/NS/configmaps?fieldSelector=data.a%3D1"),
        get("/api/v1/namespaces/NS/configmaps?labelSelector=a%20in%20(b").in_other_words(),
        get("/api/v1/namespaces/NS/configmaps?limit=x").in_other_words(),
        get("/api/v1/namespaces/NS/configmaps?resourceVersion=x").in_other_words(),
        get("/api/v1/namespaces/NS/configmaps?continue=nonsense").in_other_words(),
        get("/api/v1/namespaces/NS/configmaps?resourceVersion=1&continue=nonsense").in_other_words(),
        get("/api/v1/namespaces/NS/configmaps?resourceVersionMatch=Exact"),
        get("/api/v1/namespaces/NS/configmaps?resourceVersion=1&resourceVersionMatch=Odd"),
        get("/api/v1/namespaces/NS/configmaps/a/status"),
        post(MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not_a_name"}})),
        post(MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}})),
        post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "labels": {"a b": "c"}}}),
        ),
        post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "labels": {"a": "c d"}}}),
        ),
        post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "annotations": {"A/B/c": "c d"}}}),
        ),
        post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "finalizers": ["x"]}}),
        ),
        post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "ownerReferences": [{"name": "x"}]}}),
        ),
        post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "resourceVersion": "7"}}),
        ),
        post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"a/b": "1"}}),
        ),
        post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"a": 1}}),
        )
        .in_other_words(),
        post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "date": {"a": "1"}}),
        ),
        post(
            "/api/v1/namespaces/NS/configmaps?fieldValidation=Strict",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "date": {"a": "1"}}),
        ),
        post(MAPS, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}})).in_other_words(),
        post(MAPS, json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "b"}}))
            .in_other_words(),
        post(MAPS, json!({"kind": "ConfigMap", "metadata": {"name": "d"}})),
        post(MAPS, json!({"metadata": {"name": "e"}})),
        post(MAPS, json!([])).in_other_words(),
        text("POST", MAPS, JSON, "{").in_other_words(),
        text("POST", MAPS, JSON, "").in_other_words(),
        text("POST", MAPS, "text/plain", "{}").in_other_words(),
        text("POST", MAPS, "application/yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\n"),
        post("/api/v1/namespaces/NS/configmaps/a", map("a")),
        post("/api/v1/configmaps", map("a")),
        post(
            "/api/v1/namespaces/nowhere/configmaps",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}),
        ),
        post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "other"}}),
        ),
        put(a, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}})),
        put(
            a,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "1"}}),
        ),
        put(a, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "other"}}))
            .in_other_words(),
        put(
            a,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"b": "2"}}),
        ),
        put(
            "/api/v1/namespaces/NS/configmaps/new",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}}),
        ),
        put("/api/v1/namespaces/NS/configmaps", map("a")),
        patch(a, MERGE, json!({"data": {"c": "3", "b": null}})),
        patch(a, MERGE, json!({"metadata": {"name": "z"}})),
        patch(a, MERGE, json!({"metadata": {"namespace": "z"}})),
        patch(a, MERGE, json!({"kind": "Secret"})).in_other_words(),
        patch(a, MERGE, json!({"metadata": {"resourceVersion": "1"}})),
        patch(a, MERGE, json!([])).in_other_words(),
        patch(a, MERGE, json!({"data": {"c": 3}})).in_other_words(),
        patch(a, PATCH, json!([{"op": "replace", "path": "/data/c", "value": "4"}])),
        patch(a, PATCH, json!([{"op": "test", "path": "/data/c", "value": "5"}])).in_other_words(),
        patch(a, PATCH, json!([{"op": "remove", "path": "/data/nothing"}])).in_other_words(),
        patch(a, PATCH, json!([{"op": "odd", "path": "/data/nothing"}])).in_other_words(),
        patch(a, PATCH, json!({})).in_other_words(),
        patch(a, STRATEGIC, json!({"data": {"d": "5"}})),
        patch(a, STRATEGIC, json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}})),
        patch(a, "text/plain", json!({})).in_other_words(),
        patch(a, APPLY, json!({})),
        patch("/api/v1/namespaces/NS/configmaps/a?fieldManager=m", APPLY, json!({})),
        patch(
            "/api/v1/namespaces/NS/configmaps/a?fieldManager=m",
            APPLY,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"d": "6"}}),
        ),
        patch(
            "/api/v1/namespaces/NS/configmaps/a?fieldManager=m&force=true",
            APPLY,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"d": "6"}}),
        ),
        patch(
            "/api/v1/namespaces/NS/configmaps/a?fieldManager=m&force=odd",
            APPLY,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"d": "6"}}),
        ),
        patch("/api/v1/namespaces/NS/configmaps/a?force=true", MERGE, json!({})),
        patch(
            "/api/v1/namespaces/NS/configmaps/none?fieldManager=m",
            APPLY,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"d": "6"}}),
        ),
        patch("/api/v1/namespaces/NS/configmaps/none", MERGE, json!({})),
        patch("/api/v1/namespaces/NS/configmaps/a?dryRun=Some", MERGE, json!({})),
        patch("/api/v1/namespaces/NS/configmaps/a?fieldValidation=Some", MERGE, json!({})),
        patch(a, MERGE, json!({"immutable": true})),
        patch(a, MERGE, json!({"data": {"c": "9"}})),
        patch(a, MERGE, json!({"immutable": false})),
        text(
            "DELETE",
            a,
            JSON,
            r#"{"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}}"#,
        )
        .in_other_words(),
        text(
            "DELETE",
            a,
            JSON,
            r#"{"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"resourceVersion": "1"}}"#,
        )
        .in_other_words(),
        text(
            "DELETE",
            a,
            JSON,
            r#"{"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Odd"}"#,
        ),
        text("DELETE", a, JSON, r#"{"propagationPolicy": "Foreground", "orphanDependents": true}"#),
        delete("/api/v1/namespaces/NS/configmaps/a?dryRun=All"),
        delete(a),
        delete(a),
        delete("/api/v1/namespaces/NS/configmaps"),
        get("/api/v1/namespaces/NS/configmaps"),
    ]);
}
