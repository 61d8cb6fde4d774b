//! What must be done to make one equal to the other. Nothing is applied here.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use api::{Family, Mac, Vtep};

use crate::actual::{Actual, ActualDevice, ActualNexthop, Owner};
use crate::desired::Desired;
use crate::firewall::Accept;
use crate::model::{Device, Nexthop, Route};
use crate::side_by_side::side_by_side;
use crate::spec::List;
use crate::step::{ChangeSet, DeviceChange, Stage, Step};

/// The steps from `actual` to `desired`, in order. Lists that hold an unreadable entry lose nothing.
pub fn diff(desired: &Desired, actual: &Actual, doubtful: &BTreeSet<List>) -> ChangeSet {
    let mut changes = ChangeSet::default();
    // What is left once devices are made anew and MACs are changed: the kernel takes along what hangs on them.
    let mut left = Cow::Borrowed(actual);
    devices(desired, &mut left, &mut changes);
    sysctls(desired, &left, &mut changes);
    addresses(desired, &left, &mut changes);
    fdb(desired, &left, &mut changes);
    neighbours(desired, &left, &mut changes);
    firewall(desired, &left, &mut changes);
    nexthops(desired, &left, &mut changes);
    routes(desired, &left, &mut changes);
    rules(desired, &left, &mut changes);
    for list in doubtful {
        changes.forget(deletions(*list));
    }
    changes
}

/// The deletions that an unreadable entry of a list forbids.
fn deletions(list: List) -> &'static [Stage] {
    match list {
        List::Devices => &[
            Stage::DeleteRules,
            Stage::DeleteRoutes,
            Stage::DeleteNexthopGroups,
            Stage::DeleteNexthops,
            Stage::DeleteFdb,
            Stage::DeleteNeighbours,
            Stage::DeleteAddresses,
            Stage::ResetSysctls,
            Stage::DeleteDevices,
        ],
        List::Routes => {
            &[Stage::DeleteRules, Stage::DeleteRoutes, Stage::DeleteNexthopGroups, Stage::DeleteNexthops]
        }
        List::Fdbs => &[Stage::DeleteFdb],
        List::Arps => &[Stage::DeleteNeighbours],
        List::Firewall => &[Stage::DeleteAccepts, Stage::DeleteFirewall, Stage::ResetSysctls],
    }
}

fn devices(desired: &Desired, left: &mut Cow<'_, Actual>, changes: &mut ChangeSet) {
    for (vtep, device) in &desired.devices {
        let Some(present) = left.devices.get(vtep) else {
            changes.push(Stage::Devices, Step::CreateDevice(*vtep, device.clone()));
            continue;
        };
        let change = in_place(device, present);
        if !same_tunnel(device, present) {
            changes.push(Stage::ClearDevices, Step::ClearDevice(*vtep));
            changes.push(Stage::Devices, Step::CreateDevice(*vtep, device.clone()));
            left.to_mut().lose_device(*vtep);
        } else if let Some(change) = change {
            changes.push(Stage::Devices, Step::ChangeDevice(*vtep, change));
            if change.mac.is_some() {
                left.to_mut().lose_neighbours(*vtep);
            }
        }
    }
    let superfluous: Vec<Vtep> = left
        .devices
        .iter()
        .filter(|(vtep, device)| device.owner == Owner::Ours && !desired.devices.contains_key(vtep))
        .map(|(vtep, _)| *vtep)
        .collect();
    for vtep in superfluous {
        changes.push(Stage::DeleteDevices, Step::DeleteDevice(vtep));
    }
}

fn same_tunnel(device: &Device, present: &ActualDevice) -> bool {
    (device.vni, device.port) == (present.vni, present.port)
        && Some(Family::of(device.local)) == present.local.map(Family::of)
        && Some(device.parent) == present.parent
        && !present.learning
        && !present.renamed
}

fn in_place(device: &Device, present: &ActualDevice) -> Option<DeviceChange> {
    let change = DeviceChange {
        mac: (present.mac != Some(device.mac)).then_some(device.mac),
        mtu: (present.mtu != device.mtu).then_some(device.mtu),
        // the kernel takes it while packets pass; a device made anew would lose some
        local: (present.local != Some(device.local)).then_some(device.local),
        up: !present.up,
        mark: present.owner != Owner::Ours,
    };
    (change != DeviceChange::default()).then_some(change)
}

/// Whether a device stays, so that what is on it and not wanted must be deleted by itself.
fn stays(desired: &Desired, vtep: Vtep) -> bool {
    desired.devices.contains_key(&vtep)
}

fn sysctls(desired: &Desired, left: &Actual, changes: &mut ChangeSet) {
    for (key, value) in &desired.sysctls {
        if left.sysctls.get(key) != Some(value) {
            changes.push(Stage::Sysctls, Step::SetSysctl(*key, *value));
        }
    }
    for (key, value) in &left.sysctls {
        let fresh = left.host.defaults.get(&key.setting).filter(|fresh| *fresh != value);
        if let Some(fresh) = fresh
            && *value == key.setting.ours()
            && stays(desired, key.device)
            && !desired.sysctls.contains_key(key)
        {
            changes.push(Stage::ResetSysctls, Step::ResetSysctl(*key, *fresh));
        }
    }
}

fn addresses(desired: &Desired, left: &Actual, changes: &mut ChangeSet) {
    for (vtep, address) in desired.addresses.difference(&left.addresses) {
        changes.push(Stage::Addresses, Step::AddAddress(*vtep, *address));
    }
    for (vtep, address) in left.addresses.difference(&desired.addresses) {
        if stays(desired, *vtep) {
            changes.push(Stage::DeleteAddresses, Step::DeleteAddress(*vtep, *address));
        }
    }
}

fn neighbours(desired: &Desired, left: &Actual, changes: &mut ChangeSet) {
    for ((vtep, address), wanted, present) in side_by_side(&desired.neighbours, &left.neighbours) {
        match (wanted, present) {
            (Some(mac), present) if present != Some(&Some(*mac)) => {
                changes.push(Stage::Neighbours, Step::SetNeighbour(*vtep, *address, *mac));
            }
            (None, Some(_)) if stays(desired, *vtep) => {
                changes.push(Stage::DeleteNeighbours, Step::DeleteNeighbour(*vtep, *address));
            }
            _ => {}
        }
    }
}

fn fdb(desired: &Desired, left: &Actual, changes: &mut ChangeSet) {
    let wanted = desired.fdb.iter().map(|((vtep, mac), to)| ((*vtep, *mac, *to), ()));
    let present = left.fdb.iter().map(|entry| (*entry, ()));
    for ((vtep, mac, to), wanted, present) in side_by_side(wanted, present) {
        match (wanted, present) {
            (Some(()), None) => changes.push(Stage::Fdb, Step::SetFdb(vtep, mac, to)),
            (None, Some(())) if stays(desired, vtep) && !is_sent_elsewhere(vtep, mac, desired, left) => {
                changes.push(Stage::DeleteFdb, Step::DeleteFdb(vtep, mac, to));
            }
            _ => {}
        }
    }
}

/// The only destination of a MAC that is wanted elsewhere is changed in place.
fn is_sent_elsewhere(vtep: Vtep, mac: Mac, desired: &Desired, left: &Actual) -> bool {
    desired.fdb.contains_key(&(vtep, mac)) && left.behind(vtep, mac).count() == 1
}

fn firewall(desired: &Desired, left: &Actual, changes: &mut ChangeSet) {
    let actual = &left.firewall;
    match &desired.firewall {
        Some(wanted) if !actual.table_unreadable && actual.table.as_ref() != Some(&wanted.table) => {
            changes.push(Stage::Firewall, Step::WriteTable(wanted.table.clone()));
        }
        None if actual.table.is_some() => changes.push(Stage::DeleteFirewall, Step::DeleteTable),
        _ => {}
    }
    for (chain, state) in &actual.chains {
        match (&desired.firewall, state.accept) {
            (Some(wanted), Accept::InPlace(mark)) if mark == wanted.mark => {}
            // Where nothing drops, nothing is needed; what stands there already is kept in order.
            (Some(_), Accept::Absent) if !state.drops => {}
            (Some(wanted), _) => {
                changes.push(Stage::Accepts, Step::InsertAccept(chain.clone(), wanted.mark));
            }
            (None, Accept::Absent) => {}
            (None, _) => changes.push(Stage::DeleteAccepts, Step::DeleteAccept(chain.clone())),
        }
    }
}

fn nexthops(desired: &Desired, left: &Actual, changes: &mut ChangeSet) {
    for (id, wanted, present) in side_by_side(&desired.nexthops, &left.nexthops) {
        match (wanted, present) {
            (Some(wanted), Some(ActualNexthop::Ours(present))) if present == wanted => {}
            (Some(wanted), _) => {
                let stage = if is_group(wanted) { Stage::NexthopGroups } else { Stage::Nexthops };
                changes.push(stage, Step::SetNexthop(*id, wanted.clone()));
            }
            (None, None | Some(ActualNexthop::Foreign)) => {}
            (None, Some(ActualNexthop::Ours(nexthop))) if is_group(nexthop) => {
                changes.push(Stage::DeleteNexthopGroups, Step::DeleteNexthop(*id));
            }
            (None, Some(ActualNexthop::Ours(Nexthop::Single { device, .. }))) if !stays(desired, *device) => {
            }
            (None, Some(ActualNexthop::Ours(_) | ActualNexthop::Odd)) => {
                changes.push(Stage::DeleteNexthops, Step::DeleteNexthop(*id));
            }
        }
    }
}

fn is_group(nexthop: &Nexthop) -> bool {
    matches!(nexthop, Nexthop::Group { .. })
}

/// In an order in which no packet meets a route that is not for it yet: the more specific ones come first and go
/// last, and what is unreachable comes after what leads there.
fn routes(desired: &Desired, left: &Actual, changes: &mut ChangeSet) {
    let mut writes = Vec::new();
    let mut deletions = Vec::new();
    for (key, wanted, present) in side_by_side(&desired.routes, &left.routes) {
        match (wanted, present) {
            (Some(route), None) => writes.push((key, Step::AddRoute(*key, route.clone()))),
            (Some(route), Some(present)) if present.as_ref() != Some(route) => {
                writes.push((key, Step::ReplaceRoute(*key, route.clone())));
            }
            (Some(_), Some(_)) => {}
            (None, _) => deletions.push(key),
        }
    }
    let leads_nowhere = |step: &Step| {
        matches!(step, Step::AddRoute(_, Route::Unreachable) | Step::ReplaceRoute(_, Route::Unreachable))
    };
    writes.sort_by_key(|(key, _)| Reverse(key.destination.prefix()));
    for (_, step) in writes {
        let stage = if leads_nowhere(&step) { Stage::UnreachableRoutes } else { Stage::Routes };
        changes.push(stage, step);
    }
    // Of one destination the unreachable one (with the higher metric) goes first: a broader route may serve it now.
    deletions.sort_by_key(|key| (key.destination.prefix(), Reverse(key.metric)));
    for key in deletions {
        changes.push(Stage::DeleteRoutes, Step::DeleteRoute(*key));
    }
}

fn rules(desired: &Desired, left: &Actual, changes: &mut ChangeSet) {
    for rule in desired.rules.difference(&left.rules) {
        changes.push(Stage::Rules, Step::AddRule(rule.clone()));
    }
    for rule in left.rules.difference(&desired.rules) {
        changes.push(Stage::DeleteRules, Step::DeleteRule(rule.clone()));
    }
}

/// The steps by object, to find again what failed.
pub(crate) fn by_object(changes: &ChangeSet) -> BTreeMap<String, &Step> {
    changes.steps().map(|step| (step.object(), step)).collect()
}
