//! PUT: a whole object, or a whole status, in place of the stored one.

use super::admission::{Ownership, admit_change, check_body_types, live, prune, written};
use super::{Call, Written, metadata};
use crate::decode::Body;
use crate::state::State;
use crate::status::{Answer, Cause, Status};

pub(crate) fn update(call: &Call<'_>, state: &mut State, body: Body) -> Answer<Written> {
    if call.info.name.is_none() {
        return Err(Status::method_not_allowed());
    }
    let mut object = body.value;
    metadata::match_path(call, &mut object)?;
    let warnings = prune(call, &mut object, &body.duplicates)?;
    check_body_types(call, &object)?;
    let old = live(call, state, &call.key()).ok_or_else(|| call.not_found())?;
    let unconditional = object["metadata"]["resourceVersion"].as_str().is_none_or(str::is_empty);
    if unconditional && !call.resource.strategy.allows_unconditional_update() {
        let cause = Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: "Invalid value: 0: must be specified for an update".to_owned(),
            field: "metadata.resourceVersion".to_owned(),
        };
        return Err(Status::invalid(call.resource.subject(call.name()), vec![cause]));
    }
    let object = admit_change(call, state, object, &old, Ownership::Track)?;
    Ok(written(object, false, warnings))
}
