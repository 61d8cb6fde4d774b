//! Which nexthop objects the routes need, and which ids they get.
//!
//! Ids are found by looking at what the kernel has: an object of the same content keeps its id, so a restarted
//! agent, with no memory, writes nothing. What is new takes the lowest free id of our range.
//!
//! A route by several gateways uses a resilient group with **two** objects for each of them: a group that shrank to
//! one member would count all its buckets as idle, and a returning gateway would tear living flows off the other.
//! For the same reason a group that shrinks to one gateway stays a group (and its routes need no message); only
//! routes that never had a group use the plain object, which is what P2P with its thousands of nodes needs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::Vtep;

use crate::actual::{Actual, ActualNexthop};
use crate::model::{NEXTHOP_IDS, Nexthop, Resilience, Route, RouteKey};

/// The gateways of a route, ascending.
pub(crate) type Ways<'a> = (Vtep, &'a [IpAddr]);

/// Objects that lead to one gateway each.
type Singles = BTreeSet<(Vtep, IpAddr, u32)>;

/// The nexthop objects that routes need, and the one that each set of gateways has.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) objects: BTreeMap<u32, Nexthop>,
    pub(crate) of: BTreeMap<Ways<'a>, u32>,
}

/// What is in the kernel, by content.
struct Existing<'a> {
    actual: &'a Actual,
    singles: Singles,
    groups: BTreeMap<u32, (Vtep, Vec<IpAddr>)>,
}

/// Plans the nexthops of these routes.
pub(crate) fn plan<'a>(routes: &BTreeMap<Ways<'a>, Vec<RouteKey>>, actual: &Actual) -> Plan<'a> {
    let existing = Existing::of(actual);
    let mut group_ids = existing.exact_groups(routes);
    existing.used_groups(routes, &mut group_ids);
    let grouped = |ways: &Ways<'_>| ways.1.len() > 1 || group_ids.contains_key(ways);
    let mut free = Free { actual, next: *NEXTHOP_IDS.start() };
    let singles = existing.singles_for(copies(routes.keys(), grouped), &mut free);
    let mut groups = Vec::new();
    let id_of = |ways: &Ways<'a>| {
        let ids = ways.1.iter().flat_map(|gateway| ids_of(&singles, ways.0, *gateway));
        if !grouped(ways) {
            return ids.min().expect("a route has a gateway");
        }
        let members: BTreeSet<u32> = ids.collect();
        let group = group_ids.get(ways).copied();
        let resilience = actual.host.resilient_groups.then(|| existing.resilience(group, members.len()));
        let id = group.unwrap_or_else(|| free.take());
        groups.push((id, Nexthop::Group { members, resilience }));
        id
    };
    let of = routes.keys().copied().zip(routes.keys().map(id_of)).collect();
    let single = |(device, gateway, id)| (id, Nexthop::Single { device, gateway });
    Plan { objects: singles.iter().copied().map(single).chain(groups).collect(), of }
}

/// The objects of a gateway.
fn ids_of(singles: &Singles, device: Vtep, gateway: IpAddr) -> impl Iterator<Item = u32> {
    singles.range((device, gateway, 0)..=(device, gateway, u32::MAX)).map(|(.., id)| *id)
}

/// How many objects each gateway needs: two where a group has it.
fn copies<'a>(
    all: impl Iterator<Item = &'a Ways<'a>>,
    grouped: impl Fn(&Ways<'_>) -> bool,
) -> BTreeMap<(Vtep, IpAddr), usize> {
    let mut copies = BTreeMap::new();
    for ways in all {
        let wanted = if grouped(ways) { 2 } else { 1 };
        for gateway in ways.1 {
            let count = copies.entry((ways.0, *gateway)).or_insert(wanted);
            *count = wanted.max(*count);
        }
    }
    copies
}

/// Free ids of our range, the lowest first.
struct Free<'a> {
    actual: &'a Actual,
    next: u32,
}

impl Free<'_> {
    fn take(&mut self) -> u32 {
        while self.actual.nexthops.contains_key(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }
}

impl<'a> Existing<'a> {
    fn of(actual: &'a Actual) -> Self {
        let mut singles = Vec::new();
        let mut groups = BTreeMap::new();
        for (id, nexthop) in &actual.nexthops {
            match nexthop {
                ActualNexthop::Ours(Nexthop::Single { device, gateway }) => {
                    singles.push((*device, *gateway, *id));
                }
                ActualNexthop::Ours(Nexthop::Group { members, resilience })
                    if resilience.is_some() == actual.host.resilient_groups =>
                {
                    groups.extend(ways_of(members, actual).map(|ways| (*id, ways)));
                }
                _ => {}
            }
        }
        Existing { actual, singles: singles.into_iter().collect(), groups }
    }

    /// The objects of each gateway, as many as it needs: those that the kernel has, then new ones.
    fn singles_for(&self, copies: BTreeMap<(Vtep, IpAddr), usize>, free: &mut Free<'_>) -> Singles {
        let mut singles = Vec::new();
        for ((device, gateway), count) in copies {
            let known = ids_of(&self.singles, device, gateway);
            let ids = known.chain(std::iter::repeat_with(|| free.take())).take(count);
            singles.extend(ids.map(|id| (device, gateway, id)));
        }
        singles.into_iter().collect()
    }

    /// Groups whose gateways are exactly those of some routes by several.
    fn exact_groups<'b>(&'b self, routes: &BTreeMap<Ways<'b>, Vec<RouteKey>>) -> BTreeMap<Ways<'b>, u32> {
        let mut found = BTreeMap::new();
        for (id, (device, gateways)) in &self.groups {
            let known = routes.get_key_value(&(*device, gateways.as_slice()));
            let Some((ways, _)) = known.filter(|_| gateways.len() > 1) else { continue };
            if self.holds(*id, gateways.len()) {
                found.entry(*ways).or_insert(*id);
            }
        }
        found
    }

    /// For the other sets: the group that their routes use now and that nobody else claims, to be changed in place. Sets of
    /// one gateway come last: while a gateway is away its neighbour's own address shares the group, and must not keep it
    /// from the routes that get the gateway back.
    fn used_groups<'b>(
        &self,
        routes: &BTreeMap<Ways<'b>, Vec<RouteKey>>,
        found: &mut BTreeMap<Ways<'b>, u32>,
    ) {
        if self.groups.is_empty() {
            return;
        }
        let mut claimed: BTreeSet<u32> = found.values().copied().collect();
        let (several, one): (Vec<_>, Vec<_>) = routes.iter().partition(|(ways, _)| ways.1.len() > 1);
        for (ways, keys) in several.into_iter().chain(one) {
            if found.contains_key(ways) {
                continue;
            }
            let usable = |id: &u32| {
                self.groups[id].0 == ways.0 && !claimed.contains(id) && self.holds(*id, ways.1.len())
            };
            let used = keys.iter().filter_map(|key| self.group_of(key)).filter(usable);
            if let Some(id) = used.min_by_key(|id| self.groups[id].1 != ways.1) {
                claimed.insert(id);
                found.insert(*ways, id);
            }
        }
    }

    /// The group that a route uses now.
    fn group_of(&self, key: &RouteKey) -> Option<u32> {
        self.actual.routes.range(key.of_any_mtu()).find_map(|(_, route)| match route {
            Some(Route::Via { nexthop, .. }) if self.groups.contains_key(nexthop) => Some(*nexthop),
            _ => None,
        })
    }

    /// Whether a group has buckets enough for two objects of each gateway.
    fn holds(&self, id: u32, gateways: usize) -> bool {
        self.buckets(id).is_none_or(|buckets| buckets >= Resilience::for_members(2 * gateways).buckets)
    }

    fn buckets(&self, id: u32) -> Option<u16> {
        match self.actual.nexthops.get(&id) {
            Some(ActualNexthop::Ours(Nexthop::Group { resilience: Some(resilience), .. })) => {
                Some(resilience.buckets)
            }
            _ => None,
        }
    }

    /// A group keeps its buckets: the kernel cannot change their number.
    fn resilience(&self, group: Option<u32>, members: usize) -> Resilience {
        let wanted = Resilience::for_members(members);
        let buckets = group.and_then(|id| self.buckets(id)).unwrap_or(wanted.buckets);
        Resilience { buckets, ..wanted }
    }
}

/// The gateways of a group, where it has some and all are on one device.
fn ways_of(members: &BTreeSet<u32>, actual: &Actual) -> Option<(Vtep, Vec<IpAddr>)> {
    let mut gateways = BTreeSet::new();
    let mut on = None;
    for member in members {
        let Some(ActualNexthop::Ours(Nexthop::Single { device, gateway })) = actual.nexthops.get(member)
        else {
            return None;
        };
        gateways.insert(*gateway);
        if *on.get_or_insert(*device) != *device {
            return None;
        }
    }
    on.map(|device| (device, gateways.into_iter().collect()))
}
