//! Laws of the reconciliation, over any NodeConfigs and any kernel that they, a vandal and strangers left behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use std::collections::BTreeSet;

use agent_core::fake::FakeKernel;
use agent_core::{Desired, Known, Refusal, Route, Spec, Stage, Step, cleanup, diff, pass};
use proptest::prelude::*;
use world::{any_config, any_kernel, any_vandalism, host, meaning, strangers, vandalise};

fn config_of(kernel: &mut FakeKernel, spec: &Spec) {
    let report = pass(kernel, spec, &Known::default()).unwrap();
    let surprises: Vec<String> = report
        .differing
        .iter()
        .filter(|difference| {
            difference.problem.starts_with("cannot ") || difference.problem.starts_with("differs again")
        })
        .map(ToString::to_string)
        .collect();
    assert_eq!(surprises, Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn from_any_kernel_one_pass_leads_to_what_is_desired(
        before in any_config(), damage in any_vandalism(), wanted in any_config()
    ) {
        let mut kernel = FakeKernel::new(host());
        config_of(&mut kernel, &Spec::validate(&before));
        vandalise(&mut kernel.state, &damage);
        let spec = Spec::validate(&wanted);
        config_of(&mut kernel, &spec);

        let desired = Desired::resolve(&spec, &kernel.state, &Known::default());
        prop_assert!(diff(&desired, &kernel.state, &BTreeSet::new()).is_empty());
        let (devices, sysctls) = (&kernel.state.devices, &kernel.state.sysctls);
        prop_assert_eq!(devices.keys().collect::<Vec<_>>(), desired.devices.keys().collect::<Vec<_>>());
        prop_assert!(desired.sysctls.iter().all(|(key, value)| sysctls.get(key) == Some(value)));
        prop_assert_eq!(&kernel.state.addresses, &desired.addresses);
        let neighbours: Vec<_> = kernel.state.neighbours.iter().map(|(k, m)| (*k, m.unwrap())).collect();
        prop_assert_eq!(neighbours, desired.neighbours.into_iter().collect::<Vec<_>>());
        let fdb: BTreeSet<_> = desired.fdb.iter().map(|((v, m), ip)| (*v, *m, *ip)).collect();
        prop_assert_eq!(&kernel.state.fdb, &fdb);
        let routes: Vec<_> = kernel.state.routes.iter().map(|(k, r)| (*k, r.clone().unwrap())).collect();
        prop_assert_eq!(routes, desired.routes.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(&kernel.state.rules, &desired.rules);
        let table = desired.firewall.map(|firewall| firewall.table);
        prop_assert_eq!(&kernel.state.firewall.table, &table);
    }

    #[test]
    fn a_second_pass_asks_for_nothing(config in any_config()) {
        let spec = Spec::validate(&config);
        let mut kernel = FakeKernel::new(host());
        config_of(&mut kernel, &spec);
        kernel.log.clear();
        let report = pass(&mut kernel, &spec, &Known::default()).unwrap();
        prop_assert_eq!(report.changed, 0);
        prop_assert!(kernel.log.is_empty(), "{:?}", kernel.log);
    }

    #[test]
    fn the_way_does_not_matter(first in any_config(), mut second in any_config()) {
        // A tunnel whose underlay has gone stays as it is: there the way does matter.
        for device in &mut second.devices {
            device.bind_dev = "eth0".to_owned();
        }
        let second = Spec::validate(&second);
        let mut by_way = FakeKernel::new(host());
        config_of(&mut by_way, &Spec::validate(&first));
        config_of(&mut by_way, &second);
        let mut straight = FakeKernel::new(host());
        config_of(&mut straight, &second);
        prop_assert_eq!(meaning(&by_way.state), meaning(&straight.state));
    }

    #[test]
    fn whatever_was_left_in_the_kernel_the_end_is_that_from_an_empty_one(
        left in any_kernel(), first in any_config(), mut second in any_config()
    ) {
        for device in &mut second.devices {
            device.bind_dev = "eth0".to_owned();
        }
        let second = Spec::validate(&second);
        let mut kernel = FakeKernel::new(left);
        config_of(&mut kernel, &Spec::validate(&first));
        config_of(&mut kernel, &second);
        let mut straight = FakeKernel::new(host());
        config_of(&mut straight, &second);
        prop_assert_eq!(meaning(&kernel.state), meaning(&straight.state));
        cleanup(&mut kernel).unwrap();
        prop_assert_eq!(meaning(&kernel.state), meaning(&host()));
    }

    #[test]
    fn deletions_come_after_everything_else(first in any_config(), second in any_config()) {
        let mut kernel = FakeKernel::new(host());
        config_of(&mut kernel, &Spec::validate(&first));
        kernel.log.clear();
        config_of(&mut kernel, &Spec::validate(&second));
        let stages: Vec<Stage> = kernel.log.iter().map(|(stage, _)| *stage).collect();
        prop_assert!(stages.is_sorted(), "{:?}", stages);
        for (stage, step) in &kernel.log {
            let cleared = matches!(step, Step::ClearDevice(_));
            let takes = matches!(step.operation(), "delete" | "reset");
            prop_assert_eq!(takes && !cleared, stage.deletes());
        }
    }

    #[test]
    fn what_fails_is_named_and_stops_nothing_else(config in any_config(), which in any::<prop::sample::Index>()) {
        let spec = Spec::validate(&config);
        let mut straight = FakeKernel::new(host());
        config_of(&mut straight, &spec);
        // Something that nothing hangs on.
        let leaves: Vec<Step> = straight.log.iter().map(|(_, step)| step.clone())
            .filter(|step| matches!(step, Step::SetFdb(..) | Step::SetNeighbour(..) | Step::AddRoute(..) | Step::AddRule(_)))
            .collect();
        prop_assume!(!leaves.is_empty());
        let victim = leaves[which.index(leaves.len())].object();
        let mut kernel = FakeKernel::new(host());
        kernel.refuses.insert(victim.clone(), Refusal { errno: Some(16), message: "device busy".to_owned() });
        let report = pass(&mut kernel, &spec, &Known::default()).unwrap();
        let named: Vec<_> = report.differing.iter().filter(|d| d.problem.contains("device busy")).collect();
        prop_assert_eq!(named.len(), 1);
        prop_assert_eq!(&named[0].object, &victim);
        // An unreachable route waits where it would cut off what a broader route serves.
        let waits = format!("waits until this works: {victim}");
        let waiting = report.differing.iter().filter(|d| d.problem.ends_with(&waits)).count();
        prop_assert_eq!(report.differing.iter().filter(|d| d.problem.starts_with("cannot ")).count(), 1 + waiting);
        prop_assert_eq!(kernel.log.len() + waiting, straight.log.len());
        // Next time it works, and only that is done.
        kernel.refuses.clear();
        kernel.log.clear();
        config_of(&mut kernel, &spec);
        prop_assert_eq!(kernel.log.len(), 1 + waiting);
        prop_assert_eq!(meaning(&kernel.state), meaning(&straight.state));
    }

    #[test]
    fn strangers_are_never_touched(first in any_config(), damage in any_vandalism(), second in any_config()) {
        let mut kernel = FakeKernel::new(host());
        config_of(&mut kernel, &Spec::validate(&first));
        vandalise(&mut kernel.state, &damage);
        let before = strangers(&kernel.state);
        config_of(&mut kernel, &Spec::validate(&second));
        prop_assert_eq!(strangers(&kernel.state), before.clone());
        cleanup(&mut kernel).unwrap();
        prop_assert_eq!(strangers(&kernel.state), before);
        prop_assert_eq!(&meaning(&kernel.state), &meaning(&host()));
    }
}

#[test]
fn a_kernel_that_cannot_be_read_is_not_written() {
    let mut kernel = FakeKernel::new(host());
    kernel.unreadable = true;
    pass(&mut kernel, &Spec::default(), &Known::default()).unwrap_err();
    cleanup(&mut kernel).unwrap_err();
    assert!(kernel.log.is_empty());
}

#[test]
fn a_conversation_that_breaks_off_is_named_and_the_rest_is_done() {
    let spec = Spec::validate(&world::gateway());
    let mut kernel = FakeKernel::new(host());
    kernel.breaks_at = Some(Stage::Routes);
    let report = pass(&mut kernel, &spec, &Known::default()).unwrap();
    assert!(report.differing.iter().all(|d| d.problem.contains("while changing routes")), "{report:?}");
    assert!(report.broken > 0, "{report:?}");
    let errors = kernel.state.routes.values().all(|route| *route == Some(Route::Unreachable));
    assert!(!kernel.state.neighbours.is_empty() && errors, "{:?}", kernel.state.routes);
    kernel.breaks_at = None;
    config_of(&mut kernel, &spec);
}
