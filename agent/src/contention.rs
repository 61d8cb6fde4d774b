//! Two writers of one object: whoever repairs it at once, for ever, makes it worse. Then we stop fighting, and say so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::keeper::Outcome;

/// So many repairs of one object within [`WINDOW`] are a fight.
const MANY: usize = 60;
const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// A fight is over when so much time has passed without a repair: that of a truce, and some more.
const OVER: SignedDuration = SignedDuration::from_secs(30);

/// When each object was repaired.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    repairs: BTreeMap<String, VecDeque<Timestamp>>,
    /// What is fought over. The few repairs between truces must not make it look peaceful.
    fought: BTreeSet<String>,
}

impl Contention {
    /// Counts what a pass repaired, and returns the objects that are fought over; the outcome says so too.
    pub(crate) fn note(&mut self, outcome: &mut Outcome) -> BTreeSet<String> {
        let now = outcome.at;
        for times in self.repairs.values_mut() {
            times.retain(|time| now.duration_since(*time) < WINDOW);
        }
        self.repairs.retain(|_, times| !times.is_empty());
        let lasts =
            |times: &VecDeque<Timestamp>| times.back().is_some_and(|last| now.duration_since(*last) < OVER);
        self.fought.retain(|object| self.repairs.get(object).is_some_and(lasts));
        let Ok(report) = &mut outcome.result else { return BTreeSet::new() };
        if outcome.woken.repairs() {
            // Once for each pass, though an object may take several messages (two nexthops of one gateway).
            for object in report.written.iter().collect::<BTreeSet<_>>() {
                self.repairs.entry(object.clone()).or_default().push_back(now);
            }
        }
        let many =
            self.repairs.iter().filter(|(_, times)| times.len() >= MANY).map(|(object, _)| object.clone());
        self.fought.extend(many);
        let times = |object| self.repairs.get(object).map_or(0, VecDeque::len);
        let notices = self.fought.iter().map(|object| {
            format!(
                "Contended: {object} was changed by somebody else {} times within a minute; it is repaired less often until that ends",
                times(object)
            )
        });
        report.notices.splice(0..0, notices);
        self.fought.clone()
    }
}

#[cfg(test)]
mod tests {
    use agent_core::fake::FakeKernel;
    use agent_core::firewall::{Accept, ChainState, ForwardChain};
    use agent_core::{Actual, HostAddress, HostLink, Known, Pass, Report, Spec};
    use api::Vtep;

    use super::*;
    use crate::keeper::tests::outcome;
    use crate::pace::Woken;

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
            assert!(!pass(&mut contention, second, Woken::Kernel).0);
        }
        let (contended, notices) = pass(&mut contention, 59, Woken::Kernel);
        assert!(contended);
        assert!(notices[0].starts_with("Contended: IPv4 rule 200 lookup 200 was changed"), "{notices:?}");
        // A minute later it is over.
        assert!(!pass(&mut contention, 130, Woken::Kernel).0);
    }

    #[test]
    fn a_fight_that_goes_on_for_longer_than_a_minute_is_not_fought_again() {
        let mut contention = Contention::default();
        (0..60).for_each(|second| drop(pass(&mut contention, second, Woken::Kernel)));
        // Once for each truce.
        for second in (70..600).step_by(10) {
            assert!(pass(&mut contention, second, Woken::Clock).0, "after {second} seconds");
        }
        assert!(!pass(&mut contention, 640, Woken::Clock).0);
    }

    /// Somebody who changes one thing of each kind, and the beginning of that thing's name.
    type Vandal = (&'static str, fn(&mut Actual));

    const VANDALS: [Vandal; 10] = [
        ("device vx-bridge", |state| state.devices.get_mut(&Vtep::Bridge).unwrap().mtu = 1000),
        ("sysctl net.", |state| *state.sysctls.values_mut().next().unwrap() = 7),
        ("address 241.31.1.1/32", |state| _ = state.addresses.pop_first()),
        ("FDB entry", |state| _ = state.fdb.pop_first()),
        ("neighbour", |state| *state.neighbours.values_mut().next().unwrap() = None),
        ("nftables table", |state| state.firewall.table = None),
        ("accept in", |state| state.firewall.chains.values_mut().next().unwrap().accept = Accept::Absent),
        ("nexthop", |state| {
            let id = *state.nexthops.keys().next_back().unwrap();
            state.lose_nexthops(BTreeSet::from([id]));
        }),
        ("route", |state| _ = state.routes.pop_first()),
        ("IPv4 rule", |state| _ = state.rules.pop_first()),
    ];

    fn host() -> FakeKernel {
        let underlay = HostAddress { network: "172.31.1.1/16".parse().unwrap(), global: true };
        let eth0 =
            HostLink { name: "eth0".to_owned(), mtu: 1500, addresses: vec![underlay], ..Default::default() };
        let mut state = Actual::default();
        state.host.links.insert(2, eth0);
        state.host.resilient_groups = true;
        let chain =
            ForwardChain::Iptables { family: api::Family::V4, legacy: false, table: "filter".to_owned() };
        state.firewall.chains.insert(chain, ChainState { drops: true, accept: Accept::Absent });
        FakeKernel::new(state)
    }

    fn node() -> Spec {
        let yaml = "
            devices: [{type: vxlan, name: vx-bridge, addr: 241.31.1.1/32, mac: '02:54:00:00:00:01', bindDev: eth0, id: 54, port: 4876}]
            routes: [{cidr: 10.2.0.0/16, gw: 241.31.2.1, dev: vx-bridge, gws: [241.31.2.1, 241.31.2.2]}]
            fdbs: [{ip: 172.31.2.1, mac: '02:54:00:00:02:01', dev: vx-bridge}]
            arps: [{ip: 241.31.2.1, mac: '02:54:00:00:02:01', dev: vx-bridge}]
            firewall: {podCIDRs: [10.1.0.0/16], remoteCIDRs: [10.2.0.0/16]}";
        let spec = Spec::validate(&crate::config::parse(yaml).unwrap());
        assert_eq!(spec.invalid, []);
        spec
    }

    #[test]
    fn a_fight_over_any_kind_of_object_is_named_and_everything_else_is_repaired_meanwhile() {
        let (spec, known) = (node(), Known::default());
        for (place, (name, damage)) in VANDALS.into_iter().enumerate() {
            let mut kernel = host();
            assert_eq!(Pass::new(&spec, &known).run(&mut kernel).unwrap().differing, [], "{name}");
            let mut contention = Contention::default();
            let mut contended = BTreeSet::new();
            for second in 0..60 {
                damage(&mut kernel.state);
                let report = Pass::new(&spec, &known).run(&mut kernel).unwrap();
                let at = Timestamp::from_second(second).unwrap();
                let mut outcome = Outcome { woken: Woken::Kernel, at, ..outcome(Ok(report)) };
                contended = contention.note(&mut outcome);
            }
            assert!(contended.iter().any(|object| object.starts_with(name)), "{name}: {contended:?}");
            // Now it rests, and somebody changes something else.
            damage(&mut kernel.state);
            let (_, other) = VANDALS[(place + 4) % VANDALS.len()];
            other(&mut kernel.state);
            let pass = Pass { resting: &contended, ..Pass::new(&spec, &known) };
            let report = pass.run(&mut kernel).unwrap();
            assert!(report.changed > 0 && !report.is_applied() && report.is_settled(), "{name}: {report:?}");
            assert!(report.differing.iter().all(|d| contended.contains(&d.object)), "{name}: {report:?}");
            assert!(Pass::new(&spec, &known).run(&mut kernel).unwrap().is_applied());
        }
    }

    #[test]
    fn our_own_changes_are_no_fight() {
        let mut contention = Contention::default();
        assert!((0..200).all(|second| !pass(&mut contention, second, Woken::Goal).0));
    }
}
