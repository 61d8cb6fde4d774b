//! What every Kubernetes object has, whatever its schema says: `apiVersion`, `kind` and `metadata`.

use serde_json::{Map, Value, json};

/// The root of a resource: its own schema, with the type of `metadata` filled in.
pub(crate) fn as_resource(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut schema = schema.clone();
    schema.entry("type").or_insert_with(|| json!("object"));
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    let Some(properties) = properties.as_object_mut() else { return schema };
    let own = properties.get("metadata").cloned().unwrap_or_default();
    properties.insert("metadata".to_owned(), narrowed(object_meta(), &own));
    for name in ["apiVersion", "kind"] {
        properties.entry(name).or_insert_with(|| json!({"type": "string"}));
    }
    schema
}

/// A whole object inside another one: additionally it must say what it is.
pub(crate) fn as_embedded(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut schema = as_resource(schema);
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        required.extend(
            ["apiVersion", "kind"]
                .map(Value::from)
                .into_iter()
                .filter(|name| !required.contains(name))
                .collect::<Vec<_>>(),
        );
    }
    schema
}

/// A CRD may restrict the name and the generateName of its objects, and nothing else of their metadata.
fn narrowed(mut meta: Value, own: &Value) -> Value {
    for name in ["name", "generateName"] {
        let restrictions = own.pointer(&format!("/properties/{name}")).and_then(Value::as_object);
        for (keyword, value) in restrictions.into_iter().flatten().filter(|(keyword, _)| *keyword != "$ref") {
            meta["properties"][name][keyword] = value.clone();
        }
    }
    for keyword in ["required", "x-kubernetes-validations"] {
        if let Some(value) = own.get(keyword) {
            meta[keyword] = value.clone();
        }
    }
    meta
}

/// `io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta`. Clients written in Go send nulls (`creationTimestamp: null`).
fn object_meta() -> Value {
    let text = json!({"type": "string", "nullable": true});
    let time = json!({"type": "string", "format": "date-time", "nullable": true});
    let number = json!({"type": "integer", "format": "int64", "nullable": true});
    let texts = json!({"type": "object", "nullable": true, "additionalProperties": {"type": "string"}});
    json!({
        "type": "object",
        "properties": {
            "annotations": texts,
            "creationTimestamp": time,
            "deletionGracePeriodSeconds": number,
            "deletionTimestamp": time,
            "finalizers": {
                "type": "array", "nullable": true, "items": {"type": "string"},
                "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge",
            },
            "generateName": text,
            "generation": number,
            "labels": texts,
            "managedFields": {"type": "array", "nullable": true, "items": managed_fields_entry()},
            "name": text,
            "namespace": text,
            "ownerReferences": {
                "type": "array", "nullable": true, "items": owner_reference(),
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "uid",
            },
            "resourceVersion": text,
            "selfLink": text,
            "uid": text,
        },
    })
}

fn owner_reference() -> Value {
    json!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "required": ["apiVersion", "kind", "name", "uid"],
        "properties": {
            "apiVersion": {"type": "string"},
            "blockOwnerDeletion": {"type": "boolean", "nullable": true},
            "controller": {"type": "boolean", "nullable": true},
            "kind": {"type": "string"},
            "name": {"type": "string"},
            "uid": {"type": "string"},
        },
    })
}

fn managed_fields_entry() -> Value {
    json!({
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "fieldsType": {"type": "string"},
            "fieldsV1": {"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true},
            "manager": {"type": "string"},
            "operation": {"type": "string"},
            "subresource": {"type": "string"},
            "time": {"type": "string", "format": "date-time", "nullable": true},
        },
    })
}
