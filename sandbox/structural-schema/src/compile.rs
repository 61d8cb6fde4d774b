//! From an OpenAPI v3 schema to the compiled one.

use serde_json::Value;

use crate::validate::Cause;

/// Why a schema cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema{path}: {message}")]
pub struct CompileError {
    /// Where in the schema, as a path of its keywords: `.properties[spec].pattern`.
    pub path: String,
    /// What is wrong there, and what to do about it.
    pub message: String,
}

/// A compiled structural schema. Compile once, share by reference (it is `Send + Sync`).
#[derive(Debug)]
pub struct Schema {}

impl Schema {
    /// Compiles a CRD's `openAPIV3Schema`, or the JSON schema of a built-in type (`$ref`s point into the same document).
    /// `apiVersion`, `kind` and `metadata` of the root are always those of a Kubernetes object.
    pub fn compile(_open_api_v3: &Value) -> Result<Schema, CompileError> {
        Ok(Schema {})
    }

    /// The same schema for a resource with a status subresource: writes to the object leave `status` alone, and writes
    /// to its status leave everything else alone (see [`Schema::reset_fields`]).
    pub fn with_status_subresource(self) -> Schema {
        self
    }

    /// Undoes what a non-apply write to `subresource` may not change (`new` is put right from `old`): with a status
    /// subresource, a write to `""` keeps (or at creation drops) `status`, one to `"status"` keeps all but `status` and
    /// `metadata.managedFields`. [`apply`](crate::apply) does this by itself.
    pub fn reset_fields(&self, _subresource: &str, _new: &mut Value, _old: Option<&Value>) {}

    /// Removes fields that the schema does not know and returns their paths as kube-apiserver prints them
    /// (`spec.foo`, `spec.list[0].bar`), sorted.
    pub fn prune(&self, _object: &mut Value) -> Vec<String> {
        Vec::new()
    }

    /// Fills in defaults, after dropping nulls where the schema does not allow them.
    pub fn apply_defaults(&self, _object: &mut Value) {}

    /// Everything that is wrong with `new`, in the words of kube-apiserver; `old` is the stored object of an update
    /// (for transition rules, and so that what was already wrong and is unchanged is let through).
    pub fn validate(&self, _new: &Value, _old: Option<&Value>) -> Vec<Cause> {
        Vec::new()
    }
}
