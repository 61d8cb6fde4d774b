//! What the log is told of that lasts: how loudly, and how often.

use std::time::{Duration, Instant};

use tracing::Level;

/// How often the same thing is said.
pub(super) const SAY_AGAIN: Duration = Duration::from_secs(30);
/// For how long nobody need worry that lists are waited for, at a start or at the beginning of a term.
const LISTS_TAKE: Duration = Duration::from_secs(5);

/// What was said last.
#[derive(Default)]
pub(super) struct Said {
    last: Option<(Level, String, Instant)>,
    /// Since when lists are waited for.
    waits_since: Option<Instant>,
}

impl Said {
    /// Lists are waited for. When that is worth a warning, where it is not yet.
    pub(super) fn awaits(&mut self, what: String, now: Instant) -> Option<Instant> {
        let worth_it = *self.waits_since.get_or_insert(now) + LISTS_TAKE;
        if now < worth_it {
            self.say(Level::INFO, what, now);
            return Some(worth_it);
        }
        self.say(Level::WARN, what, now);
        None
    }

    /// No list is waited for.
    pub(super) fn awaits_nothing(&mut self) {
        self.waits_since = None;
    }

    /// Somebody has to do something.
    pub(super) fn warn(&mut self, what: String, now: Instant) {
        self.say(Level::WARN, what, now);
    }

    fn say(&mut self, level: Level, what: String, now: Instant) {
        let same = |(of, last, at): &(Level, String, Instant)| {
            *of == level && *last == what && now.duration_since(*at) < SAY_AGAIN
        };
        if self.last.as_ref().is_some_and(same) {
            return;
        }
        match level {
            Level::INFO => tracing::info!("{what}"),
            _ => tracing::warn!("{what}"),
        }
        self.last = Some((level, what, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_waits_for_becomes_a_warning_once_it_takes_too_long() {
        let (mut said, start) = (Said::default(), Instant::now());
        let mut loudness = |what: &str, after: Duration| {
            let again = said.awaits(what.to_owned(), start + after);
            let (level, _, at) = said.last.clone().unwrap();
            (level, at.duration_since(start), again)
        };
        let (at_once, later) = (Duration::ZERO, Duration::from_secs(1));
        let worth_it = Some(start + LISTS_TAKE);
        assert_eq!(loudness("a, b", at_once), (Level::INFO, at_once, worth_it));
        assert_eq!(loudness("a", later), (Level::INFO, later, worth_it));
        assert_eq!(loudness("a", LISTS_TAKE / 2), (Level::INFO, later, worth_it), "it was said");
        assert_eq!(loudness("a", LISTS_TAKE), (Level::WARN, LISTS_TAKE, None));
        assert_eq!(loudness("a", SAY_AGAIN), (Level::WARN, LISTS_TAKE, None), "it was said");
        let again = LISTS_TAKE + SAY_AGAIN;
        assert_eq!(loudness("a", again), (Level::WARN, again, None));
        said.awaits_nothing();
        assert!(said.awaits("a".to_owned(), start + again).is_some(), "another term, other lists");
    }
}
