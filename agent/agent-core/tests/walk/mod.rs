//! The ways that packets take through a kernel.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use agent_core::{Actual, ActualNexthop, INBOUND_TABLE, Nexthop, Route, RouteKey, Rule, Step, TABLE};
use api::{Family, Mac, Vtep};
use proptest::prelude::*;

use crate::world::{any_config, complete};

/// By which device, to whom, behind which MAC, at which underlay address.
pub type Way = (Vtep, IpAddr, Mac, IpAddr);

/// Addresses inside each of the small world's networks.
pub const PROBES: [&str; 8] =
    ["10.2.0.9", "10.3.1.9", "10.3.2.9", "10.77.0.9", "fd02::9", "fd03:1::9", "241.31.9.9", "10.3.9.9"];

/// A table, the device by which packets must have come in to be led to it (`None`: any), and where they want to go.
pub type Lookup = (u32, Option<String>, IpAddr);

/// The ways that such packets may take; `None` where one of them is a dead end, or there is no way at all.
pub fn ways(state: &Actual, (table, input, to): &Lookup) -> Option<BTreeSet<Way>> {
    let leads = |rule: &Rule| (rule.table, &rule.input, rule.family) == (*table, input, Family::of(*to));
    state.rules.iter().any(leads).then(|| by_table(state, *table, *to)).flatten()
}

fn by_table(state: &Actual, table: u32, to: IpAddr) -> Option<BTreeSet<Way>> {
    let (_, Some(Route::Via { nexthop, .. })) = best(state, table, to)? else { return None };
    by_nexthop(state, *nexthop)
}

fn by_nexthop(state: &Actual, nexthop: u32) -> Option<BTreeSet<Way>> {
    let members = match state.nexthops.get(&nexthop)? {
        ActualNexthop::Ours(Nexthop::Group { members, .. }) => members.clone(),
        _ => BTreeSet::from([nexthop]),
    };
    members.into_iter().map(|id| way(state, id)).collect()
}

fn best(state: &Actual, table: u32, to: IpAddr) -> Option<(&RouteKey, &Option<Route>)> {
    inside(state, table, to).max_by_key(|(key, _)| (key.destination.prefix(), std::cmp::Reverse(key.metric)))
}

fn inside(state: &Actual, table: u32, to: IpAddr) -> impl Iterator<Item = (&RouteKey, &Option<Route>)> {
    state.routes.iter().filter(move |(key, _)| key.table == table && key.destination.contains(to))
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

pub type Map = BTreeMap<Lookup, BTreeSet<Way>>;

pub fn all_ways(state: &Actual) -> Map {
    let ours = state.rules.iter().filter(|rule| [TABLE, INBOUND_TABLE].contains(&rule.table));
    let lookups =
        ours.flat_map(|rule| PROBES.map(|to| (rule.table, rule.input.clone(), to.parse().unwrap())));
    lookups.filter_map(|lookup| ways(state, &lookup).map(|ways| (lookup, ways))).collect()
}

/// Devices that the kernel cannot change in place: their peers are lost for a moment whatever anybody does.
pub fn made_anew(log: &[(agent_core::Stage, Step)]) -> BTreeSet<Vtep> {
    let anew = |step: &Step| match step {
        Step::ClearDevice(vtep) => Some(*vtep),
        Step::ChangeDevice(vtep, change) if change.mac.is_some() => Some(*vtep),
        _ => None,
    };
    log.iter().filter_map(|(_, step)| anew(step)).collect()
}

/// What leads somewhere before and in the end, by devices that stay, and before by no VTEP that is given a MAC which leads
/// nowhere: that is obeyed at once.
pub fn common(before: &Map, end: &Actual, anew: &BTreeSet<Vtep>) -> Vec<Lookup> {
    let after = all_ways(end);
    let stays = |ways: &BTreeSet<Way>| ways.iter().all(|(device, ..)| !anew.contains(device));
    let is_dead = |(device, gateway, ..): &Way| {
        let mac = end.neighbours.get(&(*device, *gateway)).copied().flatten();
        mac.is_some_and(|mac| !end.fdb.iter().any(|(on, of, _)| (on, of) == (device, &mac)))
    };
    let both = before
        .iter()
        .filter(|(key, ways)| stays(ways) && !ways.iter().any(is_dead) && after.get(*key).is_some_and(stays));
    both.map(|(key, _)| key.clone()).collect()
}

/// The ways of the object by which such packets went, as it is in the end: another route's, perhaps, that had it in common.
pub fn by_its_object(old: &Actual, end: &Actual, (table, _, to): &Lookup) -> BTreeSet<Way> {
    match best(old, *table, *to) {
        Some((_, Some(Route::Via { nexthop, .. }))) => by_nexthop(end, *nexthop).unwrap_or_default(),
        _ => BTreeSet::new(),
    }
}

/// The ways of every route that holds such packets, the most specific one and those behind it.
pub fn all_that_hold(state: &Actual, (table, _, to): &Lookup) -> BTreeSet<Way> {
    let nexthops = inside(state, *table, *to).filter_map(|(_, route)| match route {
        Some(Route::Via { nexthop, .. }) => by_nexthop(state, *nexthop),
        _ => None,
    });
    nexthops.flatten().collect()
}

/// Configs that lead somewhere: each gateway has its neighbour, each MAC its FDB entry, except few.
pub fn any_living_config() -> impl Strategy<Value = api::NodeConfigSpec> {
    (any_config(), any::<bool>()).prop_map(|(mut config, tidy)| {
        if tidy {
            complete(&mut config);
        }
        config
    })
}

/// The ways on of a packet that came in by a device; `None` where it ends here or meets a dead end.
pub fn received(state: &Actual, by: Vtep, to: IpAddr) -> Option<BTreeSet<Way>> {
    state.devices.get(&by).filter(|device| device.up)?;
    by_table(state, asked(state, by, to)?, to)
}

/// Whether a newer state has, in either table, a way to an address that cannot be gone, refuses it and not all around it,
/// or sends its own outer packets there.
pub fn is_given_up(old: &Actual, new: &Actual, to: IpAddr) -> bool {
    let length = |state, table| best(state, table, to).map(|(key, _)| key.destination.prefix());
    let outer = best(old, TABLE, to)
        .is_some_and(|(key, _)| new.fdb.iter().any(|(.., endpoint)| key.destination.contains(*endpoint)));
    outer
        || [TABLE, INBOUND_TABLE].into_iter().any(|table| match best(new, table, to) {
            Some((_, Some(Route::Via { nexthop, .. }))) => by_nexthop(new, *nexthop).is_none(),
            Some((key, Some(Route::Unreachable))) => {
                let less = length(old, table).is_some_and(|old| key.destination.prefix() > old);
                less || inside(new, table, to).any(|(_, route)| matches!(route, Some(Route::Via { .. })))
            }
            _ => false,
        })
}

/// The first table, rule by rule, that has a route.
fn asked(state: &Actual, by: Vtep, to: IpAddr) -> Option<u32> {
    let applies = |rule: &&Rule| {
        rule.family == Family::of(to) && rule.input.as_ref().is_none_or(|input| input == by.name())
    };
    let mut rules: Vec<&Rule> = state.rules.iter().filter(applies).collect();
    rules.sort_by_key(|rule| rule.priority);
    rules.into_iter().map(|rule| rule.table).find(|table| best(state, *table, to).is_some())
}
