//! Custom resources: their definitions, their schemas, and what is asked of them.

use serde_json::{Value, json};

use super::comparison::{compare, compare_where_defined};
use super::request::*;

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
    compare_where_defined(&definition(), specs.into_iter().map(request).collect());
}

#[test]
fn custom_resources() {
    let w = "/apis/GROUP/v1alpha1/widgets/w";
    let status = "/apis/GROUP/v1alpha1/widgets/w/status";
    let apply = |spec: Value| json!({"apiVersion": "GROUP/v1alpha1", "kind": "Widget", "spec": spec});
    let requests = vec![
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
    ];
    compare_where_defined(&definition(), requests);
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
