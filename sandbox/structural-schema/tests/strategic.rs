//! Strategic merge patches as kubectl sends them.

use serde_json::{Value, json};
use structural_schema::{Schema, strategic_merge};

fn schema() -> Schema {
    let port = json!({"type": "object", "properties": {"port": {"type": "integer"}, "protocol": {"type": "string"}, "name": {"type": "string"}}});
    let container = json!({"type": "object", "properties": {"name": {"type": "string"}, "image": {"type": "string"}, "args": {"type": "array", "items": {"type": "string"}}}});
    Schema::compile(&json!({"type": "object", "properties": {
        "data": {"type": "object", "additionalProperties": {"type": "string"}},
        "spec": {"type": "object", "properties": {
            "containers": {"type": "array", "items": container, "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name"},
            "ports": {"type": "array", "items": port, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"]},
            "strategy": {"type": "object", "x-kubernetes-patch-strategy": "retainKeys", "properties": {"type": {"type": "string"}, "rollingUpdate": {"type": "object"}, "recreate": {"type": "object"}}},
            "selector": {"type": "object", "x-kubernetes-patch-strategy": "replace", "additionalProperties": {"type": "string"}},
            "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        }},
    }}))
    .expect("a sound example")
}

fn patched(target: Value, patch: Value) -> Value {
    let mut target = target;
    strategic_merge(&schema(), &mut target, &patch).expect("a sound example");
    target
}

#[test]
fn maps_are_merged_and_nulls_delete() {
    assert_eq!(
        patched(json!({"data": {"a": "1", "b": "2"}}), json!({"data": {"b": null, "c": "3"}})),
        json!({"data": {"a": "1", "c": "3"}})
    );
    assert_eq!(patched(json!({}), json!({"data": {"b": null, "c": "3"}})), json!({"data": {"c": "3"}}));
    assert_eq!(
        patched(json!({"data": {"a": "1"}}), json!({"data": {"$patch": "replace", "c": "3"}})),
        json!({"data": {"c": "3"}})
    );
    assert_eq!(
        patched(json!({"data": {"a": "1"}, "x": 1}), json!({"data": {"$patch": "delete"}})),
        json!({"x": 1})
    );
    assert_eq!(
        patched(json!({"spec": {"selector": {"a": "1"}}}), json!({"spec": {"selector": {"b": "2"}}})),
        json!({"spec": {"selector": {"b": "2"}}})
    );
}

#[test]
fn lists_are_merged_by_key() {
    let target = json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}]}});
    let patch = json!({"spec": {"containers": [{"name": "a", "image": "9"}, {"name": "c"}, {"name": "b", "$patch": "delete"}]}});
    assert_eq!(
        patched(target.clone(), patch),
        json!({"spec": {"containers": [{"name": "a", "image": "9", "args": ["x"]}, {"name": "c"}]}})
    );
    let replace = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}});
    assert_eq!(patched(target.clone(), replace), json!({"spec": {"containers": [{"name": "z"}]}}));
    let replace_item = json!({"spec": {"containers": [{"name": "a", "args": ["y"]}]}});
    assert_eq!(
        patched(target, replace_item)["spec"]["containers"][0]["args"],
        json!(["y"]),
        "lists that are not merged are replaced"
    );
    let ports =
        json!({"spec": {"ports": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    let patch = json!({"spec": {"ports": [{"port": 53, "protocol": "UDP", "name": "dns"}]}});
    assert_eq!(
        patched(ports, patch)["spec"]["ports"],
        json!([{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "name": "dns"}])
    );
}

#[test]
fn the_clients_order_is_honoured() {
    let target = json!({"spec": {"containers": [{"name": "server"}, {"name": "a"}, {"name": "b"}]}});
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "new"}, {"name": "a"}], "containers": [{"name": "new"}]}});
    assert_eq!(
        patched(target, patch),
        json!({"spec": {"containers": [{"name": "server"}, {"name": "b"}, {"name": "new"}, {"name": "a"}]}})
    );
}

#[test]
fn primitive_lists_are_sets() {
    let target = json!({"spec": {"finalizers": ["a", "b"]}, "metadata": {"finalizers": ["x"]}});
    let patch = json!({"spec": {"finalizers": ["c", "b"], "$deleteFromPrimitiveList/finalizers": ["a"]}, "metadata": {"finalizers": ["y"], "$setElementOrder/finalizers": ["y", "x"]}});
    assert_eq!(
        patched(target, patch),
        json!({"spec": {"finalizers": ["b", "c"]}, "metadata": {"finalizers": ["y", "x"]}})
    );
}

#[test]
fn keys_that_are_not_retained_go() {
    let target = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(patched(target, patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
}

#[test]
fn unsound_patches_are_refused_and_change_nothing() {
    let cases = [
        (json!([]), "strategic merge patch: a patch is an object"),
        (
            json!({"data": {"c": "1"}, "spec": {"$patch": "explode"}}),
            "strategic merge patch.spec: $patch `explode` is unknown: use replace, delete or merge",
        ),
        (
            json!({"spec": {"containers": [{"image": "x"}]}}),
            "strategic merge patch.spec.containers[0]: does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"containers": ["x"]}}),
            "strategic merge patch.spec.containers[0]: an item of a list that is merged by key is an object",
        ),
        (
            json!({"spec": {"$setElementOrder/containers": 1}}),
            "strategic merge patch.spec.$setElementOrder/containers: must be a list",
        ),
    ];
    for (patch, expected) in cases {
        let before = json!({"data": {"a": "1"}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
        let mut target = before.clone();
        assert_eq!(strategic_merge(&schema(), &mut target, &patch).unwrap_err().to_string(), expected);
        assert_eq!(target, before);
    }
}

/// A Node of two families has two addresses of one type, although the type is the key.
#[test]
fn a_list_that_was_not_there_is_taken_as_it_comes() {
    let containers = json!([{"name": "a", "image": "1"}, {"name": "a", "image": "2"}]);
    let merged = patched(json!({}), json!({"spec": {"containers": containers}}));
    assert_eq!(merged["spec"]["containers"], containers);
}

#[test]
fn what_is_new_stands_before_what_is_not_named() {
    let named = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    let merge = |before: &[&str], patch: &[&str]| {
        let target = json!({"spec": {"containers": named(before)}});
        patched(target, json!({"spec": {"containers": named(patch)}}))["spec"]["containers"].clone()
    };
    assert_eq!(merge(&["a"], &["b"]), json!(named(&["b", "a"])));
    assert_eq!(merge(&["a", "b", "c"], &["c", "x"]), json!(named(&["a", "b", "c", "x"])));
    assert_eq!(merge(&["a", "b"], &["b", "a"]), json!(named(&["b", "a"])));
}
