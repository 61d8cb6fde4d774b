//! Lists of type `set` and `map` hold no item twice.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::Schema;
use crate::cause::Cause;
use crate::node::{ListType, NodeId};
use crate::path::Path;

/// Causes for each item that repeats an earlier one, once for each value. An object that was stored with duplicates may
/// be written again.
pub(crate) fn check(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let causes = causes(schema, new);
    if !causes.is_empty() && old.is_some_and(|old| !self::causes(schema, old).is_empty()) {
        return Vec::new();
    }
    causes
}

fn causes(schema: &Schema, object: &Value) -> Vec<Cause> {
    let mut walk = Walk { schema, path: Path::default(), causes: Vec::new() };
    walk.value(object, schema.root);
    walk.causes
}

struct Walk<'s> {
    schema: &'s Schema,
    path: Path,
    causes: Vec<Cause>,
}

impl Walk<'_> {
    fn value(&mut self, value: &Value, id: NodeId) {
        let node = self.schema.node(id);
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let Some(id) = node.member(name) else { continue };
                    if node.properties.contains_key(name) {
                        self.path.push_field(name)
                    } else {
                        self.path.push_key(name)
                    }
                    self.value(member, id);
                    self.path.pop();
                }
            }
            Value::Array(items) => {
                match &node.list_type {
                    ListType::Atomic => {}
                    ListType::Set => self.repeated(items.clone()),
                    ListType::Map(keys) => self.keyed(items, keys),
                }
                for (i, item) in items.iter().enumerate() {
                    if let Some(id) = node.items {
                        self.path.push_index(i);
                        self.value(item, id);
                        self.path.pop();
                    }
                }
            }
            _ => {}
        }
    }

    fn keyed(&mut self, items: &[Value], keys: &[String]) {
        if let Some(i) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
            self.path.push_index(i);
            self.causes.push(Cause::invalid(
                &self.path.bracketed(),
                &items[i],
                "must be an object for an array of list-type map",
            ));
            self.path.pop();
            return;
        }
        self.repeated(items.iter().map(|item| key_of(keys, item)).collect());
    }

    fn repeated(&mut self, values: Vec<Value>) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (i, value) in values.iter().enumerate() {
            let times = seen.entry(value.to_string()).or_default();
            *times += 1;
            if *times == 2 {
                self.path.push_index(i);
                self.causes.push(Cause::duplicate(&self.path.bracketed(), value));
                self.path.pop();
            }
        }
    }
}

/// The keys of an item with their values, as an object.
fn key_of(keys: &[String], item: &Value) -> Value {
    let pairs = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    Value::Object(pairs.collect::<Map<String, Value>>())
}

/// The stored items of a list, found by what continues them. Only items with keys can be told apart.
pub(crate) struct Counterparts<'s, 'v> {
    keys: &'s [String],
    stored: BTreeMap<String, &'v Value>,
}

impl<'s, 'v> Counterparts<'s, 'v> {
    pub(crate) fn of(list_type: &'s ListType, old: Option<&'v Value>) -> Counterparts<'s, 'v> {
        let ListType::Map(keys) = list_type else {
            return Counterparts { keys: &[], stored: BTreeMap::new() };
        };
        let items = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Counterparts {
            keys,
            stored: items.iter().map(|item| (key_of(keys, item).to_string(), item)).collect(),
        }
    }

    pub(crate) fn get(&self, new_item: &Value) -> Option<&'v Value> {
        if self.stored.is_empty() {
            return None;
        }
        self.stored.get(&key_of(self.keys, new_item).to_string()).copied()
    }
}
