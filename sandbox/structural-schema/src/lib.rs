//! Structural schemas of Kubernetes: prune, default, validate, CEL, and server-side apply's field sets.
//!
//! [`Schema::compile`] turns the `openAPIV3Schema` of a custom resource (or the JSON schema of a built-in type) into a form
//! that answers every question an API server has about an object: which of its fields are unknown ([`Schema::prune`]), what
//! it means when it is silent ([`Schema::apply_defaults`]), whether it may be stored ([`Schema::validate`]), who owns which
//! of its fields ([`apply`], [`track_update`]) and what a strategic merge patch makes of it ([`strategic_merge`]).
//!
//! Everything here is a function of its arguments: the time of a write is one of them.

mod apply;
mod cause;
mod cel;
mod compile;
mod defaults;
mod fields;
mod formats;
mod intent;
mod lastapplied;
mod limits;
mod listkeys;
mod metadata;
mod node;
mod ownership;
mod path;
mod prune;
mod strategic;
mod subresource;
mod update;
mod validate;

pub use apply::{ApplyError, Conflict, apply};
pub use cause::Cause;
pub use compile::{CompileError, Schema};
pub use strategic::{StrategicMergeError, strategic_merge};
pub use update::track_update;

/// How a manager came to own its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Server-side apply: the manager states its whole intent each time.
    Apply,
    /// Any other write: the manager owns what it changed.
    Update,
}

/// Who writes an object, and when: one entry of `metadata.managedFields` to be.
#[derive(Debug, Clone, Copy)]
pub struct Manager<'a> {
    /// The `fieldManager` of the request.
    pub name: &'a str,
    /// Apply or Update. [`apply`] and [`track_update`] each record their own, whatever stands here.
    pub operation: Operation,
    /// The `apiVersion` that the request speaks (`v1`, `kosmos.io/v1alpha1`).
    pub api_version: &'a str,
    /// The subresource written to: empty for the object itself, `status` for its status.
    pub subresource: &'a str,
    /// RFC 3339, in UTC, to the second: what `managedFields[].time` will say.
    pub time: &'a str,
}
