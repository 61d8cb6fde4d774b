//! What every write does to the owners of an object's fields.

use crate::Schema;
use crate::fields::{Comparison, Element, Entry, Managed, Set};

/// A path that another manager owns and the write would change.
pub(crate) struct Taken {
    pub(crate) owner: Entry,
    pub(crate) path: Vec<Element>,
}

/// The paths of a change that others own.
pub(crate) fn conflicts(others: &Managed, change: &Comparison) -> Vec<Taken> {
    let touched = change.modified.union(&change.added);
    let mut taken = Vec::new();
    for owner in &others.entries {
        let paths = owner.fields.intersection(&touched).paths();
        taken.extend(paths.into_iter().map(|path| Taken { owner: owner.clone(), path }));
    }
    taken
}

/// Takes from everybody in `others` what the change touched.
pub(crate) fn dispossess(others: &mut Managed, change: &Comparison) {
    let touched = change.modified.union(&change.added).union(&change.removed);
    for owner in &mut others.entries {
        owner.fields = owner.fields.difference(&touched);
    }
    others.entries.retain(|owner| !owner.fields.is_empty());
}

/// What nobody owns: the identity of the object and what the server itself writes.
pub(crate) fn without_server_fields(fields: &Set) -> Set {
    fields.difference(&Set::of([
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ]))
}

impl Schema {
    /// The part of a change that a write to `subresource` can have made.
    pub(crate) fn writable(&self, subresource: &str, change: Comparison) -> Comparison {
        let part = |fields: Set| match subresource {
            "" if self.status_subresource => fields.without_field("status"),
            "status" if self.status_subresource => fields.only_field("status"),
            _ => fields,
        };
        Comparison {
            added: part(change.added),
            modified: part(change.modified),
            removed: part(change.removed),
        }
    }
}
