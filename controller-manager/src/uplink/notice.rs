//! What people who look at the member alone are told of its way up: a condition of its copy of the Cluster.

use std::time::Duration;

use api::{Cluster, condition::State};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::{JOIN, switch::Line};

/// The type of the condition.
const CONDITION: &str = "ControlClusterReachable";
/// Its writer is another than that of the rest of a Cluster's status: each owns what it applies.
const FIELD_MANAGER: &str = "clusterlink-uplink";
const PATIENCE: Duration = Duration::from_secs(15);
/// After an attempt that failed: there is no copy of the Cluster yet, or no right to write to it.
const RETRY: Duration = Duration::from_secs(10);

/// Tells, once for each change.
pub(super) struct Notice {
    member: Client,
    cluster: String,
    said: Option<String>,
    again: Instant,
}

impl Notice {
    pub(super) fn new(member: Client, cluster: String) -> Self {
        Notice { member, cluster, said: None, again: Instant::now() }
    }

    pub(super) async fn tell(&mut self, line: &Line) {
        let Some(state) = state(line) else { return };
        if self.said.as_ref() == Some(&state.message) || Instant::now() < self.again {
            return;
        }
        let message = state.message.clone();
        let clusters: Api<Cluster> = Api::all(self.member.clone());
        let body = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": self.cluster},
            "status": {"conditions": [state.over(&[], None, Time(Timestamp::now()))]}});
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&body);
        let told = clusters.patch_status(&self.cluster, &parameters, &patch);
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(_)) => self.said = Some(message),
            failed => {
                tracing::debug!(cluster = self.cluster, ?failed, "the condition {CONDITION} was not written");
                self.again = Instant::now() + RETRY;
            }
        }
    }
}

fn state(line: &Line) -> Option<State> {
    let of = |status, reason: &str, message: &str| {
        Some(State { kind: CONDITION, status, reason: reason.to_owned(), message: message.to_owned() })
    };
    match line {
        Line::Untried => None,
        Line::Connected => of(true, "Connected", "facts go up and plans come down"),
        Line::Broken(_) => of(
            false,
            "NoAnswer",
            "the control cluster does not answer. What stands in this cluster stays as it is, and this ends by itself",
        ),
        Line::Rejected => of(
            false,
            "CredentialRejected",
            &format!(
                "the control cluster does not accept this cluster's credential: it has run out or was revoked. What stands in this cluster stays as it is; {JOIN}"
            ),
        ),
        Line::Unusable(why) => of(false, "NoCredential", &format!("{why}; {JOIN}")),
    }
}
