//! A table as it was at an earlier revision: today's objects with the later events undone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Key, Stored, Table};

/// Why no snapshot can be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooOld {
    /// The oldest revision that can be had.
    pub(crate) oldest: u64,
}

impl Table {
    /// The table's objects at `revision`, in order.
    pub(crate) fn at(&self, revision: u64) -> Result<Vec<Arc<Stored>>, TooOld> {
        let later = self.window.since(revision).ok_or(TooOld { oldest: self.window.oldest() })?;
        // Walked backwards, so that what stays is what stood before the first later event.
        let undone: BTreeMap<&Key, &Option<Arc<Stored>>> =
            later.rev().map(|e| (&e.object.key, &e.before)).collect();
        if undone.is_empty() {
            return Ok(self.objects.values().cloned().collect());
        }
        let mut objects: BTreeMap<&Key, &Arc<Stored>> = self.objects.iter().collect();
        for (key, before) in undone {
            match before {
                Some(stored) => objects.insert(key, stored),
                None => objects.remove(key),
            };
        }
        Ok(objects.into_values().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{address, put, store, table};
    use super::*;

    #[test]
    fn a_snapshot_has_neither_later_objects_nor_later_changes() {
        let mut store = store(16);
        for name in ["a", "b", "c"] {
            put(&mut store, name, 1);
        }
        let then = store.revision();
        put(&mut store, "b", 2);
        put(&mut store, "b", 3);
        put(&mut store, "d", 1);
        store.remove(&address("a"));
        let seen: Vec<(String, u64)> = store
            .table(&table())
            .unwrap()
            .at(then)
            .unwrap()
            .iter()
            .map(|s| (s.key.name.clone(), s.revision))
            .collect();
        assert_eq!(seen, [("a".into(), 11), ("b".into(), 12), ("c".into(), 13)]);
    }

    #[test]
    fn a_lost_snapshot_names_the_oldest_that_is_left() {
        let mut store = store(2);
        for value in 0..4 {
            put(&mut store, "a", value);
        }
        assert_eq!(store.table(&table()).unwrap().at(11).unwrap_err(), TooOld { oldest: 12 });
    }
}
