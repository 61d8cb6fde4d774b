//! Label selectors (equality and set operators) and field selectors.

use std::collections::BTreeMap;

use crate::status::{Answer, Status};

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Greater(String, i64),
    Less(String, i64),
}

/// A parsed `labelSelector`; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<Requirement>);

impl LabelSelector {
    pub(crate) fn parse(text: &str) -> Answer<Self> {
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            let term = term.trim();
            if !term.is_empty() {
                requirements.push(requirement(term).map_err(|why| {
                    Status::bad_request(format!(
                        "unable to parse requirement {term:?} of labelSelector {text:?}: {why}"
                    ))
                })?);
            }
        }
        Ok(Self(requirements))
    }

    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|r| r.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let integer = |key: &str| labels.get(key).and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::Exists(key) => labels.contains_key(key),
            Self::Absent(key) => !labels.contains_key(key),
            Self::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            // As in Kubernetes, an absent label is not in any set.
            Self::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Self::Greater(key, bound) => integer(key).is_some_and(|v| v > *bound),
            Self::Less(key, bound) => integer(key).is_some_and(|v| v < *bound),
        }
    }
}

/// Splits at commas that stand outside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut terms) = (0_i32, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn requirement(term: &str) -> Result<Requirement, String> {
    if let Some(key) = term.strip_prefix('!') {
        return Ok(Requirement::Absent(label_key(key)?));
    }
    if let Some((head, values)) = term.split_once('(') {
        return set_requirement(head, values);
    }
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = term.split_once(operator) {
            let (key, values) = (label_key(key)?, vec![label_value(value)?]);
            return Ok(if negated { Requirement::NotIn(key, values) } else { Requirement::In(key, values) });
        }
    }
    for (operator, greater) in [('>', true), ('<', false)] {
        if let Some((key, value)) = term.split_once(operator) {
            let bound = value.trim().parse().map_err(|_| format!("{value:?} is not an integer"))?;
            let key = label_key(key)?;
            return Ok(if greater {
                Requirement::Greater(key, bound)
            } else {
                Requirement::Less(key, bound)
            });
        }
    }
    Ok(Requirement::Exists(label_key(term)?))
}

fn set_requirement(head: &str, values: &str) -> Result<Requirement, String> {
    let values = values.strip_suffix(')').ok_or("a closing parenthesis is missing")?;
    let values = values.split(',').map(label_value).collect::<Result<Vec<_>, _>>()?;
    let mut words = head.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(key), Some("in"), None) => Ok(Requirement::In(label_key(key)?, values)),
        (Some(key), Some("notin"), None) => Ok(Requirement::NotIn(label_key(key)?, values)),
        _ => Err("found a set, expected: KEY in (…) or KEY notin (…)".to_owned()),
    }
}

fn label_key(text: &str) -> Result<String, String> {
    let key = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if key.is_empty() || !key.chars().all(plain) {
        return Err(format!("{key:?} is not a label key"));
    }
    Ok(key.to_owned())
}

fn label_value(text: &str) -> Result<String, String> {
    let value = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if value.len() > 63 || !value.chars().all(plain) {
        return Err(format!("{value:?} is not a label value"));
    }
    Ok(value.to_owned())
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    path: String,
    value: String,
    negated: bool,
}

/// A parsed `fieldSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<FieldTerm>);

impl FieldSelector {
    /// Parses a selector whose paths must be among `selectable`.
    pub(crate) fn parse(text: &str, selectable: &dyn Fn(&str) -> Answer<()>) -> Answer<Self> {
        let mut terms = Vec::new();
        for term in split_unescaped(text).into_iter().filter(|t| !t.is_empty()) {
            let found = [("!=", true), ("==", false), ("=", false)]
                .into_iter()
                .find_map(|(op, negated)| term.split_once(op).map(|(path, value)| (path, value, negated)));
            let Some((path, value, negated)) = found else {
                return Err(Status::bad_request(format!(
                    "invalid selector: {text:?}; can't understand {term:?}"
                )));
            };
            selectable(path)?;
            terms.push(FieldTerm { path: path.to_owned(), value: unescape(value), negated });
        }
        Ok(Self(terms))
    }

    /// Whether an object whose selectable fields are given by `field` matches; an absent field is the empty string.
    pub(crate) fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|t| (field(&t.path).unwrap_or("") == t.value) != t.negated)
    }

    /// The one name that `metadata.name=X` asks for.
    pub(crate) fn exact_name(&self) -> Option<&str> {
        self.0.iter().find(|t| t.path == "metadata.name" && !t.negated).map(|t| t.value.as_str())
    }
}

fn split_unescaped(text: &str) -> Vec<String> {
    let (mut terms, mut current, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        if c == ',' && !escaped {
            terms.push(std::mem::take(&mut current));
        } else {
            current.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    terms.push(current);
    terms
}

fn unescape(value: &str) -> String {
    let (mut out, mut escaped) = (String::new(), false);
    for c in value.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("app", "db"), ("tier", "gold"), ("weight", "7")]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    #[test]
    fn label_selectors_match_as_in_kubernetes() {
        for (text, expected) in [
            ("", true),
            ("app=db", true),
            ("app==db,tier=gold", true),
            ("app!=db", false),
            ("absent!=x", true),
            ("app in (db, web)", true),
            ("app notin (db)", false),
            ("absent notin (db)", true),
            ("app", true),
            ("!app", false),
            ("!absent", true),
            ("weight>6", true),
            ("weight<7", false),
            ("app in (web),tier", false),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&labels()), expected, "{text}");
        }
    }

    #[test]
    fn a_bad_label_selector_is_named() {
        for text in ["app in (db", "a b", "app is (db)", "x>y", "a=b c"] {
            let error = LabelSelector::parse(text).unwrap_err();
            assert_eq!(error.code, 400);
            assert!(error.message.contains(text), "{}", error.message);
        }
    }

    #[test]
    fn field_selectors_know_their_paths() {
        let known = |path: &str| match path {
            "metadata.name" | "spec.nodeName" => Ok(()),
            _ => Err(Status::bad_request(format!("field label not supported: {path}"))),
        };
        let selector = FieldSelector::parse("metadata.name=a,spec.nodeName!=n1", &known).unwrap();
        assert_eq!(selector.exact_name(), Some("a"));
        let object = |name: &'static str, node: Option<&'static str>| {
            move |path: &str| if path == "metadata.name" { Some(name) } else { node }
        };
        assert!(selector.matches(object("a", None)));
        assert!(!selector.matches(object("a", Some("n1"))));
        assert!(!selector.matches(object("b", Some("n2"))));
        let error = FieldSelector::parse("spec.x=1", &known).unwrap_err();
        assert_eq!(error.message, "field label not supported: spec.x");
        assert_eq!(
            FieldSelector::parse("spec.nodeName=a\\,b", &known).unwrap(),
            FieldSelector(vec![FieldTerm {
                path: "spec.nodeName".into(),
                value: "a,b".into(),
                negated: false
            }])
        );
    }
}
