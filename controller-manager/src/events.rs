//! Events on the own Cluster: what its conditions say, when they change.

use api::Cluster;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::FIELD_MANAGER;

/// `note` holds at most so many bytes.
const NOTE: usize = 1024;

/// Tells of changed conditions. That an Event is lost is worth a line in the log, and no more.
pub(crate) async fn publish(client: Client, cluster: Cluster, conditions: Vec<Condition>) {
    let reporter = Reporter { controller: FIELD_MANAGER.into(), instance: None };
    let recorder = Recorder::new(client, reporter);
    let reference = cluster.object_ref(&());
    for condition in conditions {
        let event = Event {
            type_: if condition.status == "True" { EventType::Normal } else { EventType::Warning },
            reason: condition.reason,
            note: Some(shortened(condition.message)),
            action: condition.type_,
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::warn!(%error, reason = event.reason, "an Event could not be published");
        }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > NOTE {
        let end = (0..=NOTE - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(shortened("short".to_owned()), "short");
        let cut = shortened("é".repeat(NOTE));
        assert!(cut.len() <= NOTE && cut.ends_with('…'));
    }
}
