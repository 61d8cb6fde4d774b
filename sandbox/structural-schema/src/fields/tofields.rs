//! The fields that an applied configuration claims.

use std::collections::BTreeMap;

use serde_json::Value;

use super::element::Element;
use super::set::Set;
use super::shape::{Shape, Type};
use crate::Schema;

/// Every field that `object` mentions.
pub(crate) fn to_fields(schema: &Schema, object: &Value) -> Set {
    let mut walk = Walk { schema, path: Vec::new(), set: Set::default() };
    walk.value(schema.root_type(), object);
    walk.set
}

struct Walk<'s> {
    schema: &'s Schema,
    path: Vec<Element>,
    set: Set,
}

impl Walk<'_> {
    fn value(&mut self, at: Type, value: &Value) {
        let shape = self.schema.shape(at, value);
        match (shape, value) {
            (Shape::Fields, Value::Object(members)) => {
                for (name, member) in members {
                    let below = self.schema.type_of_field(at, name).unwrap_or(Type::Deduced);
                    self.path.push(Element::field(name));
                    self.value(below, member);
                    let bare = member.is_null() || member.as_object().is_some_and(serde_json::Map::is_empty);
                    if bare || !self.schema.declares(at, name) {
                        self.set.insert(&self.path);
                    }
                    self.path.pop();
                }
            }
            (Shape::Set | Shape::Keyed(_), Value::Array(_)) => {
                match self.schema.items(at, shape, Some(value)) {
                    Some(items) => self.items(at, &items),
                    None => self.set.insert(&self.path),
                }
            }
            (Shape::Leaf, _) => self.set.insert(&self.path),
            (_, _) => {}
        }
    }

    fn items(&mut self, at: Type, items: &[(Element, &Value)]) {
        let mut times: BTreeMap<&Element, usize> = BTreeMap::new();
        items.iter().for_each(|(element, _)| *times.entry(element).or_default() += 1);
        let below = self.schema.type_of_items(at);
        for (element, item) in items {
            self.path.push(element.clone());
            if times[element] == 1 {
                self.value(below, item);
            }
            self.set.insert(&self.path);
            self.path.pop();
        }
    }
}
