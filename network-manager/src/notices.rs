//! When an Event tells of a condition: of trouble once it has lasted for a while, of its end only if it was told of.
//!
//! Whoever joins is incomplete for a moment: a ClusterNode comes before its agent has found an address, nodes come before
//! one of them is a gateway. Conditions say so at once; Events, which people are woken by, wait.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::reconcile::Target;

/// Trouble that passes sooner is nobody's business.
const LASTS: Duration = Duration::from_secs(5);

/// Whether a condition tells of something that an operator may have to see to.
pub(crate) fn is_trouble(condition: &Condition) -> bool {
    condition.status != "True" || condition.reason == "PlannedInPart"
}

/// Trouble that nobody was told of yet, by object and type of condition: as it stands now, and since when.
#[derive(Debug, Default)]
pub(crate) struct Notices(BTreeMap<(Target, String), (Condition, Instant)>);

impl Notices {
    /// Takes changed conditions of an object in, and returns those to tell of at once.
    pub(crate) fn take(
        &mut self,
        target: &Target,
        conditions: Vec<Condition>,
        now: Instant,
    ) -> Vec<Condition> {
        let mut at_once = Vec::new();
        for condition in conditions {
            let key = (target.clone(), condition.type_.clone());
            if is_trouble(&condition) {
                let since = self.0.get(&key).map_or(now, |(_, since)| *since);
                self.0.insert(key, (condition, since));
            } else if self.0.remove(&key).is_none() {
                at_once.push(condition);
            }
        }
        at_once
    }

    /// Trouble that has lasted, each once. `stands` says whether a condition is still what its object says.
    pub(crate) fn lasting(
        &mut self,
        now: Instant,
        stands: impl Fn(&Target, &Condition) -> bool,
    ) -> Vec<(Target, Condition)> {
        let due = |(_, since): &(Condition, Instant)| now.duration_since(*since) >= LASTS;
        let (due, waiting) = std::mem::take(&mut self.0).into_iter().partition(|(_, held)| due(held));
        self.0 = waiting;
        let told = due.into_iter().map(|((target, _), (condition, _))| (target, condition));
        told.filter(|(target, condition)| stands(target, condition)).collect()
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().map(|(_, since)| *since + LASTS).min()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;
    use crate::index::Resource;

    fn target() -> Target {
        Target { resource: Resource::ClusterNode, name: "a-n1".to_owned() }
    }

    fn planned(status: &str, reason: &str) -> Condition {
        Condition {
            type_: "Planned".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: reason.to_owned(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn a_node_that_joins_in_time_is_not_spoken_of() {
        let (mut notices, start) = (Notices::default(), Instant::now());
        assert_eq!(notices.take(&target(), vec![planned("False", "NoAddress")], start), []);
        assert_eq!(notices.lasting(start + LASTS / 2, |_, _| true), []);
        assert_eq!(notices.take(&target(), vec![planned("True", "Planned")], start + LASTS / 2), []);
        assert_eq!((notices.lasting(start + LASTS, |_, _| true), notices.next()), (vec![], None));
    }

    #[test]
    fn trouble_that_lasts_is_told_once_as_it_stands_and_so_is_its_end() {
        let (mut notices, start) = (Notices::default(), Instant::now());
        notices.take(&target(), vec![planned("False", "NoAddress")], start);
        let later = planned("False", "NoInterface");
        notices.take(&target(), vec![later.clone()], start + LASTS / 2);
        assert_eq!(notices.next(), Some(start + LASTS), "another reason is no new beginning");
        assert_eq!(notices.lasting(start + LASTS, |_, _| true), [(target(), later)]);
        assert_eq!(notices.lasting(start + LASTS * 2, |_, _| true), []);
        let well = planned("True", "Planned");
        assert_eq!(notices.take(&target(), vec![well.clone()], start + LASTS * 2), [well]);
    }

    #[test]
    fn what_does_not_stand_any_more_is_not_told() {
        let (mut notices, start) = (Notices::default(), Instant::now());
        notices.take(&target(), vec![planned("True", "PlannedInPart")], start);
        assert_eq!(notices.lasting(start + LASTS, |_, _| false), []);
        assert_eq!(notices.next(), None);
    }
}
