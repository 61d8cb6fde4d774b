//! The columns of `kubectl get`: fixed ones for built-ins, `additionalPrinterColumns` for custom resources.

pub(crate) mod builtin;
mod human;
mod path;

use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) use human::age;
pub(crate) use path::Path;

/// A column of a built-in kind.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) format: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) priority: u8,
    pub(crate) cell: fn(&Value, Timestamp) -> Value,
}

/// A column that a CRD defines.
pub(crate) struct PrinterColumn {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) path: Path,
}

pub(crate) enum Columns {
    Builtin(&'static [Column]),
    Custom(Vec<PrinterColumn>),
}

impl Columns {
    /// The `columnDefinitions` of a Table.
    pub(crate) fn definitions(&self) -> Value {
        match self {
            Self::Builtin(columns) => columns.iter().map(Column::definition).collect(),
            Self::Custom(columns) => {
                let name = json!({"name": "Name", "type": "string", "format": "name", "description": "Name must be unique within a namespace.", "priority": 0});
                std::iter::once(name).chain(columns.iter().map(PrinterColumn::definition)).collect()
            }
        }
    }

    /// An object's cells.
    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Value {
        match self {
            Self::Builtin(columns) => columns.iter().map(|c| (c.cell)(object, now)).collect(),
            Self::Custom(columns) => {
                let name = object["metadata"]["name"].clone();
                std::iter::once(name).chain(columns.iter().map(|c| c.cell(object, now))).collect()
            }
        }
    }
}

impl Column {
    fn definition(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": "", "priority": self.priority})
    }
}

impl PrinterColumn {
    fn definition(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": self.description, "priority": self.priority})
    }

    /// The first value at the column's path, as its type prints.
    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(value) = self.path.find(object).into_iter().next() else { return Value::Null };
        match (self.kind.as_str(), value) {
            ("string", Value::String(s)) => json!(s),
            ("string", Value::Null) => Value::Null,
            ("string", other) => json!(other.to_string()),
            ("date", Value::String(s)) => json!(age(Some(s), now)),
            ("integer", Value::Number(n)) => {
                json!(n.as_i64().or_else(|| n.as_f64().map(|f| f.trunc() as i64)))
            }
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            _ => Value::Null,
        }
    }
}

/// The value at a plain dotted path as a field selector compares it.
pub(crate) fn scalar(object: &Value, path: &str) -> Option<String> {
    // The one selectable path of Kubernetes that is not a path of the object: an Event's component.
    let path = if path == "source" { "source.component" } else { path };
    let mut at = object;
    for step in path.trim_start_matches('.').split('.') {
        at = at.get(step)?;
    }
    match at {
        Value::String(s) => Some(s.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printer_columns_print_by_their_type() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let object = json!({"metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"cidrs": ["10.0.0.0/8"], "count": 3, "ok": true}});
        let cell = |kind: &str, path: &str| {
            let column = PrinterColumn {
                name: String::new(),
                kind: kind.into(),
                format: String::new(),
                description: String::new(),
                priority: 0,
                path: Path::parse(path).unwrap(),
            };
            column.cell(&object, now)
        };
        assert_eq!(cell("date", ".metadata.creationTimestamp"), json!("60m"));
        assert_eq!(cell("string", ".spec.cidrs"), json!("[\"10.0.0.0/8\"]"));
        assert_eq!(cell("string", ".spec.count"), json!("3"));
        assert_eq!(cell("integer", ".spec.count"), json!(3));
        assert_eq!(cell("boolean", ".spec.ok"), json!(true));
        assert_eq!(cell("string", ".spec.absent"), Value::Null);
    }
}
