//! `metadata`: what the client may say, what the server says, what may never change.

use serde_json::{Value, json};

use super::Call;
use crate::kinds::strategy::Strategy;
use crate::state::{State, finalizers};
use crate::status::{Answer, Cause, Status, Subject};

/// What only the server writes; an update takes it over from the stored object.
const OF_THE_SERVER: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
];

/// What is said of a body for another namespace.
pub(crate) const WRONG_NAMESPACE: &str =
    "the namespace of the provided object does not match the namespace sent on the request";

/// Checks that a body is for this path: its apiVersion, kind, namespace and name. Fills in what it may leave out.
pub(crate) fn match_path(call: &Call<'_>, object: &mut Value) -> Answer<()> {
    let (api_version, kind) = (call.api_version(), call.resource.kind.as_str());
    if call.resource.strategy == Strategy::Custom {
        match_custom(call, object)?;
    }
    for (field, expected) in [("apiVersion", api_version.as_str()), ("kind", kind)] {
        match object[field].as_str() {
            None | Some("") => object[field] = json!(expected),
            Some(given) if given == expected => {}
            Some(given) => {
                return Err(Status::bad_request(format!(
                    "the {field} in the data ({given}) does not match the expected {field} ({expected})"
                )));
            }
        }
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    match_namespace(call, object)?;
    match (call.info.name.as_deref(), object["metadata"]["name"].as_str().unwrap_or("")) {
        (Some(name), "") => object["metadata"]["name"] = json!(name),
        (Some(name), given) if name != given => {
            return Err(Status::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        _ => {}
    }
    Ok(())
}

/// Custom resources must say what they are: nothing else decodes them.
fn match_custom(call: &Call<'_>, object: &Value) -> Answer<()> {
    let (given, expected) = (object["kind"].as_str().unwrap_or_default(), &call.resource.kind);
    if given.is_empty() {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {expected}): Object 'Kind' is missing in '{object}'"
        )));
    }
    let (version, wanted) = (object["apiVersion"].as_str().unwrap_or_default(), call.api_version());
    if version != wanted {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({wanted})"
        )));
    }
    if given != expected {
        let cause = Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: format!("Invalid value: {given:?}: must be {expected}"),
            field: "kind".to_owned(),
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let subject = Subject { group: &call.resource.group, resource: given, name };
        return Err(Status::invalid(subject, vec![cause]));
    }
    Ok(())
}

fn match_namespace(call: &Call<'_>, object: &mut Value) -> Answer<()> {
    let given = object["metadata"]["namespace"].as_str().unwrap_or("");
    match call.info.namespace.as_deref() {
        Some(namespace) if given.is_empty() => object["metadata"]["namespace"] = json!(namespace),
        Some(namespace) if namespace != given => {
            return Err(Status::bad_request(WRONG_NAMESPACE));
        }
        None if !call.resource.namespaced => {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("namespace");
            }
        }
        _ => {}
    }
    Ok(())
}

/// What the server writes into a new object.
pub(crate) fn begin(call: &Call<'_>, state: &mut State, object: &mut Value) {
    let metadata = &mut object["metadata"];
    for field in OF_THE_SERVER.iter().chain(&["resourceVersion"]) {
        if let Some(map) = metadata.as_object_mut() {
            map.remove(*field);
        }
    }
    if metadata["name"].as_str().is_none_or(str::is_empty)
        && let Some(prefix) = metadata["generateName"].as_str().map(str::to_owned)
    {
        // Kubernetes cuts the prefix so that the name stays a label.
        let kept: String = prefix.chars().take(58).collect();
        metadata["name"] = json!(format!("{kept}{}", state.name_suffix()));
    }
    metadata["uid"] = json!(state.new_uid());
    metadata["creationTimestamp"] = json!(call.time());
    if call.resource.strategy.counts_generation() {
        metadata["generation"] = json!(1);
    }
}

/// Restores what only the server writes, and counts a change of anything but metadata and status.
pub(crate) fn carry_over(call: &Call<'_>, new: &mut Value, old: &Value) {
    for field in OF_THE_SERVER {
        match &old["metadata"][*field] {
            Value::Null => {
                if let Some(map) = new["metadata"].as_object_mut() {
                    map.remove(*field);
                }
            }
            value => new["metadata"][*field] = value.clone(),
        }
    }
    new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    new["metadata"]["name"] = old["metadata"]["name"].clone();
    if call.resource.namespaced {
        new["metadata"]["namespace"] = old["metadata"]["namespace"].clone();
    }
}

/// Bumps the generation when the desired state has changed.
pub(crate) fn count_generation(call: &Call<'_>, new: &mut Value, old: &Value) {
    let ignores_status = call.version().status_subresource;
    let desired = |object: &Value| {
        let mut desired = object.clone();
        if let Some(map) = desired.as_object_mut() {
            map.remove("metadata");
            map.remove("apiVersion");
            if ignores_status {
                map.remove("status");
            }
        }
        desired
    };
    if call.resource.strategy.counts_generation() && desired(new) != desired(old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

/// Everything that is wrong with an object's metadata.
pub(crate) fn validate(call: &Call<'_>, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let metadata = &new["metadata"];
    let mut causes = Vec::new();
    match metadata["name"].as_str() {
        None | Some("") => causes.push(Cause {
            reason: "FieldValueRequired".to_owned(),
            message: "Required value: name or generateName is required".to_owned(),
            field: "metadata.name".to_owned(),
        }),
        Some(name) if old.is_none() => causes.extend(bad_name(call, name)),
        Some(_) => {}
    }
    causes.extend(bad_labels(&metadata["labels"]));
    causes.extend(bad_annotations(&metadata["annotations"]));
    if !matches!(call.resource.strategy, Strategy::Custom | Strategy::Crd) {
        causes.extend(bad_finalizers(&metadata["finalizers"]));
    }
    causes.extend(old.and_then(|old| new_finalizers(new, old)));
    causes.extend(bad_owners(&metadata["ownerReferences"]));
    causes
}

fn invalid(field: &str, value: &str, why: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: format!("Invalid value: {value:?}: {why}"),
        field: field.to_owned(),
    }
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn bad_name(call: &Call<'_>, name: &str) -> Option<Cause> {
    if call.resource.strategy == Strategy::Namespace && name.contains('.') {
        return Some(invalid("metadata.name", name, "must not contain dots"));
    }
    if call.resource.strategy.names_are_labels() {
        return (name.len() > 63 || !is_label(name)).then(|| invalid("metadata.name", name, LABEL));
    }
    if name.len() > 253 {
        return Some(invalid("metadata.name", name, "must be no more than 253 characters"));
    }
    (!name.split('.').all(is_label)).then(|| invalid("metadata.name", name, SUBDOMAIN))
}

fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.chars().all(|c| plain(c) || c == '-') && text.starts_with(plain) && text.ends_with(plain)
}

fn is_word(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.chars().all(|c| edge(c) || "-_.".contains(c)) && text.starts_with(edge) && text.ends_with(edge)
}

fn is_qualified(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(p, n)| (Some(p), n));
    prefix.is_none_or(|p| p.len() <= 253 && p.split('.').all(is_label)) && name.len() <= 63 && is_word(name)
}

fn why_not_qualified(key: &str) -> String {
    if key.matches('/').count() < 2 {
        return QUALIFIED.to_owned();
    }
    let of_keys = QUALIFIED.replacen("name part", "a valid label key", 1);
    format!("{of_keys} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")
}

fn bad_labels(labels: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        if !is_qualified(key) {
            causes.push(invalid("metadata.labels", key, &why_not_qualified(key)));
        }
        let value = value.as_str().unwrap_or("");
        if value.len() > 63 {
            causes.push(invalid("metadata.labels", value, "must be no more than 63 characters"));
        } else if !value.is_empty() && !is_word(value) {
            causes.push(invalid("metadata.labels", value, LABEL_VALUE));
        }
    }
    causes
}

fn bad_annotations(annotations: &Value) -> Vec<Cause> {
    const LIMIT: usize = 256 * 1024;
    let (mut causes, mut size) = (Vec::new(), 0);
    for (key, value) in annotations.as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if !is_qualified(&key.to_lowercase()) {
            causes.push(invalid("metadata.annotations", key, &why_not_qualified(key)));
        }
    }
    if size > LIMIT {
        let message = format!("Too long: may not be more than {LIMIT} bytes");
        causes.push(Cause {
            reason: "FieldValueTooLong".to_owned(),
            message,
            field: "metadata.annotations".to_owned(),
        });
    }
    causes
}

/// An object that is being deleted may lose finalizers, not gain them.
fn new_finalizers(new: &Value, old: &Value) -> Option<Cause> {
    if old["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    let added: Vec<&str> = finalizers(new).difference(&finalizers(old)).copied().collect();
    (!added.is_empty()).then(|| {
        let list = added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
        let why = format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}");
        Cause {
            reason: "FieldValueForbidden".to_owned(),
            message: format!("Forbidden: {why}"),
            field: "metadata.finalizers".to_owned(),
        }
    })
}

/// Built-in kinds take finalizers of three kinds without a domain.
fn bad_finalizers(finalizers: &Value) -> Vec<Cause> {
    const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
    let words = finalizers.as_array().into_iter().flatten().map(|word| word.as_str().unwrap_or_default());
    let bad = words.enumerate().filter(|(_, word)| !word.contains('/') && !STANDARD.contains(word));
    bad.map(|(i, word)| {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        invalid(&format!("metadata.finalizers[{i}]"), word, why)
    })
    .collect()
}

fn bad_owners(owners: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for owner in owners.as_array().into_iter().flatten() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let why =
                    if field == "apiVersion" { "version must not be empty" } else { "must not be empty" };
                // kube-apiserver does not say which one.
                causes.push(invalid(&format!("metadata.ownerReferences.{field}"), "", why));
            }
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_follow_the_rfcs() {
        assert!(is_label("a-1") && !is_label("-a") && !is_label("A") && !is_label(""));
        assert!(
            is_qualified("kosmos.io/gateway")
                && is_qualified("App_1")
                && !is_qualified("/x")
                && !is_qualified("a b")
        );
        assert_eq!(bad_labels(&json!({"a b": "ok", "c": "no good"})).len(), 2);
    }

    #[test]
    fn finalizers_may_leave_a_deleted_object_but_not_join_it() {
        let old = json!({"metadata": {"deletionTimestamp": "x", "finalizers": ["a/b", "c/d"]}});
        assert!(new_finalizers(&json!({"metadata": {"finalizers": ["a/b"]}}), &old).is_none());
        let cause = new_finalizers(&json!({"metadata": {"finalizers": ["e/f"]}}), &old).unwrap();
        assert!(cause.message.contains("[]string{\"e/f\"}"), "{}", cause.message);
    }
}
