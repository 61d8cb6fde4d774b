//! An applied configuration, made fit to be merged or refused.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::fields::{Element, Shape, Type};
use crate::node::{JsonType, Node};
use crate::{ApplyError, Manager, Schema};

/// What no configuration decides, though clients send it along.
const SERVER_FIELDS: [&str; 6] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "resourceVersion",
    "selfLink",
];

/// The part of `applied` that counts in a write to this subresource.
pub(crate) fn of(schema: &Schema, applied: &Value, manager: &Manager<'_>) -> Result<Value, ApplyError> {
    let version = applied.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version != manager.api_version {
        return Err(ApplyError::Invalid(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            manager.api_version
        )));
    }
    if applied.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(ApplyError::Invalid("metadata.managedFields must be nil".to_owned()));
    }
    let mut applied = applied.clone();
    schema.drop_nulls(&mut applied, schema.root);
    if let Some(meta) = applied.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|name, value| !value.is_null() && !SERVER_FIELDS.contains(&name.as_str()));
    }
    keep_own_part(schema, &mut applied, manager.subresource);
    let mut check = Check { schema, path: Vec::new(), faults: Vec::new() };
    check.value(schema.root_type(), &applied);
    match check.faults.as_slice() {
        [] => Ok(applied),
        [only] => Err(untyped(&applied, only)),
        many => Err(untyped(&applied, &format!("errors:\n  {}", many.join("\n  ")))),
    }
}

fn untyped(applied: &Value, why: &str) -> ApplyError {
    ApplyError::Untyped(format!("failed to create typed patch object ({}): {why}", name_of(applied)))
}

fn keep_own_part(schema: &Schema, applied: &mut Value, subresource: &str) {
    let Some(members) = applied.as_object_mut().filter(|_| schema.status_subresource) else { return };
    match subresource {
        "" => _ = members.remove("status"),
        "status" => {
            members.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
            if let Some(meta) = members.get_mut("metadata").and_then(Value::as_object_mut) {
                meta.retain(|name, _| matches!(name.as_str(), "name" | "namespace" | "uid"));
            }
        }
        _ => {}
    }
}

/// `default/x; apps/v1, Kind=Deployment`.
fn name_of(object: &Value) -> String {
    let word = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!(
        "{}/{}; {}, Kind={}",
        word("/metadata/namespace"),
        word("/metadata/name"),
        word("/apiVersion"),
        word("/kind")
    )
}

struct Check<'s> {
    schema: &'s Schema,
    path: Vec<Element>,
    faults: Vec<String>,
}

impl Check<'_> {
    fn value(&mut self, at: Type, value: &Value) {
        if let Type::Node(id) = at
            && let Some(expected) = mismatch(self.schema.node(id), value)
        {
            return self.fault(&format!("expected {expected}, got {value}"));
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    self.path.push(Element::field(name));
                    match self.schema.type_of_field(at, name) {
                        Some(below) => self.value(below, member),
                        None => self.fault("field not declared in schema"),
                    }
                    self.path.pop();
                }
            }
            Value::Array(items) => self.items(at, value, items),
            _ => {}
        }
    }

    fn items(&mut self, at: Type, list: &Value, items: &[Value]) {
        let shape = self.schema.shape(at, list);
        let below = self.schema.type_of_items(at);
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            if shape == Shape::Leaf {
                self.path.push(Element::Index(i64::try_from(i).unwrap_or(i64::MAX)));
                self.value(below, item);
                self.path.pop();
                continue;
            }
            match self.schema.element_of(at, shape, item) {
                Err(error) => self.fault(&format!("element {i}: {error}")),
                Ok(element) => {
                    self.path.push(element.clone());
                    self.value(below, item);
                    let shown = self.path.pop().map(|element| element.to_string()).unwrap_or_default();
                    if !seen.insert(element) {
                        self.fault(&format!("duplicate entries for key {shown}"));
                    }
                }
            }
        }
    }

    fn fault(&mut self, what: &str) {
        let path: String = self.path.iter().map(Element::to_string).collect();
        self.faults.push(if path.is_empty() { what.to_owned() } else { format!("{path}: {what}") });
    }
}

/// What should stand here, if it is something else altogether. Finer faults are for validation to find.
fn mismatch(node: &Node, value: &Value) -> Option<&'static str> {
    let expected = if node.int_or_string { "string or number" } else { node.types.first()?.name() };
    let fits = match value {
        Value::Null => true,
        Value::Object(_) => node.types.contains(&JsonType::Object),
        Value::Array(_) => node.types.contains(&JsonType::Array),
        Value::String(_) => node.int_or_string || node.types.contains(&JsonType::String),
        Value::Bool(_) => node.types.contains(&JsonType::Boolean),
        Value::Number(_) => {
            node.int_or_string
                || node.types.iter().any(|kind| matches!(kind, JsonType::Integer | JsonType::Number))
        }
    };
    (!fits).then_some(match expected {
        "object" => "map",
        "array" => "list",
        "integer" | "number" => "numeric (int or float)",
        other => other,
    })
}
