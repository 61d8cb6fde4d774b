//! Field ownership of every write that is not an apply.

use serde_json::{Value, json};

use crate::fields::{Entry, Managed, compare};
use crate::ownership::{dispossess, without_server_fields};
use crate::{Manager, Operation, Schema};

/// More managers than this that update (and do not apply) are not told apart: the oldest are merged.
const MAX_UPDATERS: usize = 10;
const OLDEST: &str = "ancient-changes";

/// Gives what changed between `old` and `new` to `manager` and takes it from the others, in `new`'s
/// `metadata.managedFields`. A client may edit managedFields by sending them with the object itself (not with a
/// subresource); if it sends none, or what cannot be read, those of `old` stand; `[]` or `[{}]` clears them, and an
/// existing object without owners stays so until it is applied to.
pub fn track_update(schema: &Schema, old: Option<&Value>, new: &mut Value, manager: &Manager<'_>) {
    let managed = starting_owners(old, new, manager.subresource);
    forget_owners(new);
    if managed.entries.is_empty() && old.is_some() {
        return;
    }
    record(schema, old.unwrap_or(&json!({})), new, managed, manager).write_to(new);
}

/// The owners after `manager` has turned `old` into `new`.
pub(crate) fn record(
    schema: &Schema,
    old: &Value,
    new: &Value,
    mut managed: Managed,
    manager: &Manager<'_>,
) -> Managed {
    let change = schema.writable(manager.subresource, compare(schema, old, new));
    dispossess(&mut managed, &change);
    let gained = without_server_fields(&change.modified.union(&change.added));
    if !gained.is_empty() {
        let mut entry = Entry::new(manager, Operation::Update);
        let before = managed.take(&entry);
        entry.fields = before.map_or_else(|| gained.clone(), |before| before.fields.union(&gained));
        entry.time = (!manager.time.is_empty()).then(|| manager.time.to_owned());
        managed.entries.push(entry);
    }
    cap(managed)
}

pub(crate) fn forget_owners(object: &mut Value) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
}

fn starting_owners(old: Option<&Value>, new: &Value, subresource: &str) -> Managed {
    let stored = || old.and_then(|old| Managed::of(old).ok()).unwrap_or_default();
    if !subresource.is_empty() {
        return stored();
    }
    if is_reset(new) {
        return Managed::default();
    }
    Managed::of(new).ok().filter(|managed| !managed.entries.is_empty()).unwrap_or_else(stored)
}

fn is_reset(object: &Value) -> bool {
    match object.pointer("/metadata/managedFields").and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(serde_json::Map::is_empty),
        _ => false,
    }
}

/// Merges the oldest updaters of each version into one until few enough are left.
fn cap(mut managed: Managed) -> Managed {
    let mut updaters: Vec<Entry> =
        managed.entries.iter().filter(|entry| entry.operation == Operation::Update).cloned().collect();
    let mut surplus = updaters.len().saturating_sub(MAX_UPDATERS);
    updaters.sort_by(|left, right| (&left.time, &left.manager).cmp(&(&right.time, &right.manager)));
    let mut first_of: Vec<Entry> = Vec::new();
    for updater in updaters {
        if surplus == 0 {
            break;
        }
        let Some(first) = first_of.iter().find(|first| first.api_version == updater.api_version) else {
            first_of.push(updater);
            continue;
        };
        let blank = Manager {
            name: OLDEST,
            operation: Operation::Update,
            api_version: &updater.api_version,
            subresource: "",
            time: "",
        };
        let mut bucket = Entry::new(&blank, Operation::Update);
        let known = managed.take(&bucket).or_else(|| managed.take(first)).unwrap_or_else(|| first.clone());
        managed.take(&updater);
        bucket.fields = known.fields.union(&updater.fields);
        bucket.time = updater.time;
        managed.entries.push(bucket);
        surplus -= 1;
    }
    managed
}
