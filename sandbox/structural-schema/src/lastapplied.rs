//! kubectl's move from client-side to server-side apply, by way of its annotation.

use serde_json::{Map, Value};

use crate::fields::{Set, compare, to_fields};
use crate::{Manager, Schema};

/// Only kubectl's server-side apply looks at the annotation.
pub(crate) const MANAGER: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that client-side apply set and that still have the value it gave them.
pub(crate) fn still_in_force(schema: &Schema, live: &Value, manager: &Manager<'_>) -> Option<Set> {
    let text = annotations(live)?.get(ANNOTATION)?.as_str()?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last.get("apiVersion").and_then(Value::as_str) != Some(manager.api_version) {
        return None;
    }
    let since = compare(schema, &last, live);
    Some(
        to_fields(schema, &last)
            .difference(&since.modified)
            .difference(&since.added)
            .difference(&since.removed),
    )
}

/// Keeps the annotation true for clients that still look at it. Objects without one are not given one.
pub(crate) fn renew(object: &mut Value, applied: &Value) {
    let present =
        annotations(object).and_then(|annotations| annotations.get(ANNOTATION)).and_then(Value::as_str);
    if present.is_none_or(str::is_empty) {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.insert(ANNOTATION.to_owned(), Value::from(format!("{applied}\n")));
    }
}

fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    object.pointer("/metadata/annotations")?.as_object()
}
