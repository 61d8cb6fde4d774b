//! Changes as data: what to do, in which order.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use api::{Mac, Vtep};
use ipnetwork::IpNetwork;

use crate::firewall::{ForwardChain, Table};
use crate::model::{Device, Kind, Nexthop, Route, RouteKey, Rule, Sysctl};

/// One change of one kernel object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete a device that must be made anew, with all that hangs on it.
    ClearDevice(Vtep),
    /// Create a device, marked as ours and up.
    CreateDevice(Vtep, Device),
    /// Change a device in place.
    ChangeDevice(Vtep, DeviceChange),
    /// Set a key of a device.
    SetSysctl(Sysctl, u8),
    /// Set a key of a device to what a new device has.
    ResetSysctl(Sysctl, u8),
    /// Add an address, without a route to its prefix.
    AddAddress(Vtep, IpNetwork),
    /// Add a permanent neighbour, or change the MAC of one.
    SetNeighbour(Vtep, IpAddr, Mac),
    /// Add an FDB entry, or send an existing one elsewhere.
    SetFdb(Vtep, Mac, IpAddr),
    /// Replace our nftables table as a whole.
    WriteTable(Table),
    /// Put one accept of our mark at the top of somebody's forward chain, and take older ones of ours away.
    InsertAccept(ForwardChain, u32),
    /// Create a nexthop object, or change one.
    SetNexthop(u32, Nexthop),
    /// Add a route where none of this key is.
    AddRoute(RouteKey, Route),
    /// Change a route of ours.
    ReplaceRoute(RouteKey, Route),
    /// Add a rule.
    AddRule(Rule),
    /// Delete a rule.
    DeleteRule(Rule),
    /// Delete a route.
    DeleteRoute(RouteKey),
    /// Delete a nexthop object that nothing uses any more.
    DeleteNexthop(u32),
    /// Take our accepts out of somebody's forward chain.
    DeleteAccept(ForwardChain),
    /// Delete our nftables table.
    DeleteTable,
    /// Delete an FDB entry.
    DeleteFdb(Vtep, Mac, IpAddr),
    /// Delete a neighbour.
    DeleteNeighbour(Vtep, IpAddr),
    /// Delete an address.
    DeleteAddress(Vtep, IpNetwork),
    /// Delete a device.
    DeleteDevice(Vtep),
}

/// What to change of a device in place; `None` and `false` stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceChange {
    /// Another MAC.
    pub mac: Option<Mac>,
    /// Another MTU.
    pub mtu: Option<u32>,
    /// Another underlay address of the same family.
    pub local: Option<IpAddr>,
    /// Set it up.
    pub up: bool,
    /// Mark it as ours.
    pub mark: bool,
}

/// The order of steps: what others hang on comes first, deletions come last and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Devices that must be made anew go before any device comes: they may swap their VNIs.
    ClearDevices,
    /// Devices.
    Devices,
    /// Settings of devices: IPv6 must be enabled before an address.
    Sysctls,
    /// Addresses.
    Addresses,
    /// FDB: before a neighbour's MAC leads anywhere, the MAC does.
    Fdb,
    /// Neighbours.
    Neighbours,
    /// Our nftables table.
    Firewall,
    /// Accepts in other people's chains: after our table, which marks what they accept.
    Accepts,
    /// Nexthop objects.
    Nexthops,
    /// Groups of them.
    NexthopGroups,
    /// Routes that lead somewhere.
    Routes,
    /// Routes that lead nowhere: only where those that lead somewhere are known to be there.
    UnreachableRoutes,
    /// Rules: only now does traffic see the routes.
    Rules,
    /// Deletion of rules.
    DeleteRules,
    /// Deletion of routes.
    DeleteRoutes,
    /// Deletion of groups, before their members: with its last member the kernel deletes a group and its routes.
    DeleteNexthopGroups,
    /// Deletion of nexthop objects.
    DeleteNexthops,
    /// Deletion of accepts.
    DeleteAccepts,
    /// Deletion of our nftables table.
    DeleteFirewall,
    /// Deletion of neighbours.
    DeleteNeighbours,
    /// Deletion of FDB entries.
    DeleteFdb,
    /// Deletion of addresses.
    DeleteAddresses,
    /// Settings that nobody asks for any more go back to what a new device has.
    ResetSysctls,
    /// Deletion of devices.
    DeleteDevices,
}

impl Stage {
    /// Whether it takes something away (a device that is made anew comes back in the same pass).
    pub fn deletes(self) -> bool {
        self >= Stage::DeleteRules
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::ClearDevices | Stage::Devices | Stage::DeleteDevices => "devices",
            Stage::Sysctls | Stage::ResetSysctls => "sysctls",
            Stage::Addresses | Stage::DeleteAddresses => "addresses",
            Stage::Neighbours | Stage::DeleteNeighbours => "neighbours",
            Stage::Fdb | Stage::DeleteFdb => "FDB entries",
            Stage::Firewall | Stage::DeleteFirewall => "the nftables table",
            Stage::Accepts | Stage::DeleteAccepts => "accepts in forward chains",
            Stage::Nexthops | Stage::DeleteNexthops => "nexthops",
            Stage::NexthopGroups | Stage::DeleteNexthopGroups => "nexthop groups",
            Stage::Routes | Stage::DeleteRoutes => "routes",
            Stage::UnreachableRoutes => "unreachable routes",
            Stage::Rules | Stage::DeleteRules => "rules",
        })
    }
}

/// Everything that must be done, by stage, in the order in which it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet(BTreeMap<Stage, Vec<Step>>);

impl ChangeSet {
    pub(crate) fn push(&mut self, stage: Stage, step: Step) {
        self.0.entry(stage).or_default().push(step);
    }

    /// Keeps the steps that may be done, and says how many those are that may not.
    pub(crate) fn retain(&mut self, mut may: impl FnMut(&mut Step) -> bool) -> usize {
        let before = self.len();
        self.0.values_mut().for_each(|steps| steps.retain_mut(&mut may));
        self.0.retain(|_, steps| !steps.is_empty());
        before - self.len()
    }

    /// Forgets the steps of some stages.
    pub(crate) fn forget(&mut self, stages: &[Stage]) {
        self.0.retain(|stage, _| !stages.contains(stage));
    }

    /// The stages that have something to do.
    pub fn stages(&self) -> impl Iterator<Item = (Stage, &[Step])> {
        self.0.iter().map(|(stage, steps)| (*stage, steps.as_slice()))
    }

    /// All steps in their order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.0.values().flatten()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many steps.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

impl Step {
    /// The object that it changes, by a name that is the same before and after.
    pub fn object(&self) -> String {
        match self {
            Step::ClearDevice(vtep) | Step::CreateDevice(vtep, _) | Step::DeleteDevice(vtep) => device(*vtep),
            Step::ChangeDevice(vtep, _) => device(*vtep),
            Step::SetSysctl(key, _) | Step::ResetSysctl(key, _) => {
                let (family, file) = key.setting.path();
                format!("sysctl net.{family}.conf.{}.{file}", key.device.name())
            }
            Step::AddAddress(vtep, address) | Step::DeleteAddress(vtep, address) => {
                format!("address {address} on {}", vtep.name())
            }
            Step::SetNeighbour(vtep, address, _) | Step::DeleteNeighbour(vtep, address) => {
                format!("neighbour {address} on {}", vtep.name())
            }
            Step::SetFdb(vtep, mac, to) | Step::DeleteFdb(vtep, mac, to) => {
                format!("FDB entry {mac} to {to} on {}", vtep.name())
            }
            Step::WriteTable(_) | Step::DeleteTable => "nftables table inet clusterlink".to_owned(),
            Step::InsertAccept(chain, _) | Step::DeleteAccept(chain) => format!("accept in {chain}"),
            // Not by its id: after a failure it may get another one.
            Step::SetNexthop(_, Nexthop::Single { device, gateway }) => {
                format!("nexthop via {gateway} on {}", device.name())
            }
            Step::SetNexthop(id, Nexthop::Group { .. }) => format!("nexthop group {id}"),
            Step::DeleteNexthop(id) => format!("nexthop {id}"),
            Step::AddRoute(key, _) | Step::ReplaceRoute(key, _) | Step::DeleteRoute(key) => key.to_string(),
            Step::AddRule(rule) | Step::DeleteRule(rule) => rule.to_string(),
        }
    }

    /// The kind of its object.
    pub fn kind(&self) -> Kind {
        match self {
            Step::ClearDevice(_)
            | Step::CreateDevice(..)
            | Step::ChangeDevice(..)
            | Step::DeleteDevice(_) => Kind::Device,
            Step::SetSysctl(..) | Step::ResetSysctl(..) => Kind::Sysctl,
            Step::AddAddress(..) | Step::DeleteAddress(..) => Kind::Address,
            Step::SetNeighbour(..) | Step::DeleteNeighbour(..) => Kind::Neighbour,
            Step::SetFdb(..) | Step::DeleteFdb(..) => Kind::Fdb,
            Step::WriteTable(_) | Step::DeleteTable => Kind::Firewall,
            Step::InsertAccept(..) | Step::DeleteAccept(_) => Kind::Accept,
            Step::SetNexthop(..) | Step::DeleteNexthop(_) => Kind::Nexthop,
            Step::AddRoute(..) | Step::ReplaceRoute(..) | Step::DeleteRoute(_) => Kind::Route,
            Step::AddRule(_) | Step::DeleteRule(_) => Kind::Rule,
        }
    }

    /// The operation, in one word or two.
    pub fn operation(&self) -> &'static str {
        match self {
            Step::CreateDevice(..) => "create",
            Step::ChangeDevice(..) => "change",
            Step::AddAddress(..) | Step::AddRoute(..) | Step::AddRule(_) => "add",
            Step::SetSysctl(..) | Step::SetNeighbour(..) | Step::SetFdb(..) | Step::SetNexthop(..) => "set",
            Step::ReplaceRoute(..) | Step::WriteTable(_) => "replace",
            Step::InsertAccept(..) => "insert",
            Step::ResetSysctl(..) => "reset",
            Step::ClearDevice(_)
            | Step::DeleteRule(_)
            | Step::DeleteRoute(_)
            | Step::DeleteNexthop(_)
            | Step::DeleteAccept(_)
            | Step::DeleteTable
            | Step::DeleteFdb(..)
            | Step::DeleteNeighbour(..)
            | Step::DeleteAddress(..)
            | Step::DeleteDevice(_) => "delete",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation(), self.object())
    }
}

fn device(vtep: Vtep) -> String {
    format!("device {}", vtep.name())
}
