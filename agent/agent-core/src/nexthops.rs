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

/// The gateways of a route.
pub(crate) type Ways = (Vtep, BTreeSet<IpAddr>);

/// The nexthop objects that routes need, and the one that each set of gateways has.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) objects: BTreeMap<u32, Nexthop>,
    pub(crate) of: BTreeMap<Ways, u32>,
}

/// What is in the kernel, by content.
struct Existing<'a> {
    actual: &'a Actual,
    singles: BTreeMap<(Vtep, IpAddr), Vec<u32>>,
    groups: BTreeMap<u32, Ways>,
}

/// Plans the nexthops of these routes.
pub(crate) fn plan(routes: &BTreeMap<Ways, Vec<RouteKey>>, actual: &Actual) -> Plan {
    let existing = Existing::of(actual);
    let mut group_ids = existing.exact_groups(routes);
    existing.shrunk_groups(routes, &mut group_ids);
    let grouped = |ways: &Ways| ways.1.len() > 1 || group_ids.contains_key(ways);
    let mut free = Free { actual, next: *NEXTHOP_IDS.start() };
    let singles = existing.singles_for(copies(routes.keys(), grouped), &mut free);
    let mut plan = Plan::default();
    for ways in routes.keys() {
        let (device, gateways) = ways;
        let ids = gateways.iter().flat_map(|gateway| &singles[&(*device, *gateway)]).copied();
        let id = if grouped(ways) {
            let members: BTreeSet<u32> = ids.collect();
            let group = group_ids.get(ways).copied();
            let resilience = actual.host.resilient_groups.then(|| existing.resilience(group, members.len()));
            let id = group.unwrap_or_else(|| free.take());
            plan.objects.insert(id, Nexthop::Group { members, resilience });
            id
        } else {
            ids.min().expect("a route has a gateway")
        };
        plan.of.insert(ways.clone(), id);
    }
    for ((device, gateway), ids) in singles {
        plan.objects.extend(ids.into_iter().map(|id| (id, Nexthop::Single { device, gateway })));
    }
    plan
}

/// How many objects each gateway needs: two where a group has it.
fn copies<'a>(
    all: impl Iterator<Item = &'a Ways>,
    grouped: impl Fn(&Ways) -> bool,
) -> BTreeMap<(Vtep, IpAddr), usize> {
    let mut copies = BTreeMap::new();
    for ways in all {
        let wanted = if grouped(ways) { 2 } else { 1 };
        for gateway in &ways.1 {
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
        let mut singles: BTreeMap<(Vtep, IpAddr), Vec<u32>> = BTreeMap::new();
        let mut groups = BTreeMap::new();
        for (id, nexthop) in &actual.nexthops {
            match nexthop {
                ActualNexthop::Ours(Nexthop::Single { device, gateway }) => {
                    singles.entry((*device, *gateway)).or_default().push(*id);
                }
                ActualNexthop::Ours(Nexthop::Group { members, resilience })
                    if resilience.is_some() == actual.host.resilient_groups =>
                {
                    groups.extend(ways_of(members, actual).map(|ways| (*id, ways)));
                }
                _ => {}
            }
        }
        Existing { actual, singles, groups }
    }

    /// The objects of each gateway, as many as it needs: those that the kernel has, then new ones.
    fn singles_for(
        &self,
        copies: BTreeMap<(Vtep, IpAddr), usize>,
        free: &mut Free<'_>,
    ) -> BTreeMap<(Vtep, IpAddr), BTreeSet<u32>> {
        let mut singles = BTreeMap::new();
        for (gateway, count) in copies {
            let known = self.singles.get(&gateway).map_or(&[][..], Vec::as_slice);
            let mut ids: BTreeSet<u32> = known.iter().take(count).copied().collect();
            while ids.len() < count {
                ids.insert(free.take());
            }
            singles.insert(gateway, ids);
        }
        singles
    }

    /// Groups whose gateways are exactly those of some routes. A set of one gateway takes a group only where its
    /// routes already use it.
    fn exact_groups(&self, routes: &BTreeMap<Ways, Vec<RouteKey>>) -> BTreeMap<Ways, u32> {
        let mut found = BTreeMap::new();
        for (id, ways) in &self.groups {
            let Some(keys) = routes.get(ways).filter(|_| self.holds(*id, ways.1.len())) else { continue };
            if ways.1.len() > 1 || keys.iter().any(|key| self.group_of(key) == Some(*id)) {
                found.entry(ways.clone()).or_insert(*id);
            }
        }
        found
    }

    /// For the other sets: the group that their routes use now and that nobody else claims, to be changed in place.
    fn shrunk_groups(&self, routes: &BTreeMap<Ways, Vec<RouteKey>>, found: &mut BTreeMap<Ways, u32>) {
        let mut claimed: BTreeSet<u32> = found.values().copied().collect();
        for (ways, keys) in routes {
            if found.contains_key(ways) {
                continue;
            }
            let usable = |id: &u32| {
                self.groups[id].0 == ways.0 && !claimed.contains(id) && self.holds(*id, ways.1.len())
            };
            if let Some(id) = keys.iter().filter_map(|key| self.group_of(key)).find(usable) {
                claimed.insert(id);
                found.insert(ways.clone(), id);
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
fn ways_of(members: &BTreeSet<u32>, actual: &Actual) -> Option<Ways> {
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
    on.map(|device| (device, gateways))
}
