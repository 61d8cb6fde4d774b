//! The objects: one ordered table per resource, encoded bytes with a small index, one revision for all.
//!
//! Every write takes the next revision, which is the object's `resourceVersion`, and leaves an event in its
//! table's window. The window serves watches, and undoing it gives older snapshots (see `snapshot`).

pub(crate) mod snapshot;
pub(crate) mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use window::{Change, Event, Window};

/// A resource without its version: what a table holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupResource {
    pub(crate) group: String,
    pub(crate) resource: String,
}

/// The order of a list: by namespace, then by name, as etcd's keys are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One version of one object.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) key: Key,
    #[cfg_attr(not(test), expect(dead_code, reason = "the bytes carry it; tests compare it"))]
    pub(crate) revision: u64,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) owners: Vec<String>,
    pub(crate) bytes: Bytes,
}

impl Stored {
    /// The object itself.
    pub(crate) fn decode(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("the store encoded these bytes itself")
    }

    /// A selectable field: what the index holds, and the two of every object.
    pub(crate) fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.key.name),
            "metadata.namespace" => Some(&self.key.namespace),
            other => self.fields.get(other).map(String::as_str),
        }
    }
}

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) table: GroupResource,
    pub(crate) key: Key,
}

pub(crate) struct Table {
    objects: BTreeMap<Key, Arc<Stored>>,
    window: Window,
    changed: watch::Sender<u64>,
}

pub(crate) struct Store {
    revision: u64,
    window_capacity: usize,
    tables: BTreeMap<GroupResource, Table>,
    closed: BTreeMap<GroupResource, Window>,
    addresses: BTreeMap<String, Address>,
    dependents: BTreeMap<String, BTreeSet<Address>>,
}

impl Store {
    /// An empty store whose next revision is `first_revision + 1`.
    pub(crate) fn new(first_revision: u64, window_capacity: usize) -> Self {
        Self {
            revision: first_revision,
            window_capacity,
            tables: BTreeMap::new(),
            closed: BTreeMap::new(),
            addresses: BTreeMap::new(),
            dependents: BTreeMap::new(),
        }
    }

    /// The revision of the last write.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Opens a table; one that is open stays as it is.
    pub(crate) fn open(&mut self, table: GroupResource) {
        let (revision, capacity) = (self.revision, self.window_capacity);
        self.closed.remove(&table);
        self.tables.entry(table).or_insert_with(|| Table {
            objects: BTreeMap::new(),
            window: Window::new(capacity, revision),
            changed: watch::Sender::new(revision),
        });
    }

    /// Closes a table with all that is in it. Its watches end, when they have said what still happened in it.
    pub(crate) fn close(&mut self, table: &GroupResource) {
        let Some(closed) = self.tables.remove(table) else { return };
        for stored in closed.objects.values() {
            self.unlink(table, stored);
        }
        self.closed.insert(table.clone(), closed.window);
    }

    /// The window of a table, even of one that is closed by now.
    pub(crate) fn window(&self, table: &GroupResource) -> Option<&Window> {
        self.tables.get(table).map(|t| &t.window).or_else(|| self.closed.get(table))
    }

    pub(crate) fn table(&self, table: &GroupResource) -> Option<&Table> {
        self.tables.get(table)
    }

    pub(crate) fn get(&self, table: &GroupResource, key: &Key) -> Option<Arc<Stored>> {
        self.tables.get(table)?.objects.get(key).cloned()
    }

    /// Writes an object: the next revision becomes its resourceVersion.
    pub(crate) fn put(
        &mut self,
        address: &Address,
        mut object: Value,
        fields: BTreeMap<String, String>,
    ) -> Arc<Stored> {
        self.revision += 1;
        let stored = Arc::new(encode(&address.key, &mut object, self.revision, fields));
        let table = self.tables.get_mut(&address.table).expect("a table is opened before its first object");
        let before = table.objects.insert(address.key.clone(), Arc::clone(&stored));
        if let Some(before) = &before {
            self.unlink(&address.table, before);
        }
        self.link(address, &stored);
        let change = if before.is_some() { Change::Modified } else { Change::Added };
        self.note(
            &address.table,
            Event { revision: self.revision, change, object: Arc::clone(&stored), before },
        );
        stored
    }

    /// Removes an object: its last version, as its watchers see it, carries the revision of the removal.
    pub(crate) fn remove(&mut self, address: &Address) -> Option<Arc<Stored>> {
        let before = self.tables.get_mut(&address.table)?.objects.remove(&address.key)?;
        self.unlink(&address.table, &before);
        self.revision += 1;
        let last = Arc::new(encode(&address.key, &mut before.decode(), self.revision, before.fields.clone()));
        let event = Event {
            revision: self.revision,
            change: Change::Deleted,
            object: Arc::clone(&last),
            before: Some(before),
        };
        self.note(&address.table, event);
        Some(last)
    }

    /// Computes the selectable fields of a table's objects anew, when what is selectable has changed.
    pub(crate) fn reindex(
        &mut self,
        table: &GroupResource,
        fields: impl Fn(&Value) -> BTreeMap<String, String>,
    ) {
        for stored in self.tables.get_mut(table).into_iter().flat_map(|t| t.objects.values_mut()) {
            let anew = fields(&stored.decode());
            if anew != stored.fields {
                *stored = Arc::new(Stored { fields: anew, ..Stored::clone(stored) });
            }
        }
    }

    /// Where the object with this uid lies.
    pub(crate) fn address_of(&self, uid: &str) -> Option<&Address> {
        self.addresses.get(uid)
    }

    /// The objects that name this uid as an owner.
    pub(crate) fn dependents_of(&self, uid: &str) -> Vec<Address> {
        self.dependents.get(uid).map(|set| set.iter().cloned().collect()).unwrap_or_default()
    }

    /// All objects of a namespace, in every table.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Address> {
        let mut found = Vec::new();
        for (name, table) in &self.tables {
            let keys = table.objects.keys().filter(|k| k.namespace == namespace);
            found.extend(keys.map(|key| Address { table: name.clone(), key: key.clone() }));
        }
        found
    }

    fn note(&mut self, table: &GroupResource, event: Event) {
        let revision = event.revision;
        let table = self.tables.get_mut(table).expect("the caller has just used it");
        table.window.push(event);
        table.changed.send_replace(revision);
    }

    fn link(&mut self, address: &Address, stored: &Stored) {
        self.addresses.insert(stored.uid.clone(), address.clone());
        for owner in &stored.owners {
            self.dependents.entry(owner.clone()).or_default().insert(address.clone());
        }
    }

    fn unlink(&mut self, table: &GroupResource, stored: &Stored) {
        let address = Address { table: table.clone(), key: stored.key.clone() };
        self.addresses.remove(&stored.uid);
        for owner in &stored.owners {
            if let Some(set) = self.dependents.get_mut(owner) {
                set.remove(&address);
                if set.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }
}

impl Table {
    pub(crate) fn objects(&self) -> &BTreeMap<Key, Arc<Stored>> {
        &self.objects
    }

    /// Tells of every later write, and of the table's end.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn encode(key: &Key, object: &mut Value, revision: u64, fields: BTreeMap<String, String>) -> Stored {
    object["metadata"]["resourceVersion"] = Value::String(revision.to_string());
    let metadata = &object["metadata"];
    let labels = metadata["labels"].as_object().into_iter().flatten();
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    Stored {
        key: key.clone(),
        revision,
        uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
        labels: labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
        fields,
        owners: owners.filter_map(|o| o["uid"].as_str().map(str::to_owned)).collect(),
        bytes: serde_json::to_vec(object).expect("a JSON value always encodes").into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn table() -> GroupResource {
        GroupResource { group: String::new(), resource: "configmaps".to_owned() }
    }

    pub(crate) fn address(name: &str) -> Address {
        Address { table: table(), key: Key { namespace: "default".to_owned(), name: name.to_owned() } }
    }

    pub(crate) fn put(store: &mut Store, name: &str, value: u32) -> Arc<Stored> {
        let object = json!({"metadata": {"name": name, "uid": format!("u-{name}")}, "value": value});
        store.put(&address(name), object, BTreeMap::new())
    }

    pub(crate) fn store(window: usize) -> Store {
        let mut store = Store::new(10, window);
        store.open(table());
        store
    }

    #[test]
    fn the_revision_is_one_for_all_and_only_grows() {
        let mut store = store(8);
        assert_eq!(put(&mut store, "a", 1).revision, 11);
        assert_eq!(put(&mut store, "b", 1).revision, 12);
        let last = store.remove(&address("a")).unwrap();
        assert_eq!(last.revision, 13);
        assert_eq!(last.decode()["metadata"]["resourceVersion"], "13");
        assert_eq!(store.revision(), 13);
    }

    #[test]
    fn owners_are_known_by_uid_until_the_dependent_goes() {
        let mut store = store(8);
        let child = json!({"metadata": {"name": "c", "uid": "u-c", "ownerReferences": [{"uid": "u-p"}]}});
        store.put(&address("c"), child, BTreeMap::new());
        assert_eq!(store.dependents_of("u-p"), vec![address("c")]);
        assert_eq!(store.address_of("u-c"), Some(&address("c")));
        store.remove(&address("c"));
        assert!(store.dependents_of("u-p").is_empty());
        assert!(store.address_of("u-c").is_none());
    }

    #[test]
    fn closing_a_table_ends_its_subscriptions() {
        let mut store = store(8);
        let mut changed = store.table(&table()).unwrap().subscribe();
        store.close(&table());
        assert!(futures::executor::block_on(changed.changed()).is_err());
    }
}
