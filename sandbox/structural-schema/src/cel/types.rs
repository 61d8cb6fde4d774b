//! `type(x) == string`: the interpreter has no type values, so names stand for them.

use kube_cel::cel::{Context, ResolveResult, Value as Cel};

const NAMES: [&str; 10] =
    ["int", "uint", "double", "string", "bytes", "bool", "list", "map", "null_type", "type"];

/// Adds `type` and the names of types to `context`.
pub(super) fn declare(context: &mut Context<'_>) {
    for name in NAMES {
        context.add_variable_from_value(name, denoted(name));
    }
    context.add_function("type", |value: Cel| -> ResolveResult { Ok(denoted(name_of(&value))) });
}

/// No text of an object is like this.
fn denoted(name: &str) -> Cel {
    Cel::String(format!("\u{0}type {name}").into())
}

fn name_of(value: &Cel) -> &'static str {
    match value {
        Cel::Int(_) => "int",
        Cel::UInt(_) => "uint",
        Cel::Float(_) => "double",
        Cel::String(text) if text.starts_with("\u{0}type ") => "type",
        Cel::String(_) => "string",
        Cel::Bytes(_) => "bytes",
        Cel::Bool(_) => "bool",
        Cel::List(_) => "list",
        Cel::Map(_) => "map",
        Cel::Null => "null_type",
        _ => "other",
    }
}
