//! What an object means when it is silent.

use serde_json::Value;

use crate::Schema;
use crate::node::{Node, NodeId};

impl Schema {
    /// Fills in defaults, after dropping nulls where the schema does not allow them.
    pub fn apply_defaults(&self, object: &mut Value) {
        self.drop_nulls(object, self.root);
        self.fill_in(object, self.root);
    }

    /// A null that the schema neither allows nor has a default for counts as absent.
    pub(crate) fn drop_nulls(&self, value: &mut Value, id: NodeId) {
        let node = self.node(id);
        match value {
            Value::Object(members) => members.retain(|name, member| {
                let Some(id) = node.member(name) else { return true };
                let absent = member.is_null() && self.refuses_null(id) && self.node(id).default.is_none();
                if !absent {
                    self.drop_nulls(member, id);
                }
                !absent
            }),
            Value::Array(items) => {
                for (item, id) in items.iter_mut().zip(std::iter::repeat(node.items)) {
                    if let Some(id) = id {
                        self.drop_nulls(item, id);
                    }
                }
            }
            _ => {}
        }
    }

    fn fill_in(&self, value: &mut Value, id: NodeId) {
        let node = self.node(id);
        match value {
            Value::Object(members) => {
                for (name, id) in &node.properties {
                    if let Some(default) = &self.node(*id).default {
                        let missing =
                            members.get(name).is_none_or(|member| member.is_null() && self.refuses_null(*id));
                        if missing {
                            members.insert(name.clone(), default.clone());
                        }
                    }
                }
                for (name, member) in members.iter_mut() {
                    if let Some(id) = node.member(name) {
                        self.fill_element(member, id);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(id) = node.items {
                    items.iter_mut().for_each(|item| self.fill_element(item, id));
                }
            }
            _ => {}
        }
    }

    fn fill_element(&self, value: &mut Value, id: NodeId) {
        if let (true, Some(default)) = (value.is_null() && self.refuses_null(id), &self.node(id).default) {
            *value = default.clone();
        }
        self.fill_in(value, id);
    }

    fn refuses_null(&self, id: NodeId) -> bool {
        let node: &Node = self.node(id);
        !node.nullable && !node.is_free_form()
    }
}
