//! `metadata.managedFields`: who owns which fields.

use serde_json::{Map, Value, json};

use super::set::Set;
use crate::{Manager, Operation};

/// One owner with its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
    pub(crate) time: Option<String>,
    pub(crate) fields: Set,
}

impl Entry {
    pub(crate) fn new(manager: &Manager<'_>, operation: Operation) -> Entry {
        Entry {
            manager: if manager.name.is_empty() { "unknown".to_owned() } else { manager.name.to_owned() },
            operation,
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
            time: None,
            fields: Set::default(),
        }
    }

    /// Whether both are the same owner: a manager that applies is one, whatever version it speaks.
    pub(crate) fn is_same_owner(&self, other: &Entry) -> bool {
        let same_version = self.operation == Operation::Apply || self.api_version == other.api_version;
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && same_version
    }

    /// `"kubectl" with subresource "status" using v1`.
    pub(crate) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    fn decode(entry: &Value) -> Result<Entry, String> {
        let word = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match word("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        if word("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        if word("fieldsType") != "FieldsV1" {
            return Err(format!("invalid fieldsType {:?}: use FieldsV1", word("fieldsType")));
        }
        let fields = entry.get("fieldsV1").filter(|fields| !fields.is_null());
        Ok(Entry {
            manager: word("manager"),
            operation,
            api_version: word("apiVersion"),
            subresource: word("subresource"),
            time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
            fields: fields.map(Set::decode).transpose()?.unwrap_or_default(),
        })
    }

    fn encode(&self) -> Value {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Value| _ = entry.insert(name.to_owned(), value);
        put("apiVersion", json!(self.api_version));
        put("fieldsType", json!("FieldsV1"));
        put("fieldsV1", self.fields.encode());
        put("manager", json!(self.manager));
        put("operation", json!(if self.operation == Operation::Apply { "Apply" } else { "Update" }));
        if !self.subresource.is_empty() {
            put("subresource", json!(self.subresource));
        }
        if let Some(time) = &self.time {
            put("time", json!(time));
        }
        Value::Object(entry)
    }
}

/// All owners of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Managed {
    pub(crate) entries: Vec<Entry>,
}

impl Managed {
    /// What `object` says of its owners.
    pub(crate) fn of(object: &Value) -> Result<Managed, String> {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let mut managed = Managed::default();
        for entry in entries.into_iter().flatten() {
            let entry =
                Entry::decode(entry).map_err(|error| format!("failed to decode managed fields: {error}"))?;
            managed.entries.retain(|known| !known.is_same_owner(&entry));
            managed.entries.push(entry);
        }
        Ok(managed)
    }

    pub(crate) fn position(&self, owner: &Entry) -> Option<usize> {
        self.entries.iter().position(|entry| entry.is_same_owner(owner))
    }

    /// Takes the entry of this owner out.
    pub(crate) fn take(&mut self, owner: &Entry) -> Option<Entry> {
        self.position(owner).map(|i| self.entries.remove(i))
    }

    /// Everybody's fields together.
    pub(crate) fn all_fields(&self) -> Set {
        self.entries.iter().fold(Set::default(), |all, entry| all.union(&entry.fields))
    }

    /// Writes the owners into `object`, in kube-apiserver's order; owners of nothing are left out.
    pub(crate) fn write_to(mut self, object: &mut Value) {
        self.entries.retain(|entry| !entry.fields.is_empty());
        self.entries.sort_by(|left, right| left.rank().cmp(&right.rank()));
        let Some(members) = object.as_object_mut() else { return };
        let meta = members.entry("metadata").or_insert_with(|| json!({}));
        let Some(meta) = meta.as_object_mut() else { return };
        if self.entries.is_empty() {
            meta.remove("managedFields");
        } else {
            meta.insert("managedFields".to_owned(), self.entries.iter().map(Entry::encode).collect());
        }
    }
}

impl Entry {
    fn rank(&self) -> (Operation, Option<&str>, &str, &str, &str) {
        (self.operation, self.time.as_deref(), &self.manager, &self.api_version, &self.subresource)
    }
}
