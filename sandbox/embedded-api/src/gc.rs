//! Deletion and what follows from it: finalizers, owners and dependents, namespaces, CRDs.
//!
//! A real cluster does this in controllers, some time later; here it happens within the request that causes it.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::crd::CLEANUP;
use crate::kinds::strategy::Strategy;
use crate::state::{State, defined_table, definition_address, finalizers, namespace_address, seconds};
use crate::store::{Address, GroupResource, Stored};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

/// What a delete came to.
pub(crate) enum Deleted {
    /// The object is gone.
    Gone,
    /// The object waits for its finalizers.
    Pending(Arc<Stored>),
}

/// Deletes an object, or begins to.
pub(crate) fn delete(
    state: &mut State,
    address: &Address,
    how: Propagation,
    now: Timestamp,
) -> Option<Deleted> {
    let mut object = state.load(address)?;
    let resource = state.resource_of(address)?;
    match how {
        Propagation::Background => {}
        Propagation::Foreground => add_finalizer(&mut object, FOREGROUND),
        Propagation::Orphan => add_finalizer(&mut object, ORPHAN),
    }
    let namespace = resource.strategy == Strategy::Namespace;
    if finalizers(&object).is_empty() && !namespace {
        return erase(state, address, now).map(|_| Deleted::Gone);
    }
    if object["metadata"]["deletionTimestamp"].is_null() {
        mark(&mut object, now);
        if namespace {
            object["status"]["phase"] = json!("Terminating");
        }
    }
    if Some(&object) != state.load(address).as_ref() {
        state.commit(&resource, &address.key, object);
    }
    follow(state, address, resource.strategy, how, now);
    Some(state.store.get(&address.table, &address.key).map_or(Deleted::Gone, Deleted::Pending))
}

/// Erases an object that has no finalizer left, and lets go what hung on it.
pub(crate) fn erase(state: &mut State, address: &Address, now: Timestamp) -> Option<Arc<Stored>> {
    let last = state.erase(address)?;
    for dependent in state.store.dependents_of(&last.uid) {
        lose_owner(state, &dependent, now);
    }
    for owner in &last.owners {
        if let Some(owner) = state.store.address_of(owner).cloned() {
            finish_foreground(state, &owner, now);
        }
    }
    finish_namespace(state, &address.key.namespace, now);
    finish_crd(state, &address.table, now);
    Some(last)
}

/// After a write: an object that was already waiting to go is erased with its last finalizer; one whose owners have
/// all gone before it came is collected.
pub(crate) fn after_write(state: &mut State, address: &Address, now: Timestamp) {
    let Some(object) = state.load(address) else { return };
    let owners = object["metadata"]["ownerReferences"].as_array();
    if owners.is_some_and(|o| !o.is_empty()) && !has_live_owner(state, &object) {
        delete(state, address, Propagation::Background, now);
    }
}

fn follow(state: &mut State, address: &Address, strategy: Strategy, how: Propagation, now: Timestamp) {
    let uid = state.store.get(&address.table, &address.key).map(|s| s.uid.clone()).unwrap_or_default();
    match how {
        Propagation::Background => {}
        Propagation::Foreground => {
            for dependent in state.store.dependents_of(&uid) {
                delete(state, &dependent, Propagation::Foreground, now);
            }
            finish_foreground(state, address, now);
        }
        Propagation::Orphan => {
            for dependent in state.store.dependents_of(&uid) {
                change(state, &dependent, |object| drop_owner(object, &uid));
            }
            drop_finalizer(state, address, ORPHAN, now);
        }
    }
    match strategy {
        Strategy::Namespace => empty_namespace(state, &address.key.name, now),
        Strategy::Crd => empty_crd(state, address, now),
        _ => {}
    }
}

fn empty_namespace(state: &mut State, name: &str, now: Timestamp) {
    for address in state.store.in_namespace(name) {
        delete(state, &address, Propagation::Background, now);
    }
    finish_namespace(state, name, now);
}

pub(crate) fn finish_namespace(state: &mut State, name: &str, now: Timestamp) {
    let address = namespace_address(name);
    let Some(namespace) = state.load(&address) else { return };
    let waits =
        namespace["metadata"]["deletionTimestamp"].is_null() || !state.store.in_namespace(name).is_empty();
    if waits {
        return;
    }
    if finalizers(&namespace).is_empty() {
        erase(state, &address, now);
    } else {
        change(state, &address, |object| object["spec"]["finalizers"] = json!([]));
    }
}

fn empty_crd(state: &mut State, address: &Address, now: Timestamp) {
    let Some(crd) = state.load(address) else { return };
    let table = defined_table(&crd);
    for address in addresses(state, &table) {
        delete(state, &address, Propagation::Background, now);
    }
    finish_crd(state, &table, now);
}

/// Lets a CRD go when it was waiting for the last object of its table.
fn finish_crd(state: &mut State, table: &GroupResource, now: Timestamp) {
    let address = definition_address(table);
    let deleting = state.load(&address).is_some_and(|crd| !crd["metadata"]["deletionTimestamp"].is_null());
    if deleting && addresses(state, table).is_empty() {
        drop_finalizer(state, &address, CLEANUP, now);
    }
}

fn addresses(state: &State, table: &GroupResource) -> Vec<Address> {
    let keys = state.store.table(table).into_iter().flat_map(|t| t.objects().keys());
    keys.map(|key| Address { table: table.clone(), key: key.clone() }).collect()
}

/// An owner has gone: the dependent follows it, unless another owner is left.
fn lose_owner(state: &mut State, address: &Address, now: Timestamp) {
    let Some(object) = state.load(address) else { return };
    if !has_live_owner(state, &object) {
        delete(state, address, Propagation::Background, now);
        return;
    }
    let references = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let dead: Vec<String> = references
        .filter(|r| !is_live(state, r))
        .filter_map(|r| Some(r["uid"].as_str()?.to_owned()))
        .collect();
    change(state, address, |object| dead.iter().for_each(|uid| drop_owner(object, uid)));
}

fn has_live_owner(state: &State, object: &Value) -> bool {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|r| is_live(state, r))
}

/// An owner of a kind that is not served here cannot be looked up, and counts as alive.
fn is_live(state: &State, reference: &Value) -> bool {
    let word = |field: &str| reference[field].as_str().unwrap_or_default();
    let served = state.registry.by_kind(word("apiVersion"), word("kind")).is_some();
    !served || state.store.address_of(word("uid")).is_some()
}

/// Lets an owner that is deleted in the foreground go, when nothing blocks it any more.
fn finish_foreground(state: &mut State, owner: &Address, now: Timestamp) {
    let Some(object) = state.load(owner) else { return };
    if !finalizers(&object).contains(FOREGROUND) || object["metadata"]["deletionTimestamp"].is_null() {
        return;
    }
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let blocks = |address: &Address| {
        let dependent = state.load(address).unwrap_or_default();
        let references = dependent["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        references.into_iter().any(|r| r["uid"] == uid && r["blockOwnerDeletion"] == true)
    };
    if !state.store.dependents_of(uid).iter().any(blocks) {
        drop_finalizer(state, owner, FOREGROUND, now);
    }
}

fn drop_finalizer(state: &mut State, address: &Address, finalizer: &str, now: Timestamp) {
    change(state, address, |object| {
        if let Some(list) = object["metadata"]["finalizers"].as_array_mut() {
            list.retain(|f| f != finalizer);
        }
    });
    let done = state.load(address).is_some_and(|object| finalizers(&object).is_empty());
    if done {
        erase(state, address, now);
    }
}

fn change(state: &mut State, address: &Address, with: impl FnOnce(&mut Value)) {
    let (Some(before), Some(resource)) = (state.load(address), state.resource_of(address)) else { return };
    let mut object = before.clone();
    with(&mut object);
    if object != before {
        state.commit(&resource, &address.key, object);
    }
}

fn mark(object: &mut Value, now: Timestamp) {
    let metadata = &mut object["metadata"];
    metadata["deletionTimestamp"] = json!(seconds(now));
    metadata["deletionGracePeriodSeconds"] = json!(0);
    if let Some(generation) = metadata["generation"].as_i64() {
        metadata["generation"] = json!(generation + 1);
    }
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    if !finalizers(object).contains(finalizer) {
        match object["metadata"]["finalizers"].as_array_mut() {
            Some(list) => list.push(json!(finalizer)),
            None => object["metadata"]["finalizers"] = json!([finalizer]),
        }
    }
}

fn drop_owner(object: &mut Value, uid: &str) {
    if let Some(list) = object["metadata"]["ownerReferences"].as_array_mut() {
        list.retain(|r| r["uid"] != uid);
    }
}
