//! When an object may be written again: one that fails backs off by itself, and so does one that somebody else undoes
//! again and again. Nobody else waits for it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::reconcile::Target;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// An object that needed no write for so long is forgiven everything.
const FORGIVEN: Duration = Duration::from_secs(60);
/// Writes in a row that are answered at once, though somebody undoes them.
const PATIENT: u32 = 3;

#[derive(Debug)]
struct Attempts {
    failures: u32,
    successes: u32,
    at: Instant,
    not_before: Instant,
}

/// What was tried for each object.
#[derive(Debug, Default)]
pub(crate) struct Pace(BTreeMap<Target, Attempts>);

impl Pace {
    pub(crate) fn is_due(&self, target: &Target, now: Instant) -> bool {
        self.0.get(target).is_none_or(|attempts| attempts.not_before <= now)
    }

    pub(crate) fn has_failed(&self, target: &Target) -> bool {
        self.0.get(target).is_some_and(|attempts| attempts.failures > 0)
    }

    pub(crate) fn succeeded(&mut self, target: Target, now: Instant) {
        let attempts = self.attempts(target, now);
        attempts.failures = 0;
        attempts.successes += 1;
        attempts.not_before = now + backoff(attempts.successes.saturating_sub(PATIENT));
    }

    pub(crate) fn failed(&mut self, target: Target, now: Instant) {
        let attempts = self.attempts(target, now);
        attempts.failures += 1;
        attempts.not_before = now + backoff(attempts.failures);
    }

    fn attempts(&mut self, target: Target, now: Instant) -> &mut Attempts {
        let fresh = Attempts { failures: 0, successes: 0, at: now, not_before: now };
        let attempts = self.0.entry(target).or_insert(fresh);
        if now.duration_since(attempts.at) >= FORGIVEN {
            *attempts = Attempts { failures: 0, successes: 0, at: now, not_before: now };
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

fn backoff(times: u32) -> Duration {
    if times == 0 {
        Duration::ZERO
    } else {
        FIRST_WAIT.saturating_mul(1 << (times - 1).min(8)).min(LAST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Resource;

    fn target() -> Target {
        Target { resource: Resource::NodeConfig, name: "a-n1".to_owned() }
    }

    #[test]
    fn a_failure_waits_longer_each_time_and_a_success_ends_it() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.failed(target(), start);
        assert!(!pace.is_due(&target(), start) && pace.is_due(&target(), start + FIRST_WAIT));
        pace.failed(target(), start);
        assert!(!pace.is_due(&target(), start + FIRST_WAIT) && pace.has_failed(&target()));
        assert_eq!(pace.next(start), Some(start + FIRST_WAIT * 2));
        pace.succeeded(target(), start);
        assert!(pace.is_due(&target(), start) && !pace.has_failed(&target()));
    }

    #[test]
    fn who_undoes_us_again_and_again_is_answered_more_slowly_until_he_stops() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for _ in 0..PATIENT {
            pace.succeeded(target(), start);
            assert!(pace.is_due(&target(), start));
        }
        pace.succeeded(target(), start);
        assert!(!pace.is_due(&target(), start));
        let later = start + FORGIVEN;
        pace.succeeded(target(), later);
        assert!(pace.is_due(&target(), later));
    }
}
