//! Keeps the last good NodeConfig on disk, and begins with it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::NodeConfigSpec;
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
    pub(crate) underlay: Vec<IpAddr>,
    pub(crate) memory: Memory,
    /// What is on the disk, so that it is not written again.
    pub(crate) known: Option<LastGood>,
}

/// Looks at the disk.
pub(crate) fn begin(store: &Store, id: &NodeId) -> Beginning {
    let mut beginning =
        Beginning { goal: Goal::Unknown, underlay: Vec::new(), memory: Memory::default(), known: None };
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
            beginning.underlay.clone_from(&found.underlay);
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
    pub(crate) underlay: Vec<IpAddr>,
    pub(crate) known: Option<LastGood>,
}

impl Keeping {
    /// Keeps each NodeConfig that proved good, for ever. A disk that takes nothing costs the memory and nothing else.
    pub(crate) async fn run(
        mut self,
        mut outcomes: watch::Receiver<Option<Outcome>>,
        known: watch::Receiver<agent_core::Known>,
        memory: watch::Sender<Memory>,
    ) {
        let mut retry = FIRST_RETRY;
        loop {
            let outcome = outcomes.borrow_and_update().clone();
            self.underlay.clone_from(&known.borrow().underlay);
            let failed = match outcome.filter(Outcome::is_good) {
                Some(outcome) => self.keep(&outcome, &memory).await.is_err(),
                None => false,
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

    async fn keep(&mut self, outcome: &Outcome, memory: &watch::Sender<Memory>) -> Result<(), ()> {
        let Some(wanted) = outcome.goal.wanted() else { return Ok(()) };
        if self.is_kept(&wanted.config, wanted.generation) {
            return Ok(());
        }
        let last_good = LastGood {
            cluster: self.id.cluster.clone(),
            node: self.id.node.clone(),
            generation: wanted.generation,
            kept_at: Timestamp::now(),
            underlay: self.underlay.clone(),
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

    fn is_kept(&self, config: &NodeConfigSpec, generation: Option<i64>) -> bool {
        self.known.as_ref().is_some_and(|known| {
            known.generation == generation && known.underlay == self.underlay && *known.spec == *config
        })
    }
}
