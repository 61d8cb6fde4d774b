//! Paths into an object, in the two spellings of kube-apiserver.

use std::fmt::Write as _;

/// Grows and shrinks with the walk; it is printed only where something is wrong.
#[derive(Debug, Default, Clone)]
pub(crate) struct Path(Vec<Step>);

#[derive(Debug, Clone)]
enum Step {
    Field(String),
    Key(String),
    Index(usize),
}

impl Path {
    /// A declared field.
    pub(crate) fn push_field(&mut self, name: &str) {
        self.0.push(Step::Field(name.to_owned()));
    }

    /// A key of a map.
    pub(crate) fn push_key(&mut self, name: &str) {
        self.0.push(Step::Key(name.to_owned()));
    }

    pub(crate) fn push_index(&mut self, index: usize) {
        self.0.push(Step::Index(index));
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    /// `spec.map.key[0]`: the spelling of pruning and of the OpenAPI validator. Empty for the object itself.
    pub(crate) fn dotted(&self) -> String {
        self.print(false)
    }

    /// `spec.map[key][0]`: the spelling of list types and of CEL rules; `<nil>` for the object itself.
    pub(crate) fn bracketed(&self) -> String {
        if self.0.is_empty() { "<nil>".to_owned() } else { self.print(true) }
    }

    fn print(&self, bracket_keys: bool) -> String {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Step::Index(index) => _ = write!(text, "[{index}]"),
                Step::Key(name) if bracket_keys => _ = write!(text, "[{name}]"),
                Step::Field(name) | Step::Key(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
            }
        }
        text
    }
}
