//! What a NodeConfig that is perhaps not the latest one may do: add, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use agent_core::fake::FakeKernel;
use agent_core::{Authority, Known, Pass, Report, Spec, pass};
use proptest::prelude::*;
use world::{any_config, gateway, host, meaning};

fn restore(kernel: &mut FakeKernel, spec: &Spec) -> Report {
    let known = Known::default();
    Pass { authority: &Authority::Additions, ..Pass::new(spec, &known) }.run(kernel).unwrap()
}

#[test]
fn after_a_reboot_everything_comes_back() {
    let spec = Spec::validate(&gateway());
    let mut kernel = FakeKernel::new(host());
    let report = restore(&mut kernel, &spec);
    assert_eq!(report.withheld, 0);
    assert!(report.is_verified() && report.is_applied(), "{report:?}");
    kernel.log.clear();
    assert_eq!(pass(&mut kernel, &spec, &Known::default()).unwrap().changed, 0);
}

#[test]
fn a_stale_memory_takes_no_peer_away_and_sends_none_elsewhere() {
    let old = gateway();
    // Since then: another peer, another gateway, another node behind a MAC, another bit, another priority.
    let mut new = gateway();
    new.routes.push(world::route("10.7.0.0/16", "vx-bridge", &["241.31.7.1"]));
    new.routes[0].gws = world::list(&["241.31.2.2", "241.31.2.3"]);
    new.routes[2].gw = "241.31.2.2".to_owned();
    new.fdbs[0].ip = "172.31.2.9".to_owned();
    new.rule_priority = Some(150);
    new.firewall.as_mut().unwrap().mark = Some(0x8);
    let mut kernel = FakeKernel::new(host());
    pass(&mut kernel, &Spec::validate(&new), &Known::default()).unwrap();
    let before = kernel.state.clone();
    let report = restore(&mut kernel, &Spec::validate(&old));
    assert!(report.withheld > 0);
    assert_eq!(meaning(&kernel.state).1, meaning(&before).1);
    assert_eq!(kernel.state.fdb, before.fdb);
    assert_eq!(kernel.state.rules, before.rules);
    assert_eq!(kernel.state.firewall, before.firewall);
    // What somebody deleted meanwhile comes back, as far as it is known.
    let gone = kernel.state.rules.first().unwrap().priority;
    kernel.state.rules.retain(|rule| rule.priority != gone);
    assert!(restore(&mut kernel, &Spec::validate(&old)).changed > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_there_is_changed_or_goes(newer in any_config(), older in any_config()) {
        let mut kernel = FakeKernel::new(host());
        pass(&mut kernel, &Spec::validate(&newer), &Known::default()).unwrap();
        let before = kernel.state.clone();
        let report = restore(&mut kernel, &Spec::validate(&older));
        let after = &kernel.state;
        prop_assert!(before.devices.iter().all(|(vtep, device)| after.devices.get(vtep) == Some(device)));
        prop_assert!(before.addresses.is_subset(&after.addresses));
        prop_assert!(before.fdb.is_subset(&after.fdb));
        prop_assert!(before.neighbours.iter().all(|(key, mac)| after.neighbours.get(key) == Some(mac)));
        prop_assert!(before.nexthops.iter().all(|(id, nexthop)| after.nexthops.get(id) == Some(nexthop)));
        prop_assert!(before.routes.iter().all(|(key, route)| after.routes.get(key) == Some(route)));
        prop_assert!(before.rules.is_subset(&after.rules));
        prop_assert!(before.firewall.table.is_none() || before.firewall.table == after.firewall.table);
        // Where nothing was withheld, the older one is as good as the newer: it may decide from now on.
        if report.withheld == 0 {
            kernel.log.clear();
            let full = pass(&mut kernel, &Spec::validate(&older), &Known::default()).unwrap();
            prop_assert_eq!(full.changed, 0);
        }
    }
}
