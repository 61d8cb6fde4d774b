//! What is known of the watched objects now.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{WatchSpec, field};

/// Objects as they are known now, and which of them are known to be out of date.
///
/// Whoever fills it keeps the last complete list of a watch that fails, and says with [`Observed::failed`] that it
/// fails: an adapter then still sees the objects, and its facts say that they may be stale.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    objects: BTreeMap<WatchSpec, BTreeMap<String, Value>>,
    failed: BTreeMap<WatchSpec, String>,
}

impl Observed {
    /// Puts a complete list in place of what was known; the watch is well.
    pub fn list(&mut self, watch: WatchSpec, objects: impl IntoIterator<Item = Value>) {
        let objects = objects.into_iter().map(|object| (field::key(&object), object)).collect();
        self.objects.insert(watch, objects);
        self.failed.remove(&watch);
    }

    /// One object has changed or come.
    pub fn put(&mut self, watch: WatchSpec, object: Value) {
        self.objects.entry(watch).or_default().insert(field::key(&object), object);
    }

    /// One object is gone.
    pub fn remove(&mut self, watch: WatchSpec, object: &Value) {
        if let Some(objects) = self.objects.get_mut(&watch) {
            objects.remove(&field::key(object));
        }
    }

    /// The watch fails: what is known of it may be out of date.
    pub fn fail(&mut self, watch: WatchSpec, error: impl Into<String>) {
        self.failed.insert(watch, error.into());
    }

    /// The objects of a watch, ordered by namespace and name.
    pub fn of(&self, watch: &WatchSpec) -> impl Iterator<Item = &Value> {
        self.objects.get(watch).into_iter().flat_map(BTreeMap::values)
    }

    /// The first object of a watch.
    pub fn first(&self, watch: &WatchSpec) -> Option<&Value> {
        self.of(watch).next()
    }

    /// Whether a watch knows any object.
    pub fn any(&self, watch: &WatchSpec) -> bool {
        self.first(watch).is_some()
    }

    /// Why what is known of a watch may be out of date.
    pub fn failed(&self, watch: &WatchSpec) -> Option<&str> {
        self.failed.get(watch).map(String::as_str)
    }
}
