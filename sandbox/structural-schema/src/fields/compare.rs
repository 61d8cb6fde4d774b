//! What a change touched.

use std::collections::BTreeMap;

use serde_json::Value;

use super::element::Element;
use super::set::Set;
use super::shape::{Shape, Type};
use crate::Schema;
use crate::limits::same;

/// No path is in more than one of the three.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) added: Set,
    pub(crate) modified: Set,
    pub(crate) removed: Set,
}

/// What leads from `old` to `new`.
pub(crate) fn compare(schema: &Schema, old: &Value, new: &Value) -> Comparison {
    let mut walk = Walk { schema, path: Vec::new(), found: Comparison::default() };
    walk.value(schema.root_type(), Some(old), Some(new));
    walk.found
}

struct Walk<'s> {
    schema: &'s Schema,
    path: Vec<Element>,
    found: Comparison,
}

impl Walk<'_> {
    fn value(&mut self, at: Type, old: Option<&Value>, new: Option<&Value>) {
        let (old_shape, new_shape) =
            (old.map(|old| self.schema.shape(at, old)), new.map(|new| self.schema.shape(at, new)));
        let was_leaf = match (old_shape, new_shape) {
            (Some(before), Some(after)) if before != after => {
                self.shaped(at, before, old, new) | self.shaped(at, after, old, new)
            }
            (_, Some(shape)) | (Some(shape), None) => self.shaped(at, shape, old, new),
            (None, None) => true,
        };
        if !was_leaf {
            self.note(old.is_some(), new.is_some(), true);
        }
    }

    /// Whether the value was taken as one thing. Empty is one thing: it has no parts that could be owned in its stead.
    fn shaped(&mut self, at: Type, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> bool {
        if shape == Shape::Leaf || !(has_parts(shape, old) || has_parts(shape, new)) {
            self.leaf(old, new);
            return true;
        }
        if shape == Shape::Fields {
            self.fields(at, old, new);
            return false;
        }
        match (self.schema.items(at, shape, old), self.schema.items(at, shape, new)) {
            (Some(old), Some(new)) => {
                self.items(at, &old, &new);
                false
            }
            _ => {
                self.leaf(old, new);
                true
            }
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        let equal = matches!((old, new), (Some(old), Some(new)) if same(old, new));
        self.note(old.is_some(), new.is_some(), equal);
    }

    fn note(&mut self, was: bool, is: bool, equal: bool) {
        match (was, is) {
            (false, true) => self.found.added.insert(&self.path),
            (true, false) => self.found.removed.insert(&self.path),
            (true, true) if !equal => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    fn fields(&mut self, at: Type, old: Option<&Value>, new: Option<&Value>) {
        let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
        let mut names: Vec<&String> = old.into_iter().chain(new).flat_map(|members| members.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let below = self.schema.type_of_field(at, name).unwrap_or(Type::Deduced);
            self.path.push(Element::field(name));
            self.value(below, old.and_then(|old| old.get(name)), new.and_then(|new| new.get(name)));
            self.path.pop();
        }
    }

    fn items(&mut self, at: Type, old: &[(Element, &Value)], new: &[(Element, &Value)]) {
        let mut pairs: BTreeMap<&Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        old.iter().for_each(|(element, item)| pairs.entry(element).or_default().0.push(item));
        new.iter().for_each(|(element, item)| pairs.entry(element).or_default().1.push(item));
        let below = self.schema.type_of_items(at);
        for (element, (old, new)) in pairs {
            self.path.push(element.clone());
            self.item(below, &old, &new);
            self.path.pop();
        }
    }

    /// Items that share an element are taken together as one thing.
    fn item(&mut self, below: Type, old: &[&Value], new: &[&Value]) {
        match (old, new) {
            ([] | [_], [] | [_]) => self.value(below, old.first().copied(), new.first().copied()),
            ([_, _, ..], [_, _, ..]) => {
                let equal = old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same(old, new));
                self.note(true, true, equal);
            }
            ([_, _, ..], _) => {
                if let Some(only) = new.first() {
                    self.value(below, None, Some(only));
                }
                self.note(true, false, false);
            }
            (_, _) => {
                if let Some(only) = old.first() {
                    self.value(below, Some(only), None);
                }
                self.note(false, true, false);
            }
        }
    }
}

/// Whether a value has parts of the kind that this shape has.
pub(super) fn has_parts(shape: Shape<'_>, value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(members)) => shape == Shape::Fields && !members.is_empty(),
        Some(Value::Array(items)) => matches!(shape, Shape::Set | Shape::Keyed(_)) && !items.is_empty(),
        _ => false,
    }
}
