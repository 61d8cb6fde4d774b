//! GET of one object.

use serde_json::Value;

use super::Call;
use super::admission::live;
use crate::state::State;
use crate::status::{Answer, Status};

pub(crate) fn get(call: &Call<'_>, state: &State) -> Answer<Value> {
    let object = live(call, state, &call.key()).ok_or_else(|| call.not_found())?;
    // "At least as new as" is what everybody gets; a version of the future cannot be had.
    match call.options.resource_version {
        Some(asked) if asked > state.store.revision() => {
            Err(Status::too_large_resource_version(asked, state.store.revision()))
        }
        _ => Ok(object),
    }
}
