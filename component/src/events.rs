//! Events: what conditions say, when they change.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams},
};

/// Where Events on objects without a namespace live.
const NAMESPACE: &str = "default";
/// `message` holds at most so many bytes.
const MESSAGE: usize = 1024;
/// A name is a DNS subdomain: at most so many characters, all of one byte.
const NAME: usize = 253;
/// What follows the object's name in an Event's.
const DIGEST: usize = ".0123456789abcdef".len();

/// Tells of changed conditions. That an Event is lost is worth a line in the log, and no more.
/// `component` is the field manager of whoever tells.
pub async fn publish(
    client: Client,
    component: &'static str,
    object: ObjectReference,
    conditions: Vec<Condition>,
) {
    let events: Api<Event> = Api::namespaced(client, NAMESPACE);
    for condition in conditions {
        let event = event(component, &object, &condition, Time(Timestamp::now()));
        if let Err(error) = tell(&events, component, event).await {
            tracing::warn!(%error, reason = condition.reason, name = object.name, "an Event could not be published");
        }
    }
}

/// The same sentence again is the same Event, counted.
async fn tell(events: &Api<Event>, component: &str, event: Event) -> Result<(), kube::Error> {
    let name = event.metadata.name.clone().unwrap_or_default();
    let before = events.get_opt(&name).await?;
    let event = Event {
        count: Some(before.as_ref().and_then(|before| before.count).unwrap_or(0) + 1),
        first_timestamp: before.and_then(|before| before.first_timestamp).or(event.first_timestamp),
        ..event
    };
    let parameters = PatchParams::apply(component).force();
    events.patch(&name, &parameters, &Patch::Apply(&event)).await.map(drop)
}

fn event(component: &str, object: &ObjectReference, condition: &Condition, now: Time) -> Event {
    let mut hasher = DefaultHasher::new();
    (&object.kind, &condition.type_, &condition.status, &condition.reason, &condition.message)
        .hash(&mut hasher);
    let name = object.name.as_deref().unwrap_or_default();
    // The digest tells two long names apart whose beginnings are one.
    name.hash(&mut hasher);
    let name = beginning(name, NAME - DIGEST).trim_end_matches(['.', '-']);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:016x}", hasher.finish())),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: object.clone(),
        type_: Some(if condition.status == "True" { "Normal" } else { "Warning" }.to_owned()),
        reason: Some(condition.reason.clone()),
        message: Some(shortened(condition.message.clone())),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        ..Event::default()
    }
}

fn shortened(text: String) -> String {
    if text.len() <= MESSAGE {
        return text;
    }
    beginning(&text, MESSAGE - '…'.len_utf8()).to_owned() + "…"
}

/// As many whole characters as `bytes` hold.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
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

    #[test]
    fn an_object_with_the_longest_name_has_events_that_are_its_own() {
        let name = |object: &str| {
            let object = ObjectReference { name: Some(object.to_owned()), ..ObjectReference::default() };
            let condition = Condition {
                type_: "Planned".to_owned(),
                status: "False".to_owned(),
                reason: "NoAddress".to_owned(),
                message: String::new(),
                last_transition_time: Time(Timestamp::UNIX_EPOCH),
                observed_generation: None,
            };
            event("tests", &object, &condition, Time(Timestamp::UNIX_EPOCH)).metadata.name.unwrap_or_default()
        };
        let long = |last: char| format!("{}{last}", "n".repeat(NAME - 1));
        assert_eq!(name(&long('a')).len(), NAME);
        assert_ne!(name(&long('a')), name(&long('b')));
        assert!(name("a-n1").starts_with("a-n1."));
        let dotted = name(&format!("{}.{}", "n".repeat(NAME - DIGEST - 1), "m".repeat(DIGEST)));
        assert!(!dotted.contains(".."), "{dotted}");
    }
}
