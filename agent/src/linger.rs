//! How long that stays which only an older NodeConfig asked for: nodes that have not heard of the new one yet still
//! send here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Authority, Report, Spared};
use api::NodeConfigSpec;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::goal::{Goal, Origin, Wanted};

/// The network-manager tells the last ones six seconds after the first ones at the latest; an API server, a mirror and a
/// busy agent have the rest.
pub(crate) const LINGER: Duration = Duration::from_secs(10);

/// What lingers, as a status tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remnant {
    /// How many kernel objects.
    pub(crate) objects: usize,
    /// When the last of them goes.
    pub(crate) until: Timestamp,
}

/// What lingers, each until its own time: one that is unwanted stays no longer because something else changes.
#[derive(Debug, Default)]
pub(crate) struct Lingering {
    /// The API's NodeConfig that was reached last.
    followed: Option<Arc<NodeConfigSpec>>,
    until: BTreeMap<String, (Instant, Timestamp)>,
}

impl Lingering {
    /// What may be deleted on the word of a NodeConfig. Another one of the API's begins something new, and so does the first
    /// one of a process: the agent before may have been replaced in the middle of a change.
    pub(crate) fn authority(&self, wanted: &Wanted, now: Instant) -> Authority {
        let objects = |of: fn(Instant, Instant) -> bool| -> BTreeSet<String> {
            let chosen = self.until.iter().filter(|(_, (until, _))| of(*until, now));
            chosen.map(|(object, _)| object.clone()).collect()
        };
        match wanted.origin {
            Origin::Api if self.followed.as_ref() != Some(&wanted.config) => {
                Authority::Lingering(Spared::AllBut(objects(|until, now| until <= now)))
            }
            Origin::Api if !self.until.is_empty() => {
                Authority::Lingering(Spared::Only(objects(|until, now| until > now)))
            }
            Origin::Api | Origin::Disk | Origin::File => Authority::Full,
        }
    }

    /// Takes in what a pass left. Nothing is known of one that failed.
    pub(crate) fn take(&mut self, goal: &Goal, report: &Report, now: (Instant, Timestamp)) {
        let wanted = goal.wanted().filter(|wanted| wanted.origin == Origin::Api);
        self.followed = wanted.map(|wanted| Arc::clone(&wanted.config));
        self.until.retain(|object, _| report.lingering.contains(object));
        for object in &report.lingering {
            self.until.entry(object.clone()).or_insert_with(|| (now.0 + LINGER, now.1 + LINGER));
        }
    }

    /// Whether something has had its time.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.until.values().any(|(until, _)| *until <= now)
    }

    /// When the next object goes. One that has not gone in its time is tried again with everything else that failed.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        self.until.values().map(|(until, _)| *until).filter(|until| *until > now).min()
    }

    /// What is to be told of it.
    pub(crate) fn remnant(&self) -> Option<Remnant> {
        let until = self.until.values().map(|(_, until)| *until).max()?;
        Some(Remnant { objects: self.until.len(), until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wanted(cidr: &str, origin: Origin) -> Wanted {
        let config = NodeConfigSpec { unreachable: vec![cidr.to_owned()], ..NodeConfigSpec::default() };
        Wanted::new(Arc::new(config), Some(1), origin)
    }

    fn set(objects: &[&str]) -> BTreeSet<String> {
        objects.iter().map(|object| (*object).to_owned()).collect()
    }

    /// One process, from its start.
    struct Agent(Lingering, Instant);

    impl Agent {
        fn start() -> Self {
            Agent(Lingering::default(), Instant::now())
        }

        fn asks(&self, wanted: &Wanted, second: u32) -> Authority {
            self.0.authority(wanted, self.1 + SECOND * second)
        }

        fn found(&mut self, wanted: &Wanted, second: u32, lingering: &[&str]) {
            let report = Report { lingering: set(lingering), ..Report::default() };
            let now = (self.1 + SECOND * second, Timestamp::UNIX_EPOCH + SECOND * second);
            self.0.take(&Goal::Present(wanted.clone()), &report, now);
        }
    }

    fn all_but(objects: &[&str]) -> Authority {
        Authority::Lingering(Spared::AllBut(set(objects)))
    }

    fn only(objects: &[&str]) -> Authority {
        Authority::Lingering(Spared::Only(set(objects)))
    }

    #[test]
    fn another_word_of_the_api_begins_it_and_time_ends_it() {
        let (first, second) = (wanted("10.1.0.0/16", Origin::Api), wanted("10.2.0.0/16", Origin::Api));
        let mut agent = Agent::start();
        assert_eq!(agent.asks(&first, 0), all_but(&[]), "a process that replaced another one in the middle");
        agent.found(&first, 0, &[]);
        assert_eq!(agent.asks(&first, 1), Authority::Full, "what is not wanted now came from somebody else");
        assert_eq!(agent.asks(&second, 2), all_but(&[]));
        agent.found(&second, 2, &["route", "device"]);
        let remnant = Remnant { objects: 2, until: Timestamp::UNIX_EPOCH + SECOND * 12 };
        assert_eq!(agent.0.remnant(), Some(remnant));
        assert_eq!(agent.asks(&second, 6), only(&["device", "route"]));
        assert_eq!(agent.0.next(agent.1 + SECOND * 6), Some(agent.1 + SECOND * 12));
        assert!(!agent.0.is_due(agent.1 + SECOND * 6) && agent.0.is_due(agent.1 + SECOND * 12));
        assert_eq!(agent.asks(&second, 12), only(&[]));
        assert_eq!(agent.0.next(agent.1 + SECOND * 12), None, "nothing is armed for what is past");
        agent.found(&second, 12, &[]);
        assert_eq!((agent.asks(&second, 13), agent.0.remnant()), (Authority::Full, None));
    }

    #[test]
    fn nothing_lingers_for_ever_though_the_word_changes_each_second() {
        let mut agent = Agent::start();
        agent.found(&wanted("10.0.0.0/16", Origin::Api), 0, &[]);
        for second in 1..11 {
            let next = wanted(&format!("10.{second}.0.0/16"), Origin::Api);
            assert_eq!(agent.asks(&next, second), all_but(&[]));
            agent.found(&next, second, &["old", &format!("of {second}")]);
        }
        let next = wanted("10.11.0.0/16", Origin::Api);
        assert_eq!(agent.asks(&next, 11), all_but(&["old"]));
        agent.found(&next, 11, &["of 11"]);
        // What was wanted meanwhile begins anew.
        agent.found(&wanted("10.12.0.0/16", Origin::Api), 12, &["of 11", "old"]);
        let last = wanted("10.12.0.0/16", Origin::Api);
        assert_eq!(agent.asks(&last, 21), only(&["old"]));
        assert_eq!(agent.asks(&last, 22), only(&[]));
    }

    #[test]
    fn neither_a_file_nor_the_disk_nor_a_teardown_lets_anything_linger() {
        let mut agent = Agent::start();
        agent.found(&wanted("10.1.0.0/16", Origin::Api), 0, &["route"]);
        for origin in [Origin::File, Origin::Disk] {
            assert_eq!(agent.asks(&wanted("10.2.0.0/16", origin), 1), Authority::Full);
        }
        agent.0.take(&Goal::Gone, &Report::default(), (agent.1, Timestamp::UNIX_EPOCH));
        assert_eq!(agent.0.remnant(), None);
        assert_eq!(agent.asks(&wanted("10.1.0.0/16", Origin::Api), 1), all_but(&[]));
    }
}
