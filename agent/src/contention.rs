//! Two writers of one object: whoever repairs it at once, for ever, makes it worse. Then we stop fighting, and say so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::keeper::Outcome;
use crate::pace::Woken;

/// So many repairs of one object within [`WINDOW`] are a fight.
const MANY: usize = 60;
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// When each object was repaired.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    repairs: BTreeMap<String, VecDeque<Timestamp>>,
}

impl Contention {
    /// Counts what a pass repaired, and returns the objects that are fought over; the outcome says so too.
    pub(crate) fn note(&mut self, outcome: &mut Outcome) -> BTreeSet<String> {
        let now = outcome.at;
        for times in self.repairs.values_mut() {
            times.retain(|time| now.duration_since(*time) < WINDOW);
        }
        self.repairs.retain(|_, times| !times.is_empty());
        let Ok(report) = &mut outcome.result else { return BTreeSet::new() };
        if outcome.woken != Woken::ByGoal {
            // Once for each pass, though an object may take several messages (two nexthops of one gateway).
            for object in report.written.iter().collect::<BTreeSet<_>>() {
                self.repairs.entry(object.clone()).or_default().push_back(now);
            }
        }
        let fought: Vec<(&String, usize)> = self
            .repairs
            .iter()
            .map(|(object, times)| (object, times.len()))
            .filter(|(_, times)| *times >= MANY)
            .collect();
        let notices = fought.iter().map(|(object, times)| {
            format!(
                "Contended: {object} was changed by somebody else {times} times within a minute; it is repaired less often until that ends"
            )
        });
        report.notices.splice(0..0, notices);
        fought.into_iter().map(|(object, _)| object.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use agent_core::Report;

    use super::*;
    use crate::keeper::tests::outcome;

    fn pass(contention: &mut Contention, second: i64, woken: Woken) -> (bool, Vec<String>) {
        let report = Report {
            written: vec!["IPv4 rule 200 lookup 200".to_owned(); 2],
            changed: 1,
            ..Report::default()
        };
        let at = Timestamp::from_second(second).unwrap();
        let mut outcome = Outcome { woken, at, ..outcome(Ok(report)) };
        let contended = contention.note(&mut outcome);
        (!contended.is_empty(), outcome.result.unwrap().notices)
    }

    #[test]
    fn a_repair_every_second_is_a_fight_that_names_its_object() {
        let mut contention = Contention::default();
        for second in 0..59 {
            assert!(!pass(&mut contention, second, Woken::ByKernel).0);
        }
        let (contended, notices) = pass(&mut contention, 59, Woken::ByKernel);
        assert!(contended);
        assert!(notices[0].starts_with("Contended: IPv4 rule 200 lookup 200 was changed"), "{notices:?}");
        // A minute later it is over.
        assert!(!pass(&mut contention, 130, Woken::ByKernel).0);
    }

    #[test]
    fn our_own_changes_are_no_fight() {
        let mut contention = Contention::default();
        assert!((0..200).all(|second| !pass(&mut contention, second, Woken::ByGoal).0));
    }
}
