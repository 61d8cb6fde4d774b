//! When each object may be written (again): a refused or lost write backs off, by itself, without holding up others;
//! so does one that somebody else undoes again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    diff::{Action, Change},
    index::Target,
};

/// After a strike: doubled each time, up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// After a success: for how long the same write is not repeated while the watch has not shown its effect.
const SETTLES: Duration = Duration::from_secs(5);

/// What was tried last for each object.
#[derive(Debug, Default)]
pub(crate) struct Pace(BTreeMap<Target, Attempt>);

#[derive(Debug)]
struct Attempt {
    content: u64,
    /// The version of the object that it was written over.
    live: Option<String>,
    /// How often this very content had to be written again.
    strikes: u32,
    at: Instant,
    not_before: Instant,
}

impl Pace {
    /// Whether a change may be written now. Another content is another attempt; the first time that somebody undoes
    /// ours, it is put right at once.
    pub(crate) fn is_due(&self, change: &Change, now: Instant) -> bool {
        self.0.get(&change.target).is_none_or(|last| {
            last.content != content(change)
                || last.not_before <= now
                || (last.strikes == 0 && last.live != change.live)
        })
    }

    /// It was written.
    pub(crate) fn succeeded(&mut self, change: &Change, now: Instant) {
        let recent = self.last_of_same(change).filter(|last| now.duration_since(last.at) < LAST_WAIT);
        let strikes = recent.map_or(0, |last| last.strikes + 1);
        let wait = if strikes == 0 { SETTLES } else { backoff(strikes) };
        self.note(change, strikes, now, wait);
    }

    /// It was not written.
    pub(crate) fn failed(&mut self, change: &Change, now: Instant) {
        let strikes = self.last_of_same(change).map_or(0, |last| last.strikes) + 1;
        self.note(change, strikes, now, backoff(strikes));
    }

    fn last_of_same(&self, change: &Change) -> Option<&Attempt> {
        self.0.get(&change.target).filter(|last| last.content == content(change))
    }

    fn note(&mut self, change: &Change, strikes: u32, now: Instant, wait: Duration) {
        let (content, live) = (content(change), change.live.clone());
        let attempt = Attempt { content, live, strikes, at: now, not_before: now + wait };
        self.0.insert(change.target.clone(), attempt);
    }

    /// Forgets what has needed no write for long, and says when the next of the others is due.
    pub(crate) fn next(&mut self, wanted: &BTreeSet<&Target>, now: Instant) -> Option<Instant> {
        self.0.retain(|target, last| now.duration_since(last.at) < LAST_WAIT || wanted.contains(target));
        let wanted = self.0.iter().filter(|(target, _)| wanted.contains(target));
        wanted.map(|(_, last)| last.not_before).filter(|at| *at > now).min()
    }
}

fn backoff(strikes: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << strikes.saturating_sub(1).min(8)).min(LAST_WAIT)
}

/// What is written, without the time at which a condition is said to have changed: it would make another content of
/// every attempt.
fn content(change: &Change) -> u64 {
    let timeless = |body: &Value| {
        let mut body = body.clone();
        let conditions = body.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten() {
            condition["lastTransitionTime"] = Value::Null;
        }
        body.to_string()
    };
    let mut hasher = DefaultHasher::new();
    match &change.action {
        Action::Create(body) => (0, body.to_string()).hash(&mut hasher),
        Action::Apply(body) if change.target.status => (1, timeless(body)).hash(&mut hasher),
        Action::Apply(body) => (1, body.to_string()).hash(&mut hasher),
        // Whoever makes it anew each time is fought as slowly as whoever changes it back.
        Action::Delete(_) => 2.hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::index::{Kind, Side};

    fn change(value: u32, live: &str) -> Change {
        let name = "east-n1".to_owned();
        Change {
            target: Target { side: Side::Control, kind: Kind::ClusterNode, name, status: false },
            action: Action::Apply(json!(value)),
            live: Some(live.to_owned()),
            notices: Vec::new(),
        }
    }

    #[test]
    fn a_failing_write_waits_longer_each_time_and_another_one_does_not() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let one = change(1, "7");
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert!(pace.is_due(&one, now));
            pace.failed(&one, now);
            assert!(!pace.is_due(&one, now));
            assert!(
                !pace.is_due(&change(1, "8"), now),
                "a new version does not make a refused content better"
            );
            assert!(pace.is_due(&change(2, "7"), now), "other content is tried at once");
            let next = pace.next(&BTreeSet::from([&one.target]), now).unwrap();
            waits.push(next - now);
            now = next;
        }
        assert_eq!((waits[0], waits[1]), (FIRST_WAIT, FIRST_WAIT * 2));
        assert!(waits.is_sorted() && waits[11] == LAST_WAIT);
    }

    #[test]
    fn a_written_object_is_left_alone_until_its_watch_speaks() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.succeeded(&change(1, "7"), now);
        assert!(!pace.is_due(&change(1, "7"), now));
        assert!(pace.is_due(&change(1, "7"), now + SETTLES));
    }

    #[test]
    fn who_is_undone_again_and_again_slows_down() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        pace.succeeded(&change(1, "7"), now);
        assert!(pace.is_due(&change(1, "8"), now), "the first time it is put right at once");
        for version in 0..8 {
            pace.succeeded(&change(1, &format!("8{version}")), now);
            assert!(!pace.is_due(&change(1, &format!("9{version}")), now));
            now = pace.next(&BTreeSet::from([&change(1, "").target]), now).unwrap();
        }
        assert!(now.duration_since(pace.0.values().next().unwrap().at) > SETTLES);
    }

    #[test]
    fn another_time_does_not_make_another_content() {
        let at = |second: u32| {
            let mut change = change(0, "7");
            change.target.status = true;
            let time = format!("2026-01-01T00:00:{second:02}Z");
            let condition = json!({"type": "Published", "status": "False", "lastTransitionTime": time});
            change.action = Action::Apply(json!({"status": {"conditions": [condition]}}));
            change
        };
        let (mut pace, now) = (Pace::default(), Instant::now());
        for second in 0..5 {
            pace.failed(&at(second), now);
        }
        assert!(!pace.is_due(&at(6), now + FIRST_WAIT * 8), "the fifth failure waits longer than the fourth");
    }

    #[test]
    fn what_is_done_is_forgotten() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.failed(&change(1, "7"), now);
        assert_eq!(pace.next(&BTreeSet::new(), now), None);
        assert_eq!(pace.next(&BTreeSet::new(), now + LAST_WAIT), None);
        assert!(pace.0.is_empty());
    }
}
