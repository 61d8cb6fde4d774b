//! What the end and the beginning of a term mean to the shell.

use tokio::task::{AbortHandle, JoinSet};

use super::Shell;
use crate::{
    index::{Kind, Side, Source},
    pace::Pace,
};

/// What two leaders might see differently, and neither can compute.
const CONTESTED: Source = Source::Resource(Side::Control, Kind::ClusterNode);

impl Shell {
    /// A term has ended, or another one has begun.
    ///
    /// What was begun in a term is given up with it. A new leader looks at the mesh's ClusterNodes once more before it
    /// writes: gateways are chosen anew with regard to those that are, and the leader before may have chosen others that
    /// our watch has not told of yet. The rest is computed.
    pub(super) fn turn(&mut self) {
        self.term = self.around.leadership.term();
        self.writes = JoinSet::new();
        self.in_flight.clear();
        self.queue.clear();
        self.pace = Pace::default();
        if self.term.is_none() {
            return tracing::info!("another replica may lead; writes nothing, and follows");
        }
        tracing::info!("leads, and writes");
        self.awaited.insert(CONTESTED);
        self.ending = self.watches.remove(&CONTESTED);
        self.ending.iter().for_each(AbortHandle::abort);
    }

    /// Begins the watch anew that a new term asks for, once the one before has ended: what that one has reported is older
    /// than the list that is waited for. May be given up and called again.
    pub(super) async fn finish_turn(&mut self) {
        let Some(before) = &self.ending else { return };
        while !before.is_finished() {
            tokio::task::yield_now().await;
        }
        self.ending = None;
        self.take_all();
        self.awaited.insert(CONTESTED);
        self.watch(CONTESTED);
    }
}
