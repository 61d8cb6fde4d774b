//! Keeps the kernel as the latest NodeConfig says: a pass whenever the NodeConfig or the kernel changes, at once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Authority, KernelError, Known, Reading, Report, Spec};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::contention::{Contention, Woken};
use crate::events::{Urgency, Wake};
use crate::worker::{Order, Passed, Worker};

/// Between two repairs of what somebody else rewrites again and again.
const TRUCE: Duration = Duration::from_secs(10);
/// A look at everything, whatever the kernel told.
const RESYNC: Duration = Duration::from_secs(60);
/// The first retry of what failed; each one waits twice as long as the one before.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The most that passes in vain, which strangers' changes cause, make the next one wait.
const MOST_PATIENCE: Duration = Duration::from_millis(500);

/// What the kernel shall be.
#[derive(Clone, Debug, Default)]
pub(crate) enum Goal {
    /// Not known yet, which is not the same as nothing: the kernel is left alone.
    #[default]
    Unknown,
    /// Like this.
    Present {
        /// The NodeConfig.
        spec: Arc<Spec>,
        /// Its generation, where it is an object.
        generation: Option<i64>,
    },
    /// Without anything of ours: the NodeConfig is being deleted.
    Gone,
}

/// What came of a goal.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The generation that was applied; `None` for a teardown and for a file.
    pub(crate) generation: Option<i64>,
    /// Whether this is the outcome of [`Goal::Gone`].
    pub(crate) gone: bool,
    /// What was found, or why nothing was.
    pub(crate) result: Result<Report, KernelError>,
    /// When.
    pub(crate) at: Timestamp,
    /// When the kernel was changed for the last time, since this process started.
    pub(crate) changed_at: Option<Timestamp>,
}

impl Outcome {
    /// Whether everything is as the goal says.
    pub(crate) fn is_reached(&self) -> bool {
        self.result.as_ref().is_ok_and(Report::is_applied)
    }
}

/// The one task that asks for passes.
pub(crate) struct Keeper {
    pub(crate) worker: Worker,
    pub(crate) goal: watch::Receiver<Goal>,
    /// The addresses that peers send to, where they are known.
    pub(crate) underlay: watch::Receiver<Vec<IpAddr>>,
    pub(crate) wakes: UnboundedReceiver<Wake>,
    pub(crate) outcome: watch::Sender<Option<Outcome>>,
}

impl Keeper {
    /// Runs until nobody sets goals any more.
    pub(crate) async fn run(mut self) {
        let mut ours = BTreeSet::new();
        let mut changed_at = None;
        let mut retry = FIRST_RETRY;
        let mut contention = Contention::default();
        let mut woken = Woken::ByGoal;
        let mut in_vain = 0;
        loop {
            let goal = self.goal.borrow_and_update().clone();
            self.underlay.mark_unchanged();
            let Some(mut outcome) = self.reach(goal, &mut ours).await else {
                if self.await_goal().await.is_err() {
                    return;
                }
                continue;
            };
            if outcome.result.as_ref().is_ok_and(|report| report.changed > 0) {
                changed_at = Some(outcome.at);
            }
            outcome.changed_at = changed_at;
            let vain =
                woken == Woken::ByKernel && outcome.result.as_ref().is_ok_and(|report| report.changed == 0);
            in_vain = if vain { in_vain + 1 } else { 0 };
            let earliest = Instant::now() + patience(in_vain);
            let contended = contention.note(&mut outcome, woken);
            let reached = outcome.is_reached();
            log(&outcome);
            self.outcome.send_replace(Some(outcome));
            let wait = if reached { RESYNC } else { retry };
            retry = if reached { FIRST_RETRY } else { (retry * 2).min(RESYNC) };
            let next = if contended {
                self.keep_truce().await
            } else {
                self.wait(Instant::now() + wait, earliest, &ours).await
            };
            let Ok(by) = next else { return };
            woken = by;
            if by == Woken::ByGoal {
                // What failed before says nothing of what is new.
                retry = FIRST_RETRY;
            }
        }
    }

    /// Nothing is known yet, so nothing that happens matters; nor is it kept until then.
    async fn await_goal(&mut self) -> Result<(), watch::error::RecvError> {
        loop {
            tokio::select! {
                changed = self.goal.changed() => return changed,
                Some(_) = self.wakes.recv() => {}
            }
        }
    }

    /// What the other one does meanwhile is seen afterwards, and not kept until then.
    async fn keep_truce(&mut self) -> Result<Woken, watch::error::RecvError> {
        let mut over = std::pin::pin!(sleep(TRUCE));
        loop {
            tokio::select! {
                changed = self.goal.changed() => return changed.map(|()| Woken::ByGoal),
                () = &mut over => return Ok(Woken::ByKernel),
                Some(_) = self.wakes.recv() => {}
            }
        }
    }

    async fn reach(&self, goal: Goal, ours: &mut BTreeSet<u32>) -> Option<Outcome> {
        let (result, generation, gone) = match goal {
            Goal::Unknown => return None,
            Goal::Present { spec, generation } => {
                let underlay = self.underlay.borrow().clone();
                let known = Known { underlay, ..Known::default() };
                let order = Order { spec, known, reading: Reading::Whole, authority: Authority::Full };
                (self.worker.pass(order).await, generation, false)
            }
            Goal::Gone => (self.worker.cleanup().await, None, true),
        };
        let result = result.map(|Passed { report, devices }| {
            *ours = devices;
            report
        });
        Some(Outcome { generation, gone, result, at: Timestamp::now(), changed_at: None })
    }

    /// Waits for a new goal, for a change of the kernel that concerns us, or until it is time anyway.
    async fn wait(
        &mut self,
        until: Instant,
        earliest: Instant,
        ours: &BTreeSet<u32>,
    ) -> Result<Woken, watch::error::RecvError> {
        let urgency = loop {
            tokio::select! {
                changed = self.goal.changed() => return changed.map(|()| Woken::ByGoal),
                changed = self.underlay.changed() => return changed.map(|()| Woken::ByGoal),
                () = sleep_until(until) => return Ok(Woken::ByKernel),
                Some(wake) = self.wakes.recv() => {
                    let urgency = wake.urgency(|index| ours.contains(&index));
                    if urgency > Urgency::None {
                        break urgency;
                    }
                }
            }
        };
        self.coalesce(urgency, earliest, ours).await;
        Ok(Woken::ByKernel)
    }

    /// Takes what comes right behind the first change. Never prolonged: a storm must not delay the repair.
    async fn coalesce(&mut self, first: Urgency, earliest: Instant, ours: &BTreeSet<u32>) {
        let mut until = earliest.max(Instant::now() + first.delay());
        while let Ok(Some(wake)) = timeout_at(until, self.wakes.recv()).await {
            let urgency = wake.urgency(|index| ours.contains(&index));
            if urgency > first {
                until = until.min(earliest.max(Instant::now() + urgency.delay()));
            }
        }
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

fn log(outcome: &Outcome) {
    match &outcome.result {
        Ok(report) if !report.is_applied() => {
            let first = report.differing.first().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                differing = report.differing.len(),
                changed = report.changed,
                first,
                "the kernel is not as the NodeConfig says"
            );
        }
        Ok(report) if report.changed > 0 => {
            tracing::info!(changed = report.changed, desired = report.desired, "the kernel was changed");
        }
        Ok(report) => tracing::debug!(desired = report.desired, "the kernel is as the NodeConfig says"),
        Err(error) => tracing::warn!(%error, "the pass failed, the kernel is left as it is"),
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
}
