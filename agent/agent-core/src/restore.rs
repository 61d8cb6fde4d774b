//! What may be done on the word of a NodeConfig that is perhaps not the latest one: additions.
//!
//! An addition must not win over what is there either: a route whose destination has one already, a rule that leads to
//! the same table, an address behind another MAC, are left alone.

use crate::actual::Actual;
use crate::firewall::Accept;
use crate::model::{Route, RouteKey, Rule};
use crate::step::{ChangeSet, DeviceChange, Step};

/// Forgets every step that is not an addition, and says how many those are.
pub(crate) fn only_additions(changes: &mut ChangeSet, actual: &Actual) -> usize {
    let mut reduced = 0;
    let forgotten = changes.retain(|step| {
        reduced += usize::from(reduce(step));
        adds(step, actual)
    });
    forgotten + reduced
}

/// Changed parts of a device are left alone; that it is up and ours changes nothing of what it does.
fn reduce(step: &mut Step) -> bool {
    let Step::ChangeDevice(_, change) = step else { return false };
    let rest = DeviceChange { mac: None, mtu: None, local: None, ..*change };
    let reduced = rest != *change && rest != DeviceChange::default();
    *change = rest;
    reduced
}

fn adds(step: &Step, actual: &Actual) -> bool {
    match step {
        Step::CreateDevice(vtep, _) => !actual.devices.contains_key(vtep),
        Step::ChangeDevice(_, change) => *change != DeviceChange::default(),
        // It has one value that we ever write, whoever asks.
        Step::SetSysctl(..) | Step::AddAddress(..) => true,
        Step::SetNeighbour(vtep, address, _) => !actual.neighbours.contains_key(&(*vtep, *address)),
        Step::SetFdb(vtep, mac, _) => actual.behind(*vtep, *mac).next().is_none(),
        Step::WriteTable(_) => actual.firewall.table.is_none(),
        // The table that is there may mark with another bit.
        Step::InsertAccept(chain, _) => {
            let absent =
                actual.firewall.chains.get(chain).is_some_and(|state| state.accept == Accept::Absent);
            absent && actual.firewall.table.is_none()
        }
        Step::SetNexthop(id, _) => !actual.nexthops.contains_key(id),
        Step::AddRoute(key, route) => !has_route(key, route, actual),
        Step::AddRule(rule) => {
            let leads_there = |other: &Rule| {
                (other.family, &other.input, other.table) == (rule.family, &rule.input, rule.table)
            };
            !actual.rules.iter().any(leads_there)
        }
        _ => false,
    }
}

/// Whether there is a route that this one would compete with.
fn has_route(key: &RouteKey, route: &Route, actual: &Actual) -> bool {
    *route != Route::Unreachable && actual.routes.range(key.of_any_mtu()).next().is_some()
}
