//! An object without some of its fields.

use serde_json::Value;

use super::element::Element;
use super::set::Set;
use super::shape::{Shape, Type};
use crate::Schema;

/// `value` without the members of `gone`. What loses all its parts stays, empty: whoever put it there may own it yet.
/// (structured-merge-diff leaves a null, which a typed object then drops.)
pub(crate) fn remove(schema: &Schema, at: Type, value: &Value, gone: &Set) -> Value {
    let shape = schema.shape(at, value);
    match (shape, value) {
        (Shape::Fields, Value::Object(members)) => {
            let kept = members.iter().filter_map(|(name, member)| {
                let element = Element::field(name);
                let below = schema.type_of_field(at, name).unwrap_or(Type::Deduced);
                Some((name.clone(), remaining(schema, below, member, &element, gone)?))
            });
            Value::Object(kept.collect())
        }
        (Shape::Set | Shape::Keyed(_), Value::Array(items)) => {
            let below = schema.type_of_items(at);
            let kept = items.iter().filter_map(|item| match schema.element_of(at, shape, item) {
                Ok(element) => remaining(schema, below, item, &element, gone),
                Err(_) => Some(item.clone()),
            });
            Value::Array(kept.collect())
        }
        (Shape::Fields | Shape::Set | Shape::Keyed(_) | Shape::Leaf, value) => value.clone(),
    }
}

fn remaining(schema: &Schema, below: Type, part: &Value, element: &Element, gone: &Set) -> Option<Value> {
    if gone.members.contains(element) {
        return None;
    }
    match gone.children.get(element) {
        Some(gone) if !gone.is_empty() => Some(remove(schema, below, part, gone)),
        _ => Some(part.clone()),
    }
}
