//! Writes objects as an administrator would.

use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::MachineError;
use super::planes::Plane;
use crate::apis::api_of;

/// Who writes.
const WRITER: &str = "sandbox";
/// How long a kind may take from its definition until the server knows it, on a machine that has much else to do.
const ESTABLISHED: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// Applies the objects in order, each with its status where it has one.
pub(super) async fn apply(plane: &Plane, objects: Vec<Value>) -> Result<(), MachineError> {
    let client = plane.client();
    for mut value in objects {
        let status = value.as_object_mut().and_then(|object| object.remove("status"));
        let what = format!(
            "{} {}",
            value["kind"].as_str().unwrap_or_default(),
            value["metadata"]["name"].as_str().unwrap_or_default()
        );
        let failed = |error| MachineError::api(&plane.cluster, what.clone())(error);
        let object: DynamicObject =
            serde_json::from_value(value).map_err(kube::Error::SerdeError).map_err(failed)?;
        let api = api_of(&client, &object);
        patiently(&api, &object).await.map_err(failed)?;
        if let Some(status) = status {
            let patch = Patch::Merge(json!({"status": status}));
            api.patch_status(&object.name_any(), &PatchParams::default(), &patch).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// A kind that has just been defined is not served at once, and the service accounts of a new namespace come later.
async fn patiently(api: &Api<DynamicObject>, object: &DynamicObject) -> Result<(), kube::Error> {
    let until = Instant::now() + ESTABLISHED;
    let parameters = PatchParams::apply(WRITER).force();
    loop {
        match api.patch(&object.name_any(), &parameters, &Patch::Apply(object)).await {
            Err(kube::Error::Api(answer)) if matches!(answer.code, 403 | 404) && Instant::now() < until => {
                tokio::time::sleep(LOOK).await;
            }
            other => return other.map(drop),
        }
    }
}
