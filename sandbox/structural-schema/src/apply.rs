//! Server-side apply.

use serde_json::Value;

use crate::{Manager, Schema};

/// A field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// As kubectl prints it: `.spec.replicas`, `.spec.ports[port=80].name`. The cause's `field`; its reason is `FieldManagerConflict`.
    pub field: String,
    /// `conflict with "kubectl-client-side-apply" using v1 at 2026-01-02T03:04:05Z`. The cause's `message`.
    pub message: String,
}

/// Why an apply is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 409 `Conflict`; the error's text is the status message.
    #[error("Apply failed with {} conflicts", .0.len())]
    Conflicts(Vec<Conflict>),
    /// 400 `BadRequest` (or 500 where stored managedFields cannot be read): the text says what cannot be merged and why.
    #[error("{0}")]
    Invalid(String),
}

/// Merges `applied` (the whole intent of `manager`) into `live` and returns the object to store, with
/// `metadata.managedFields` brought up to date. The result equals `live` when nothing changed, times included.
pub fn apply(
    _schema: &Schema,
    _live: Option<&Value>,
    applied: &Value,
    _manager: &Manager<'_>,
    _force: bool,
) -> Result<Value, ApplyError> {
    Ok(applied.clone())
}
