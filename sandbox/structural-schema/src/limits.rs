//! The value validations of one schema node: limits on a number, a text, a list or an object, and enumerations.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Map, Number, Value};

use crate::cause::{Cause, float_text};
use crate::compile::{CompileError, fault};
use crate::formats::Format;

/// Everything that can be said of a value without looking at its parts.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    enumeration: Option<Vec<Value>>,
    pub(crate) format: Option<Format>,
    pub(crate) format_name: String,
    pattern: Option<Regex>,
    minimum: Option<Bound>,
    maximum: Option<Bound>,
    multiple_of: Option<f64>,
    length: Range,
    items: Range,
    properties: Range,
    unique_items: bool,
}

#[derive(Debug)]
struct Bound {
    value: f64,
    exclusive: bool,
}

#[derive(Debug, Default)]
struct Range {
    min: Option<u64>,
    max: Option<u64>,
}

impl Limits {
    pub(crate) fn compile(keywords: &Map<String, Value>, path: &str) -> Result<Limits, CompileError> {
        let pattern = keywords.get("pattern").and_then(Value::as_str).filter(|pattern| !pattern.is_empty());
        let pattern = pattern
            .map(|pattern| {
                Regex::new(pattern).map_err(|error| {
                    fault(
                        &format!("{path}.pattern"),
                        format!("`{pattern}` is not a regular expression: {error}"),
                    )
                })
            })
            .transpose()?;
        let format_name = keywords.get("format").and_then(Value::as_str).unwrap_or_default();
        Ok(Limits {
            enumeration: enumeration(keywords),
            format: Format::parse(format_name),
            format_name: format_name.to_owned(),
            pattern,
            minimum: Bound::compile(keywords, "minimum", "exclusiveMinimum"),
            maximum: Bound::compile(keywords, "maximum", "exclusiveMaximum"),
            multiple_of: keywords.get("multipleOf").and_then(Value::as_f64),
            length: Range::compile(keywords, "minLength", "maxLength"),
            items: Range::compile(keywords, "minItems", "maxItems"),
            properties: Range::compile(keywords, "minProperties", "maxProperties"),
            unique_items: keywords.get("uniqueItems").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    /// What is wrong with `value` at `path`.
    pub(crate) fn check(&self, path: &str, value: &Value, causes: &mut Vec<Cause>) {
        match value {
            Value::String(text) => self.check_text(path, value, text, causes),
            Value::Number(number) => self.check_number(path, value, number, causes),
            Value::Array(items) => self.check_list(path, items, causes),
            Value::Object(members) => self.check_object(path, members.len(), causes),
            Value::Null | Value::Bool(_) => {}
        }
        if let Some(allowed) = &self.enumeration
            && !allowed.iter().any(|allowed| same(allowed, value))
        {
            causes.push(Cause::not_supported(path, value, allowed));
        }
    }

    fn check_text(&self, path: &str, value: &Value, text: &str, causes: &mut Vec<Cause>) {
        let length = text.chars().count() as u64;
        if let Some(max) = self.length.max.filter(|max| length > *max) {
            causes.push(Cause::too_long(path, max));
        } else if let Some(min) = self.length.min.filter(|min| length < *min) {
            causes.push(Cause::invalid(
                path,
                value,
                &format!("{path} in body should be at least {min} chars long"),
            ));
        } else if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            causes.push(Cause::invalid(path, value, &format!("{path} in body should match '{pattern}'")));
        }
        if self.format.is_some_and(|format| !format.accepts(text)) {
            let detail = format!("{path} in body must be of type {}: {value}", self.format_name);
            causes.push(Cause::type_invalid(path, text, &detail));
        }
    }

    fn check_number(&self, path: &str, value: &Value, number: &Number, causes: &mut Vec<Cause>) {
        let Some(float) = number.as_f64() else { return };
        if self.format_name == "int32" && (float < f64::from(i32::MIN) || float > f64::from(i32::MAX)) {
            let detail = format!("Checked value must be of type integer with format int32 in {path}");
            causes.push(Cause::invalid("", &Value::from(""), &detail));
        }
        let mut refuse = |words: &str, limit: f64| {
            causes.push(Cause::invalid(
                path,
                value,
                &format!("{path} in body should be {words} {}", float_text(limit)),
            ));
        };
        if let Some(factor) =
            self.multiple_of.filter(|factor| *factor > 0.0 && (float / factor).fract() != 0.0)
        {
            refuse("a multiple of", factor);
        }
        if let Some(bound) = &self.maximum {
            match bound.exclusive {
                true if float >= bound.value => refuse("less than", bound.value),
                false if float > bound.value => refuse("less than or equal to", bound.value),
                _ => {}
            }
        }
        if let Some(bound) = &self.minimum {
            match bound.exclusive {
                true if float <= bound.value => refuse("greater than", bound.value),
                false if float < bound.value => refuse("greater than or equal to", bound.value),
                _ => {}
            }
        }
    }

    fn check_list(&self, path: &str, items: &[Value], causes: &mut Vec<Cause>) {
        let length = items.len() as u64;
        if let Some(min) = self.items.min.filter(|min| length < *min) {
            causes.push(Cause::invalid(
                path,
                &Value::from(length),
                &format!("{path} in body should have at least {min} items"),
            ));
        }
        if let Some(max) = self.items.max.filter(|max| length > *max) {
            causes.push(Cause::too_many(path, items.len(), max));
        }
        let mut seen = BTreeSet::new();
        if self.unique_items && !items.iter().all(|item| seen.insert(item.to_string())) {
            causes.push(Cause::invalid(
                path,
                &Value::from(""),
                &format!("{path} in body shouldn't contain duplicates"),
            ));
        }
    }

    fn check_object(&self, path: &str, found: usize, causes: &mut Vec<Cause>) {
        let count = found as u64;
        if let Some(min) = self.properties.min.filter(|min| count < *min) {
            causes.push(Cause::invalid(
                path,
                &Value::from(count),
                &format!("{path} in body should have at least {min} properties"),
            ));
        }
        if let Some(max) = self.properties.max.filter(|max| count > *max) {
            causes.push(Cause::too_many(path, found, max));
        }
    }
}

impl Bound {
    /// `exclusiveMinimum` is a boolean beside `minimum` in OpenAPI v3 (draft 4), and a bound of its own in later drafts.
    fn compile(keywords: &Map<String, Value>, keyword: &str, exclusive: &str) -> Option<Bound> {
        if let Some(value) = keywords.get(exclusive).and_then(Value::as_f64) {
            return Some(Bound { value, exclusive: true });
        }
        let value = keywords.get(keyword).and_then(Value::as_f64)?;
        Some(Bound { value, exclusive: keywords.get(exclusive).and_then(Value::as_bool).unwrap_or(false) })
    }
}

impl Range {
    fn compile(keywords: &Map<String, Value>, min: &str, max: &str) -> Range {
        let number = |keyword| keywords.get(keyword).and_then(Value::as_u64);
        Range { min: number(min), max: number(max) }
    }
}

fn enumeration(keywords: &Map<String, Value>) -> Option<Vec<Value>> {
    let listed = keywords.get("enum").and_then(Value::as_array).cloned();
    listed.or_else(|| keywords.get("const").map(|only| vec![only.clone()]))
}

/// JSON equality, in which 1 and 1.0 are the same number.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64() && (left.is_f64() || right.is_f64())
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, member)| right.get(name).is_some_and(|other| same(member, other)))
        }
        (left, right) => left == right,
    }
}
