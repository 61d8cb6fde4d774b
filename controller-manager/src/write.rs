//! Carries out one change.

use std::{panic::AssertUnwindSafe, time::Duration};

use api::ClusterNode;
use component::election::{Leadership, Term};
use futures::FutureExt;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

use crate::{
    FIELD_MANAGER,
    build::foreign_owner,
    diff::{Action, Change},
    index::Trouble,
    watch::resource,
};

/// An API server that does not answer costs one write this long, and no other.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a change was not carried out.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It would fail again: worth a condition.
    Lasting(Trouble),
    /// It may well work the next time.
    Passing(String),
    /// It is another replica's to write.
    NotLeading,
}

/// As [`write`], within a term: what comes after its end is another replica's to write. A panic costs this one write.
pub(crate) async fn write_within(
    (leadership, term): (Leadership, Term),
    client: Client,
    cluster: String,
    change: &Change,
) -> Result<(), Failure> {
    let written = AssertUnwindSafe(write(client, cluster, change)).catch_unwind();
    match leadership.within(term, written).await {
        None => Err(Failure::NotLeading),
        Some(Ok(written)) => written,
        Some(Err(_)) => {
            Err(Failure::Passing("a fault of the controller-manager itself: the write panicked".to_owned()))
        }
    }
}

/// Carries out one change. Does IO.
async fn write(client: Client, cluster: String, change: &Change) -> Result<(), Failure> {
    let late = || Failure::Passing(format!("no answer within {PATIENCE:?}"));
    let resource = resource(change.target.kind);
    let api = Api::<DynamicObject>::all_with(client, &resource);
    let written = tokio::time::timeout(PATIENCE, perform(&api, &resource, &cluster, change));
    written.await.unwrap_or_else(|_| Err(late()))
}

async fn perform(
    api: &Api<DynamicObject>,
    resource: &ApiResource,
    cluster: &str,
    change: &Change,
) -> Result<(), Failure> {
    let name = &change.target.name;
    match &change.action {
        Action::Create(body) => {
            claim(api, resource, cluster, name, body).await?;
            apply(api, name, body, false).await
        }
        Action::Apply(body) => apply(api, name, body, change.target.status).await,
        Action::Delete(uid) => delete(api, name, uid.clone()).await,
    }
}

async fn apply(api: &Api<DynamicObject>, name: &str, body: &Value, status: bool) -> Result<(), Failure> {
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(body);
    let applied = if status {
        api.patch_status(name, &parameters, &patch).await
    } else {
        api.patch(name, &parameters, &patch).await
    };
    applied.map(drop).map_err(failure)
}

/// Makes a ClusterNode ours before anything is applied to it: server-side apply would merge two clusters' nodes into
/// one object, creation refuses the second.
async fn claim(
    api: &Api<DynamicObject>,
    resource: &ApiResource,
    cluster: &str,
    name: &str,
    body: &Value,
) -> Result<(), Failure> {
    let spec = json!({"clusterName": body["spec"]["clusterName"], "nodeName": body["spec"]["nodeName"]});
    let mut object = DynamicObject::new(name, resource).data(json!({"spec": spec}));
    object.metadata.labels = serde_json::from_value(body["metadata"]["labels"].clone()).ok();
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&parameters, &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            let there = api.get(name).await.map_err(failure)?;
            let node: ClusterNode = there.try_parse().map_err(|error| Failure::Passing(error.to_string()))?;
            match foreign_owner(&node, cluster) {
                Some(owner) => Err(Failure::Lasting(Trouble::Foreign { owner: owner.to_owned() })),
                None => Ok(()),
            }
        }
        Err(error) => Err(failure(error)),
    }
}

async fn delete(api: &Api<DynamicObject>, name: &str, uid: Option<String>) -> Result<(), Failure> {
    let preconditions = Preconditions { uid, resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(failure(error)),
    }
}

/// What the API server calls forbidden, invalid or too large stays so until somebody changes something.
fn failure(error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 413 | 422) => {
            Failure::Lasting(Trouble::Rejected { answer: status.message.clone() })
        }
        kube::Error::Api(status) => Failure::Passing(status.message.clone()),
        error => Failure::Passing(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use component::election::Candidate;
    use kube::client::Body;

    use super::*;
    use crate::index::{Kind, Side, Target};

    #[tokio::test]
    async fn what_belongs_to_a_term_that_is_over_is_not_sent() {
        let service =
            tower::service_fn(async |request: http::Request<Body>| -> Result<http::Response<Body>, _> {
                Err(std::io::Error::other(format!("{} was sent", request.uri())))
            });
        let client = Client::new(service, "default");
        let name = "east-n1".to_owned();
        let change = Change {
            target: Target { side: Side::Control, kind: Kind::ClusterNode, name, status: false },
            action: Action::Apply(json!({"spec": {}})),
            live: None,
            notices: Vec::new(),
        };
        let write = async |leadership| {
            let term = Leadership::unrivalled().term().unwrap();
            write_within((leadership, term), client.clone(), "east".to_owned(), &change).await
        };
        let (_candidate, never_led) = Candidate::new(client.clone(), "default", "lease", "a");
        let written = write(never_led).await;
        assert!(matches!(written, Err(Failure::NotLeading)), "{written:?}");
        let written = write(Leadership::unrivalled()).await;
        assert!(matches!(written, Err(Failure::Passing(_))), "{written:?}");
    }
}
