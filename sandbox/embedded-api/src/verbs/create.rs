//! POST: a new object.

use super::admission::{Ownership, admit_new, check_body_types, prune, written};
use super::{Call, Written, metadata};
use crate::decode::Body;
use crate::state::State;
use crate::status::{Answer, Status};

pub(crate) fn create(call: &Call<'_>, state: &mut State, body: Body) -> Answer<Written> {
    if call.info.name.is_some() {
        return Err(Status::method_not_allowed());
    }
    let mut object = body.value;
    metadata::match_path(call, &mut object)?;
    if object["metadata"]["resourceVersion"].as_str().is_some_and(|v| !v.is_empty()) {
        return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    let warnings = prune(call, &mut object, &body.duplicates)?;
    check_body_types(call, &object)?;
    let object = admit_new(call, state, object, Ownership::Track)?;
    Ok(written(object, true, warnings))
}
