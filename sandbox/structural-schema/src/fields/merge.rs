//! A stored object with an applied configuration laid over it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::compare::has_parts;
use super::element::Element;
use super::shape::{Shape, Type};
use crate::Schema;

/// `applied` over `live`. Lists whose items have owners are merged item by item; where both sides order the items they
/// share, the applied order wins.
pub(crate) fn merge(schema: &Schema, live: &Value, applied: &Value) -> Value {
    value(schema, schema.root_type(), Some(live), Some(applied)).unwrap_or(Value::Null)
}

fn value(schema: &Schema, at: Type, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let shape = schema.shape(at, applied.or(live)?);
    if shape == Shape::Leaf || !(has_parts(shape, live) || has_parts(shape, applied)) {
        return applied.or(live).cloned();
    }
    match shape {
        Shape::Fields => {
            fields(schema, at, live.and_then(Value::as_object), applied.and_then(Value::as_object))
        }
        _ => match (schema.items(at, shape, live), schema.items(at, shape, applied)) {
            (Some(live), Some(applied)) => {
                Items::new(schema, schema.type_of_items(at), live, applied).merged()
            }
            _ => applied.or(live).cloned(),
        },
    }
}

fn fields(
    schema: &Schema,
    at: Type,
    live: Option<&Map<String, Value>>,
    applied: Option<&Map<String, Value>>,
) -> Option<Value> {
    let mut merged = Map::new();
    let names: BTreeSet<&String> =
        live.into_iter().chain(applied).flat_map(|members| members.keys()).collect();
    for name in names {
        let below = schema.type_of_field(at, name).unwrap_or(Type::Deduced);
        let part = value(
            schema,
            below,
            live.and_then(|live| live.get(name)),
            applied.and_then(|applied| applied.get(name)),
        );
        if let Some(part) = part {
            merged.insert(name.clone(), part);
        }
    }
    (!merged.is_empty()).then_some(Value::Object(merged))
}

/// Two lists to be merged item by item. Stored lists may hold an item twice; applied ones may not.
struct Items<'s, 'v> {
    schema: &'s Schema,
    below: Type,
    live: Vec<(Element, &'v Value)>,
    applied: Vec<(Element, &'v Value)>,
    live_by_element: BTreeMap<Element, Option<&'v Value>>,
    applied_by_element: BTreeMap<Element, &'v Value>,
}

impl<'s, 'v> Items<'s, 'v> {
    fn new(
        schema: &'s Schema,
        below: Type,
        live: Vec<(Element, &'v Value)>,
        applied: Vec<(Element, &'v Value)>,
    ) -> Items<'s, 'v> {
        let mut live_by_element: BTreeMap<Element, Option<&Value>> = BTreeMap::new();
        for (element, item) in &live {
            // What is there twice is not merged with, but replaced.
            live_by_element.entry(element.clone()).and_modify(|known| *known = None).or_insert(Some(item));
        }
        let applied_by_element = applied.iter().map(|(element, item)| (element.clone(), *item)).collect();
        Items { schema, below, live, applied, live_by_element, applied_by_element }
    }

    /// Walks both lists at once: items of `live` alone keep their place among their neighbours, shared items follow the
    /// order of `applied`.
    fn merged(&self) -> Option<Value> {
        let shared = self
            .applied
            .iter()
            .map(|(element, _)| element)
            .filter(|element| self.live_by_element.contains_key(*element));
        let mut shared = shared.peekable();
        let mut done: BTreeSet<&Element> = BTreeSet::new();
        let mut out = Vec::new();
        let (mut l, mut r) = (0, 0);
        while l < self.live.len() || r < self.applied.len() {
            if let (Some((left, _)), Some((right, _))) = (self.live.get(l), self.applied.get(r)) {
                if left == right {
                    done.insert(right);
                    out.extend(self.both(right));
                    (l, r) = (l + 1, r + 1);
                    shared.next();
                    continue;
                }
                if self.applied_by_element.contains_key(left)
                    && shared.peek().is_some_and(|next| *next != left)
                {
                    l += 1;
                    continue;
                }
            }
            if let Some((left, item)) = self.live.get(l) {
                if !self.applied_by_element.contains_key(left) {
                    out.extend(value(self.schema, self.below, Some(item), None));
                    l += 1;
                    continue;
                } else if done.contains(left) {
                    l += 1;
                }
            }
            if let Some((right, _)) = self.applied.get(r) {
                done.insert(right);
                out.extend(self.both(right));
                r += 1;
                shared.next_if_eq(&right);
            }
        }
        (!out.is_empty()).then_some(Value::Array(out))
    }

    fn both(&self, element: &Element) -> Option<Value> {
        let live = self.live_by_element.get(element).copied().flatten();
        value(self.schema, self.below, live, self.applied_by_element.get(element).copied())
    }
}
