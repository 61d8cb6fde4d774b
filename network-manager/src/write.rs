//! Carries out one write.

use std::{panic::AssertUnwindSafe, time::Duration};

use component::election::{Leadership, Term};
use futures::FutureExt;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};

use crate::{
    FIELD_MANAGER,
    index::Object,
    reconcile::{Action, Target, Write},
    watch::path,
};

/// An API server that does not answer costs one write this long, and no other.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("the API server refused it: {0}")]
    Refused(String),
    #[error("no answer within {PATIENCE:?}")]
    Late,
    #[error(transparent)]
    Transport(kube::Error),
    #[error("a fault of the network-manager itself: the write panicked")]
    Panicked,
    #[error("this replica does not lead any more")]
    NotLeading,
}

impl WriteError {
    /// As the metrics call it.
    pub(crate) fn result(&self) -> &'static str {
        match self {
            WriteError::Refused(_) => "refused",
            _ => "failed",
        }
    }
}

/// As [`write`], within a term: what comes after its end is another replica's to write. A panic costs this one write.
pub(crate) async fn write_within(
    (leadership, term): (Leadership, Term),
    client: Client,
    write: &Write,
) -> Result<Option<Object>, WriteError> {
    let written = AssertUnwindSafe(self::write(client, write)).catch_unwind();
    match leadership.within(term, written).await {
        None => Err(WriteError::NotLeading),
        Some(written) => written.unwrap_or(Err(WriteError::Panicked)),
    }
}

/// Carries out one write; the object as it is now, where it still is. Does IO.
async fn write(client: Client, write: &Write) -> Result<Option<Object>, WriteError> {
    let resource = path(write.target.resource);
    let api = Api::<DynamicObject>::all_with(client, &resource);
    let body = |part: Value| envelope(&resource.api_version, &resource.kind, &write.target, part);
    let done = async {
        match &write.action {
            Action::Addresses(status) | Action::Status(status) => {
                apply(&api, &write.target, body(json!({"status": status})), true).await.map(Some)
            }
            Action::Apply(content, _) => {
                apply(&api, &write.target, body(content.clone()), false).await.map(Some)
            }
            Action::Delete(uid) => delete(&api, &write.target.name, uid.clone()).await.map(|()| None),
        }
    };
    tokio::time::timeout(PATIENCE, done).await.unwrap_or(Err(WriteError::Late))
}

fn envelope(api_version: &str, kind: &str, target: &Target, mut part: Value) -> Value {
    part["apiVersion"] = json!(api_version);
    part["kind"] = json!(kind);
    part["metadata"]["name"] = json!(target.name);
    part
}

async fn apply(
    api: &Api<DynamicObject>,
    target: &Target,
    body: Value,
    status: bool,
) -> Result<Object, WriteError> {
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(&body);
    let object = if status {
        api.patch_status(&target.name, &parameters, &patch).await
    } else {
        api.patch(&target.name, &parameters, &patch).await
    };
    object.map(|object| Object::parse(target.resource, object)).map_err(refusal)
}

async fn delete(api: &Api<DynamicObject>, name: &str, uid: Option<String>) -> Result<(), WriteError> {
    let preconditions = Preconditions { uid, resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(name, &parameters).await.map_err(refusal) {
        Err(WriteError::Transport(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

fn refusal(error: kube::Error) -> WriteError {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 409 | 413 | 422) => {
            WriteError::Refused(status.message.clone())
        }
        error => WriteError::Transport(error),
    }
}

#[cfg(test)]
mod tests {
    use component::election::Candidate;
    use kube::client::Body;

    use super::*;
    use crate::{index::Resource, waves::Wave};

    #[tokio::test]
    async fn what_belongs_to_a_term_that_is_over_is_not_sent() {
        let service =
            tower::service_fn(async |request: http::Request<Body>| -> Result<http::Response<Body>, _> {
                Err(std::io::Error::other(format!("{} was sent", request.uri())))
            });
        let client = Client::new(service, "default");
        let target = Target { resource: Resource::NodeConfig, name: "a-n1".to_owned() };
        let write =
            Write { target, action: Action::Apply(json!({"spec": {}}), Wave::Others), notices: Vec::new() };
        let term = Leadership::unrivalled().term().unwrap();
        let (_candidate, never_led) = Candidate::new(client.clone(), "default", "lease", "a");
        let written = write_within((never_led, term), client.clone(), &write).await;
        assert!(matches!(written, Err(WriteError::NotLeading)), "{written:?}");
        let written = write_within((Leadership::unrivalled(), term), client, &write).await;
        assert!(matches!(written, Err(WriteError::Transport(_))), "{written:?}");
    }
}
