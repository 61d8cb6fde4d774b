//! Which notifications are those of our own steps, where the kernel does not say so.
//!
//! VXLAN never says who caused a notification, and of a neighbour that is deleted only the first of two does. But two
//! sockets hear each one: the witness, while our steps are made, and whoever listens for changes, some time before or
//! after. What the witness told and the model holds is an echo when it is heard the other time; each echo is good for one
//! notification. Where one socket may have lost something, nothing is.

use std::collections::BTreeMap;

use netlink::{FdbEntry, Neighbour};

use super::parts::Parts;

/// What a notification is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entry {
    Fdb(FdbEntry),
    Neighbour(Neighbour),
}

/// An entry, and whether it is there now.
pub(super) type Change = (Entry, bool);

/// More than this are not counted one by one.
const MOST: usize = 10_000;

/// What one of the two sockets has told and the other one has not yet, each with how often.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    /// Whether anybody listens for changes.
    listening: bool,
    /// Whether some were lost since the last reading.
    lost: bool,
    /// What the witness told.
    expected: BTreeMap<Change, usize>,
    /// What was heard: somebody else's, as long as the witness has not told it.
    heard: BTreeMap<Change, usize>,
}

impl Echoes {
    /// Somebody begins to listen.
    pub(super) fn listen(&mut self) {
        self.listening = true;
    }

    /// A notification was heard. Whether it is news.
    pub(super) fn hear(&mut self, change: Change) -> bool {
        if take_one(&mut self.expected, &change) {
            return false;
        }
        if self.heard.len() < MOST {
            *self.heard.entry(change).or_default() += 1;
        } else {
            self.lose();
        }
        true
    }

    /// The witness told of these, and the model holds what they say.
    pub(super) fn account(&mut self, changes: Vec<Change>) {
        for change in changes {
            let heard = take_one(&mut self.heard, &change);
            if !heard && self.listening && !self.lost {
                *self.expected.entry(change).or_default() += 1;
            }
        }
    }

    /// Notifications were lost, and nobody knows which.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.expected.clear();
        self.heard.clear();
    }

    /// What was heard, or lost, that is not our own.
    pub(super) fn news(&self) -> Parts {
        let of = |(entry, _): &Change| match entry {
            Entry::Fdb(_) => Parts::FDB,
            Entry::Neighbour(_) => Parts::NEIGHBOURS,
        };
        let lost = if self.lost { Parts::FDB.and(Parts::NEIGHBOURS) } else { Parts::NONE };
        self.heard.keys().map(of).fold(lost, Parts::and)
    }

    /// Everything is read now. What is still expected may have been lost without a word: it is not, for ever.
    pub(super) fn settle(&mut self, whole: bool) {
        self.lost = false;
        self.heard.clear();
        if whole {
            self.expected.clear();
        }
    }
}

fn take_one(changes: &mut BTreeMap<Change, usize>, change: &Change) -> bool {
    match changes.get_mut(change) {
        Some(1) => changes.remove(change).is_some(),
        Some(count) => {
            *count -= 1;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn change(last: u8, present: bool) -> Change {
        let to = IpAddr::from([192, 0, 2, last]);
        (Entry::Fdb(FdbEntry::permanent(7, netlink::Mac([2, 0, 0, 0, 0, last]), to)), present)
    }

    fn listening() -> Echoes {
        Echoes { listening: true, ..Echoes::default() }
    }

    #[test]
    fn an_own_step_is_no_news_whichever_socket_is_the_first() {
        let mut echoes = listening();
        assert!(echoes.hear(change(1, true)));
        assert_eq!(echoes.news(), Parts::FDB, "nobody has told whose it is");
        echoes.account(vec![change(1, true), change(2, true)]);
        assert_eq!(echoes.news(), Parts::NONE);
        assert!(!echoes.hear(change(2, true)));
        assert!(echoes.hear(change(2, true)), "it is good for one notification");
        assert_eq!(echoes.news(), Parts::FDB);
    }

    #[test]
    fn what_others_do_to_the_same_entry_is_news() {
        let mut echoes = listening();
        echoes.account(vec![change(1, true)]);
        assert!(echoes.hear(change(1, false)));
        assert_eq!(echoes.news(), Parts::FDB);
        echoes.settle(false);
        assert_eq!(echoes.news(), Parts::NONE);
        assert!(!echoes.hear(change(1, true)), "it comes late, and is ours");
    }

    #[test]
    fn where_something_was_lost_nothing_is_taken_for_an_echo() {
        let mut echoes = listening();
        echoes.account(vec![change(1, true)]);
        echoes.lose();
        echoes.account(vec![change(2, true)]);
        assert_eq!(echoes.news(), Parts::FDB.and(Parts::NEIGHBOURS));
        echoes.settle(true);
        assert!(echoes.hear(change(1, true)) && echoes.hear(change(2, true)));
    }

    #[test]
    fn where_nobody_listens_nothing_is_kept_and_a_whole_reading_ends_all_waiting() {
        let mut echoes = Echoes::default();
        echoes.account(vec![change(1, true)]);
        echoes.listen();
        assert!(echoes.hear(change(1, true)));
        echoes.account(vec![change(2, true)]);
        echoes.settle(true);
        assert!(echoes.hear(change(2, true)));
    }
}
