//! Objects as CEL sees them, by their schema.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Program, Value as Cel};
use serde_json::{Number, Value};

use super::FUNCTIONS;
use crate::Schema;
use crate::formats::Format;
use crate::node::{JsonType, Node, NodeId};

/// Words that cannot be a field's name in CEL.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// `value` as a CEL value: texts of some formats become times, durations and bytes; numbers are what the schema says.
pub(super) fn to_cel(schema: &Schema, value: &Value, id: Option<NodeId>) -> Cel {
    let node = id.map(|id| schema.node(id));
    match value {
        Value::Null => Cel::Null,
        Value::Bool(truth) => Cel::Bool(*truth),
        Value::Number(number) => number_to_cel(number, node),
        Value::String(text) => text_to_cel(text, node),
        Value::Array(items) => {
            let id = node.and_then(|node| node.items);
            Cel::List(Arc::new(items.iter().map(|item| to_cel(schema, item, id)).collect()))
        }
        Value::Object(members) => {
            let free_keys = node.is_some_and(Node::is_map);
            let entries = members.iter().map(|(name, member)| {
                let key = if free_keys { name.clone() } else { escaped(name) };
                (Key::String(Arc::new(key)), to_cel(schema, member, node.and_then(|node| node.member(name))))
            });
            Cel::Map(Map { map: Arc::new(entries.collect::<HashMap<Key, Cel>>()) })
        }
    }
}

/// Bytes of an object, roughly as it would be written.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => 4 + text.len(),
        Value::Array(items) => 4 + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => {
            4 + members.iter().map(|(name, member)| 4 + name.len() + size(member)).sum::<usize>()
        }
    }
}

fn number_to_cel(number: &Number, node: Option<&Node>) -> Cel {
    let fraction_allowed = node.is_some_and(|node| node.types.contains(&JsonType::Number));
    let integer_wanted = node.is_some_and(|node| node.types.contains(&JsonType::Integer));
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(integer), _, _) if !fraction_allowed => Cel::Int(integer),
        (None, Some(natural), _) if !fraction_allowed => Cel::UInt(natural),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "validated to be an integer in the range of f64's exact integers"
        )]
        (_, _, Some(float)) if integer_wanted => Cel::Int(float as i64),
        (_, _, float) => Cel::Float(float.unwrap_or(f64::NAN)),
    }
}

fn text_to_cel(text: &str, node: Option<&Node>) -> Cel {
    static TIMESTAMP: LazyLock<Option<Program>> = LazyLock::new(|| Program::compile("timestamp(text)").ok());
    static DURATION: LazyLock<Option<Program>> = LazyLock::new(|| Program::compile("duration(text)").ok());
    static BYTES: LazyLock<Option<Program>> = LazyLock::new(|| Program::compile("base64.decode(text)").ok());
    let plain = Cel::String(Arc::new(text.to_owned()));
    let conversion = match node.filter(|node| !node.int_or_string).and_then(|node| node.limits.format) {
        Some(Format::DateTime) => &*TIMESTAMP,
        Some(Format::Duration) => &*DURATION,
        Some(Format::Byte) => &*BYTES,
        _ => return plain,
    };
    let mut context = FUNCTIONS.new_inner_scope();
    context.add_variable_from_value("text", plain.clone());
    conversion.as_ref().and_then(|conversion| conversion.execute(&context).ok()).unwrap_or(plain)
}

/// A field's name as an identifier of CEL.
fn escaped(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_are_escaped_as_kube_apiserver_escapes_them() {
        let table = [
            ("plain", "plain"),
            ("one_underscore", "one_underscore"),
            ("two__underscores", "two__underscores__underscores"),
            ("a-b", "a__dash__b"),
            ("a.b/c", "a__dot__b__slash__c"),
            ("namespace", "__namespace__"),
        ];
        for (name, expected) in table {
            assert_eq!(escaped(name), expected);
        }
    }
}
