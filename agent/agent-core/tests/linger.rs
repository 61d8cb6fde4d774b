//! What lingers: packets of nodes that still follow the older NodeConfig are carried, those of the new one go where it
//! says, and in the end nothing is left.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod walk;
mod world;

use std::collections::BTreeSet;

use agent_core::fake::FakeKernel;
use agent_core::firewall::{Ranges, Set};
use agent_core::{
    Actual, Authority, Desired, Known, Pass, Refusal, Report, Route, Spared, Spec, Step, diff, pass,
};
use api::{NodeConfigSpec, Vtep};
use proptest::prelude::*;
use walk::{Map, PROBES, all_ways, any_living_config, made_anew, received, ways};
use world::{any_config, any_kernel, complete, device, host, list, meaning, route};

fn lingering(kernel: &mut FakeKernel, spec: &Spec, spared: Spared) -> Report {
    let (known, authority) = (Known::default(), Authority::Lingering(spared));
    Pass { authority: &authority, ..Pass::new(spec, &known) }.run(kernel).unwrap()
}

fn begin(kernel: &mut FakeKernel, spec: &Spec) -> Report {
    lingering(kernel, spec, Spared::AllBut(BTreeSet::new()))
}

fn kernel_of(spec: &Spec) -> FakeKernel {
    let mut kernel = FakeKernel::new(host());
    pass(&mut kernel, spec, &Known::default()).unwrap();
    kernel.log.clear();
    kernel
}

/// Both by the same underlay: a tunnel whose underlay has gone stays as it is, whoever decides.
fn on_one_underlay(mut config: NodeConfigSpec) -> Spec {
    for device in &mut config.devices {
        device.bind_dev = "eth0".to_owned();
    }
    Spec::validate(&config)
}

/// A gateway `a1` between `b1`, elsewhere, and its own nodes `a2` (a gateway too) and `a3`.
fn gateway() -> NodeConfigSpec {
    let mut config = NodeConfigSpec {
        devices: vec![
            device(Vtep::Bridge, "241.31.1.1/32", 1, 54, "eth0"),
            device(Vtep::Local, "242.31.1.1/32", 2, 55, "eth0"),
        ],
        routes: vec![
            route("10.2.0.0/16", "vx-bridge", &["241.31.2.1", "241.31.2.2"]),
            route("242.31.1.2/32", "vx-local", &["242.31.1.2"]),
        ],
        inbound_routes: vec![route("10.1.3.0/24", "vx-local", &["242.31.1.3"])],
        unreachable: list(&["10.2.0.0/16"]),
        firewall: Some(api::node_config::Firewall {
            pod_cidrs: list(&["10.1.0.0/16"]),
            node_pod_cidrs: list(&["10.1.1.0/24"]),
            remote_cidrs: list(&["10.2.0.0/16"]),
            transit: true,
            ..Default::default()
        }),
        ..NodeConfigSpec::default()
    };
    complete(&mut config);
    config
}

/// The same node, when `a2` is the only gateway.
fn internal() -> NodeConfigSpec {
    let mut config = gateway();
    config.devices.remove(0);
    config.routes = vec![
        route("10.2.0.0/16", "vx-local", &["242.31.1.2"]),
        route("242.31.1.2/32", "vx-local", &["242.31.1.2"]),
    ];
    config.inbound_routes = Vec::new();
    config.firewall.as_mut().unwrap().transit = false;
    (config.fdbs, config.arps) = (Vec::new(), Vec::new());
    complete(&mut config);
    config
}

#[test]
fn a_gateway_that_is_none_any_more_still_carries_what_is_sent_to_it() {
    let (old, new) = (Spec::validate(&gateway()), Spec::validate(&internal()));
    let mut kernel = kernel_of(&old);
    let inward = received(&kernel.state, Vtep::Bridge, "10.1.3.9".parse().unwrap());
    assert!(inward.is_some());
    let report = begin(&mut kernel, &new);
    assert!(report.is_applied() && report.is_verified() && report.is_settled(), "{report:?}");
    assert!(!report.lingering.is_empty());
    assert_eq!(received(&kernel.state, Vtep::Bridge, "10.1.3.9".parse().unwrap()), inward);
    // Its own packets, and those that nodes of its cluster still send to it, take the new way.
    let outward = ways(&kernel.state, &(agent_core::TABLE, None, "10.2.0.9".parse().unwrap())).unwrap();
    assert_eq!(outward.into_iter().map(|(by, ..)| by).collect::<Vec<_>>(), [Vtep::Local]);
    // What comes in by the old device is answered by another one now: a strict filter of sources would drop it.
    for vtep in [Vtep::Bridge, Vtep::Local] {
        let setting = agent_core::Setting::RpFilter;
        assert_eq!(kernel.state.sysctls[&agent_core::Sysctl { device: vtep, setting }], 2, "{vtep:?}");
    }
    let table = kernel.state.firewall.table.clone().unwrap();
    assert!(table.chains.contains_key("prerouting"), "transit stays untracked: {:?}", table.chains.keys());
    // Its time is over.
    let report = lingering(&mut kernel, &new, Spared::Only(BTreeSet::new()));
    assert_eq!(report.lingering, BTreeSet::new());
    assert_eq!(meaning(&kernel.state), meaning(&kernel_of(&new).state));
}

#[test]
fn an_answer_to_a_gateway_that_is_none_any_more_finds_its_way() {
    let mut config = internal();
    config.unreachable.push("242.0.0.0/8".to_owned());
    let old = Spec::validate(&config);
    config.routes.remove(1);
    let new = Spec::validate(&config);
    let mut kernel = kernel_of(&old);
    begin(&mut kernel, &new);
    assert!(ways(&kernel.state, &(agent_core::TABLE, None, "242.31.1.2".parse().unwrap())).is_some());
}

/// What lingers of a gateway with more than it should have, after it heard another word.
fn after(more: impl Fn(&mut NodeConfigSpec), less: impl Fn(&mut NodeConfigSpec)) -> (FakeKernel, Report) {
    let (mut old, mut new) = (gateway(), gateway());
    more(&mut old);
    less(&mut new);
    let mut kernel = kernel_of(&Spec::validate(&old));
    let report = begin(&mut kernel, &Spec::validate(&new));
    (kernel, report)
}

fn lingers(report: &Report, part: &str) -> bool {
    report.lingering.iter().any(|object| object.contains(part))
}

#[test]
fn a_route_lingers_unless_the_new_word_leads_elsewhere_or_it_must_not_be() {
    let more = |old: &mut NodeConfigSpec| {
        old.routes.push(route("10.3.1.0/24", "vx-bridge", &["241.31.2.1"]));
        old.routes.push(route("10.77.0.0/16", "vx-bridge", &["241.31.2.1"]));
        old.unreachable.push("10.77.0.0/16".to_owned());
    };
    let (_, report) = after(more, |_| {});
    assert!(lingers(&report, "10.3.1.0/24") && lingers(&report, "10.77.0.0/16 in table 200 metric 1024"));
    assert!(
        !lingers(&report, "metric 1048576"),
        "what leads nowhere carries nothing: {:?}",
        report.lingering
    );
    let broader =
        |new: &mut NodeConfigSpec| new.routes.push(route("10.3.0.0/16", "vx-bridge", &["241.31.2.2"]));
    let (_, report) = after(more, broader);
    assert!(!lingers(&report, "10.3.1.0/24") && lingers(&report, "10.77.0.0/16"), "{:?}", report.lingering);
    let endpoint = |new: &mut NodeConfigSpec| new.fdbs[0].ip = "10.77.0.1".to_owned();
    let (_, report) = after(more, endpoint);
    assert!(lingers(&report, "10.3.1.0/24") && !lingers(&report, "10.77.0.0/16"), "{:?}", report.lingering);
}

#[test]
fn what_the_new_word_has_otherwise_goes_at_once() {
    let (_, report) = after(|old| old.rule_priority = Some(150), |_| {});
    assert!(!lingers(&report, "rule"), "{:?}", report.lingering);
    // An address that is somebody else's by now, and a device that bears it.
    let extra = |old: &mut NodeConfigSpec| old.devices[0].extra_addrs = list(&["241.31.1.9/32"]);
    assert!(lingers(&after(extra, |_| {}).1, "address 241.31.1.9/32"));
    let peer = |new: &mut NodeConfigSpec| {
        new.routes.push(route("10.9.0.0/16", "vx-local", &["241.31.1.9"]));
        complete(new);
    };
    assert!(!lingers(&after(extra, peer).1, "address"));
    let peer_of_internal = |new: &mut NodeConfigSpec| {
        *new = internal();
        peer(new);
    };
    let (kernel, report) = after(extra, peer_of_internal);
    assert!(!kernel.state.devices.contains_key(&Vtep::Bridge), "{:?}", report.lingering);
    // A MAC that is elsewhere: a second destination would be the first that is asked.
    let mut kernel = kernel_of(&Spec::validate(&gateway()));
    let (vtep, mac, _) = *kernel.state.fdb.first().unwrap();
    kernel.state.fdb.insert((vtep, mac, "172.31.0.9".parse().unwrap()));
    assert!(!lingers(&begin(&mut kernel, &Spec::validate(&gateway())), "FDB"));
}

#[test]
fn what_lingers_is_not_in_the_way() {
    let (old, new) = (Spec::validate(&gateway()), Spec::validate(&internal()));
    let mut kernel = kernel_of(&old);
    let refusal = Refusal { errno: Some(22), message: "Nexthop has invalid gateway".to_owned() };
    kernel.fails_at.insert(0, refusal);
    let report = begin(&mut kernel, &new);
    assert!(report.is_applied() && report.lingering.is_empty(), "{report:?}");
    assert_eq!(meaning(&kernel.state), meaning(&kernel_of(&new).state));
    // A program that is missing says nothing of what lingers.
    let mut kernel = kernel_of(&old);
    let missing = Refusal::without_errno("nft is not installed");
    kernel.refuses.insert("nftables table inet clusterlink".to_owned(), missing);
    assert!(!begin(&mut kernel, &new).lingering.is_empty());
}

/// The addresses of both are accepted, and refused is what the new one refuses.
#[test]
fn the_packet_filter_serves_both_and_refuses_by_the_new_word() {
    let pair = |to: &str| api::node_config::CidrPair { from: "10.1.0.0/16".to_owned(), to: to.to_owned() };
    let remote = |cidrs: &[&str], refused: &str| {
        let (cidrs, refused) = (list(cidrs), vec![pair(refused)]);
        move |config: &mut NodeConfigSpec| {
            let firewall = config.firewall.as_mut().unwrap();
            (firewall.remote_cidrs, firewall.refused) = (cidrs.clone(), refused.clone());
        }
    };
    let new = remote(&["10.2.0.0/16"], "10.9.0.0/16");
    let (kernel, report) = after(remote(&["10.2.0.0/16", "10.4.0.0/16"], "10.8.0.0/16"), &new);
    let withdrawn = "10.4.0.0-10.4.255.255 in nftables set remote4".to_owned();
    assert_eq!(report.lingering, BTreeSet::from([withdrawn]));
    let table = kernel.state.firewall.table.clone().unwrap();
    let Set::Addresses(_, ranges) = &table.sets["remote4"] else { panic!("{table:?}") };
    assert_eq!(ranges.iter().count(), 2);
    let rules = format!("{:?}", table.chains["forward"].rules);
    assert!(rules.contains("10.9.0.0") && !rules.contains("10.8.0.0"), "{rules}");
}

/// What has had its time takes nothing along that was withdrawn after it.
#[test]
fn each_address_of_the_packet_filter_has_a_time_of_its_own() {
    let remote = |cidrs: &[&str]| {
        let cidrs = list(cidrs);
        move |config: &mut NodeConfigSpec| {
            config.firewall.as_mut().unwrap().remote_cidrs.clone_from(&cidrs);
        }
    };
    let more = remote(&["10.2.0.0/16", "10.4.0.0/16", "10.6.0.0/16"]);
    let (mut kernel, first) = after(more, remote(&["10.2.0.0/16", "10.6.0.0/16"]));
    let mut last = gateway();
    remote(&["10.2.0.0/16"])(&mut last);
    let spared = Spared::AllBut(first.lingering);
    let report = lingering(&mut kernel, &Spec::validate(&last), spared);
    let withdrawn = "10.6.0.0-10.6.255.255 in nftables set remote4".to_owned();
    assert_eq!(report.lingering, BTreeSet::from([withdrawn]));
    let table = kernel.state.firewall.table.unwrap();
    let Set::Addresses(_, ranges) = &table.sets["remote4"] else { panic!("{table:?}") };
    assert_eq!(ranges, &Ranges::of(&["10.2.0.0/16", "10.6.0.0/16"].map(|network| network.parse().unwrap())));
}

/// What only strangers can have put there does not linger.
#[test]
fn drift_does_not_linger() {
    let (old, new) = (Spec::validate(&gateway()), Spec::validate(&internal()));
    let mut kernel = kernel_of(&old);
    let known = begin(&mut kernel, &new).lingering;
    let stranger = (Vtep::Local, "242.31.9.9".parse().unwrap());
    kernel.state.neighbours.insert(stranger, Some("02:54:00:00:09:09".parse().unwrap()));
    let report = lingering(&mut kernel, &new, Spared::Only(known.clone()));
    assert_eq!(report.lingering, known);
    assert_eq!(report.changed, 1);
    assert!(!kernel.state.neighbours.contains_key(&stranger));
}

/// Of each probe by which device: what a packet meets that comes in there.
fn carried(kernel: &FakeKernel) -> Vec<(Vtep, std::net::IpAddr)> {
    let all = Vtep::ALL.into_iter().flat_map(|vtep| PROBES.map(|to| (vtep, to.parse().unwrap())));
    all.filter(|(vtep, to)| received(&kernel.state, *vtep, *to).is_some()).collect()
}

/// Whether an address of a device is somebody else's by another NodeConfig.
fn is_taken(start: &Actual, by: Vtep, other: &Actual) -> bool {
    let mut own = start.addresses.iter().filter(|(on, _)| *on == by).map(|(_, address)| address.ip());
    own.any(|own| {
        let mut routes = other.routes.iter();
        other.neighbours.keys().any(|(_, address)| *address == own)
            || routes.any(|(key, route)| key.destination.contains(own) && *route != Some(Route::Unreachable))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_new_is_there_at_once_and_leads_where_it_will(
        left in any_kernel(), first in any_config(), second in any_config()
    ) {
        let (first, second) = (on_one_underlay(first), on_one_underlay(second));
        let mut kernel = FakeKernel::new(left);
        pass(&mut kernel, &first, &Known::default()).unwrap();
        let report = begin(&mut kernel, &second);
        prop_assert!(report.differing.iter().all(|d| d.cause == agent_core::Cause::Refused), "{:?}", report.differing);
        let desired = Desired::resolve(&second, &kernel.state, &Known::default());
        let missing: Vec<Step> = diff(&desired, &kernel.state, &BTreeSet::new()).stages()
            .filter(|(stage, _)| !stage.deletes())
            .flat_map(|(_, steps)| steps.to_vec())
            .filter(|step| !matches!(step, Step::WriteTable(_)))
            .collect();
        prop_assert_eq!(missing, Vec::<Step>::new());
        let straight: Map = all_ways(&kernel_of(&second).state);
        for (lookup, wanted) in straight {
            prop_assert_eq!(ways(&kernel.state, &lookup), Some(wanted), "{:?}", lookup);
        }
    }

    #[test]
    fn in_the_end_nothing_is_left(left in any_kernel(), first in any_config(), second in any_config()) {
        let (first, second) = (on_one_underlay(first), on_one_underlay(second));
        let mut kernel = FakeKernel::new(left);
        pass(&mut kernel, &first, &Known::default()).unwrap();
        let known = begin(&mut kernel, &second).lingering;
        kernel.log.clear();
        // Until then each look finds the same, and has nothing to do.
        let report = lingering(&mut kernel, &second, Spared::Only(known.clone()));
        prop_assert_eq!(&report.lingering, &known);
        prop_assert!(kernel.log.is_empty(), "{:?}", kernel.log);
        lingering(&mut kernel, &second, Spared::Only(BTreeSet::new()));
        prop_assert_eq!(meaning(&kernel.state), meaning(&kernel_of(&second).state));
    }

    #[test]
    fn what_was_carried_for_others_is_carried_after_each_step(
        first in any_living_config(), mut second in any_config()
    ) {
        complete(&mut second);
        // Another priority is another order of the tables, and that is obeyed at once.
        second.rule_priority = first.rule_priority;
        let (first, second) = (on_one_underlay(first), on_one_underlay(second));
        let mut kernel = kernel_of(&first);
        let (start, before) = (kernel.state.clone(), carried(&kernel));
        let straight = kernel_of(&second);
        kernel.watch = Some(Vec::new());
        let report = begin(&mut kernel, &second);
        let anew = made_anew(&kernel.log);
        let watched = kernel.watch.take().unwrap();
        for (by, to) in before {
            // What leads there by either NodeConfig hangs on devices that stay what they are.
            let changes = |state| received(state, by, to).is_some_and(|ways| ways.iter().any(|way| anew.contains(&way.0)));
            let ways = received(&start, by, to).unwrap();
            let taken = |on: Vtep| is_taken(&start, on, &straight.state);
            if taken(by) || ways.iter().any(|way| taken(way.0)) || anew.contains(&by) || changes(&start) || watched.iter().any(changes) {
                continue;
            }
            // The new word may be that it leads nowhere.
            if walk::is_given_up(&start, &straight.state, to) {
                continue;
            }
            for (place, state) in watched.iter().enumerate() {
                prop_assert!(
                    received(state, by, to).is_some(),
                    "{} by {} is lost after {}; lingering {:?}", to, by.name(), kernel.log[place].1, report.lingering
                );
            }
        }
    }
}
