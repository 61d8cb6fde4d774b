//! The last changes of a table, bounded; what fell out of it can no longer be watched from.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Stored;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One write, with what stood there before it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) change: Change,
    pub(crate) object: Arc<Stored>,
    pub(crate) before: Option<Arc<Stored>>,
}

pub(crate) struct Window {
    capacity: usize,
    compacted: u64,
    events: VecDeque<Event>,
}

impl Window {
    /// A window that knows nothing before `revision`.
    pub(crate) fn new(capacity: usize, revision: u64) -> Self {
        Self { capacity: capacity.max(1), compacted: revision, events: VecDeque::new() }
    }

    pub(crate) fn push(&mut self, event: Event) {
        if self.events.len() == self.capacity
            && let Some(oldest) = self.events.pop_front()
        {
            self.compacted = oldest.revision;
        }
        self.events.push_back(event);
    }

    /// The events after `revision`, oldest first; `None` when some of them are lost.
    pub(crate) fn since(&self, revision: u64) -> Option<impl DoubleEndedIterator<Item = &Event>> {
        let start = self.events.partition_point(|e| e.revision <= revision);
        (revision >= self.compacted).then(|| self.events.range(start..))
    }

    /// The oldest revision that the window still reaches back to.
    pub(crate) fn oldest(&self) -> u64 {
        self.compacted
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{put, store, table};

    #[test]
    fn a_full_window_forgets_the_oldest_and_says_so() {
        let mut store = store(3);
        for i in 0..5 {
            put(&mut store, "a", i);
        }
        let window = store.window(&table()).unwrap();
        assert_eq!(window.oldest(), 12);
        assert!(window.since(11).is_none());
        let revisions: Vec<u64> = window.since(12).unwrap().map(|e| e.revision).collect();
        assert_eq!(revisions, [13, 14, 15]);
        assert_eq!(window.since(15).unwrap().count(), 0);
    }
}
