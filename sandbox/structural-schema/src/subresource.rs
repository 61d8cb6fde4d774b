//! Which part of an object a write may change.

use serde_json::{Map, Value};

use crate::Schema;

impl Schema {
    /// Undoes what a non-apply write to `subresource` may not change (`new` is put right from `old`): with a status
    /// subresource, a write to `""` keeps (or at creation drops) `status`, one to `"status"` keeps all but `status` and
    /// `metadata.managedFields`. [`apply`](crate::apply) does this by itself.
    pub fn reset_fields(&self, subresource: &str, new: &mut Value, old: Option<&Value>) {
        let Some(members) = new.as_object_mut().filter(|_| self.status_subresource) else { return };
        let stored = old.and_then(Value::as_object);
        match (subresource, stored) {
            ("", stored) => put(members, "status", stored.and_then(|stored| stored.get("status"))),
            ("status", Some(stored)) => {
                let status = members.remove("status");
                let managed = members
                    .get_mut("metadata")
                    .and_then(Value::as_object_mut)
                    .and_then(|meta| meta.remove("managedFields"));
                members.clone_from(stored);
                put(members, "status", status.as_ref());
                if let Some(meta) = members.get_mut("metadata").and_then(Value::as_object_mut) {
                    put(meta, "managedFields", managed.as_ref());
                }
            }
            _ => {}
        }
    }
}

fn put(members: &mut Map<String, Value>, name: &str, value: Option<&Value>) {
    match value {
        Some(value) => _ = members.insert(name.to_owned(), value.clone()),
        None => _ = members.remove(name),
    }
}
