//! Steps as netlink messages and settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use agent_core::{ALIAS, Device, Nexthop, PROTOCOL, Refusal, Route, RouteKey, Rule, Step};
use api::{Family, Mac, Vtep};
use netlink::{
    Address, FdbEntry, Hop, LinkChange, Neighbour, NewLink, NewLinkKind, Op, Resilience, Via, Vxlan,
};

/// `ENODEV`, as the kernel itself would answer.
const NO_DEVICE: i32 = 19;

/// The messages of a step, or why there can be none.
pub(super) fn messages(step: &Step, indexes: &BTreeMap<Vtep, u32>) -> Result<Vec<Op>, Refusal> {
    let index = |vtep: &Vtep| {
        indexes.get(vtep).copied().ok_or_else(|| Refusal {
            errno: Some(NO_DEVICE),
            message: format!("there is no device {} (ENODEV)", vtep.name()),
        })
    };
    let message = match step {
        Step::CreateDevice(vtep, device) => return Ok(vec![create(*vtep, device)]),
        Step::ChangeDevice(vtep, change) => Op::ChangeLink(LinkChange {
            index: index(vtep)?,
            mac: change.mac.map(hardware),
            mtu: change.mtu,
            vxlan_local: change.local,
            up: change.up.then_some(true),
            alias: change.mark.then(|| ALIAS.to_owned()),
            ..LinkChange::default()
        }),
        Step::ClearDevice(vtep) | Step::DeleteDevice(vtep) => Op::DeleteLink(index(vtep)?),
        Step::AddAddress(vtep, address) => Op::replace(Address::plain(index(vtep)?, *address)),
        Step::DeleteAddress(vtep, address) => Op::delete(Address::plain(index(vtep)?, *address)),
        Step::SetNeighbour(vtep, address, mac) => {
            Op::replace(Neighbour::permanent(index(vtep)?, *address, hardware(*mac), PROTOCOL))
        }
        Step::DeleteNeighbour(vtep, address) => {
            Op::delete(Neighbour::permanent(index(vtep)?, *address, netlink::Mac::default(), PROTOCOL))
        }
        Step::SetFdb(vtep, mac, to) => Op::replace(FdbEntry::permanent(index(vtep)?, hardware(*mac), *to)),
        Step::DeleteFdb(vtep, mac, to) => Op::delete(FdbEntry::permanent(index(vtep)?, hardware(*mac), *to)),
        Step::SetNexthop(id, nexthop) => Op::replace(nexthop_object(*id, nexthop, index)?),
        Step::DeleteNexthop(id) => Op::delete(netlink::Nexthop::group(*id, PROTOCOL, [], None)),
        // Never a replacement: what has this key may be somebody else's.
        Step::AddRoute(key, to) => Op::add(route(key, Some(to))),
        Step::ReplaceRoute(key, to) => Op::replace(route(key, Some(to))),
        Step::DeleteRoute(key) => Op::delete(route(key, None)),
        Step::AddRule(rule) => Op::replace(policy(rule)),
        Step::DeleteRule(rule) => Op::delete(policy(rule)),
        Step::SetSysctl(..)
        | Step::ResetSysctl(..)
        | Step::WriteTable(_)
        | Step::DeleteTable
        | Step::InsertAccept(..)
        | Step::DeleteAccept(_) => return Err(Refusal::without_errno("is not a message of rtnetlink")),
    };
    Ok(vec![message])
}

fn hardware(mac: Mac) -> netlink::Mac {
    netlink::Mac(mac.0)
}

/// With its MAC from the first moment: udev and others keep their hands off.
fn create(vtep: Vtep, device: &Device) -> Op {
    let vxlan = Vxlan {
        vni: device.vni,
        port: device.port,
        local: Some(device.local),
        parent: Some(device.parent),
        learning: false,
    };
    Op::CreateLink(NewLink {
        mac: Some(hardware(device.mac)),
        mtu: Some(device.mtu),
        alias: Some(ALIAS.to_owned()),
        up: true,
        ..NewLink::new(vtep.name(), NewLinkKind::Vxlan(vxlan))
    })
}

fn nexthop_object(
    id: u32,
    nexthop: &Nexthop,
    index: impl Fn(&Vtep) -> Result<u32, Refusal>,
) -> Result<netlink::Nexthop, Refusal> {
    Ok(match nexthop {
        Nexthop::Single { device, gateway } => {
            netlink::Nexthop::hop(id, PROTOCOL, Hop::onlink(index(device)?, *gateway))
        }
        Nexthop::Group { members, resilience } => {
            let resilience = resilience.map(|resilience| Resilience {
                buckets: resilience.buckets,
                idle_timer: Duration::from_secs(resilience.idle_seconds.into()),
                unbalanced_timer: Duration::from_secs(resilience.unbalanced_seconds.into()),
            });
            netlink::Nexthop::group(id, PROTOCOL, members.iter().copied(), resilience)
        }
    })
}

/// A route; for a deletion its key and our protocol are enough.
fn route(key: &RouteKey, to: Option<&Route>) -> netlink::Route {
    let (destination, table) = (key.destination, key.table);
    let route = match to {
        Some(Route::Via { nexthop, source, mtu }) => netlink::Route {
            source: *source,
            mtu: *mtu,
            ..netlink::Route::unicast(destination, table, PROTOCOL, Via::Nexthop(*nexthop))
        },
        Some(Route::Unreachable) => netlink::Route::unreachable(destination, table, PROTOCOL, key.metric),
        None => netlink::Route {
            kind: netlink::RouteKind::Other(0),
            ..netlink::Route::unicast(destination, table, PROTOCOL, Via::Nothing)
        },
    };
    netlink::Route { metric: key.metric, ..route }
}

fn policy(rule: &Rule) -> netlink::Rule {
    let family = match rule.family {
        Family::V4 => netlink::Family::V4,
        Family::V6 => netlink::Family::V6,
    };
    netlink::Rule {
        input: rule.input.clone(),
        ..netlink::Rule::lookup(family, rule.priority, rule.table, PROTOCOL)
    }
}

/// Writes a setting of a device.
pub(super) fn sysctl(step: &Step, proc_sys_net: &Path) -> Result<(), Refusal> {
    let (Step::SetSysctl(key, value) | Step::ResetSysctl(key, value)) = step else {
        return Err(Refusal::without_errno("is not a sysctl"));
    };
    let (family, file) = key.setting.path();
    netlink::sysctl::Sysctl::net(&[family, "conf", key.device.name(), file])
        .and_then(|sysctl| sysctl.below(proc_sys_net).write(&value.to_string()))
        .map_err(|error| Refusal::without_errno(error.to_string()))
}
