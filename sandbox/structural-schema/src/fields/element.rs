//! One step of a path in managed fields.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Number, Value};

use crate::cause::{number_text, quoted};

/// How a part of an object is found in it. The order is that of structured-merge-diff.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    /// A member of an object.
    Field(String),
    /// An item of a list of objects, by the values of its keys, which are sorted by name.
    Key(Vec<(String, Atom)>),
    /// An item of a set.
    Value(Atom),
    /// An item by its place. Kubernetes writes none, but reads them.
    Index(i64),
}

impl Element {
    pub(crate) fn field(name: &str) -> Element {
        Element::Field(name.to_owned())
    }
}

impl fmt::Display for Element {
    /// As kubectl shows conflicts: `.spec`, `[port=80,protocol="TCP"]`, `[="x"]`, `[0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(pairs) => {
                let pairs: Vec<String> =
                    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", pairs.join(","))
            }
            Element::Value(value) => write!(f, "[={value}]"),
            Element::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A JSON value with a total order: numbers, texts, booleans, lists, objects, null. Numbers compare by value.
#[derive(Debug, Clone)]
pub(crate) struct Atom(pub(crate) Value);

impl Ord for Atom {
    fn cmp(&self, other: &Atom) -> Ordering {
        order(&self.0, &other.0)
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Atom) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Atom) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Atom {}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::String(text) => f.write_str(&quoted(text)),
            Value::Number(number) => f.write_str(&number_text(number)),
            other => write!(f, "{other}"),
        }
    }
}

fn order(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => number_order(left, right),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Array(left), Value::Array(right)) => {
            let different =
                left.iter().zip(right).map(|(left, right)| order(left, right)).find(|order| order.is_ne());
            different.unwrap_or_else(|| left.len().cmp(&right.len()))
        }
        (Value::Object(left), Value::Object(right)) => {
            let pairs = left
                .iter()
                .zip(right)
                .map(|(left, right)| left.0.cmp(right.0).then_with(|| order(left.1, right.1)));
            let mut pairs = pairs;
            pairs.find(|order| order.is_ne()).unwrap_or_else(|| left.len().cmp(&right.len()))
        }
        (left, right) => rank(left).cmp(&rank(right)),
    }
}

fn number_order(left: &Number, right: &Number) -> Ordering {
    match (left.as_i64(), right.as_i64()) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.as_f64().unwrap_or(f64::NAN).total_cmp(&right.as_f64().unwrap_or(f64::NAN)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}
