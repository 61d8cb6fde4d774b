//! What a NodeConfig's status says of an outcome.

use agent_core::Report;
use api::NodeConfigStatus;
use api::condition::{APPLIED, LAST_GOOD_KEPT, SPEC_SUPPORTED, State};
use api::node_config::Entries;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::keeper::Outcome;
use crate::linger::Remnant;
use crate::remember::Memory;

/// How many differences a status names: the rest is a number.
const MOST_NAMED: usize = 20;
/// How many of them a condition's message names.
const MOST_IN_MESSAGE: usize = 3;

/// The status after an outcome; `None` where nothing but the time would be new.
pub(crate) fn status(outcome: &Outcome, memory: &Memory, old: &NodeConfigStatus) -> Option<NodeConfigStatus> {
    let mut new = old.clone();
    new.observed_generation = outcome.generation();
    // The status speaks of seconds; what was written before this process started is not known to it.
    new.last_change_time = outcome.changed_at.map(time).or_else(|| old.last_change_time.clone());
    let mut states = match &outcome.result {
        Ok(report) => {
            let differing = u64::try_from(report.differing.len()).unwrap_or(u64::MAX);
            let desired = u64::try_from(report.desired).unwrap_or(u64::MAX);
            new.entries = Some(Entries { desired, differing });
            new.differing = report.differing.iter().take(MOST_NAMED).map(ToString::to_string).collect();
            vec![applied(report, outcome), supported(report)]
        }
        Err(error) => vec![State {
            kind: APPLIED,
            status: false,
            reason: "KernelFailed".to_owned(),
            message: format!("{error}; nothing is deleted, and it is tried again"),
        }],
    };
    states.extend(kept_on_disk(memory));
    let kept =
        old.conditions.iter().filter(|condition| states.iter().all(|state| state.kind != condition.type_));
    let mut conditions: Vec<_> = kept.cloned().collect();
    let now = time(outcome.at);
    conditions.extend(
        states.into_iter().map(|state| state.over(&old.conditions, outcome.generation(), now.clone())),
    );
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    new.conditions = conditions;
    if new == *old {
        return None;
    }
    if outcome.is_reached() {
        new.last_sync_time = Some(now);
    }
    Some(new)
}

fn time(timestamp: Timestamp) -> Time {
    Time(Timestamp::from_second(timestamp.as_second()).unwrap_or(timestamp))
}

fn applied(report: &Report, outcome: &Outcome) -> State {
    if report.is_applied() {
        let mut message = format!("{} kernel objects are as the spec says", report.desired);
        for notice in &report.notices {
            message.push_str(". ");
            message.push_str(notice);
        }
        message.push_str(&repaired(outcome));
        message.push_str(&lingering(outcome));
        return State { kind: APPLIED, status: true, reason: reason(&report.notices, "AsDesired"), message };
    }
    let named: Vec<String> = report.differing.iter().take(MOST_IN_MESSAGE).map(ToString::to_string).collect();
    let more = report.differing.len().saturating_sub(MOST_IN_MESSAGE);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    State {
        kind: APPLIED,
        status: false,
        reason: if report.is_settled() { "Contended" } else { "Differs" }.to_owned(),
        message: format!("{}{rest}{}", named.join("; "), lingering(outcome)),
    }
}

/// What is more than the spec asks for, and is neither drift nor failure.
fn lingering(outcome: &Outcome) -> String {
    let Some(Remnant { objects, until }) = outcome.lingers else { return String::new() };
    format!(". {objects} of an older spec linger until {}", time(until).0)
}

/// What somebody else changed, and was set right.
fn repaired(outcome: &Outcome) -> String {
    let each: Vec<String> =
        outcome.repairs.iter().map(|(kind, count)| format!("{count} {}", kind.word())).collect();
    if each.is_empty() {
        String::new()
    } else {
        format!(". Repaired since the agent started: {}", each.join(", "))
    }
}

/// Says nothing before anything was kept or could not be.
fn kept_on_disk(memory: &Memory) -> Option<State> {
    let aside = memory.set_aside.as_ref().map(|said| format!("; {said}")).unwrap_or_default();
    let (status, reason, message) = match (&memory.problem, memory.kept) {
        (Some(problem), _) => {
            (false, "CannotWrite", format!("{problem}; after a boot this node needs an API"))
        }
        (None, Some(generation)) => {
            (true, "Kept", format!("generation {generation} is kept for a boot without an API"))
        }
        (None, None) if memory.set_aside.is_some() => (false, "SetAside", "nothing is kept yet".to_owned()),
        (None, None) => return None,
    };
    Some(State {
        kind: LAST_GOOD_KEPT,
        status,
        reason: reason.to_owned(),
        message: format!("{message}{aside}"),
    })
}

/// A notice begins with its reason.
fn reason(notices: &[String], otherwise: &str) -> String {
    let word = notices.first().and_then(|notice| notice.split_once(':')).map(|(word, _)| word);
    word.unwrap_or(otherwise).to_owned()
}

fn supported(report: &Report) -> State {
    let status = report.unsupported.is_empty();
    State {
        kind: SPEC_SUPPORTED,
        status,
        reason: if status { "AllFields" } else { "FieldsIgnored" }.to_owned(),
        message: if status {
            "every field that is set is acted upon".to_owned()
        } else {
            report.unsupported.join("; ")
        },
    }
}

#[cfg(test)]
mod tests {
    use agent_core::{Difference, KernelError};

    use super::*;

    fn outcome(second: i64, result: Result<Report, KernelError>) -> Outcome {
        let at = Timestamp::from_second(second).unwrap();
        Outcome { at, ..crate::keeper::tests::outcome(result) }
    }

    fn status(outcome: &Outcome, old: &NodeConfigStatus) -> Option<NodeConfigStatus> {
        super::status(outcome, &Memory::default(), old)
    }

    fn differing(count: usize) -> Report {
        let one = |n: usize| Difference {
            kind: agent_core::Kind::Route,
            object: format!("route {n}"),
            problem: "cannot add".to_owned(),
            cause: agent_core::Cause::Failed,
        };
        Report { desired: 100, differing: (0..count).map(one).collect(), ..Report::default() }
    }

    #[test]
    fn time_alone_is_not_worth_a_write() {
        let good = || Ok(Report { desired: 9, ..Report::default() });
        let first = status(&outcome(10, good()), &NodeConfigStatus::default()).unwrap();
        assert_eq!(first.observed_generation, Some(3));
        assert_eq!(first.last_sync_time, Some(time(Timestamp::from_second(10).unwrap())));
        assert_eq!(status(&outcome(70, good()), &first), None);
        let worse = status(&outcome(80, Ok(differing(1))), &first).unwrap();
        // When it was equal for the last time.
        assert_eq!(worse.last_sync_time, first.last_sync_time);
        assert!(!api::condition::is_true(&worse.conditions, APPLIED));
    }

    #[test]
    fn a_thousand_differences_are_named_in_part_and_counted_in_full() {
        let status = status(&outcome(1, Ok(differing(1000))), &NodeConfigStatus::default()).unwrap();
        assert_eq!(status.entries, Some(Entries { desired: 100, differing: 1000 }));
        assert_eq!(status.differing.len(), 20);
        let message = &status.conditions.iter().find(|c| c.type_ == APPLIED).unwrap().message;
        assert!(message.ends_with("route 2: cannot add; and 997 more"), "{message}");
    }

    #[test]
    fn a_disk_that_takes_nothing_is_a_condition_and_so_is_what_was_set_aside() {
        let said = |memory: &Memory| {
            let good = outcome(1, Ok(Report::default()));
            let status = super::status(&good, memory, &NodeConfigStatus::default()).unwrap();
            let found = status.conditions.into_iter().find(|condition| condition.type_ == LAST_GOOD_KEPT);
            found.map(|found| (found.status, found.reason, found.message))
        };
        assert_eq!(said(&Memory::default()), None);
        let full =
            Memory { kept: Some(2), problem: Some("cannot write x: full".to_owned()), set_aside: None };
        let (status, reason, message) = said(&full).unwrap();
        assert_eq!((status.as_str(), reason.as_str()), ("False", "CannotWrite"));
        assert!(message.starts_with("cannot write x: full"), "{message}");
        let later = Memory { problem: None, set_aside: Some("it was corrupt".to_owned()), ..full };
        let (status, _, message) = said(&later).unwrap();
        assert_eq!(status, "True");
        assert!(message.contains("generation 2") && message.ends_with("it was corrupt"), "{message}");
    }

    #[test]
    fn what_lingers_is_told_with_its_end_and_makes_nothing_differ() {
        let until = Timestamp::from_millisecond(65_400).unwrap();
        let lingers = Some(Remnant { objects: 3, until });
        let now = Outcome { lingers, ..outcome(60, Ok(Report { desired: 9, ..Report::default() })) };
        let first = status(&now, &NodeConfigStatus::default()).unwrap();
        assert_eq!(first.entries, Some(Entries { desired: 9, differing: 0 }));
        let applied = &first.conditions[0];
        assert_eq!((applied.status.as_str(), applied.reason.as_str()), ("True", "AsDesired"));
        assert!(
            applied.message.ends_with("3 of an older spec linger until 1970-01-01T00:01:05Z"),
            "{applied:?}"
        );
        let later = Outcome { lingers: None, ..now };
        assert!(!status(&later, &first).unwrap().conditions[0].message.contains("linger"));
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_said_to_be_so() {
        let error = KernelError::Read { what: "routes", reason: "overrun".to_owned() };
        let status = status(&outcome(1, Err(error)), &NodeConfigStatus::default()).unwrap();
        assert_eq!(status.conditions[0].reason, "KernelFailed");
        assert_eq!(status.entries, None);
    }
}
