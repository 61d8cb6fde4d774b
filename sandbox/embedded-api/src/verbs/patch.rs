//! PATCH in its four kinds: JSON patch, merge patch, strategic merge, server-side apply.

use json_patch::{PatchOperation, TestOperation};
use serde_json::Value;
use structural_schema::{ApplyError, Operation, apply, strategic_merge};

use super::admission::{Ownership, admit_change, admit_new, check_types, duplicates, live, prune, written};
use super::{Call, Written, metadata};
use crate::decode::{self, Body};
use crate::state::State;
use crate::status::{Answer, Cause, Status};

pub(crate) const JSON: &str = "application/json-patch+json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

pub(crate) fn patch(call: &Call<'_>, state: &mut State, media_type: &str, bytes: &[u8]) -> Answer<Written> {
    if call.info.name.is_none() {
        return Err(Status::method_not_allowed());
    }
    if call.options.force && media_type != APPLY {
        let message = "Forbidden: may not be specified for non-apply patch";
        return Err(Status::invalid_options("PatchOptions", "force", "FieldValueForbidden", message));
    }
    if media_type == APPLY {
        return server_side_apply(call, state, decode::object(media_type, bytes)?);
    }
    let strategic = call.resource.strategy.merges_strategically();
    let kinds = if strategic {
        format!("{JSON}, {MERGE}, {STRATEGIC}, {APPLY}")
    } else {
        format!("{JSON}, {MERGE}, {APPLY}")
    };
    let taken = matches!(media_type, JSON | MERGE) || strategic && media_type == STRATEGIC;
    if !taken {
        return Err(Status::unsupported_media_type(&kinds));
    }
    let body = decode::json(bytes)?;
    let old = live(call, state, &call.key()).ok_or_else(|| call.not_found())?;
    let mut new = old.clone();
    match media_type {
        JSON => json(&mut new, &body.value)?,
        MERGE => merge(&mut new, &body.value)?,
        _ => strategic_merge(&call.version().schema, &mut new, &body.value)
            .map_err(|e| Status::bad_request(e.to_string()))?,
    }
    check_identity(call, &new, &old)?;
    let warnings = prune(call, &mut new, &body.duplicates).map_err(|why| unreadable(&new, &why.message))?;
    check_types(call, &new).map_err(|why| unreadable(&new, &why))?;
    let object = admit_change(call, state, new, &old, Ownership::Track)?;
    Ok(written(object, false, warnings))
}

fn merge(target: &mut Value, patch: &Value) -> Answer<()> {
    if !patch.is_object() {
        return Err(Status::bad_request("a merge patch must be a JSON object"));
    }
    json_patch::merge(target, patch);
    Ok(())
}

/// Applies the operations one by one. A `test` for null on a path that is absent holds, as in kube-apiserver: kube-rs
/// guards the first finalizer that way.
fn json(target: &mut Value, patch: &Value) -> Answer<()> {
    if !patch.is_array() {
        return Err(Status::bad_request("error decoding patch: a JSON patch must be a list of operations"));
    }
    let operations: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| rejected(&e.to_string()))?;
    for operation in operations.0 {
        if let PatchOperation::Test(TestOperation { path, value: Value::Null }) = &operation
            && target.pointer(path.as_str()).is_none()
        {
            continue;
        }
        json_patch::patch(target, std::slice::from_ref(&operation)).map_err(|e| rejected(&e.to_string()))?;
    }
    Ok(())
}

fn rejected(why: &str) -> Status {
    let cause = Cause {
        reason: "UnexpectedServerResponse".to_owned(),
        message: why.to_owned(),
        field: String::new(),
    };
    let message = format!("the server rejected our request due to an error in our request: {why}");
    Status::new(422, "Invalid", message).with_causes(vec![cause])
}

/// What a patch made of an object cannot be read.
fn unreadable(object: &Value, why: &str) -> Status {
    let message = format!("Invalid value: {:?}: {why}", object.to_string());
    let cause =
        Cause { reason: "FieldValueInvalid".to_owned(), message: message.clone(), field: "patch".to_owned() };
    // The object has neither kind nor name yet.
    Status::new(422, "Invalid", format!(" \"\" is invalid: patch: {message}")).with_causes(vec![cause])
}

/// A patch may not turn one object into another.
fn check_identity(call: &Call<'_>, new: &Value, old: &Value) -> Answer<()> {
    if !new.is_object() || !new["metadata"].is_object() {
        return Err(rejected("the patch leaves no object with metadata"));
    }
    let word = |object: &'_ Value, pointer| {
        object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    for pointer in ["/apiVersion", "/kind"] {
        let (before, after) = (word(old, pointer), word(new, pointer));
        if before != after {
            let field = pointer.trim_start_matches('/');
            return Err(unreadable(new, &format!("{field} was {before:?}, and would be {after:?}")));
        }
    }
    if word(old, "/metadata/name") != word(new, "/metadata/name") {
        let (given, name) = (word(new, "/metadata/name"), call.name());
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    if word(old, "/metadata/namespace") != word(new, "/metadata/namespace") {
        return Err(Status::bad_request(metadata::WRONG_NAMESPACE));
    }
    Ok(())
}

fn server_side_apply(call: &Call<'_>, state: &mut State, body: Body) -> Answer<Written> {
    check_apply_request(call, &body.value)?;
    let mut applied = body.value;
    let named = applied["metadata"]["name"].is_string();
    metadata::match_path(call, &mut applied)?;
    // What the schema does not know is refused by the merge, whatever the client asked.
    let warnings = duplicates(call, &body.duplicates)?;
    let old = live(call, state, &call.key());
    match old {
        None if !call.subresource().is_empty() => Err(call.not_found()),
        None if !named => Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            call.name()
        ))),
        None => {
            if applied["metadata"]["uid"].is_string() {
                let why = "the object does not exist, and the patch names a uid";
                return Err(Status::conflict(call.resource.subject(call.name()), why));
            }
            let object = merged(call, None, &applied)?;
            Ok(written(admit_new(call, state, object, Ownership::Applied)?, true, warnings))
        }
        Some(old) => {
            let mut object = merged(call, Some(&old), &applied)?;
            // What the patch says about version and uid are preconditions, whatever the merge made of them.
            for field in ["resourceVersion", "uid"] {
                if applied["metadata"][field].is_string() {
                    object["metadata"][field] = applied["metadata"][field].clone();
                }
            }
            Ok(written(admit_change(call, state, object, &old, Ownership::Applied)?, false, warnings))
        }
    }
}

fn check_apply_request(call: &Call<'_>, applied: &Value) -> Answer<()> {
    if call.options.field_manager.is_none() {
        let cause = Cause {
            reason: "FieldValueRequired".to_owned(),
            message: "Required value: is required for apply patch".to_owned(),
            field: "fieldManager".to_owned(),
        };
        let subject = crate::status::Subject { group: "meta.k8s.io", resource: "PatchOptions", name: "" };
        return Err(Status::invalid(subject, vec![cause]));
    }
    if applied["metadata"]["managedFields"].as_array().is_some_and(|m| !m.is_empty()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let word = |field: &str| applied[field].as_str().unwrap_or_default();
    if word("kind") != call.resource.kind || word("apiVersion").is_empty() {
        let (api_version, kind) = (word("apiVersion"), word("kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let group = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let group = if group.is_empty() { "/".to_owned() } else { group };
        return Err(Status::bad_request(format!("invalid object type: {group}, Kind={kind}")));
    }
    Ok(())
}

fn merged(call: &Call<'_>, live: Option<&Value>, applied: &Value) -> Answer<Value> {
    let (api_version, time) = (call.api_version(), call.time());
    let manager = call.manager(Operation::Apply, &api_version, &time);
    apply(&call.version().schema, live, applied, &manager, call.options.force).map_err(|error| match error {
        ApplyError::Conflicts(conflicts) => {
            let one = |c: &structural_schema::Conflict| format!("{}: {}", c.message, c.field);
            let message = match conflicts.as_slice() {
                [only] => format!("Apply failed with 1 conflict: {}", one(only)),
                many => {
                    let list: Vec<String> = many.iter().map(|c| format!("- {}", c.field)).collect();
                    format!("Apply failed with {} conflicts: conflicts:\n{}", many.len(), list.join("\n"))
                }
            };
            let cause = |c: structural_schema::Conflict| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: c.message,
                field: c.field,
            };
            Status::apply_conflict(message, conflicts.into_iter().map(cause).collect())
        }
        ApplyError::Invalid(why) => Status::bad_request(why),
        ApplyError::Untyped(why) => Status::new(500, "", why),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_test_for_null_holds_where_nothing_is() {
        let mut object = json!({"metadata": {}});
        let patch = json!([{"op": "test", "path": "/metadata/finalizers", "value": null}, {"op": "add", "path": "/metadata/finalizers", "value": ["a/b"]}]);
        json(&mut object, &patch).unwrap();
        assert_eq!(object["metadata"]["finalizers"], json!(["a/b"]));
        let error = json(&mut object, &patch).unwrap_err();
        assert_eq!((error.code, error.reason), (422, "Invalid"));
    }
}
