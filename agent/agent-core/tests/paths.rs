//! Make before break: what leads somewhere before and after a change leads there after every single step of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use agent_core::fake::FakeKernel;
use agent_core::{
    Actual, ActualNexthop, INBOUND_TABLE, Known, Nexthop, Refusal, Route, Spec, Step, TABLE, pass,
};
use api::{Mac, Vtep};
use proptest::prelude::*;
use world::{any_config, host};

/// By which device, to whom, behind which MAC, at which underlay address.
type Way = (Vtep, IpAddr, Mac, IpAddr);

/// Addresses inside each of the small world's networks.
const PROBES: [&str; 8] =
    ["10.2.0.9", "10.3.1.9", "10.3.2.9", "10.77.0.9", "fd02::9", "fd03:1::9", "241.31.9.9", "10.3.9.9"];

/// The ways that a packet to an address may take; `None` where one of them is a dead end, or there is no way at all.
fn ways(state: &Actual, table: u32, to: IpAddr) -> Option<BTreeSet<Way>> {
    let led = state.rules.iter().any(|rule| rule.table == table && (rule.family == api::Family::of(to)));
    let inside = state.routes.iter().filter(|(key, _)| key.table == table && key.destination.contains(to));
    let best = inside.max_by_key(|(key, _)| (key.destination.prefix(), std::cmp::Reverse(key.metric)));
    let (_, Some(Route::Via { nexthop, .. })) = best.filter(|_| led)? else { return None };
    let members = match state.nexthops.get(nexthop)? {
        ActualNexthop::Ours(Nexthop::Group { members, .. }) => members.clone(),
        _ => BTreeSet::from([*nexthop]),
    };
    members.into_iter().map(|id| way(state, id)).collect()
}

fn way(state: &Actual, nexthop: u32) -> Option<Way> {
    let ActualNexthop::Ours(Nexthop::Single { device, gateway }) = state.nexthops.get(&nexthop)? else {
        return None;
    };
    let up = state.devices.get(device).is_some_and(|device| device.up);
    let mac = state.neighbours.get(&(*device, *gateway)).copied().flatten()?;
    let behind = state.fdb.iter().find(|(on, of, _)| (on, of) == (device, &mac))?;
    up.then_some((*device, *gateway, mac, behind.2))
}

type Map = BTreeMap<(u32, IpAddr), BTreeSet<Way>>;

fn all_ways(state: &Actual) -> Map {
    let mut map = Map::new();
    for table in [TABLE, INBOUND_TABLE] {
        for to in PROBES {
            let to = to.parse().unwrap();
            map.extend(ways(state, table, to).map(|ways| ((table, to), ways)));
        }
    }
    map
}

/// Devices that the kernel cannot change in place: their peers are lost for a moment whatever anybody does.
fn made_anew(log: &[(agent_core::Stage, Step)]) -> BTreeSet<Vtep> {
    let anew = |step: &Step| match step {
        Step::ClearDevice(vtep) => Some(*vtep),
        Step::ChangeDevice(vtep, change) if change.mac.is_some() => Some(*vtep),
        _ => None,
    };
    log.iter().filter_map(|(_, step)| anew(step)).collect()
}

/// What leads somewhere in both, and by devices that stay.
fn common(before: &Map, after: &Map, anew: &BTreeSet<Vtep>) -> Vec<(u32, IpAddr)> {
    let stays = |ways: &BTreeSet<Way>| ways.iter().all(|(device, ..)| !anew.contains(device));
    let both = before.iter().filter(|(key, ways)| stays(ways) && after.get(*key).is_some_and(stays));
    both.map(|(key, _)| *key).collect()
}

/// Configs that lead somewhere: each gateway has its neighbour, each MAC its FDB entry, except few.
fn any_living_config() -> impl Strategy<Value = api::NodeConfigSpec> {
    (any_config(), any::<bool>()).prop_map(|(mut config, tidy)| {
        if tidy {
            world::complete(&mut config);
        }
        config
    })
}

/// A network that is cut anew, into broader or narrower routes, while the way to its new gateway cannot be made.
#[test]
fn a_route_that_works_is_not_given_up_for_a_broken_one_of_another_length() {
    for (before, after) in [("10.2.0.0/24", "10.2.0.0/20"), ("10.2.0.0/20", "10.2.0.0/24")] {
        let config = |network, gateway| {
            let routes = vec![world::route(network, "vx-bridge", &[gateway])];
            let mut config = api::NodeConfigSpec {
                routes,
                unreachable: Vec::new(),
                inbound_routes: Vec::new(),
                ..world::gateway()
            };
            (config.fdbs, config.arps) = (Vec::new(), Vec::new());
            world::complete(&mut config);
            config
        };
        let (first, second) = (config(before, "241.31.2.1"), config(after, "241.31.2.2"));
        let mut kernel = FakeKernel::new(host());
        pass(&mut kernel, &Spec::validate(&first), &Known::default()).unwrap();
        let way = ways(&kernel.state, TABLE, "10.2.0.9".parse().unwrap());
        assert!(way.is_some());
        kernel.log.clear();
        let mut straight = kernel.clone();
        pass(&mut straight, &Spec::validate(&second), &Known::default()).unwrap();
        let is_neighbour = |step: &Step| matches!(step, Step::SetNeighbour(..));
        let (_, neighbour) = straight.log.iter().find(|(_, step)| is_neighbour(step)).unwrap();
        kernel
            .refuses
            .insert(neighbour.object(), Refusal { errno: Some(105), message: "ENOBUFS".to_owned() });
        pass(&mut kernel, &Spec::validate(&second), &Known::default()).unwrap();
        assert_eq!(ways(&kernel.state, TABLE, "10.2.0.9".parse().unwrap()), way, "{before} to {after}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_step_loses_what_leads_somewhere_before_and_after(
        first in any_living_config(), second in any_living_config()
    ) {
        let mut kernel = FakeKernel::new(host());
        pass(&mut kernel, &Spec::validate(&first), &Known::default()).unwrap();
        let before = all_ways(&kernel.state);
        kernel.log.clear();
        kernel.watch = Some(Vec::new());
        pass(&mut kernel, &Spec::validate(&second), &Known::default()).unwrap();
        let after = all_ways(&kernel.state);
        let watched = kernel.watch.take().unwrap();
        for key in common(&before, &after, &made_anew(&kernel.log)) {
            for (place, state) in watched.iter().enumerate() {
                let now = ways(state, key.0, key.1);
                prop_assert!(now.is_some(), "{key:?} is lost after {:?}", kernel.log[place]);
                let known: BTreeSet<Way> = before[&key].union(&after[&key]).copied().collect();
                // A neighbour or an FDB entry that changes in place makes ways that neither end has, for a moment.
                let same_gateways = now.unwrap().iter().all(|(device, gateway, ..)| {
                    known.iter().any(|(on, by, ..)| (on, by) == (device, gateway))
                });
                prop_assert!(same_gateways, "{key:?} goes elsewhere after {:?}", kernel.log[place]);
            }
        }
    }

    #[test]
    fn nor_does_a_step_that_fails(
        first in any_living_config(), second in any_living_config(), which in any::<prop::sample::Index>()
    ) {
        let mut kernel = FakeKernel::new(host());
        pass(&mut kernel, &Spec::validate(&first), &Known::default()).unwrap();
        let before = all_ways(&kernel.state);
        let mut straight = kernel.clone();
        kernel.log.clear();
        straight.log.clear();
        pass(&mut straight, &Spec::validate(&second), &Known::default()).unwrap();
        prop_assume!(!straight.log.is_empty());
        let after = all_ways(&straight.state);
        let place = which.index(straight.log.len());
        let failing = straight.log[place].1.clone();
        // What a device is or has is not made twice: there is nothing else to use meanwhile.
        prop_assume!(!matches!(failing, Step::CreateDevice(..) | Step::ChangeDevice(..) | Step::ClearDevice(_)));
        kernel.refuses.insert(failing.object(), Refusal { errno: Some(105), message: "ENOBUFS".to_owned() });
        kernel.watch = Some(Vec::new());
        pass(&mut kernel, &Spec::validate(&second), &Known::default()).unwrap();
        let watched = kernel.watch.take().unwrap();
        for key in common(&before, &after, &made_anew(&straight.log)) {
            for (place, state) in watched.iter().enumerate() {
                prop_assert!(
                    ways(state, key.0, key.1).is_some(),
                    "{key:?} is lost after {:?} because {failing} failed", kernel.log[place]
                );
            }
        }
        // And once it works, the end is the same.
        kernel.refuses.clear();
        pass(&mut kernel, &Spec::validate(&second), &Known::default()).unwrap();
        prop_assert_eq!(all_ways(&kernel.state), after);
    }
}
