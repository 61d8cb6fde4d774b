//! When an object may be written again: one that fails backs off by itself, and so does one that somebody else undoes
//! again and again. Nobody else waits for it.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::reconcile::{Action, Target, Write};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// An object that needed no write for so long is forgiven everything.
const FORGIVEN: Duration = Duration::from_secs(60);
/// Writes of the same content in a row that are answered at once, though somebody undoes them.
const PATIENT: u32 = 3;

#[derive(Debug)]
struct Attempts {
    content: u64,
    failures: u32,
    /// How often this very content was written. A mesh that grows has every object written again and again, and
    /// nobody undoes anything.
    successes: u32,
    at: Instant,
    not_before: Instant,
}

/// What was tried for each object.
#[derive(Debug, Default)]
pub(crate) struct Pace(BTreeMap<Target, Attempts>);

impl Pace {
    pub(crate) fn is_due(&self, write: &Write, now: Instant) -> bool {
        self.0.get(&write.target).is_none_or(|attempts| {
            attempts.not_before <= now
                || (attempts.failures == 0 && attempts.content != content(&write.action))
        })
    }

    /// Whether others that come after this write may wait for it: not where it fails, or is put off.
    pub(crate) fn is_worth_waiting(&self, write: &Write, now: Instant) -> bool {
        let has_failed = self.0.get(&write.target).is_some_and(|attempts| attempts.failures > 0);
        !has_failed && self.is_due(write, now)
    }

    pub(crate) fn succeeded(&mut self, write: &Write, now: Instant) {
        let attempts = self.attempts(write, now);
        attempts.failures = 0;
        attempts.successes += 1;
        attempts.not_before = now + backoff(attempts.successes.saturating_sub(PATIENT));
    }

    pub(crate) fn failed(&mut self, write: &Write, now: Instant) {
        let attempts = self.attempts(write, now);
        attempts.failures += 1;
        attempts.not_before = now + backoff(attempts.failures);
    }

    fn attempts(&mut self, write: &Write, now: Instant) -> &mut Attempts {
        let content = content(&write.action);
        let fresh = || Attempts { content, failures: 0, successes: 0, at: now, not_before: now };
        let attempts = self.0.entry(write.target.clone()).or_insert_with(fresh);
        if now.duration_since(attempts.at) >= FORGIVEN {
            *attempts = fresh();
        }
        if attempts.content != content {
            (attempts.content, attempts.successes) = (content, 0);
        }
        attempts.at = now;
        attempts
    }

    /// Forgets what is long past, and says when the next object is due that is not yet.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        self.0.retain(|_, attempts| now.duration_since(attempts.at) < FORGIVEN);
        self.0.values().map(|attempts| attempts.not_before).filter(|at| *at > now).min()
    }
}

/// What is written, without the time at which it is said.
fn content(action: &Action) -> u64 {
    let mut hasher = DefaultHasher::new();
    match action {
        Action::Addresses(status) | Action::Status(status) => {
            let mut status = status.clone();
            let conditions = status["conditions"].as_array_mut().into_iter().flatten();
            conditions.for_each(|condition| condition["lastTransitionTime"] = Value::Null);
            (0, status.to_string()).hash(&mut hasher);
        }
        Action::Apply(body, _) => (1, body.to_string()).hash(&mut hasher),
        Action::Delete(_) => 2.hash(&mut hasher),
    }
    hasher.finish()
}

fn backoff(times: u32) -> Duration {
    if times == 0 {
        Duration::ZERO
    } else {
        FIRST_WAIT.saturating_mul(1 << (times - 1).min(8)).min(LAST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{index::Resource, waves::Wave};

    fn write(action: Action) -> Write {
        let target = Target { resource: Resource::NodeConfig, name: "a-n1".to_owned() };
        Write { target, action, notices: Vec::new() }
    }

    fn apply(value: u32) -> Write {
        write(Action::Apply(json!(value), Wave::Others))
    }

    #[test]
    fn a_failure_waits_longer_each_time_and_a_success_ends_it() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.failed(&apply(1), start);
        assert!(!pace.is_due(&apply(1), start) && pace.is_due(&apply(1), start + FIRST_WAIT));
        assert!(!pace.is_due(&apply(2), start), "an API server that fails is left alone");
        pace.failed(&apply(2), start);
        assert!(!pace.is_due(&apply(1), start + FIRST_WAIT));
        assert!(!pace.is_worth_waiting(&apply(1), start + FIRST_WAIT * 2));
        assert_eq!(pace.next(start), Some(start + FIRST_WAIT * 2));
        pace.succeeded(&apply(1), start);
        assert!(pace.is_due(&apply(1), start) && pace.is_worth_waiting(&apply(1), start));
    }

    #[test]
    fn who_undoes_us_again_and_again_is_answered_more_slowly_until_he_stops() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for _ in 0..PATIENT {
            pace.succeeded(&apply(1), start);
            assert!(pace.is_due(&apply(1), start));
        }
        pace.succeeded(&apply(1), start);
        assert!(!pace.is_due(&apply(1), start));
        assert!(!pace.is_worth_waiting(&apply(1), start), "nobody else waits for a quarrel");
        let later = start + FORGIVEN;
        pace.succeeded(&apply(1), later);
        assert!(pace.is_due(&apply(1), later));
    }

    #[test]
    fn an_object_that_changes_often_is_written_often() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for value in 0..PATIENT * 4 {
            assert!(pace.is_due(&apply(value), start));
            pace.succeeded(&apply(value), start);
        }
    }

    #[test]
    fn another_time_does_not_make_another_content() {
        let at = |time: &str| {
            write(Action::Status(json!({"conditions": [{"type": "Planned", "lastTransitionTime": time}]})))
        };
        let (mut pace, start) = (Pace::default(), Instant::now());
        for second in 0..=PATIENT {
            pace.succeeded(&at(&format!("2026-01-01T00:00:0{second}Z")), start);
        }
        assert!(!pace.is_due(&at("2026-01-01T00:00:09Z"), start));
    }
}
