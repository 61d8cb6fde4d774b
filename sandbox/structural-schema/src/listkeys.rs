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
                    ListType::Set => self.repeated(items.iter().map(Clone::clone).collect()),
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
        let key_of = |item: &Value| {
            let pairs = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Value::Object(pairs.collect::<Map<String, Value>>())
        };
        self.repeated(items.iter().map(key_of).collect());
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
