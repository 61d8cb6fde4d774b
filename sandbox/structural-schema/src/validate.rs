//! Validation of an object against its schema, as kube-openapi does it: types and limits, then list keys, then rules.

use serde_json::Value;

use crate::Schema;
use crate::cause::{Cause, quoted};
use crate::cel;
use crate::limits::same;
use crate::listkeys::{self, Counterparts};
use crate::node::{JsonType, Node, NodeId};
use crate::path::Path;

/// Objects nested deeper than this are refused unread.
const MAX_DEPTH: usize = 200;

impl Schema {
    /// Everything that is wrong with `new`, in the words of kube-apiserver; `old` is the stored object of an update
    /// (for transition rules, and so that what was already wrong and is unchanged is let through).
    ///
    /// Rules run only on objects that are otherwise sound, and within a budget of steps and time.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut walk = Walk { schema: self, path: Path::default(), causes: Vec::new() };
        walk.value(new, old, self.root, 0);
        let mut causes = walk.causes;
        causes.extend(listkeys::check(self, new, old));
        if causes.iter().any(Cause::blocks_rules) {
            if cel::has_rules(self) {
                let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
                causes.push(Cause::invalid("", &Value::Null, detail));
            }
        } else {
            causes.extend(cel::check(self, new, old));
        }
        causes
    }
}

struct Walk<'s> {
    schema: &'s Schema,
    path: Path,
    causes: Vec<Cause>,
}

impl Walk<'_> {
    fn value(&mut self, value: &Value, old: Option<&Value>, id: NodeId, depth: usize) {
        // What is stored already may stay as it is, however the schema has changed since.
        if old.is_some_and(|old| same(old, value)) {
            return;
        }
        let path = self.path.dotted();
        if depth > MAX_DEPTH {
            self.causes.push(Cause::invalid_whole(&path, &format!("nested deeper than {MAX_DEPTH} levels")));
            return;
        }
        let node = self.schema.node(id);
        if let Some(cause) = wrong_type(&path, value, node) {
            self.causes.push(cause);
            return;
        }
        self.parts(value, old, node, depth);
        node.limits.check(&path, value, &mut self.causes);
        if !value.is_null() {
            self.required(value, node);
            self.branches(value, node, &path, depth);
        }
    }

    fn parts(&mut self, value: &Value, old: Option<&Value>, node: &Node, depth: usize) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if let Some(id) = node.member(name) {
                        let old = old.filter(|_| !node.atomic_map).and_then(|old| old.get(name));
                        self.path.push_field(name);
                        self.value(member, old, id, depth + 1);
                        self.path.pop();
                    }
                }
            }
            Value::Array(items) => {
                let Some(id) = node.items else { return };
                let before = Counterparts::of(&node.list_type, old);
                for (i, item) in items.iter().enumerate() {
                    self.path.push_index(i);
                    self.value(item, before.get(item), id, depth + 1);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn required(&mut self, value: &Value, node: &Node) {
        let Some(members) = value.as_object() else { return };
        for name in node.required.iter().filter(|name| !members.contains_key(*name)) {
            self.path.push_field(name);
            self.causes.push(Cause::required(&self.path.dotted(), ""));
            self.path.pop();
        }
    }

    fn branches(&mut self, value: &Value, node: &Node, path: &str, depth: usize) {
        let mut whole = |detail: String| self.causes.push(Cause::invalid("", &Value::from(""), &detail));
        let shown = quoted(path);
        let mut extra = Vec::new();
        if !node.any_of.is_empty() {
            let best = tried(self.schema, &self.path, value, &node.any_of, depth);
            if best.passed == 0 {
                whole(format!("{shown} must validate at least one schema (anyOf)"));
                extra.extend(best.nearest);
            }
        }
        if !node.one_of.is_empty() {
            let best = tried(self.schema, &self.path, value, &node.one_of, depth);
            match best.passed {
                0 => {
                    whole(format!("{shown} must validate one and only one schema (oneOf). Found none valid"));
                    extra.extend(best.nearest);
                }
                1 => {}
                more => whole(format!(
                    "{shown} must validate one and only one schema (oneOf). Found {more} valid alternatives"
                )),
            }
        }
        let refused: Vec<Vec<Cause>> =
            node.all_of.iter().map(|id| self.try_branch(value, *id, depth)).collect();
        let failed = refused.iter().filter(|causes| !causes.is_empty()).count();
        if failed > 0 {
            let none = if failed == refused.len() { ". None validated" } else { "" };
            self.causes.push(Cause::invalid(
                "",
                &Value::from(""),
                &format!("{shown} must validate all the schemas (allOf){none}"),
            ));
            extra.extend(refused.into_iter().flatten());
        }
        if node.not.is_some_and(|id| self.try_branch(value, id, depth).is_empty()) {
            self.causes.push(Cause::invalid(
                "",
                &Value::from(""),
                &format!("{shown} must not validate the schema (not)"),
            ));
        }
        self.causes.extend(extra);
    }

    fn try_branch(&self, value: &Value, id: NodeId, depth: usize) -> Vec<Cause> {
        let mut walk = Walk { schema: self.schema, path: self.path.clone(), causes: Vec::new() };
        walk.value(value, None, id, depth + 1);
        walk.causes
    }
}

/// What came of trying each of some alternatives.
struct Tried {
    passed: usize,
    /// The causes of the alternative that came nearest.
    nearest: Vec<Cause>,
}

fn tried(schema: &Schema, path: &Path, value: &Value, branches: &[NodeId], depth: usize) -> Tried {
    let walk = Walk { schema, path: path.clone(), causes: Vec::new() };
    let results: Vec<Vec<Cause>> = branches.iter().map(|id| walk.try_branch(value, *id, depth)).collect();
    let passed = results.iter().filter(|causes| causes.is_empty()).count();
    Tried { passed, nearest: results.into_iter().min_by_key(Vec::len).unwrap_or_default() }
}

fn wrong_type(path: &str, value: &Value, node: &Node) -> Option<Cause> {
    let found = type_name(value);
    let expected =
        if node.int_or_string { &[JsonType::Integer, JsonType::String][..] } else { &node.types[..] };
    if value.is_null() && (node.nullable || expected.is_empty())
        || expected.iter().any(|kind| fits(*kind, value))
        || expected.is_empty()
    {
        return None;
    }
    let number_format = !node.limits.format_name.is_empty()
        && !matches!(value, Value::String(_) | Value::Array(_) | Value::Null);
    if number_format {
        let detail = format!(
            "{path} in body must be of type {}: {}",
            node.limits.format_name,
            quoted(number_format_of(value))
        );
        return Some(Cause::type_invalid(path, number_format_of(value), &detail));
    }
    let names: Vec<&str> = expected.iter().map(|kind| kind.name()).collect();
    let detail = format!("{path} in body must be of type {}: {}", names.join(","), quoted(found));
    Some(Cause::type_invalid(path, found, &detail))
}

fn fits(kind: JsonType, value: &Value) -> bool {
    match kind {
        JsonType::Object => value.is_object(),
        JsonType::Array => value.is_array(),
        JsonType::String => value.is_string(),
        JsonType::Boolean => value.is_boolean(),
        JsonType::Number => value.is_number(),
        JsonType::Integer => match value {
            Value::Number(number) => {
                number.is_i64()
                    || number
                        .as_f64()
                        .is_some_and(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 9.0e15)
            }
            _ => false,
        },
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn number_format_of(value: &Value) -> &'static str {
    match value {
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        _ => "",
    }
}
