//! Server-side apply and update tracking, by tables of requests as clients send them.

use serde_json::{Value, json};
use structural_schema::{ApplyError, Manager, Operation, Schema, apply, track_update};

fn schema() -> Schema {
    let port = json!({
        "type": "object", "required": ["port"],
        "properties": {
            "name": {"type": "string"},
            "port": {"type": "integer"},
            "protocol": {"type": "string", "default": "TCP"},
        },
    });
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": {"type": "integer"},
                    "paused": {"type": "boolean", "default": false},
                    "ports": {
                        "type": "array", "items": port,
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                    },
                    "cidrs": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                    "args": {"type": "array", "items": {"type": "string"}},
                    "selector": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-map-type": "atomic"},
                    "data": {"type": "object", "additionalProperties": {"type": "string"}},
                    "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                },
            },
            "status": {"type": "object", "properties": {
                "ready": {"type": "boolean"},
                "conditions": {
                    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                    "items": {"type": "object", "properties": {"type": {"type": "string"}, "status": {"type": "string"}}},
                },
            }},
        },
    });
    Schema::compile(&schema).expect("a sound example").with_status_subresource()
}

fn manager(name: &'static str, second: u32) -> Manager<'static> {
    let time: &'static str = Box::leak(format!("2026-01-01T00:00:{second:02}Z").into_boxed_str());
    Manager { name, operation: Operation::Apply, api_version: "kosmos.io/v1", subresource: "", time }
}

fn status(name: &'static str, second: u32) -> Manager<'static> {
    Manager { subresource: "status", ..manager(name, second) }
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "kosmos.io/v1", "kind": "Cluster", "metadata": {"name": "c"}, "spec": spec})
}

/// The fields of one manager.
fn fields<'v>(object: &'v Value, manager: &str, operation: &str) -> &'v Value {
    let entries = object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let entry = entries.iter().find(|entry| entry["manager"] == manager && entry["operation"] == operation);
    entry.map_or(&Value::Null, |entry| &entry["fieldsV1"])
}

#[test]
fn creating_by_apply_records_what_kubectl_prints() {
    let live = apply(&schema(), None, &object(json!({"replicas": 1, "ports": [{"port": 80}], "cidrs": ["10.0.0.0/8"], "args": ["a"], "data": {"k": "v"}})), &manager("kubectl", 1), false).unwrap();
    assert_eq!(
        live["metadata"]["managedFields"],
        json!([{
            "apiVersion": "kosmos.io/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {
                "f:args": {},
                "f:cidrs": {"v:\"10.0.0.0/8\"": {}},
                "f:data": {"f:k": {}},
                "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
                "f:replicas": {},
            }},
            "manager": "kubectl",
            "operation": "Apply",
            "time": "2026-01-01T00:00:01Z",
        }])
    );
    assert_eq!(live["spec"]["ports"], json!([{"port": 80, "protocol": "TCP"}]), "the result is defaulted");
    assert_eq!(live["spec"]["paused"], false);
}

#[test]
fn applying_the_same_again_changes_nothing_not_even_the_time() {
    let schema = schema();
    let config = object(json!({"replicas": 1, "ports": [{"port": 80}], "data": {}}));
    let live = apply(&schema, None, &config, &manager("a", 1), false).unwrap();
    assert_eq!(apply(&schema, Some(&live), &config, &manager("a", 2), false).unwrap(), live);
}

#[test]
fn a_null_creation_timestamp_overwrites_nothing() {
    let schema = schema();
    let mut config = object(json!({"replicas": 1}));
    let mut live = apply(&schema, None, &config, &manager("a", 1), false).unwrap();
    live["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    live["metadata"]["resourceVersion"] = json!("7");
    config["metadata"]["creationTimestamp"] = Value::Null;
    config["spec"]["args"] = Value::Null;
    assert_eq!(apply(&schema, Some(&live), &config, &manager("a", 2), false).unwrap(), live);
}

#[test]
fn what_a_manager_no_longer_applies_goes_unless_another_owns_it() {
    let schema = schema();
    let live = apply(
        &schema,
        None,
        &object(json!({"replicas": 1, "data": {"mine": "1", "ours": "2"}, "cidrs": ["a", "b"]})),
        &manager("a", 1),
        false,
    )
    .unwrap();
    let live = apply(
        &schema,
        Some(&live),
        &object(json!({"data": {"ours": "2"}, "cidrs": ["b"]})),
        &manager("b", 2),
        false,
    )
    .unwrap();
    let live = apply(&schema, Some(&live), &object(json!({})), &manager("a", 3), false).unwrap();
    assert_eq!(live["spec"], json!({"data": {"ours": "2"}, "cidrs": ["b"], "paused": false}));
    assert_eq!(
        fields(&live, "b", "Apply"),
        &json!({"f:spec": {"f:cidrs": {"v:\"b\"": {}}, "f:data": {"f:ours": {}}}})
    );
}

#[test]
fn an_item_goes_with_its_last_owner() {
    let schema = schema();
    let live = apply(
        &schema,
        None,
        &object(json!({"ports": [{"port": 80, "name": "http"}, {"port": 53, "protocol": "UDP"}]})),
        &manager("a", 1),
        false,
    )
    .unwrap();
    let live = apply(
        &schema,
        Some(&live),
        &object(json!({"ports": [{"port": 53, "protocol": "UDP"}]})),
        &manager("a", 2),
        false,
    )
    .unwrap();
    assert_eq!(live["spec"]["ports"], json!([{"port": 53, "protocol": "UDP"}]));
    let live = apply(&schema, Some(&live), &object(json!({})), &manager("a", 3), false).unwrap();
    assert_eq!(live["spec"], json!({"paused": false}));
}

#[test]
fn two_managers_share_a_list_item_by_item() {
    let schema = schema();
    let live =
        apply(&schema, None, &object(json!({"ports": [{"port": 1}, {"port": 3}]})), &manager("a", 1), false)
            .unwrap();
    let live = apply(&schema, Some(&live), &object(json!({"ports": [{"port": 2}]})), &manager("b", 2), false)
        .unwrap();
    let ports: Vec<&Value> =
        live["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["port"]).collect();
    assert_eq!(ports, [1, 3, 2]);
    let live = apply(
        &schema,
        Some(&live),
        &object(json!({"ports": [{"port": 3}, {"port": 1}]})),
        &manager("a", 3),
        false,
    )
    .unwrap();
    let ports: Vec<&Value> =
        live["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["port"]).collect();
    assert_eq!(
        ports,
        [3, 2, 1],
        "the order of who applies wins among its items; the others stay where they are"
    );
}

#[test]
fn conflicts_are_told_as_kube_apiserver_tells_them() {
    let schema = schema();
    let live = apply(
        &schema,
        None,
        &object(json!({"replicas": 1, "ports": [{"port": 80, "name": "a"}], "args": ["x"]})),
        &manager("a", 1),
        false,
    )
    .unwrap();
    let error =
        apply(&schema, Some(&live), &object(json!({"replicas": 2})), &manager("b", 2), false).unwrap_err();
    assert_eq!(error.to_string(), r#"Apply failed with 1 conflict: conflict with "a": .spec.replicas"#);
    let error = apply(
        &schema,
        Some(&live),
        &object(json!({"replicas": 2, "ports": [{"port": 80, "name": "b"}], "args": ["y"]})),
        &manager("b", 2),
        false,
    )
    .unwrap_err();
    let text = "Apply failed with 3 conflicts: conflicts with \"a\":\n- .spec.args\n- .spec.ports[port=80,protocol=\"TCP\"].name\n- .spec.replicas";
    assert_eq!(error.to_string(), text);
    let ApplyError::Conflicts(conflicts) = error else { panic!("{error}") };
    assert_eq!(conflicts[2].field, ".spec.replicas");
    assert_eq!(conflicts[2].message, r#"conflict with "a""#);
}

#[test]
fn force_takes_over_and_equal_values_are_shared() {
    let schema = schema();
    let live = apply(&schema, None, &object(json!({"replicas": 1, "args": ["x"]})), &manager("a", 1), false)
        .unwrap();
    let forced =
        apply(&schema, Some(&live), &object(json!({"replicas": 2})), &manager("b", 2), true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(fields(&forced, "a", "Apply"), &json!({"f:spec": {"f:args": {}}}));
    assert_eq!(fields(&forced, "b", "Apply"), &json!({"f:spec": {"f:replicas": {}}}));
    let shared =
        apply(&schema, Some(&live), &object(json!({"replicas": 1})), &manager("b", 2), false).unwrap();
    assert_eq!(fields(&shared, "a", "Apply"), &json!({"f:spec": {"f:args": {}, "f:replicas": {}}}));
    assert_eq!(fields(&shared, "b", "Apply"), &json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn atomic_values_are_owned_whole() {
    let schema = schema();
    let live = apply(
        &schema,
        None,
        &object(json!({"selector": {"a": "1"}, "extra": {"deep": {"list": [1], "x": 1}}})),
        &manager("a", 1),
        false,
    )
    .unwrap();
    assert_eq!(
        fields(&live, "a", "Apply"),
        &json!({"f:spec": {"f:extra": {"f:deep": {".": {}, "f:list": {}, "f:x": {}}}, "f:selector": {}}})
    );
    let live = apply(&schema, Some(&live), &object(json!({"selector": {"b": "2"}})), &manager("a", 2), false)
        .unwrap();
    assert_eq!(live["spec"], json!({"selector": {"b": "2"}, "paused": false}));
}

#[test]
fn an_update_owns_what_it_changed() {
    let schema = schema();
    let mut live = object(json!({"replicas": 1, "data": {"k": "v"}}));
    live["metadata"]["labels"] = json!({"app": "x"});
    track_update(&schema, None, &mut live, &manager("kubectl-create", 1));
    assert_eq!(
        live["metadata"]["managedFields"],
        json!([{
            "apiVersion": "kosmos.io/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {".": {}, "f:data": {".": {}, "f:k": {}}, "f:replicas": {}},
            },
            "manager": "kubectl-create",
            "operation": "Update",
            "time": "2026-01-01T00:00:01Z",
        }])
    );
    let mut new = live.clone();
    new["spec"]["replicas"] = json!(2);
    track_update(&schema, Some(&live), &mut new, &manager("hpa", 2));
    assert_eq!(fields(&new, "hpa", "Update"), &json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(
        fields(&new, "kubectl-create", "Update")["f:spec"],
        json!({".": {}, "f:data": {".": {}, "f:k": {}}})
    );
    assert_eq!(
        new["metadata"]["managedFields"][0]["time"], "2026-01-01T00:00:01Z",
        "whoever loses fields keeps its time"
    );
}

#[test]
fn an_update_that_changes_nothing_leaves_the_owners_as_they_are() {
    let schema = schema();
    let live = apply(&schema, None, &object(json!({"replicas": 1})), &manager("a", 1), false).unwrap();
    let mut same = live.clone();
    track_update(&schema, Some(&live), &mut same, &manager("b", 2));
    assert_eq!(same, live);
    let mut silent = live.clone();
    silent["metadata"].as_object_mut().unwrap().remove("managedFields");
    track_update(&schema, Some(&live), &mut silent, &manager("b", 2));
    assert_eq!(silent, live, "a client that does not know of owners does not delete them");
}

#[test]
fn an_update_conflicts_with_a_later_apply() {
    let schema = schema();
    let mut live = object(json!({"replicas": 1}));
    track_update(&schema, None, &mut live, &manager("kubectl-edit", 1));
    let error =
        apply(&schema, Some(&live), &object(json!({"replicas": 2})), &manager("me", 2), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "kubectl-edit" using kosmos.io/v1: .spec.replicas"#
    );
}

#[test]
fn owners_are_cleared_on_request_and_before_first_apply_stands_in_for_them() {
    let schema = schema();
    let live = apply(&schema, None, &object(json!({"replicas": 1})), &manager("a", 1), false).unwrap();
    for reset in [json!([]), json!([{}])] {
        let mut cleared = live.clone();
        cleared["metadata"]["managedFields"] = reset;
        track_update(&schema, Some(&live), &mut cleared, &manager("b", 2));
        assert_eq!(cleared["metadata"], json!({"name": "c"}));
        let error = apply(&schema, Some(&cleared), &object(json!({"replicas": 2})), &manager("b", 3), false)
            .unwrap_err();
        assert!(
            error.to_string().contains("conflict with \"before-first-apply\" using kosmos.io/v1"),
            "{error}"
        );
    }
}

#[test]
fn a_client_may_hand_its_fields_to_another_manager() {
    let schema = schema();
    let live = apply(&schema, None, &object(json!({"replicas": 1})), &manager("a", 1), false).unwrap();
    let mut renamed = live.clone();
    renamed["metadata"]["managedFields"][0]["manager"] = json!("b");
    track_update(&schema, Some(&live), &mut renamed, &manager("c", 2));
    assert_eq!(fields(&renamed, "b", "Apply"), &json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields(&renamed, "c", "Update"), &Value::Null);
}

#[test]
fn many_updaters_become_ancient_changes() {
    let schema = schema();
    let mut live = object(json!({"data": {}}));
    track_update(&schema, None, &mut live, &manager("creator", 0));
    for i in 1..=15u32 {
        let mut new = live.clone();
        new["spec"]["data"][format!("k{i}")] = json!("v");
        let name: &'static str = Box::leak(format!("u{i:02}").into_boxed_str());
        track_update(&schema, Some(&live), &mut new, &manager(name, i));
        live = new;
    }
    let entries = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0]["manager"], "ancient-changes");
    assert!(entries[0]["fieldsV1"]["f:spec"]["f:data"]["f:k1"].is_object());
}

#[test]
fn status_and_spec_have_separate_owners() {
    let schema = schema();
    let live = apply(&schema, None, &json!({"apiVersion": "kosmos.io/v1", "kind": "Cluster", "metadata": {"name": "c"}, "spec": {"replicas": 1}, "status": {"ready": true}}), &manager("a", 1), false).unwrap();
    assert_eq!(live.get("status"), None, "status is not written through the object");
    assert_eq!(fields(&live, "a", "Apply"), &json!({"f:spec": {"f:replicas": {}}}));
    let report = json!({"apiVersion": "kosmos.io/v1", "kind": "Cluster", "metadata": {"name": "c", "labels": {"x": "y"}}, "spec": {"replicas": 9}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let live = apply(&schema, Some(&live), &report, &status("a", 2), false).unwrap();
    assert_eq!(live["spec"]["replicas"], 1);
    assert_eq!(live["metadata"].get("labels"), None);
    let entry = &live["metadata"]["managedFields"][1];
    assert_eq!(entry["subresource"], "status");
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:status": {"f:conditions": {"k:{\"type\":\"Ready\"}": {".": {}, "f:status": {}, "f:type": {}}}}})
    );
    let live2 =
        apply(&schema, Some(&live), &object(json!({"replicas": 2})), &manager("a", 3), false).unwrap();
    assert_eq!(live2["status"], live["status"], "a write to the object leaves status alone");
}

#[test]
fn a_put_to_a_subresource_is_put_right_before_it_is_tracked() {
    let schema = schema();
    let live = apply(&schema, None, &object(json!({"replicas": 1})), &manager("a", 1), false).unwrap();
    let mut put = live.clone();
    put["spec"]["replicas"] = json!(5);
    put["metadata"]["labels"] = json!({"a": "b"});
    put["status"] = json!({"ready": true});
    schema.reset_fields("status", &mut put, Some(&live));
    track_update(&schema, Some(&live), &mut put, &Manager { operation: Operation::Update, ..status("c", 2) });
    assert_eq!(put["spec"]["replicas"], 1);
    assert_eq!(put["metadata"].get("labels"), None);
    assert_eq!(fields(&put, "c", "Update"), &json!({"f:status": {".": {}, "f:ready": {}}}));
    assert_eq!(fields(&put, "a", "Apply"), fields(&live, "a", "Apply"));
    let mut put2 = put.clone();
    put2["status"] = json!({"ready": false});
    schema.reset_fields("", &mut put2, Some(&put));
    assert_eq!(put2["status"], put["status"]);
}

#[test]
fn kubectl_goes_over_from_client_side_apply_without_conflict() {
    let schema = schema();
    let config = object(json!({"replicas": 1}));
    let mut live = config.clone();
    live["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": format!("{config}\n")});
    track_update(&schema, None, &mut live, &manager("kubectl-client-side-apply", 1));
    let wanted = object(json!({"replicas": 2}));
    assert!(apply(&schema, Some(&live), &wanted, &manager("me", 2), false).is_err(), "only kubectl may");
    let applied = apply(&schema, Some(&live), &wanted, &manager("kubectl", 2), false).unwrap();
    assert_eq!(applied["spec"]["replicas"], 2);
    let annotation = applied["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
        .as_str()
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(annotation).unwrap(), wanted);
    let mut edited = live.clone();
    edited["spec"]["replicas"] = json!(7);
    track_update(&schema, Some(&live), &mut edited, &manager("hpa", 2));
    assert!(
        apply(&schema, Some(&edited), &wanted, &manager("kubectl", 3), false).is_err(),
        "what changed since is not kubectl's"
    );
}

#[test]
fn configurations_that_cannot_be_merged_are_refused() {
    let schema = schema();
    let cases = [
        (object(json!({"nope": 1})), ".spec.nope: field not declared in schema"),
        (
            object(json!({"ports": [{"port": 1}, {"port": 1}]})),
            ".spec.ports: duplicate entries for key [port=1,protocol=\"TCP\"]",
        ),
        (object(json!({"cidrs": ["a", "a"]})), ".spec.cidrs: duplicate entries for key [=\"a\"]"),
        (object(json!({"ports": {"port": 1}})), ".spec.ports: expected list, got {\"port\":1}"),
        (
            object(json!({"ports": [null]})),
            ".spec.ports: element 0: associative list with keys may not have a null element",
        ),
        (object(json!({"replicas": "1"})), ".spec.replicas: expected numeric (int or float), got \"1\""),
        (
            json!({"apiVersion": "v2", "kind": "Cluster"}),
            "Incorrect version specified in apply patch. Specified patch version: v2, expected: kosmos.io/v1",
        ),
        (
            json!({"apiVersion": "kosmos.io/v1", "metadata": {"managedFields": []}}),
            "metadata.managedFields must be nil",
        ),
    ];
    for (config, expected) in cases {
        let error = apply(&schema, None, &config, &manager("a", 1), false).unwrap_err();
        // What is said of the schema is 500 in kube-apiserver, all else 400.
        let of_schema = !error.to_string().starts_with(expected);
        assert_eq!(matches!(error, ApplyError::Untyped(_)), of_schema, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Tens of thousands of items are common in the objects of this project.
#[test]
fn large_lists_are_applied_and_validated_item_by_item() {
    let schema = schema();
    let ports = |from: u32| -> Vec<Value> {
        (from..from + 5000).map(|port| json!({"port": port, "name": "n"})).collect()
    };
    let live = apply(&schema, None, &object(json!({"ports": ports(0)})), &manager("a", 1), false).unwrap();
    let next =
        apply(&schema, Some(&live), &object(json!({"ports": ports(1)})), &manager("a", 2), false).unwrap();
    let stored: Vec<&Value> =
        next["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["port"]).collect();
    assert_eq!((stored.len(), stored[0], stored[4999]), (5000, &json!(1), &json!(5000)));
    assert_eq!(schema.validate(&next, Some(&live)), vec![]);
}
