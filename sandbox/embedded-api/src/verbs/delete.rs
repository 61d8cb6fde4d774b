//! DELETE of one object or of a selection.

use serde_json::Value;

use super::{Call, list};
use crate::gc::{self, Deleted, Propagation};
use crate::kinds::strategy::Strategy;
use crate::request;
use crate::state::State;
use crate::status::{Answer, Status};
use crate::store::Address;

/// The namespaces that a cluster cannot do without.
const KEPT_NAMESPACES: &[&str] = &["default", "kube-public", "kube-system"];

/// What the request and its body say about a delete.
#[derive(Debug, Default)]
pub(crate) struct DeleteOptions {
    propagation: Option<Propagation>,
    uid: Option<String>,
    resource_version: Option<String>,
    dry_run: bool,
}

impl DeleteOptions {
    /// Reads the query and the body, which wins.
    pub(crate) fn read(call: &Call<'_>, body: &Value) -> Answer<Self> {
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let policy = word(&body["propagationPolicy"]).or_else(|| call.options.propagation_policy.clone());
        let orphan = body["orphanDependents"].as_bool().or(call.options.orphan_dependents);
        if let (Some(policy), Some(_)) = (&policy, orphan) {
            let message = format!(
                "Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"
            );
            return Err(invalid_options("FieldValueInvalid", &message));
        }
        let propagation = match (policy.as_deref(), orphan) {
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (None, None) => None,
            (Some(other), _) => {
                let message = format!(
                    "Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                );
                return Err(invalid_options("FieldValueNotSupported", &message));
            }
        };
        let mut dry_run = call.options.dry_run;
        for value in body["dryRun"].as_array().into_iter().flatten() {
            dry_run |= request::dry_run("DeleteOptions", value.as_str().unwrap_or_default())?;
        }
        Ok(Self {
            propagation,
            uid: word(&body["preconditions"]["uid"]),
            resource_version: word(&body["preconditions"]["resourceVersion"]),
            dry_run,
        })
    }

    fn check(&self, call: &Call<'_>, object: &Value) -> Answer<()> {
        let name = object["metadata"]["name"].as_str().unwrap_or("");
        let recreated = "The object might have been deleted and then recreated";
        for (word, field, wanted, guess) in [
            ("UID", "uid", &self.uid, recreated),
            (
                "ResourceVersion",
                "resourceVersion",
                &self.resource_version,
                "The object might have been modified",
            ),
        ] {
            let found = object["metadata"][field].as_str().unwrap_or("");
            if let Some(wanted) = wanted.as_deref().filter(|w| *w != found) {
                let why = format!(
                    "the {word} in the precondition ({wanted}) does not match the {word} in record ({found}). {guess}"
                );
                return Err(Status::conflict(call.resource.kind_subject(name), &why));
            }
        }
        Ok(())
    }
}

fn invalid_options(reason: &'static str, message: &str) -> Status {
    Status::invalid_options("DeleteOptions", "propagationPolicy", reason, message)
}

/// Deletes one object: a success Status when it is gone, the object itself while finalizers hold it.
pub(crate) fn delete(call: &Call<'_>, state: &mut State, options: &DeleteOptions) -> Answer<Value> {
    let address = call.address();
    if call.resource.strategy == Strategy::Namespace && KEPT_NAMESPACES.contains(&call.name()) {
        return Err(Status::forbidden(
            call.resource.subject(call.name()),
            "this namespace may not be deleted",
        ));
    }
    let object = state.load(&address).ok_or_else(|| call.not_found())?;
    options.check(call, &object)?;
    let done = || {
        if call.resource.strategy.returns_deleted() {
            let mut last = object.clone();
            call.resource.show(&mut last, &call.info.version);
            return last;
        }
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        Status::deleted(call.resource.subject(call.name()), uid)
    };
    if options.dry_run {
        return Ok(done());
    }
    let how = options.propagation.unwrap_or(Propagation::Background);
    match gc::delete(state, &address, how, call.now) {
        Some(Deleted::Pending(stored)) => {
            let mut left = stored.decode();
            call.resource.show(&mut left, &call.info.version);
            Ok(left)
        }
        Some(Deleted::Gone) | None => Ok(done()),
    }
}

/// Deletes what the selectors match, and lists it.
pub(crate) fn delete_collection(
    call: &Call<'_>,
    state: &mut State,
    options: &DeleteOptions,
) -> Answer<Vec<Value>> {
    let page = list::list(call, state)?;
    let mut objects = Vec::new();
    for stored in page.items {
        let mut object = stored.decode();
        options.check(call, &object)?;
        if !options.dry_run {
            let address = Address { table: call.resource.table(), key: stored.key.clone() };
            gc::delete(state, &address, options.propagation.unwrap_or(Propagation::Background), call.now);
        }
        call.resource.show(&mut object, &call.info.version);
        objects.push(object);
    }
    Ok(objects)
}
