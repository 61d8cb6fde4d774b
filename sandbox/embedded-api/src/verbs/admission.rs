//! The way of every write: prune, fill in, validate, note the owner, store.

use serde_json::Value;
use structural_schema::{Operation, track_update};

use super::{Call, Written, metadata};
use crate::gc;
use crate::kinds::strategy::Strategy;
use crate::kinds::{crd, validation};
use crate::request::FieldValidation;
use crate::state::{State, finalizers};
use crate::status::{Answer, Cause, Status};
use crate::store::{Address, Key};

/// How the owner of the fields is noted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The manager owns what it changed.
    Track,
    /// Server-side apply has noted it already.
    Applied,
}

/// Drops fields that the schema does not know; refuses or warns, as the client asked.
pub(crate) fn prune(call: &Call<'_>, object: &mut Value, duplicates: &[String]) -> Answer<Vec<String>> {
    let unknown = call.version().schema.prune(object);
    let duplicates = duplicates.iter().map(|path| format!("duplicate field \"{path}\""));
    tell(call, duplicates.chain(unknown.iter().map(|path| format!("unknown field \"{path}\""))).collect())
}

/// What stood there twice, refused or warned of.
pub(crate) fn duplicates(call: &Call<'_>, duplicates: &[String]) -> Answer<Vec<String>> {
    tell(call, duplicates.iter().map(|path| format!("duplicate field \"{path}\"")).collect())
}

fn tell(call: &Call<'_>, errors: Vec<String>) -> Answer<Vec<String>> {
    match call.options.field_validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(errors),
        FieldValidation::Strict if errors.is_empty() => Ok(errors),
        FieldValidation::Strict => {
            let kind = &call.resource.kind;
            let errors = errors.join(", ");
            Err(Status::bad_request(format!(
                "{kind} in version \"{}\" cannot be handled as a {kind}: strict decoding error: {errors}",
                call.info.version
            )))
        }
    }
}

/// What Go could not decode: a built-in object with a wrong type anywhere, any object with one in its metadata.
pub(crate) fn check_types(call: &Call<'_>, object: &Value) -> Result<(), String> {
    let metadata_only;
    let typed = if call.resource.strategy == Strategy::Custom {
        metadata_only = serde_json::json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": object["metadata"],
        });
        &metadata_only
    } else {
        object
    };
    let causes = call.version().schema.validate(typed, None);
    let Some(cause) = causes.iter().find(|cause| cause.reason == "FieldValueTypeInvalid") else {
        return Ok(());
    };
    let (field, kind) = (&cause.field, &call.resource.kind);
    Err(format!("json: cannot unmarshal {kind}.{field}: {}", cause.message))
}

/// [`check_types`] for a whole object in a request's body.
pub(crate) fn check_body_types(call: &Call<'_>, object: &Value) -> Answer<()> {
    let (kind, version) = (&call.resource.kind, &call.info.version);
    check_types(call, object).map_err(|why| {
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    })
}

/// Stores a new object, or with `dryRun` only says what it would be.
pub(crate) fn admit_new(
    call: &Call<'_>,
    state: &mut State,
    mut object: Value,
    ownership: Ownership,
) -> Answer<Value> {
    metadata::begin(call, state, &mut object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let key = call.key_of(&name);
    let address = Address { table: call.resource.table(), key: key.clone() };
    state.check_namespace(&call.resource, &key)?;
    if call.resource.strategy == Strategy::Custom {
        state.check_definition(&call.resource, &name)?;
    }
    if state.store.get(&address.table, &key).is_some() {
        return Err(Status::already_exists(call.resource.subject(&name)));
    }
    if call.version().status_subresource && !call.resource.strategy.keeps_status_at_creation() {
        call.version().schema.reset_fields("", &mut object, None);
    }
    complete(call, state, &mut object, None)?;
    validate(call, &object, None)?;
    if ownership == Ownership::Track {
        track(call, None, &mut object);
    }
    if call.options.dry_run {
        return Ok(object);
    }
    store(call, state, &address, object)
}

/// Stores a changed object.
pub(crate) fn admit_change(
    call: &Call<'_>,
    state: &mut State,
    mut new: Value,
    old: &Value,
    ownership: Ownership,
) -> Answer<Value> {
    check_preconditions(call, &new, old)?;
    metadata::carry_over(call, &mut new, old);
    call.version().schema.reset_fields(call.subresource(), &mut new, Some(old));
    complete(call, state, &mut new, Some(old))?;
    metadata::count_generation(call, &mut new, old);
    validate(call, &new, Some(old))?;
    if ownership == Ownership::Track {
        track(call, Some(old), &mut new);
    }
    if call.options.dry_run || new == *old {
        return Ok(new);
    }
    let address = call.address();
    let last_finalizer_left = !new["metadata"]["deletionTimestamp"].is_null() && finalizers(&new).is_empty();
    let stored = store(call, state, &address, new)?;
    if last_finalizer_left && call.resource.strategy != Strategy::Namespace {
        gc::erase(state, &address, call.now);
    }
    if last_finalizer_left && call.resource.strategy == Strategy::Namespace {
        gc::finish_namespace(state, &address.key.name, call.now);
    }
    Ok(stored)
}

/// A stale resourceVersion or another uid is a conflict.
fn check_preconditions(call: &Call<'_>, new: &Value, old: &Value) -> Answer<()> {
    let subject = call.resource.subject(call.name());
    let given = |field: &str| new["metadata"][field].as_str().filter(|v| !v.is_empty());
    if let Some(uid) = given("uid")
        && old["metadata"]["uid"] != uid
    {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old["metadata"]["uid"].as_str().unwrap_or("")
        );
        return Err(Status::conflict(subject, &why));
    }
    match given("resourceVersion") {
        Some(version) if old["metadata"]["resourceVersion"] != version => Err(Status::conflict(
            subject,
            "the object has been modified; please apply your changes to the latest version and try again",
        )),
        _ => Ok(()),
    }
}

fn complete(call: &Call<'_>, state: &State, object: &mut Value, old: Option<&Value>) -> Answer<()> {
    call.version().schema.apply_defaults(object);
    if call.subresource().is_empty() {
        call.resource.strategy.prepare(object, old);
    }
    match call.resource.strategy {
        Strategy::Service if call.subresource().is_empty() => {
            state.services.complete(object, old).map_err(|causes| invalid(call, object, causes))
        }
        Strategy::Crd => {
            crd::complete_names(object);
            if old.is_none() {
                object["metadata"]["finalizers"] = with_cleanup(object);
            }
            crd::establish(object, &call.time());
            Ok(())
        }
        _ => Ok(()),
    }
}

fn with_cleanup(crd: &Value) -> Value {
    let mut list: Vec<&str> = finalizers(crd).into_iter().collect();
    if !list.contains(&crd::CLEANUP) {
        list.push(crd::CLEANUP);
    }
    list.into()
}

fn validate(call: &Call<'_>, new: &Value, old: Option<&Value>) -> Answer<()> {
    let mut causes = metadata::validate(call, new, old);
    let mut schema = call.version().schema.validate(new, old);
    // What an owner reference lacks has been said.
    let own = validation::causes(&call.resource, new, old);
    let said = |field: &str| {
        let below = format!("{field}.");
        own.iter().any(|cause| cause.field == field || cause.field.starts_with(&below))
    };
    schema.retain(|cause| !cause.field.starts_with("metadata.ownerReferences[") && !said(&cause.field));
    if let Some(fields) = call.resource.strategy.keyed_fields() {
        causes.extend(fields.iter().flat_map(|field| bad_keys(new, field)));
    }
    causes.extend(own);
    causes.extend(schema.into_iter().map(|c| Cause {
        reason: c.reason.to_owned(),
        message: c.message,
        field: c.field,
    }));
    if let Some(old) = old {
        causes.extend(call.resource.strategy.forbidden_changes(new, old));
    }
    if call.resource.strategy == Strategy::Crd
        && let Err(more) = crd::resource(new)
    {
        causes.extend(more);
    }
    if causes.is_empty() { Ok(()) } else { Err(invalid(call, new, causes)) }
}

/// The keys of a ConfigMap or a Secret become the names of files.
fn bad_keys(object: &Value, field: &str) -> Vec<Cause> {
    const WHY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    let good = |key: &str| {
        !key.is_empty()
            && key.len() <= 253
            && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let keys = object[field].as_object().into_iter().flatten().map(|(key, _)| key);
    let cause = |key: &String| Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: format!("Invalid value: {key:?}: {WHY}"),
        field: format!("{field}[{key}]"),
    };
    keys.filter(|key| !good(key)).map(cause).collect()
}

pub(crate) fn invalid(call: &Call<'_>, object: &Value, causes: Vec<Cause>) -> Status {
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    Status::invalid(call.resource.kind_subject(name), causes)
}

fn track(call: &Call<'_>, old: Option<&Value>, new: &mut Value) {
    let (api_version, time) = (call.api_version(), call.time());
    track_update(&call.version().schema, old, new, &call.manager(Operation::Update, &api_version, &time));
}

fn store(call: &Call<'_>, state: &mut State, address: &Address, mut object: Value) -> Answer<Value> {
    call.resource.keep(&mut object);
    let stored = state.commit(&call.resource, &address.key, object);
    let mut answer = stored.decode();
    call.resource.show(&mut answer, &call.info.version);
    gc::after_write(state, address, call.now);
    Ok(answer)
}

/// The stored object in the version of the path.
pub(crate) fn live(call: &Call<'_>, state: &State, key: &Key) -> Option<Value> {
    let mut object = state.load(&Address { table: call.resource.table(), key: key.clone() })?;
    call.resource.show(&mut object, &call.info.version);
    Some(object)
}

pub(crate) fn written(object: Value, created: bool, warnings: Vec<String>) -> Written {
    Written { object, created, warnings }
}
