//! What was read from the kernel: what is ours, and what of the host our decisions depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::{Family, Mac, Vtep};
use ipnetwork::IpNetwork;

use crate::firewall::ActualFirewall;
use crate::model::{Nexthop, Route, RouteKey, Rule, Setting, Sysctl};

/// The kernel of a node, as one reading found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Devices that bear one of our names.
    pub devices: BTreeMap<Vtep, ActualDevice>,
    /// Settings of our devices.
    pub sysctls: BTreeMap<Sysctl, u8>,
    /// Addresses of our devices, except those that the kernel makes by itself (link-local).
    pub addresses: BTreeSet<(Vtep, IpNetwork)>,
    /// Permanent neighbours on our devices.
    pub neighbours: BTreeMap<(Vtep, IpAddr), Option<Mac>>,
    /// FDB entries of our devices.
    pub fdb: BTreeSet<(Vtep, Mac, IpAddr)>,
    /// The packet filter.
    pub firewall: ActualFirewall,
    /// Nexthop objects whose ids are in our range, ours and others.
    pub nexthops: BTreeMap<u32, ActualNexthop>,
    /// Our routes in our tables; `None` is one that we would never write.
    pub routes: BTreeMap<RouteKey, Option<Route>>,
    /// Our rules.
    pub rules: BTreeSet<Rule>,
    /// The rest of the host, never written.
    pub host: Host,
}

/// Whose a device is that bears one of our names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// It has our alias.
    Ours,
    /// A VXLAN device without an alias: ours between two messages, or that of Kosmos's own agent.
    Unmarked,
    /// Somebody else's.
    Foreign,
}

/// A device that bears one of our names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActualDevice {
    /// Interface index.
    pub index: u32,
    /// Whose it is.
    pub owner: Owner,
    /// It has our alias and our VNI, but somebody gave it another name.
    pub renamed: bool,
    /// VNI, as far as it is a VXLAN device (as all below).
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Underlay address.
    pub local: Option<IpAddr>,
    /// Index of the underlay interface.
    pub parent: Option<u32>,
    /// Whether it learns from what it receives; ours never do.
    pub learning: bool,
    /// MAC.
    pub mac: Option<Mac>,
    /// MTU.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
}

/// A nexthop object whose id is in our range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActualNexthop {
    /// Ours.
    Ours(Nexthop),
    /// Of our protocol, but nothing that we would ever write (or on a device that is not ours).
    Odd,
    /// Somebody else's: its id is taken.
    Foreign,
}

/// What of the host our decisions depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Every device that is not ours, by index.
    pub links: BTreeMap<u32, HostLink>,
    /// Other people's routes of the main table that are not default routes.
    pub routes: Vec<HostRoute>,
    /// The routers that routes of the main table lead to, the default one too.
    pub routers: BTreeSet<IpAddr>,
    /// What a new device of this namespace gets (`conf.default`).
    pub defaults: BTreeMap<Setting, u8>,
    /// Whether the host forwards packets of a family at all.
    pub forwarding: BTreeMap<Family, bool>,
    /// Whether the kernel has resilient nexthop groups.
    pub resilient_groups: bool,
}

/// A device of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostLink {
    /// Name.
    pub name: String,
    /// MTU.
    pub mtu: u32,
    /// Whether it is a bridge, as most CNIs make one for the node's pods.
    pub bridge: bool,
    /// VNI and UDP port, where it is a VXLAN device.
    pub vxlan: Option<(u32, u16)>,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<HostAddress>,
}

/// An address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// Address and prefix length.
    pub network: IpNetwork,
    /// Whether it is valid everywhere, not just on the link or the host.
    pub global: bool,
}

/// A route of the host that ours could shadow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// Destination.
    pub destination: IpNetwork,
    /// Name of its device, where it has exactly one.
    pub device: Option<String>,
    /// Number of the protocol that made it.
    pub protocol: u8,
}

impl Actual {
    /// Behind which underlay addresses a MAC is.
    pub fn behind(&self, vtep: Vtep, mac: Mac) -> impl Iterator<Item = IpAddr> + '_ {
        let least = IpAddr::from([0, 0, 0, 0]);
        let entries = self.fdb.range((vtep, mac, least)..);
        entries.take_while(move |(on, of, _)| (*on, *of) == (vtep, mac)).map(|(_, _, to)| *to)
    }

    /// What is left when a device goes: the kernel takes everything along that hangs on it.
    pub fn lose_device(&mut self, device: Vtep) {
        self.devices.remove(&device);
        self.sysctls.retain(|key, _| key.device != device);
        self.addresses.retain(|(on, _)| *on != device);
        self.neighbours.retain(|(on, _), _| *on != device);
        self.fdb.retain(|(on, _, _)| *on != device);
        let on_it = |nexthop: &ActualNexthop| matches!(nexthop, ActualNexthop::Ours(Nexthop::Single { device: on, .. }) if *on == device);
        let lost: BTreeSet<u32> =
            self.nexthops.iter().filter(|(_, nexthop)| on_it(nexthop)).map(|(id, _)| *id).collect();
        self.lose_nexthops(lost);
    }

    /// What is left when nexthops go: groups shrink, an empty group goes too, and with it its routes.
    pub fn lose_nexthops(&mut self, mut lost: BTreeSet<u32>) {
        if lost.is_empty() {
            return;
        }
        for (id, nexthop) in &mut self.nexthops {
            if let ActualNexthop::Ours(Nexthop::Group { members, .. }) = nexthop {
                members.retain(|member| !lost.contains(member));
                if members.is_empty() {
                    lost.insert(*id);
                }
            }
        }
        self.nexthops.retain(|id, _| !lost.contains(id));
        self.routes
            .retain(|_, route| !matches!(route, Some(Route::Via { nexthop, .. }) if lost.contains(nexthop)));
    }

    /// What is left when a device gets another MAC: `NETDEV_CHANGEADDR` flushes its neighbours, permanent ones too.
    pub fn lose_neighbours(&mut self, device: Vtep) {
        self.neighbours.retain(|(on, _), _| *on != device);
    }
}

impl Host {
    /// The device of this name.
    pub fn link(&self, name: &str) -> Option<(u32, &HostLink)> {
        self.links.iter().find(|(_, link)| link.name == name).map(|(index, link)| (*index, link))
    }
}
