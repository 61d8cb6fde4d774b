//! Keeps the last good NodeConfig on disk, and begins with it.

use std::sync::Arc;
use std::time::Duration;

use agent_core::Known;
use api::NodeId;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::goal::{Goal, Origin, Wanted};
use crate::keeper::Outcome;
use crate::last_good::{Found, LastGood, Store};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What the disk holds, for a condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The generation that is kept.
    pub(crate) kept: Option<i64>,
    /// Why the latest one could not be kept.
    pub(crate) problem: Option<String>,
    /// What became of a file that was found and not applied.
    pub(crate) set_aside: Option<String>,
}

/// What an agent begins with.
pub(crate) struct Beginning {
    pub(crate) goal: Goal,
    pub(crate) memory: Memory,
    /// What is on the disk, so that it is not written again.
    pub(crate) known: Option<LastGood>,
}

impl Beginning {
    /// What the disk knows of this host.
    pub(crate) fn of_host(&self) -> Known {
        self.known.as_ref().map(LastGood::of_host).unwrap_or_default()
    }
}

/// Looks at the disk.
pub(crate) fn begin(store: &Store, id: &NodeId) -> Beginning {
    let mut beginning = Beginning { goal: Goal::Unknown, memory: Memory::default(), known: None };
    let said = match store.load(id) {
        Found::Nothing => return beginning,
        Found::Good(found) => {
            tracing::info!(
                generation = found.generation,
                kept_at = %found.kept_at,
                "begins with the last good NodeConfig until an API answers"
            );
            let config = Arc::clone(&found.spec);
            beginning.goal = Goal::Present(Wanted::new(config, found.generation, Origin::Disk));
            beginning.memory.kept = found.generation;
            beginning.known = Some(*found);
            return beginning;
        }
        Found::SetAside(unfit, path) => {
            format!("{} was not applied: {unfit}; it is {} now", store.path().display(), path.display())
        }
        Found::Unfit(unfit, error) => {
            format!("{} was not applied: {unfit}; it stays where it is: {error}", store.path().display())
        }
        Found::Unreadable(error) => format!("{error}; this node begins with nothing until an API answers"),
    };
    tracing::warn!("{said}");
    beginning.memory.set_aside = Some(said);
    beginning
}

/// Who keeps what.
pub(crate) struct Keeping {
    pub(crate) store: Store,
    pub(crate) id: NodeId,
    /// What is on the disk, so that it is not written again.
    pub(crate) known: Option<LastGood>,
}

impl Keeping {
    /// Keeps each NodeConfig that proved good, for ever. A disk that takes nothing costs the memory and nothing else.
    pub(crate) async fn run(
        mut self,
        mut outcomes: watch::Receiver<Option<Outcome>>,
        known: watch::Receiver<Known>,
        memory: watch::Sender<Memory>,
    ) {
        let mut retry = FIRST_RETRY;
        loop {
            let outcome = outcomes.borrow_and_update().clone();
            let of_host = known.borrow().clone();
            let failed = match outcome {
                Some(outcome) if outcome.is_good() => self.keep(&outcome, &of_host, &memory).await.is_err(),
                Some(outcome) if outcome.is_gone() => {
                    self.forget(&memory);
                    false
                }
                _ => false,
            };
            retry = if failed { (retry * 2).min(LONGEST_RETRY) } else { FIRST_RETRY };
            let changed = tokio::select! {
                changed = outcomes.changed() => changed,
                () = sleep(retry), if failed => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// A teardown removes the file: the same NodeConfig may come again, and is new then.
    fn forget(&mut self, memory: &watch::Sender<Memory>) {
        self.known = None;
        memory.send_if_modified(|memory| memory.kept.take().is_some());
    }

    async fn keep(
        &mut self,
        outcome: &Outcome,
        of_host: &Known,
        memory: &watch::Sender<Memory>,
    ) -> Result<(), ()> {
        let Some(wanted) = outcome.goal.wanted() else { return Ok(()) };
        if self.is_kept(wanted, of_host) {
            return Ok(());
        }
        let last_good = LastGood {
            cluster: self.id.cluster.clone(),
            node: self.id.node.clone(),
            generation: wanted.generation,
            kept_at: Timestamp::now(),
            underlay: of_host.underlay.clone(),
            api_endpoints: of_host.api_endpoints.clone(),
            spec: Arc::clone(&wanted.config),
        };
        let (store, kept) = (self.store.clone(), last_good.clone());
        // A disk may take its time.
        let done =
            tokio::task::spawn_blocking(move || store.keep(&kept).map_err(|error| error.to_string())).await;
        let problem = done.unwrap_or_else(|error| Err(error.to_string())).err();
        if let Some(problem) = &problem {
            let new = memory.borrow().problem.as_ref() != Some(problem);
            if new {
                tracing::warn!(problem, "the NodeConfig is not kept for a boot without an API");
            }
        } else {
            self.known = Some(last_good);
        }
        let result = if problem.is_some() { Err(()) } else { Ok(()) };
        memory.send_if_modified(|memory| {
            let kept = if problem.is_none() { wanted.generation } else { memory.kept };
            let new = Memory { kept, problem, set_aside: memory.set_aside.clone() };
            let changed = new != *memory;
            *memory = new;
            changed
        });
        result
    }

    fn is_kept(&self, wanted: &Wanted, of_host: &Known) -> bool {
        self.known.as_ref().is_some_and(|known| {
            known.generation == wanted.generation
                && known.underlay == of_host.underlay
                && known.api_endpoints == of_host.api_endpoints
                && known.spec == wanted.config
        })
    }
}

#[cfg(test)]
mod tests {
    use agent_core::Report;

    use super::*;
    use crate::keeper::tests::outcome;

    #[test]
    fn what_was_torn_down_and_comes_again_is_kept_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let mut keeping = Keeping { store: store.clone(), id: NodeId::new("a", "n1"), known: None };
        let (memory, _) = watch::channel(Memory::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let good = outcome(Ok(Report::default()));
        for _ in 0..2 {
            runtime.block_on(keeping.keep(&good, &Known::default(), &memory)).unwrap();
            assert!(store.path().exists());
            assert_eq!(memory.borrow().kept, Some(3));
            store.forget().unwrap();
            keeping.forget(&memory);
            assert_eq!(memory.borrow().kept, None);
        }
    }
}
