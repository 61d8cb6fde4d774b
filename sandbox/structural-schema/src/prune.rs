//! Unknown fields: which they are, and an object without them.

use serde_json::Value;

use crate::Schema;
use crate::node::{Additional, Node, NodeId};
use crate::path::Path;

impl Schema {
    /// Removes fields that the schema does not know and returns their paths as kube-apiserver prints them
    /// (`spec.foo`, `spec.list[0].bar`), sorted.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut pruning = Pruning { schema: self, path: Path::default(), unknown: Vec::new() };
        pruning.value(object, self.root);
        pruning.unknown.sort();
        pruning.unknown
    }
}

struct Pruning<'s> {
    schema: &'s Schema,
    path: Path,
    unknown: Vec<String>,
}

impl Pruning<'_> {
    fn value(&mut self, value: &mut Value, id: NodeId) {
        let schema = self.schema;
        let node = schema.node(id);
        match value {
            Value::Object(members) => {
                members.retain(|name, member| {
                    self.path.push_field(name);
                    let known = self.member(node, name, member);
                    if !known {
                        self.unknown.push(self.path.dotted());
                    }
                    self.path.pop();
                    known
                });
            }
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.path.push_index(i);
                    match node.items {
                        Some(id) => self.value(item, id),
                        None if node.preserve_unknown => {}
                        None => self.forget(item),
                    }
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    /// Whether the member may stay; what it holds is pruned on the way.
    fn member(&mut self, node: &Node, name: &str, member: &mut Value) -> bool {
        if let Some(id) = node.member(name) {
            self.value(member, id);
            return true;
        }
        node.preserve_unknown || node.additional == Additional::Any
    }

    /// A list of nothing known may hold scalars, and objects only if they are empty.
    fn forget(&mut self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for name in members.keys() {
                    self.path.push_field(name);
                    self.unknown.push(self.path.dotted());
                    self.path.pop();
                }
                members.clear();
            }
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.path.push_index(i);
                    self.forget(item);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }
}
