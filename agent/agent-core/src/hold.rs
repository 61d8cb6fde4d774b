//! What must wait because something that it relies on, or that should replace it, was refused.
//!
//! A way that works is never given up for one that does not: where a new route, nexthop, neighbour or FDB entry was
//! refused, what it would have replaced stays, with everything that it relies on, and is tried again in the next pass.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use api::{Family, Mac, Vtep};
use ipnetwork::IpNetwork;

use crate::actual::{Actual, ActualNexthop};
use crate::model::{Nexthop, Route, RouteKey, Rule};
use crate::step::{Stage, Step};

/// What was refused, as far as something depends on it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    addresses: BTreeSet<(Vtep, Family)>,
    neighbours: BTreeSet<(Vtep, IpAddr)>,
    macs: BTreeSet<(Vtep, Mac)>,
    nexthops: BTreeSet<u32>,
    destinations: BTreeSet<(u32, IpNetwork)>,
    rules: Vec<Rule>,
    first: Option<String>,
}

/// What the ways rely on that are kept.
#[derive(Debug, Default)]
struct Relied {
    nexthops: BTreeSet<u32>,
    gateways: BTreeSet<(Vtep, IpAddr)>,
    macs: BTreeSet<(Vtep, Mac)>,
    devices: BTreeSet<Vtep>,
}

impl Held {
    /// A step was refused.
    pub(crate) fn note(&mut self, step: &Step) {
        match step {
            Step::AddAddress(vtep, address) => {
                self.addresses.insert((*vtep, Family::of_network(*address)));
            }
            Step::SetNeighbour(vtep, address, _) => drop(self.neighbours.insert((*vtep, *address))),
            Step::SetFdb(vtep, mac, _) => drop(self.macs.insert((*vtep, *mac))),
            Step::SetNexthop(id, _) => drop(self.nexthops.insert(*id)),
            Step::AddRoute(key, _) | Step::ReplaceRoute(key, _) => {
                self.destinations.insert((key.table, key.destination));
            }
            Step::AddRule(rule) => self.rules.push(rule.clone()),
            _ => return,
        }
        self.first.get_or_insert_with(|| step.object());
    }

    /// The steps of a stage that may be done, and the others, each with its reason.
    pub(crate) fn part<'a>(
        &self,
        stage: Stage,
        steps: &'a [Step],
        actual: &Actual,
    ) -> (Cow<'a, [Step]>, Vec<(&'a Step, String)>) {
        let Some(first) = &self.first else { return (Cow::Borrowed(steps), Vec::new()) };
        let relied = if stage.deletes() { self.relied(actual) } else { Relied::default() };
        let waits = |step: &&Step| match stage.deletes() {
            true => self.is_needed(step, &relied, actual),
            false => self.would_lose(step, actual),
        };
        let (waiting, done): (Vec<&Step>, Vec<&Step>) = steps.iter().partition(waits);
        let reason = |step| (step, format!("waits until this works: {first}"));
        (done.into_iter().cloned().collect(), waiting.into_iter().map(reason).collect())
    }

    /// Whether a way that works would be given up for one that does not.
    fn would_lose(&self, step: &Step, actual: &Actual) -> bool {
        match step {
            Step::SetNeighbour(vtep, address, mac) => {
                actual.neighbours.contains_key(&(*vtep, *address)) && self.macs.contains(&(*vtep, *mac))
            }
            Step::SetNexthop(id, nexthop @ Nexthop::Group { .. }) => {
                actual.nexthops.contains_key(id) && self.is_broken(nexthop, actual)
            }
            // Where nothing leads there now either, an error now is better than a leak.
            Step::AddRoute(key, Route::Unreachable) => {
                let leads = |(other, route): (&RouteKey, &Option<Route>)| {
                    *route != Some(Route::Unreachable) && self.keeps(other)
                };
                let cut = |(table, other): &(u32, IpNetwork)| {
                    *table == key.table && covers(key.destination, *other)
                };
                self.destinations.iter().any(cut) && actual.routes.iter().any(leads)
            }
            Step::AddRoute(key, Route::Via { nexthop, .. })
            | Step::ReplaceRoute(key, Route::Via { nexthop, .. }) => {
                let has_another = actual.routes.range(key.of_any_mtu()).next().is_some();
                has_another && self.is_broken_id(*nexthop, actual)
            }
            _ => false,
        }
    }

    fn is_broken_id(&self, id: u32, actual: &Actual) -> bool {
        let broken = |nexthop: &ActualNexthop| match nexthop {
            ActualNexthop::Ours(nexthop) => self.is_broken(nexthop, actual),
            ActualNexthop::Odd | ActualNexthop::Foreign => true,
        };
        // A group that was to be changed and was not is as good as it was.
        let new = !actual.nexthops.contains_key(&id);
        new && self.nexthops.contains(&id) || actual.nexthops.get(&id).is_some_and(broken)
    }

    fn is_broken(&self, nexthop: &Nexthop, actual: &Actual) -> bool {
        match nexthop {
            Nexthop::Single { device, gateway } => {
                let mac = actual.neighbours.get(&(*device, *gateway)).copied().flatten();
                self.neighbours.contains(&(*device, *gateway))
                    || mac.is_some_and(|mac| self.macs.contains(&(*device, mac)))
            }
            Nexthop::Group { members, .. } => members.iter().any(|id| self.is_broken_id(*id, actual)),
        }
    }

    /// Whether a deletion would take something that a way relies on which is kept.
    fn is_needed(&self, step: &Step, relied: &Relied, actual: &Actual) -> bool {
        match step {
            Step::DeleteRule(rule) => self.rules.iter().any(|other| {
                (other.family, &other.input, other.table) == (rule.family, &rule.input, rule.table)
            }),
            Step::DeleteRoute(key) => self.keeps(key),
            Step::DeleteNexthop(id) => {
                let used = |route: &Option<Route>| matches!(route, Some(Route::Via { nexthop, .. }) if nexthop == id);
                relied.nexthops.contains(id) || actual.routes.values().any(used)
            }
            Step::DeleteNeighbour(vtep, address) => relied.gateways.contains(&(*vtep, *address)),
            Step::DeleteFdb(vtep, mac, _) => relied.macs.contains(&(*vtep, *mac)),
            Step::DeleteAddress(vtep, address) => {
                self.addresses.contains(&(*vtep, Family::of_network(*address)))
            }
            Step::DeleteDevice(vtep) => relied.devices.contains(vtep),
            _ => false,
        }
    }

    /// Whether a route serves what a refused one should serve.
    fn keeps(&self, key: &RouteKey) -> bool {
        let serves = |other: IpNetwork| covers(key.destination, other) || covers(other, key.destination);
        self.destinations.iter().any(|(table, other)| *table == key.table && serves(*other))
    }

    fn relied(&self, actual: &Actual) -> Relied {
        let mut relied = Relied { nexthops: self.nexthops.clone(), ..Relied::default() };
        for (key, route) in &actual.routes {
            if let Some(Route::Via { nexthop, .. }) = route
                && self.keeps(key)
            {
                relied.nexthops.insert(*nexthop);
            }
        }
        let members: Vec<u32> = relied.nexthops.iter().flat_map(|id| members(*id, actual)).collect();
        relied.nexthops.extend(members);
        for (device, gateway) in &self.neighbours {
            let mac = actual.neighbours.get(&(*device, *gateway)).copied().flatten();
            relied.macs.extend(mac.map(|mac| (*device, mac)));
        }
        for id in &relied.nexthops {
            if let Some(ActualNexthop::Ours(Nexthop::Single { device, gateway })) = actual.nexthops.get(id) {
                let mac = actual.neighbours.get(&(*device, *gateway)).copied().flatten();
                relied.gateways.insert((*device, *gateway));
                relied.macs.extend(mac.map(|mac| (*device, mac)));
                relied.devices.insert(*device);
            }
        }
        relied
    }
}

fn members(id: u32, actual: &Actual) -> Vec<u32> {
    match actual.nexthops.get(&id) {
        Some(ActualNexthop::Ours(Nexthop::Group { members, .. })) => members.iter().copied().collect(),
        _ => Vec::new(),
    }
}

fn covers(whole: IpNetwork, part: IpNetwork) -> bool {
    whole.is_ipv4() == part.is_ipv4() && whole.prefix() <= part.prefix() && whole.contains(part.network())
}
