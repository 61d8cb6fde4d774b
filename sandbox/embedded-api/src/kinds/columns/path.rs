//! The part of JSONPath that printer columns use: fields, indexes, `[*]` and `[?(@.key=="value")]`.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter { path: Vec<String>, equal: bool, value: Value },
}

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

impl Path {
    /// Parses a path such as `.status.conditions[?(@.type=="Ready")].status`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
        let mut rest = inner.strip_prefix('$').unwrap_or(inner);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, left) = if let Some(after) = rest.strip_prefix('[') {
                bracket(after).ok_or_else(|| format!("json path {text:?}: cannot read {rest:?}"))?
            } else {
                let (name, left) = field(rest.strip_prefix('.').unwrap_or(rest));
                if name.is_empty() && left.len() == rest.len() {
                    return Err(format!("json path {text:?}: cannot read {rest:?}"));
                }
                (Step::Field(name), left)
            };
            if step != Step::Field(String::new()) {
                steps.push(step);
            }
            rest = left;
        }
        Ok(Self(steps))
    }

    /// Every value at the path, in order.
    pub(crate) fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        self.0
            .iter()
            .fold(vec![object], |found, step| found.into_iter().flat_map(|v| step.follow(v)).collect())
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let items = || value.as_array().into_iter().flatten();
        match self {
            Self::Field(name) if name == "*" => children(value),
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(i) => {
                let length = value.as_array().map_or(0, Vec::len) as i64;
                let at = if *i < 0 { length + i } else { *i };
                usize::try_from(at).ok().and_then(|at| value.get(at)).into_iter().collect()
            }
            Self::All => children(value),
            Self::Filter { path, equal, value: wanted } => {
                let at = |item: &'a Value| path.iter().try_fold(item, |v, step| v.get(step));
                items().filter(|item| at(item).is_some_and(|v| (v == wanted) == *equal)).collect()
            }
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

/// A field name up to the next unescaped `.` or `[`.
fn field(text: &str) -> (String, &str) {
    let (mut name, mut escaped) = (String::new(), false);
    for (i, c) in text.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '.' | '[' if !escaped => return (name, &text[i..]),
            _ => {
                name.push(c);
                escaped = false;
            }
        }
    }
    (name, "")
}

/// What stands in brackets, after the opening one.
fn bracket(text: &str) -> Option<(Step, &str)> {
    if let Some(filter) = text.strip_prefix("?(") {
        let (inside, left) = filter.split_once(")]")?;
        return Some((filter_step(inside)?, left));
    }
    let (inside, left) = text.split_once(']')?;
    let inside = inside.trim();
    let step = match inside {
        "*" | ":" => Step::All,
        quoted if quoted.starts_with(['\'', '"']) => Step::Field(quoted.trim_matches(['\'', '"']).to_owned()),
        index => Step::Index(index.parse().ok()?),
    };
    Some((step, left))
}

fn filter_step(text: &str) -> Option<Step> {
    let (left, right, equal) = match text.split_once("==") {
        Some((left, right)) => (left, right, true),
        None => text.split_once("!=").map(|(left, right)| (left, right, false))?,
    };
    let path = left.trim().strip_prefix("@.")?.split('.').map(str::to_owned).collect();
    let right = right.trim();
    let value = if right.starts_with(['\'', '"']) {
        Value::String(right.trim_matches(['\'', '"']).to_owned())
    } else {
        serde_json::from_str(right).ok()?
    };
    Some(Step::Filter { path, equal, value })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_reach_fields_indexes_and_conditions() {
        let object = json!({"spec": {"list": ["a", "b"], "a.b": 1},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "False"}]}});
        let find =
            |path: &str| Path::parse(path).unwrap().find(&object).into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(find(".spec.list[0]"), [json!("a")]);
        assert_eq!(find(".spec.list[-1]"), [json!("b")]);
        assert_eq!(find(".spec.list[*]"), [json!("a"), json!("b")]);
        assert_eq!(find(r".spec.a\.b"), [json!(1)]);
        assert_eq!(find(".spec['a.b']"), [json!(1)]);
        assert_eq!(find(".status.conditions[?(@.type==\"Ready\")].status"), [json!("True")]);
        assert_eq!(find(".status.conditions[?(@.type!='Ready')].status"), [json!("False")]);
        assert!(find(".nowhere.at.all").is_empty());
    }

    #[test]
    fn a_path_that_cannot_be_read_is_named() {
        assert!(Path::parse(".spec[?(@.x").unwrap_err().contains(".spec[?(@.x"));
        assert!(Path::parse(".spec[abc]").is_err());
    }
}
