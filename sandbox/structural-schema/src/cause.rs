//! Reasons why an object is refused, in the words of kube-apiserver (`k8s.io/apimachinery/pkg/util/validation/field`).

use serde_json::Value;

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

pub(crate) const INVALID: &str = "FieldValueInvalid";
pub(crate) const REQUIRED: &str = "FieldValueRequired";
pub(crate) const NOT_SUPPORTED: &str = "FieldValueNotSupported";
pub(crate) const DUPLICATE: &str = "FieldValueDuplicate";
pub(crate) const TYPE_INVALID: &str = "FieldValueTypeInvalid";
pub(crate) const TOO_LONG: &str = "FieldValueTooLong";
pub(crate) const TOO_MANY: &str = "FieldValueTooMany";
pub(crate) const FORBIDDEN: &str = "FieldValueForbidden";

impl Cause {
    pub(crate) fn invalid(field: &str, value: &Value, detail: &str) -> Cause {
        Cause::new(field, INVALID, format!("Invalid value: {}: {detail}", shown(value)))
    }

    /// A wrong value that would not help the reader: a whole object or list.
    pub(crate) fn invalid_whole(field: &str, detail: &str) -> Cause {
        Cause::new(field, INVALID, format!("Invalid value: {detail}"))
    }

    pub(crate) fn type_invalid(field: &str, found: &str, detail: &str) -> Cause {
        Cause::new(field, TYPE_INVALID, format!("Invalid value: {}: {detail}", quoted(found)))
    }

    pub(crate) fn required(field: &str, detail: &str) -> Cause {
        Cause::new(field, REQUIRED, with_detail("Required value", detail))
    }

    pub(crate) fn forbidden(field: &str, detail: &str) -> Cause {
        Cause::new(field, FORBIDDEN, with_detail("Forbidden", detail))
    }

    pub(crate) fn duplicate(field: &str, value: &Value) -> Cause {
        Cause::new(field, DUPLICATE, format!("Duplicate value: {}", shown(value)))
    }

    pub(crate) fn not_supported(field: &str, value: &Value, supported: &[Value]) -> Cause {
        let supported: Vec<String> = supported
            .iter()
            .map(|value| quoted(&value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        let value = if value.is_null() { quoted("null") } else { shown(value) };
        Cause::new(
            field,
            NOT_SUPPORTED,
            format!("Unsupported value: {value}: supported values: {}", supported.join(", ")),
        )
    }

    pub(crate) fn too_long(field: &str, limit: u64) -> Cause {
        let unit = if limit == 1 { "byte" } else { "bytes" };
        Cause::new(field, TOO_LONG, format!("Too long: may not be more than {limit} {unit}"))
    }

    pub(crate) fn too_many(field: &str, found: usize, limit: u64) -> Cause {
        let unit = if limit == 1 { "item" } else { "items" };
        Cause::new(field, TOO_MANY, format!("Too many: {found}: must have at most {limit} {unit}"))
    }

    fn new(field: &str, reason: &'static str, message: String) -> Cause {
        let field = if field.is_empty() { "<nil>" } else { field };
        Cause { field: field.to_owned(), reason, message }
    }

    /// Whether this makes a look at the rules of an object pointless, as kube-apiserver has it.
    pub(crate) fn blocks_rules(&self) -> bool {
        [NOT_SUPPORTED, REQUIRED, TOO_LONG, TOO_MANY, TYPE_INVALID].contains(&self.reason)
    }
}

fn with_detail(title: &str, detail: &str) -> String {
    if detail.is_empty() { title.to_owned() } else { format!("{title}: {detail}") }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number_text(number),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

/// As Go's `%v` prints it: no fraction where there is none.
pub(crate) fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float_text(float),
        _ => number.to_string(),
    }
}

/// As Go's `%v` prints a float64.
pub(crate) fn float_text(float: f64) -> String {
    if float != 0.0 && !(1e-4..1e21).contains(&float.abs()) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{float}")
}

pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
