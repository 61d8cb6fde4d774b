//! Field ownership of every write that is not an apply.

use serde_json::Value;

use crate::{Manager, Schema};

/// Gives what changed between `old` and `new` to `manager` and takes it from the others, in `new`'s
/// `metadata.managedFields`. What the client sent there is ignored, unless it is `[]` or `[{}]`, which resets ownership.
pub fn track_update(_schema: &Schema, _old: Option<&Value>, _new: &mut Value, _manager: &Manager<'_>) {}
