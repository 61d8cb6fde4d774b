//! Validation of an object against its schema.

/// One reason why an object is refused: an entry of `Status.details.causes`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Cause {
    /// `spec.list[0].name`; `<nil>` for the object itself, as kube-apiserver prints it.
    pub field: String,
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldValueNotSupported`, `FieldValueDuplicate`, `FieldValueTypeInvalid`...
    pub reason: &'static str,
    /// `Invalid value: "x": must be ...`, `Required value`, `Unsupported value: "x": supported values: "a", "b"`.
    pub message: String,
}
