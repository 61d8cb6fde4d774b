//! The same requests, one after the other, to both servers: what they answer must be the same, word for word. Identifiers,
//! versions, times and names that the cases choose are set aside.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::fixture::*;

/// A request. `NS` stands for the namespace, `GROUP` for the group of the widgets.
struct Request {
    method: &'static str,
    path: &'static str,
    media_type: &'static str,
    body: String,
    /// Set where the words are those of Go's decoders and nobody reads them.
    in_other_words: bool,
    /// What of an accepted object is compared; kube-apiserver's admission plugins and Go's zero values fill up the rest.
    only: Option<&'static [&'static str]>,
}

impl Request {
    fn only(self, pointers: &'static [&'static str]) -> Self {
        Self { only: Some(pointers), ..self }
    }

    fn in_other_words(self) -> Self {
        Self { in_other_words: true, ..self }
    }
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

fn get(path: &'static str) -> Request {
    Request { method: "GET", path, media_type: JSON, body: String::new(), in_other_words: false, only: None }
}

fn delete(path: &'static str) -> Request {
    Request {
        method: "DELETE",
        path,
        media_type: JSON,
        body: String::new(),
        in_other_words: false,
        only: None,
    }
}

fn post(path: &'static str, body: Value) -> Request {
    Request {
        method: "POST",
        path,
        media_type: JSON,
        body: body.to_string(),
        in_other_words: false,
        only: None,
    }
}

fn put(path: &'static str, body: Value) -> Request {
    Request {
        method: "PUT",
        path,
        media_type: JSON,
        body: body.to_string(),
        in_other_words: false,
        only: None,
    }
}

fn patch(path: &'static str, media_type: &'static str, body: Value) -> Request {
    Request { method: "PATCH", path, media_type, body: body.to_string(), in_other_words: false, only: None }
}

fn text(method: &'static str, path: &'static str, media_type: &'static str, body: &str) -> Request {
    Request { method, path, media_type, body: body.to_owned(), in_other_words: false, only: None }
}

/// An answer without what differs from run to run.
fn normal(world: &World, said: &Said) -> Value {
    let mut body = said.body.clone();
    strip(&mut body);
    order(&mut body);
    let text = body.to_string().replace(&world.namespace, "NS");
    let warnings: Vec<String> = said
        .headers
        .get_all("warning")
        .iter()
        .map(|warning| warning.to_str().unwrap_or_default().replace(&world.namespace, "NS"))
        .collect();
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    json!({"code": said.code, "body": body, "warnings": warnings})
}

/// Whatever is a set is sorted; items of lists need not say what they are.
fn order(body: &mut Value) {
    if !body.is_object() {
        return;
    }
    if let Some(causes) = body.pointer_mut("/details/causes").and_then(Value::as_array_mut) {
        causes.sort_by_key(Value::to_string);
        if causes.len() > 1 {
            body["message"] = json!("several causes");
        }
    }
    for resource in body["resources"].as_array_mut().into_iter().flatten() {
        if let Some(verbs) = resource["verbs"].as_array_mut() {
            verbs.sort_by_key(Value::to_string);
        }
    }
    for item in body["items"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        item.remove("kind");
        item.remove("apiVersion");
    }
}

const CHANCE: [&str; 9] = [
    "storageVersionHash",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "time",
    "lastTransitionTime",
    "continue",
    "remainingItemCount",
];

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !CHANCE.contains(&key.as_str()));
            fields.values_mut().for_each(strip);
            // They stand in the order of their times, which are to the second.
            if let Some(managers) = fields.get_mut("managedFields").and_then(Value::as_array_mut) {
                managers.sort_by_key(Value::to_string);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The places where two answers differ.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeMap<&String, ()> = a.keys().chain(b.keys()).map(|key| (key, ())).collect();
            for key in keys.into_keys() {
                let null = Value::Null;
                let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
                differences(&format!("{path}.{key}"), a, b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{index}]"), a, b, found);
            }
        }
        _ if ours == theirs => {}
        (Value::Null, Value::Object(empty)) | (Value::Object(empty), Value::Null) if empty.is_empty() => {}
        _ => found.push(format!("    {path}\n      embedded:   {ours}\n      kubernetes: {theirs}")),
    }
}

fn compare(requests: Vec<Request>) {
    on_both(async |embedded: World, kubernetes: World| {
        let mut found = Vec::new();
        for request in &requests {
            let mut said = Vec::new();
            for world in [&embedded, &kubernetes] {
                let group = format!("{}.example.com", world.namespace);
                let fill = |text: &str| text.replace("GROUP", &group).replace("NS", &world.namespace);
                let (path, body) = (fill(request.path), fill(&request.body));
                if request.method == "WAIT" {
                    define(&world.client().await, &serde_json::from_str(&body).unwrap()).await;
                    continue;
                }
                said.push(normal(world, &world.send(request.method, &path, request.media_type, &body).await));
            }
            let mut here = Vec::new();
            let [ours, theirs] = said.as_slice() else { continue };
            if request.in_other_words {
                differences("code", &ours["code"], &theirs["code"], &mut here);
            } else if let (Some(pointers), true) = (request.only, theirs["code"].as_u64() < Some(300)) {
                differences("code", &ours["code"], &theirs["code"], &mut here);
                for pointer in pointers {
                    let at = |said: &Value| said["body"].pointer(pointer).cloned().unwrap_or_default();
                    differences(pointer, &at(ours), &at(theirs), &mut here);
                }
            } else {
                differences("", ours, theirs, &mut here);
            }
            if !here.is_empty() {
                let body: String = request.body.chars().take(300).collect();
                found.push(format!("{} {} {body}\n{}", request.method, request.path, here.join("\n")));
            }
        }
        assert!(found.is_empty(), "the servers differ:\n{}", found.join("\n"));
    });
}

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

fn widget(spec: Value) -> Value {
    json!({"apiVersion": "GROUP/v1alpha1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})
}

fn definition() -> Value {
    let spec = json!({
        "group": "GROUP", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "required": ["size"], "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 9, "multipleOf": 1},
                    "mode": {"type": "string", "default": "fast", "enum": ["fast", "slow"]},
                    "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
                    "fixed": {"type": "string", "maxLength": 10, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "it stays"}]},
                    "range": {"type": "object", "required": ["high"], "x-kubernetes-validations": [
                        {"rule": "self.low <= self.high", "message": "low is above high", "reason": "FieldValueForbidden", "fieldPath": ".low"}],
                        "properties": {"low": {"type": "integer", "default": 0}, "high": {"type": "integer"}}},
                    "cidrs": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "set",
                        "items": {"type": "string", "maxLength": 43, "x-kubernetes-validations": [{"rule": "isCIDR(self)"}]}},
                    "peers": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "ip": {"type": "string", "format": "ipv4"}}}},
                    "words": {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "string"}},
                    "ratio": {"x-kubernetes-int-or-string": true},
                    "note": {"type": "string", "nullable": true},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "on": {"type": "boolean"}, "weight": {"type": "number"},
                    "when": {"type": "string", "format": "date-time"},
                    "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                }},
                "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
            }}},
        }],
    });
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.GROUP"}, "spec": spec})
}

/// What is to be compared once the kind is served.
fn of_widgets(requests: Vec<Request>) {
    let create = post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition());
    // kube-apiserver serves a new kind after a moment; both are given it.
    let mut all = vec![Request { method: "WAIT", ..create }];
    all.extend(requests);
    compare(all);
}

const WIDGETS: &str = "/apis/GROUP/v1alpha1/widgets";
const DRY: &str = "/apis/GROUP/v1alpha1/widgets?dryRun=All";

#[test]
fn schemas() {
    let specs = [
        json!({}),
        json!(null),
        json!("text"),
        json!({"size": 0}),
        json!({"size": 10, "mode": "odd"}),
        json!({"size": "1"}),
        json!({"size": 1.5}),
        json!({"size": 1.0}),
        json!({"size": null}),
        json!({"size": 1, "mode": null}),
        json!({"size": 1, "note": null}),
        json!({"size": 1, "name": "a"}),
        json!({"size": 1, "name": "abcde"}),
        json!({"size": 1, "name": "AB"}),
        json!({"size": 1, "range": {}}),
        json!({"size": 1, "range": {"high": 1}}),
        json!({"size": 1, "range": {"low": 2, "high": 1}}),
        json!({"size": 1, "cidrs": ["10.0.0.0/8", "10.0.0.0/8"]}),
        json!({"size": 1, "cidrs": ["10.0.0.0"]}),
        json!({"size": 1, "cidrs": ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8", "13.0.0.0/8"]}),
        json!({"size": 1, "peers": [{"name": "a"}, {"name": "a"}]}),
        json!({"size": 1, "peers": [{"ip": "10.0.0.1"}]}),
        json!({"size": 1, "peers": [{"name": "a", "ip": "x"}]}),
        json!({"size": 1, "peers": {}}),
        json!({"size": 1, "words": {"a": 1}}),
        json!({"size": 1, "words": {"a": "1", "b": "2", "c": "3"}}),
        json!({"size": 1, "ratio": 5}),
        json!({"size": 1, "ratio": "5%"}),
        json!({"size": 1, "ratio": true}),
        json!({"size": 1, "free": {"any": [1, {"x": null}]}}),
        json!({"size": 1, "unknown": {"any": 1}}),
        json!({"size": 1, "on": "true"}),
        json!({"size": 1, "weight": 1}),
        json!({"size": 1, "weight": 1.25}),
        json!({"size": 1, "when": "yesterday"}),
        json!({"size": 1, "one": {}}),
        json!({"size": 1, "one": {"a": "1", "b": "2"}}),
        json!({"size": 1, "one": {"a": "1"}}),
    ];
    let request = |spec: Value| {
        let fraction = spec["size"] == 1.5;
        Request { in_other_words: fraction, ..post(DRY, widget(spec)) }
    };
    of_widgets(specs.into_iter().map(request).collect());
}

#[test]
fn custom_resources() {
    let w = "/apis/GROUP/v1alpha1/widgets/w";
    let status = "/apis/GROUP/v1alpha1/widgets/w/status";
    let apply = |spec: Value| json!({"apiVersion": "GROUP/v1alpha1", "kind": "Widget", "spec": spec});
    of_widgets(vec![
        get(WIDGETS),
        get("/apis/GROUP/v1alpha1"),
        get("/apis/GROUP"),
        get(w),
        post(WIDGETS, json!({"metadata": {"name": "w"}, "spec": {"size": 1}})).in_other_words(),
        post(
            WIDGETS,
            json!({"apiVersion": "GROUP/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}),
        ).in_other_words(),
        post(
            WIDGETS,
            json!({"apiVersion": "GROUP/v1alpha1", "kind": "Gadget", "metadata": {"name": "w"}, "spec": {"size": 1}}),
        ),
        post(
            WIDGETS,
            json!({"apiVersion": "GROUP/v1alpha1", "kind": "Widget", "metadata": {"name": "w", "namespace": "x"}, "spec": {"size": 1}}),
        ),
        post(
            WIDGETS,
            json!({"apiVersion": "GROUP/v1alpha1", "kind": "Widget", "metadata": {"name": "W"}, "spec": {"size": 1}}),
        ),
        post(
            WIDGETS,
            json!({"apiVersion": "GROUP/v1alpha1", "kind": "Widget", "metadata": {"name": "odd", "odd": 1}, "spec": {"size": 1}}),
        ),
        post(
            WIDGETS,
            json!({"apiVersion": "GROUP/v1alpha1", "kind": "Widget", "metadata": {"generateName": "x", "labels": {"a": 1}}, "spec": {"size": 1}}),
        ).in_other_words(),
        post(WIDGETS, widget(json!({"size": 2, "fixed": "a"}))),
        post(WIDGETS, widget(json!({"size": 2, "fixed": "a"}))),
        get(w),
        get(WIDGETS),
        get("/apis/GROUP/v1alpha1/widgets?fieldSelector=spec.size%3D2"),
        get("/apis/GROUP/v1alpha1/namespaces/NS/widgets").in_other_words(),
        get("/apis/GROUP/v1alpha1/namespaces/NS/widgets/w").in_other_words(),
        get("/apis/GROUP/v1alpha1/widgets/w/scale").in_other_words(),
        get("/apis/GROUP/v2/widgets").in_other_words(),
        get("/apis/GROUP/v1alpha1/gadgets").in_other_words(),
        get("/apis/nothing.example.com/v1/gadgets").in_other_words(),
        get(status),
        put(w, widget(json!({"size": 3}))),
        put(status, widget(json!({"size": 3}))),
        post(status, widget(json!({"size": 3}))).in_other_words(),
        delete(status).in_other_words(),
        patch(w, STRATEGIC, json!({"spec": {"size": 3}})),
        patch(w, MERGE, json!({"spec": {"fixed": "b"}})),
        patch(w, MERGE, json!({"spec": {"size": "x"}})),
        patch(w, MERGE, json!({"spec": {"size": 3, "odd": 1}})),
        patch("/apis/GROUP/v1alpha1/widgets/w?fieldValidation=Strict", MERGE, json!({"spec": {"odd": 1}})).in_other_words(),
        patch(
            w,
            MERGE,
            json!({"status": {"phase": "Lost"}, "metadata": {"generation": 77, "labels": {"a": "b"}}}),
        ),
        patch(
            status,
            MERGE,
            json!({"spec": {"size": 4}, "status": {"phase": "Ready"}, "metadata": {"labels": {"c": "d"}, "finalizers": ["example.com/x"]}}),
        ),
        patch(status, MERGE, json!({"status": {"phase": 1}})).in_other_words(),
        patch(status, MERGE, json!({"status": {"odd": 1}})),
        patch("/apis/GROUP/v1alpha1/widgets/w?fieldManager=one", APPLY, apply(json!({"size": 5}))),
        patch(
            "/apis/GROUP/v1alpha1/widgets/w?fieldManager=one&force=true",
            APPLY,
            apply(json!({"size": 5, "peers": [{"name": "a"}]})),
        ),
        patch(
            "/apis/GROUP/v1alpha1/widgets/w?fieldManager=two",
            APPLY,
            apply(json!({"size": 6, "peers": [{"name": "b"}]})),
        ),
        patch(
            "/apis/GROUP/v1alpha1/widgets/w?fieldManager=two",
            APPLY,
            apply(json!({"peers": [{"name": "b"}, {"name": "c", "ip": "10.0.0.1"}]})),
        ),
        patch(
            "/apis/GROUP/v1alpha1/widgets/w?fieldManager=two",
            APPLY,
            apply(json!({"peers": [{"name": "c"}]})),
        ),
        patch(
            "/apis/GROUP/v1alpha1/widgets/w?fieldManager=two",
            APPLY,
            apply(json!({"peers": [{"ip": "10.0.0.1"}]})),
        ).in_other_words(),
        patch(
            "/apis/GROUP/v1alpha1/widgets/w?fieldManager=two",
            APPLY,
            apply(json!({"peers": [{"name": "c"}, {"name": "c"}]})),
        ).in_other_words(),
        patch("/apis/GROUP/v1alpha1/widgets/w?fieldManager=two", APPLY, apply(json!({"odd": 1}))).in_other_words(),
        patch(
            "/apis/GROUP/v1alpha1/widgets/w?fieldManager=two",
            APPLY,
            json!({"apiVersion": "GROUP/v1alpha1", "kind": "Gadget"}),
        ).in_other_words(),
        patch("/apis/GROUP/v1alpha1/widgets/v?fieldManager=two", APPLY, apply(json!({"size": 1}))),
        patch("/apis/GROUP/v1alpha1/widgets/u/status?fieldManager=two", APPLY, apply(json!({}))),
        patch(
            "/apis/GROUP/v1alpha1/widgets/w/status?fieldManager=s",
            APPLY,
            json!({"apiVersion": "GROUP/v1alpha1", "kind": "Widget", "status": {"phase": "Done"}}),
        ),
        patch(
            "/apis/GROUP/v1alpha1/widgets/w/status?fieldManager=s&force=true",
            APPLY,
            json!({"apiVersion": "GROUP/v1alpha1", "kind": "Widget", "status": {"phase": "Done"}}),
        ),
        patch(w, PATCH, json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/y"}])).in_other_words(),
        delete(w),
        patch(w, MERGE, json!({"metadata": {"finalizers": ["example.com/z"]}})),
        patch(w, MERGE, json!({"spec": {"size": 7}})),
        patch(w, MERGE, json!({"metadata": {"finalizers": null}})),
        get(w),
        delete("/apis/GROUP/v1alpha1/widgets"),
    ]);
}

const PODS: &str = "/api/v1/namespaces/NS/pods";

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
}

#[test]
fn pods() {
    let p = "/api/v1/namespaces/NS/pods/p";
    let status = "/api/v1/namespaces/NS/pods/p/status";
    let images = &["/spec/containers/0/image", "/spec/containers/0/imagePullPolicy", "/spec/hostNetwork"];
    let of_status = &[
        "/status/podIP",
        "/status/podIPs",
        "/status/phase",
        "/status/conditions/0/type",
        "/status/conditions/1/type",
    ];
    compare(vec![
        post(PODS, pod(json!({"containers": []}))),
        post(PODS, pod(json!({"containers": [{"name": "a"}]}))),
        post(PODS, pod(json!({"containers": [{"image": "a"}]}))),
        post(PODS, pod(json!({"containers": [{"name": "a", "image": "b"}, {"name": "a", "image": "b"}]}))),
        post(PODS, pod(json!({"containers": [{"name": "a", "image": "b"}], "restartPolicy": "Odd"}))),
        post("/api/v1/namespaces/NS/pods?dryRun=All", pod(json!({"containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80}]}], "nodeName": "n"}))).only(images),
        post(PODS, pod(json!({"containers": [{"name": "a", "image": "b:1"}], "hostNetwork": true}))).only(images),
        get("/api/v1/namespaces/NS/pods?fieldSelector=spec.nodeName%3D").only(&["/items/0/metadata/name"]),
        get("/api/v1/namespaces/NS/pods?fieldSelector=spec.hostNetwork%3Dtrue").only(&["/items/0/metadata/name"]),
        get("/api/v1/namespaces/NS/pods?fieldSelector=spec.odd%3Dtrue"),
        patch(p, STRATEGIC, json!({"spec": {"containers": [{"name": "a", "image": "b:2"}]}})).only(images),
        patch(p, STRATEGIC, json!({"metadata": {"labels": {"x": "y"}}})).only(&["/metadata/labels", "/metadata/generation"]),
        patch(status, STRATEGIC, json!({"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "phase": "Running"}})).only(of_status),
        patch(status, STRATEGIC, json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})).only(of_status),
        patch(status, STRATEGIC, json!({"status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}})).only(of_status),
        get("/api/v1/namespaces/NS/pods?fieldSelector=status.podIP%3D10.0.0.1").only(&["/items/0/metadata/name"]),
        delete("/api/v1/namespaces/NS/pods/p?gracePeriodSeconds=0").only(&["/kind", "/metadata/name"]),
        get(p),
    ]);
}

#[test]
fn nodes() {
    let n = "/api/v1/nodes/NS-n";
    let status = "/api/v1/nodes/NS-n/status";
    let node =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS-n"}, "spec": spec});
    let spec = &["/spec/podCIDR", "/spec/podCIDRs", "/spec/unschedulable"];
    let addresses = json!([{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "fd00::1"}, {"type": "Hostname", "address": "n"}]);
    compare(vec![
        post("/api/v1/nodes", node(json!({"podCIDR": "x"}))),
        post("/api/v1/nodes", node(json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "10.2.0.0/24"]}))),
        post("/api/v1/nodes", node(json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd01::/64"]}))).only(spec),
        post("/api/v1/nodes", node(json!({}))),
        patch(n, MERGE, json!({"spec": {"podCIDR": "10.9.0.0/24", "podCIDRs": ["10.9.0.0/24"]}})),
        patch(n, MERGE, json!({"spec": {"unschedulable": true}})).only(spec),
        patch(status, STRATEGIC, json!({"status": {"addresses": addresses}})).only(&["/status/addresses"]),
        patch("/api/v1/nodes/NS-n/status?fieldManager=m", APPLY, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS-n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})).only(&["/status/conditions/0/type"]),
        patch("/api/v1/nodes/NS-n/status?fieldManager=o", APPLY, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS-n"}, "status": {"conditions": [{"type": "Other", "status": "True"}]}})).only(&["/status/conditions/0/type", "/status/conditions/1/type"]),
        get("/api/v1/nodes?fieldSelector=metadata.name%3DNS-n,spec.unschedulable%3Dtrue").only(&["/items/0/metadata/name"]),
        delete(n),
    ]);
}

#[test]
fn services() {
    let services = "/api/v1/namespaces/NS/services";
    let dry = "/api/v1/namespaces/NS/services?dryRun=All";
    let s = "/api/v1/namespaces/NS/services/s";
    let service =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec});
    let ports = json!([{"port": 80}]);
    let object = &["/kind", "/metadata/name", "/spec", "/status"];
    compare(vec![
        post(services, service(json!({"ports": []}))),
        post(services, service(json!({"ports": [{"port": 0}]}))),
        post(services, service(json!({"ports": [{"port": 80}, {"port": 81}]}))),
        post(services, service(json!({"ports": ports, "type": "Odd"}))),
        // It names the range to a dry run only.
        post(services, service(json!({"ports": ports, "clusterIP": "1.1.1.1"}))).in_other_words(),
        post(dry, service(json!({"ports": ports, "clusterIP": "10.96.77.7", "selector": {"a": "b"}})))
            .only(object),
        post(dry, service(json!({"ports": ports, "clusterIP": "None", "selector": {"a": "b"}}))).only(object),
        post(dry, service(json!({"ports": ports, "type": "NodePort", "clusterIP": "10.96.77.7"})))
            .only(&["/spec/type", "/spec/externalTrafficPolicy"]),
        post(services, service(json!({"ports": ports, "clusterIP": "10.96.77.7"}))).only(object),
        post(
            services,
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "t"}, "spec": {"ports": ports, "clusterIP": "10.96.77.7"}}),
        ),
        patch(s, MERGE, json!({"spec": {"clusterIP": "10.96.77.8"}})),
        patch(s, STRATEGIC, json!({"spec": {"ports": [{"port": 81, "name": "b"}]}})),
        patch(
            s,
            STRATEGIC,
            json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}),
        )
        .only(object),
        patch(
            s,
            STRATEGIC,
            json!({"spec": {"ports": [{"port": 82, "name": "c"}, {"port": 81, "name": "d"}]}}),
        )
        .only(object),
        patch(s, MERGE, json!({"spec": {"type": "ExternalName"}})),
        patch(s, MERGE, json!({"spec": {"externalTrafficPolicy": "Local"}})),
        delete(s).only(object),
        delete(s),
    ]);
}

#[test]
fn secrets_accounts_and_leases() {
    let secrets = "/api/v1/namespaces/NS/secrets";
    let secret = |more: Value| {
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
        secret.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        secret
    };
    let lease = |spec: Value| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": spec});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/NS/leases";
    let l = "/apis/coordination.k8s.io/v1/namespaces/NS/leases/l";
    let accounts = "/api/v1/namespaces/NS/serviceaccounts";
    compare(vec![
        post(secrets, secret(json!({"data": {"a": "x"}}))).in_other_words(),
        post(secrets, secret(json!({"data": {"a/b": "eA=="}}))),
        post(secrets, secret(json!({"stringData": {"a": "x"}, "data": {"b": "eA=="}}))),
        patch("/api/v1/namespaces/NS/secrets/s", MERGE, json!({"type": "other"})),
        patch("/api/v1/namespaces/NS/secrets/s", MERGE, json!({"stringData": {"c": "y"}})),
        get("/api/v1/namespaces/NS/secrets?fieldSelector=type%3DOpaque"),
        delete("/api/v1/namespaces/NS/secrets/s"),
        post(leases, lease(json!({"holderIdentity": "a", "leaseDurationSeconds": 0}))),
        post(
            leases,
            lease(
                json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}),
            ),
        ),
        patch(l, MERGE, json!({"spec": {"leaseTransitions": -1}})),
        patch(l, MERGE, json!({"spec": {"leaseTransitions": 1}})),
        delete(l),
        post(
            accounts,
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "automountServiceAccountToken": false}),
        ),
        delete("/api/v1/namespaces/NS/serviceaccounts/a").only(&["/kind", "/metadata/name"]),
    ]);
}

#[test]
fn definitions() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut crd = definition();
        change(&mut crd);
        post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All", crd).in_other_words()
    };
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    let spec = |crd: &mut Value, at: &str, value: Value| {
        *crd.pointer_mut(&format!("{schema}/properties/spec/properties{at}")).unwrap() = value;
    };
    compare(vec![
        with(&|crd| crd["metadata"]["name"] = json!("other.GROUP")),
        with(&|crd| crd["spec"]["scope"] = json!("Odd")),
        with(&|crd| crd["spec"]["versions"] = json!([])),
        with(&|crd| crd["spec"]["versions"][0]["storage"] = json!(false)),
        with(&|crd| crd["spec"]["versions"][0]["name"] = json!("V1")),
        with(&|crd| crd["spec"]["names"]["kind"] = json!("bad kind")),
        with(&|crd| crd["spec"]["preserveUnknownFields"] = json!(true)),
        with(&|crd| *crd.pointer_mut(schema).unwrap() = json!({"type": "string"})),
        with(&|crd| spec(crd, "/name/pattern", json!("["))),
        with(&|crd| spec(crd, "/fixed/x-kubernetes-validations/0/rule", json!("self =="))),
        with(&|crd| spec(crd, "/peers/x-kubernetes-list-type", json!("odd"))),
        with(&|_| {}),
    ]);
}

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
