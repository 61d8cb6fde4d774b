//! What is compared of two answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::request::Request;
use crate::fixture::*;

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
pub(super) fn order(body: &mut Value) {
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

pub(super) fn strip(value: &mut Value) {
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
pub(super) fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
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

/// Sends each request to both servers and compares what they say.
pub(super) fn compare(requests: Vec<Request>) {
    on_both(async |embedded: World, kubernetes: World| agree(&embedded, &kubernetes, &requests).await);
}

/// The same, once both serve the kind that this defines.
pub(super) fn compare_where_defined(definition: &Value, requests: Vec<Request>) {
    on_both(async |embedded: World, kubernetes: World| {
        for world in [&embedded, &kubernetes] {
            let crd = serde_json::from_str(&filled(world, &definition.to_string())).unwrap();
            define(&world.client().await, &crd).await;
        }
        agree(&embedded, &kubernetes, &requests).await;
    });
}

async fn agree(embedded: &World, kubernetes: &World, requests: &[Request]) {
    let mut found = Vec::new();
    for request in requests {
        let (ours, theirs) = (said(embedded, request).await, said(kubernetes, request).await);
        let here = disagreements(request, &ours, &theirs);
        if !here.is_empty() {
            let body: String = request.body.chars().take(300).collect();
            found.push(format!("{} {} {body}\n{}", request.method, request.path, here.join("\n")));
        }
    }
    assert!(found.is_empty(), "the servers differ:\n{}", found.join("\n"));
}

/// A text of a case for this world.
fn filled(world: &World, text: &str) -> String {
    let group = format!("{}.example.com", world.namespace);
    text.replace("GROUP", &group).replace("NS", &world.namespace)
}

async fn said(world: &World, request: &Request) -> Value {
    let (path, body) = (filled(world, request.path), filled(world, &request.body));
    normal(world, &world.send(request.method, &path, request.media_type, &body).await)
}

/// Where two answers to a request differ in what is to be compared of them.
fn disagreements(request: &Request, ours: &Value, theirs: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match request.only {
        _ if request.in_other_words => differences("code", &ours["code"], &theirs["code"], &mut found),
        Some(pointers) if theirs["code"].as_u64() < Some(300) => {
            differences("code", &ours["code"], &theirs["code"], &mut found);
            let there = pointers.iter().any(|pointer| theirs["body"].pointer(pointer).is_some());
            assert!(there, "{}: nothing of {pointers:?} is in {theirs}", request.path);
            for pointer in pointers {
                let at = |said: &Value| said["body"].pointer(pointer).cloned().unwrap_or_default();
                differences(pointer, &at(ours), &at(theirs), &mut found);
            }
        }
        _ => differences("", ours, theirs, &mut found),
    }
    found
}
