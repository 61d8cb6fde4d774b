//! Reading fields of objects whose types are not ours, without losing the rest to one bad value.

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::{Problem, cidr};

/// Name of an object.
pub(crate) fn name(object: &Value) -> &str {
    at(object, "metadata.name").and_then(Value::as_str).unwrap_or_default()
}

/// Namespace and name of an object: what tells it from others of its kind.
pub(crate) fn key(object: &Value) -> String {
    match at(object, "metadata.namespace").and_then(Value::as_str) {
        Some(namespace) => format!("{namespace}/{}", name(object)),
        None => name(object).to_owned(),
    }
}

/// The value at a dotted path, where no key holds a dot.
pub(crate) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, key| value.get(key))
}

/// The text at a dotted path; nothing where it is absent or empty.
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    at(object, path).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A truth value at a dotted path: some APIs write it as a text.
pub(crate) fn truth(object: &Value, path: &str) -> bool {
    match at(object, path) {
        Some(Value::Bool(truth)) => *truth,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

/// Collects CIDRs of one object, and problems with those that are none.
pub(crate) struct Cidrs<'a> {
    object: String,
    problems: &'a mut Vec<Problem>,
    found: Vec<IpNetwork>,
}

impl<'a> Cidrs<'a> {
    pub(crate) fn of(kind: &str, object: &Value, problems: &'a mut Vec<Problem>) -> Self {
        Cidrs { object: format!("{kind} {}", key(object)), problems, found: Vec::new() }
    }

    /// Takes a text.
    pub(crate) fn take(&mut self, field: &str, text: &str) {
        match cidr::parse(text) {
            Some(network) => self.found.push(network),
            None => self.invalid(field, text.to_owned()),
        }
    }

    /// Takes a value that must be a text.
    pub(crate) fn take_value(&mut self, field: &str, value: &Value) {
        match value {
            Value::String(text) => self.take(field, text),
            other => self.invalid(field, other.to_string()),
        }
    }

    /// Takes a list of texts; nothing where it is absent.
    pub(crate) fn take_list(&mut self, field: &str, value: Option<&Value>) {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.take_value(&format!("{field}[{index}]"), item);
                }
            }
            Some(other) => self.take_value(field, other),
        }
    }

    /// What was found.
    pub(crate) fn found(self) -> Vec<IpNetwork> {
        self.found
    }

    fn invalid(&mut self, field: &str, value: String) {
        self.problems.push(Problem::Invalid {
            object: self.object.clone(),
            field: field.to_owned(),
            value,
            expected: cidr::EXPECTED,
        });
    }
}
