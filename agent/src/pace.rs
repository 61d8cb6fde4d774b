//! How long to rest between passes. Pure: what happened goes in, durations come out.

use std::time::Duration;

use crate::events::Urgency;

/// Between two repairs of what somebody else rewrites again and again.
pub(crate) const TRUCE: Duration = Duration::from_secs(10);
/// A look at everything, whatever the kernel told.
pub(crate) const RESYNC: Duration = Duration::from_secs(60);
/// The first retry of what failed; each one waits twice as long as the one before.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The most that passes in vain, which strangers' changes cause, make the next one wait.
const MOST_PATIENCE: Duration = Duration::from_millis(500);

/// Why a pass was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// There was something new to do.
    Goal,
    /// The kernel changed.
    Kernel,
    /// It was time to look.
    Clock,
    /// What lingered has had its time.
    Due,
}

impl Woken {
    /// Whether what a pass writes sets right what somebody else changed.
    pub(crate) fn repairs(self) -> bool {
        matches!(self, Woken::Kernel | Woken::Clock)
    }
}

/// What a pass came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Result {
    /// Why it was made.
    pub(crate) woken: Woken,
    /// Whether everything is as the goal says, or is left alone on purpose.
    pub(crate) reached: bool,
    /// Whether anything was written.
    pub(crate) changed: bool,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// After this time there is a pass in any case.
    pub(crate) longest: Duration,
    /// Before this time there is none for a change of the kernel.
    pub(crate) shortest: Duration,
}

/// The pace of the passes so far.
#[derive(Debug)]
pub(crate) struct Pace {
    retry: Duration,
    in_vain: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { retry: FIRST_RETRY, in_vain: 0 }
    }
}

impl Pace {
    pub(crate) fn after(&mut self, result: Result) -> Rest {
        if result.woken == Woken::Goal {
            // What failed before says nothing of what is new.
            self.retry = FIRST_RETRY;
        }
        let vain = result.woken == Woken::Kernel && !result.changed;
        self.in_vain = if vain { self.in_vain + 1 } else { 0 };
        let longest = if result.reached { RESYNC } else { self.retry };
        self.retry = if result.reached { FIRST_RETRY } else { (self.retry * 2).min(RESYNC) };
        Rest { longest, shortest: patience(self.in_vain) }
    }
}

/// How long to rest after so many passes in a row that found nothing to do. What is quiet again is not delayed: the
/// rest is over by then.
fn patience(in_vain: u32) -> Duration {
    match in_vain.checked_sub(1) {
        Some(doublings) => (Urgency::Now.delay() * (1 << doublings.min(8))).min(MOST_PATIENCE),
        None => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_keep_the_agent_busy_and_a_repair_ends_the_rest() {
        let rests: Vec<u128> = (0..8).map(|in_vain| patience(in_vain).as_millis()).collect();
        assert_eq!(rests, [0, 20, 40, 80, 160, 320, 500, 500]);
        assert_eq!(patience(u32::MAX), MOST_PATIENCE);
    }

    #[test]
    fn what_fails_for_ever_is_tried_once_a_minute_in_the_end() {
        let mut pace = Pace::default();
        let failed = |woken| Result { woken, reached: false, changed: false };
        let mut waits = vec![pace.after(failed(Woken::Goal)).longest.as_millis()];
        waits.extend((0..8).map(|_| pace.after(failed(Woken::Clock)).longest.as_millis()));
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        // Another NodeConfig begins anew, and success does.
        assert_eq!(pace.after(failed(Woken::Goal)).longest, FIRST_RETRY);
        let reached = Result { woken: Woken::Clock, reached: true, changed: true };
        assert_eq!(pace.after(reached), Rest { longest: RESYNC, shortest: Duration::ZERO });
        assert_eq!(pace.after(failed(Woken::Clock)).longest, FIRST_RETRY);
    }

    #[test]
    fn neither_a_storm_nor_a_failure_nor_both_make_more_than_a_few_passes_a_second() {
        for reached in [true, false] {
            let mut pace = Pace::default();
            let mut clock = Duration::ZERO;
            let mut passes = 0;
            // Something of strangers happens all the time: each pass follows as soon as it may.
            while clock < Duration::from_secs(600) {
                let rest = pace.after(Result { woken: Woken::Kernel, reached, changed: false });
                clock += rest.longest.min(rest.shortest.max(Urgency::Now.delay()));
                passes += 1;
            }
            assert!(passes <= 1210, "{passes} passes in ten minutes");
        }
    }
}
