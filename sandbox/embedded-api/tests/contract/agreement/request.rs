//! What is asked.

use serde_json::Value;

/// A request. `NS` stands for the namespace, `GROUP` for the group of the widgets.
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) media_type: &'static str,
    pub(super) body: String,
    /// Set where the words are those of Go's decoders and nobody reads them.
    pub(super) in_other_words: bool,
    /// What of an accepted object is compared; kube-apiserver's admission plugins and Go's zero values fill up the rest.
    pub(super) only: Option<&'static [&'static str]>,
}

impl Request {
    pub(super) fn only(self, pointers: &'static [&'static str]) -> Self {
        Self { only: Some(pointers), ..self }
    }

    pub(super) fn in_other_words(self) -> Self {
        Self { in_other_words: true, ..self }
    }
}

pub(super) const JSON: &str = "application/json";
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const PATCH: &str = "application/json-patch+json";
pub(super) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(super) const APPLY: &str = "application/apply-patch+yaml";

pub(super) fn get(path: &'static str) -> Request {
    text("GET", path, JSON, "")
}

pub(super) fn delete(path: &'static str) -> Request {
    text("DELETE", path, JSON, "")
}

pub(super) fn post(path: &'static str, body: Value) -> Request {
    text("POST", path, JSON, &body.to_string())
}

pub(super) fn put(path: &'static str, body: Value) -> Request {
    text("PUT", path, JSON, &body.to_string())
}

pub(super) fn patch(path: &'static str, media_type: &'static str, body: Value) -> Request {
    text("PATCH", path, media_type, &body.to_string())
}

pub(super) fn text(
    method: &'static str,
    path: &'static str,
    media_type: &'static str,
    body: &str,
) -> Request {
    Request { method, path, media_type, body: body.to_owned(), in_other_words: false, only: None }
}
