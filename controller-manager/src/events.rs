//! Events on the own Cluster: what its conditions say, when they change.

use std::hash::{DefaultHasher, Hash, Hasher};

use api::Cluster;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, Patch, PatchParams},
};

use crate::FIELD_MANAGER;

/// Where Events on objects without a namespace live.
const NAMESPACE: &str = "default";
/// `message` holds at most so many bytes.
const MESSAGE: usize = 1024;

/// Tells of changed conditions. That an Event is lost is worth a line in the log, and no more.
pub(crate) async fn publish(client: Client, cluster: Cluster, conditions: Vec<Condition>) {
    let events: Api<Event> = Api::namespaced(client, NAMESPACE);
    for condition in conditions {
        if let Err(error) = tell(&events, &cluster, &condition).await {
            tracing::warn!(%error, reason = condition.reason, "an Event could not be published");
        }
    }
}

/// The same sentence again is the same Event, counted.
async fn tell(events: &Api<Event>, cluster: &Cluster, condition: &Condition) -> Result<(), kube::Error> {
    let event = event(cluster, condition, Time(Timestamp::now()));
    let name = event.metadata.name.clone().unwrap_or_default();
    let before = events.get_opt(&name).await?;
    let event = Event {
        count: Some(before.as_ref().and_then(|before| before.count).unwrap_or(0) + 1),
        first_timestamp: before.and_then(|before| before.first_timestamp).or(event.first_timestamp),
        ..event
    };
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    events.patch(&name, &parameters, &Patch::Apply(&event)).await.map(drop)
}

fn event(cluster: &Cluster, condition: &Condition, now: Time) -> Event {
    let mut hasher = DefaultHasher::new();
    (&condition.type_, &condition.status, &condition.reason, &condition.message).hash(&mut hasher);
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:016x}", hasher.finish())),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: cluster.object_ref(&()),
        type_: Some(if condition.status == "True" { "Normal" } else { "Warning" }.to_owned()),
        reason: Some(condition.reason.clone()),
        message: Some(shortened(condition.message.clone())),
        source: Some(EventSource { component: Some(FIELD_MANAGER.to_owned()), host: None }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        ..Event::default()
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > MESSAGE {
        let end = (0..=MESSAGE - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        assert_eq!(shortened("short".to_owned()), "short");
        let cut = shortened("é".repeat(MESSAGE));
        assert!(cut.len() <= MESSAGE && cut.ends_with('…'));
    }
}
