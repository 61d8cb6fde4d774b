//! GET of a collection: selectors, pages of one snapshot, and which age of it is asked.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Call;
use crate::kinds::strategy::Strategy;
use crate::selector::{FieldSelector, LabelSelector};
use crate::state::State;
use crate::status::{Answer, Status};
use crate::store::{Key, Stored, Table};

/// Which objects of a table a request is about.
pub(crate) struct Selection {
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    pub(crate) fn of(call: &Call<'_>) -> Answer<Self> {
        let version = call.version();
        let custom = call.resource.strategy == Strategy::Custom;
        let selectable = |path: &str| {
            let known = matches!(path, "metadata.name" | "metadata.namespace")
                || version.selectable.iter().any(|s| s == path);
            // The words of a kind that has no selectable fields of its own.
            let plain = !custom && version.selectable.is_empty();
            match known {
                true => Ok(()),
                false if plain => Err(Status::bad_request(format!(
                    "{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                ))),
                false => Err(Status::bad_request(format!("field label not supported: {path}"))),
            }
        };
        let text = |selector: &Option<String>| selector.clone().unwrap_or_default();
        let mut namespace = call.info.namespace.clone();
        if !call.resource.namespaced {
            namespace = None;
        }
        Ok(Self {
            namespace,
            labels: LabelSelector::parse(&text(&call.options.label_selector))?,
            fields: FieldSelector::parse(&text(&call.options.field_selector), &selectable)?,
        })
    }

    pub(crate) fn matches(&self, stored: &Stored) -> bool {
        self.namespace.as_ref().is_none_or(|ns| *ns == stored.key.namespace)
            && self.fields.exact_name().is_none_or(|name| name == stored.key.name)
            && self.labels.matches(&stored.labels)
            && self.fields.matches(|path| stored.field(path))
    }
}

/// One page of a list.
pub(crate) struct Page {
    pub(crate) items: Vec<Arc<Stored>>,
    pub(crate) revision: u64,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl Page {
    /// The list's own metadata.
    pub(crate) fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Some(token) = &self.continue_token {
            metadata["continue"] = json!(token);
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        metadata
    }
}

/// Where the next page begins, and in which snapshot.
#[derive(Debug, PartialEq, Eq)]
struct Continue {
    revision: u64,
    after: Key,
}

impl Continue {
    fn encode(&self) -> String {
        let body = json!({"v": "meta.k8s.io/v1", "rv": self.revision, "ns": self.after.namespace, "name": self.after.name});
        URL_SAFE_NO_PAD.encode(body.to_string())
    }

    fn decode(token: &str) -> Option<Self> {
        let body: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let word = |field: &str| Some(body[field].as_str()?.to_owned());
        Some(Self {
            revision: body["rv"].as_u64()?,
            after: Key { namespace: word("ns")?, name: word("name")? },
        })
    }
}

pub(crate) fn list(call: &Call<'_>, state: &State) -> Answer<Page> {
    let table = state.store.table(&call.resource.table()).ok_or_else(Status::no_such_resource)?;
    let selection = Selection::of(call)?;
    let from = start(call)?;
    let revision = snapshot_revision(call, state, from.as_ref())?;
    let candidates = snapshot(table, revision, state.store.revision(), from.is_some())?;
    let after = |s: &Arc<Stored>| from.as_ref().is_none_or(|f| s.key > f.after);
    let mut items: Vec<Arc<Stored>> =
        candidates.into_iter().filter(after).filter(|s| selection.matches(s)).collect();
    let limit = call.options.limit;
    let (mut continue_token, mut remaining) = (None, None);
    if limit > 0 && items.len() > limit {
        let plain = call.options.label_selector.is_none() && call.options.field_selector.is_none();
        remaining = plain.then(|| items.len() - limit);
        items.truncate(limit);
        continue_token = items.last().map(|last| Continue { revision, after: last.key.clone() }.encode());
    }
    Ok(Page { items, revision, continue_token, remaining })
}

fn start(call: &Call<'_>) -> Answer<Option<Continue>> {
    let Some(token) = &call.options.continue_token else { return Ok(None) };
    if call.options.resource_version.is_some_and(|v| v != 0) {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    let decoded = Continue::decode(token)
        .ok_or_else(|| Status::bad_request(format!("continue key is not valid: {token:?}")))?;
    Ok(Some(decoded))
}

/// The revision that the answer must show.
fn snapshot_revision(call: &Call<'_>, state: &State, from: Option<&Continue>) -> Answer<u64> {
    let current = state.store.revision();
    if let Some(from) = from {
        return Ok(from.revision);
    }
    let asked = call.options.resource_version;
    let exact = match (call.options.resource_version_match.as_deref(), asked) {
        (Some("Exact"), Some(asked)) if asked > 0 => true,
        (Some("NotOlderThan"), Some(_)) => false,
        (Some("Exact" | "NotOlderThan"), None) => {
            let message = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(invalid_match("FieldValueForbidden", message));
        }
        (Some("Exact"), _) => {
            let message = "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            return Err(invalid_match("FieldValueForbidden", message));
        }
        (Some(other), _) => {
            let message =
                format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\"");
            return Err(invalid_match("FieldValueNotSupported", &message));
        }
        // As in kube-apiserver, a page of a given version without a match rule is a page of exactly that version.
        (None, Some(asked)) => asked > 0 && call.options.limit > 0,
        (None, None) => false,
    };
    match asked {
        Some(asked) if asked > current => Err(Status::too_large_resource_version(asked, current)),
        Some(asked) if exact => Ok(asked),
        _ => Ok(current),
    }
}

fn invalid_match(reason: &'static str, message: &str) -> Status {
    Status::invalid_options("ListOptions", "resourceVersionMatch", reason, message)
}

fn snapshot(table: &Table, revision: u64, current: u64, continued: bool) -> Answer<Vec<Arc<Stored>>> {
    if revision == current {
        return Ok(table.objects().values().cloned().collect());
    }
    table.at(revision).map_err(|too_old| {
        let oldest = too_old.oldest;
        Status::expired(if continued {
            "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.".to_owned()
        } else {
            format!("The resourceVersion for the provided list is too old: {revision} ({oldest})")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continue_token_is_read_back() {
        let token = Continue { revision: 7, after: Key { namespace: "n".into(), name: "x".into() } };
        assert_eq!(Continue::decode(&token.encode()), Some(token));
        assert_eq!(Continue::decode("nonsense"), None);
    }
}
