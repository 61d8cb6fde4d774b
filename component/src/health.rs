//! What a program says of itself: whether its loop turns, and whether it is ready.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Whether a program's loop turns: it beats at least once within a limit. Clones are one.
///
/// The loop beats each time it comes round, also when there was nothing to do; so the limit is well above the longest
/// pause between two rounds, and above the longest round.
#[derive(Clone, Debug)]
pub struct Liveness {
    limit: Duration,
    last: Arc<Mutex<Instant>>,
}

impl Liveness {
    /// A loop that has just begun and beats at least once within `limit`.
    pub fn within(limit: Duration) -> Self {
        Liveness { limit, last: Arc::new(Mutex::new(Instant::now())) }
    }

    /// The loop has come round.
    pub fn beat(&self) {
        *locked(&self.last) = Instant::now();
    }

    /// For how long the loop has not come round, where that is too long.
    pub fn stuck_for(&self) -> Option<Duration> {
        let silent = locked(&self.last).elapsed();
        (silent > self.limit).then_some(silent)
    }
}

/// Whether a program is ready, and what it waits for where it is not. Clones are one.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Option<String>>>);

impl Readiness {
    /// Not ready yet, and why: one line.
    pub fn waiting_for(reason: impl Into<String>) -> Self {
        Readiness(Arc::new(Mutex::new(Some(reason.into()))))
    }

    /// Ready where there is no reason not to be.
    pub fn set(&self, not_ready: Option<String>) {
        *locked(&self.0) = not_ready;
    }

    /// Why the program is not ready; nothing where it is.
    pub fn not_ready(&self) -> Option<String> {
        locked(&self.0).clone()
    }
}

/// A panic elsewhere does not make a value of one word wrong.
fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_come_round_in_time_is_stuck_until_it_does() {
        let liveness = Liveness::within(Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(liveness.stuck_for(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(liveness.stuck_for(), Some(Duration::from_secs(61)));
        liveness.clone().beat();
        assert_eq!(liveness.stuck_for(), None);
    }

    #[test]
    fn readiness_carries_its_reason() {
        let readiness = Readiness::waiting_for("the first list of Clusters");
        assert_eq!(readiness.not_ready().as_deref(), Some("the first list of Clusters"));
        readiness.clone().set(None);
        assert_eq!(readiness.not_ready(), None);
    }
}
