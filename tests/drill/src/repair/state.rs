//! What ClusterLink has in a namespace, as lines without numbers that change when an object is made anew: device indexes
//! and nexthop ids are replaced by what they stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use netlink::sysctl::Sysctl;
use netlink::{
    Changed, Event, Family, FdbEntry, Hop, Link, NeighbourState, Netlink, Nexthop, NexthopKind, Route,
    RuleAction, Via,
};

/// Our routing tables and the alias of our devices, as docs/design/agent.md has
/// them: the drill looks from outside, and takes no constant from the agent.
const TABLES: [u32; 2] = [200, 201];
const ALIAS: &str = "clusterlink";
const PREFIX: &str = "vx-";
const SETTINGS: [(Family, &str); 3] =
    [(Family::V4, "rp_filter"), (Family::V4, "forwarding"), (Family::V6, "forwarding")];

/// Lines, each one object.
pub(super) type State = BTreeSet<String>;

/// Reads a namespace.
pub(super) struct Look {
    netlink: Netlink,
    ours: BTreeMap<u32, String>,
}

impl Look {
    /// Looks at the namespace of this thread.
    ///
    /// # Errors
    /// There is no netlink.
    pub(super) fn open() -> Result<Self> {
        Ok(Look { netlink: Netlink::open()?, ours: BTreeMap::new() })
    }

    /// Everything of ours but the packet filter.
    ///
    /// # Errors
    /// A dump fails; one that was interrupted is to be asked for again.
    pub(super) fn state(&mut self) -> Result<State> {
        let links = self.netlink.links()?;
        let names: BTreeMap<u32, String> = links.iter().map(|link| (link.index, link.name.clone())).collect();
        let name = |index: u32| names.get(&index).cloned().unwrap_or_else(|| format!("#{index}"));
        let ours: Vec<&Link> = links.iter().filter(|link| is_ours(link)).collect();
        self.ours = ours.iter().map(|link| (link.index, link.name.clone())).collect();
        let mut state = State::new();
        for link in &ours {
            state.insert(link_line(link, &name));
            for neighbour in self.netlink.neighbours(link.index)? {
                if neighbour.state == NeighbourState::Permanent {
                    state
                        .insert(format!("neighbour {} {} {:?}", link.name, neighbour.address, neighbour.mac));
                }
            }
            for FdbEntry { mac, destination, state: entry, .. } in self.netlink.fdb(link.index)? {
                state.insert(format!("fdb {} {mac:?} {destination:?} {entry}", link.name));
            }
            for (family, setting) in SETTINGS {
                let value = Sysctl::of_device(family, &link.name, setting).and_then(|sysctl| sysctl.read());
                state.insert(format!(
                    "sysctl {} {family:?} {setting} {}",
                    link.name,
                    value.unwrap_or_default()
                ));
            }
        }
        for address in self.netlink.addresses()? {
            if let Some(device) =
                self.ours.get(&address.device).filter(|_| !is_link_local(address.address.ip()))
            {
                state.insert(format!("address {device} {}", address.address));
            }
        }
        self.routing(&name, &mut state)?;
        Ok(state)
    }

    fn routing(&mut self, name: &dyn Fn(u32) -> String, state: &mut State) -> Result<()> {
        let nexthops: BTreeMap<u32, Nexthop> =
            self.netlink.nexthops()?.into_iter().map(|nexthop| (nexthop.id, nexthop)).collect();
        for family in [Family::V4, Family::V6] {
            for table in TABLES {
                for route in self.netlink.routes(family, Some(table))? {
                    state.insert(route_line(&route, &nexthops, name));
                }
            }
            for rule in self.netlink.rules(family)? {
                if matches!(rule.action, RuleAction::Lookup(table) if TABLES.contains(&table)) {
                    state.insert(format!("rule {rule:?}"));
                }
            }
        }
        Ok(())
    }

    /// Whether a notification tells of something of ours, given the devices that the last reading found.
    pub(super) fn concerns_us(&self, event: &Event) -> bool {
        match event {
            Event::Link { index, name } => self.ours.contains_key(index) || name.starts_with(PREFIX),
            // The kernel has its own for multicast, and takes them away when they are a minute old.
            Event::Neighbour { entry: Some(neighbour), .. } if neighbour.address.is_multicast() => false,
            Event::Address { device } | Event::Neighbour { device, .. } | Event::Fdb { device, .. } => {
                self.ours.contains_key(device)
            }
            Event::Route { table, .. } => TABLES.contains(table),
            Event::Rule { .. } | Event::Nexthop { .. } | Event::Overrun => true,
        }
    }

    /// The same of settings.
    pub(super) fn settings_concern_us(&self, changed: Changed) -> bool {
        match changed {
            Changed::Device(index) => self.ours.contains_key(&index),
            Changed::Overrun => true,
        }
    }
}

fn is_ours(link: &Link) -> bool {
    link.name.starts_with(PREFIX) || link.alias.as_deref() == Some(ALIAS)
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn link_line(link: &Link, name: &dyn Fn(u32) -> String) -> String {
    let Link { name: own, mac, mtu, up, alias, .. } = link;
    let vxlan = link.vxlan().map_or_else(String::new, |vxlan| {
        let parent = vxlan.parent.map(name);
        format!("{} {} {:?} {parent:?} {}", vxlan.vni, vxlan.port, vxlan.local, vxlan.learning)
    });
    format!("device {own} {mac:?} {mtu} {up} {alias:?} {vxlan}")
}

fn hop_text(hop: &Hop, name: &dyn Fn(u32) -> String) -> String {
    format!("{:?} dev {} onlink {}", hop.gateway, name(hop.device), hop.onlink)
}

fn nexthop_text(nexthop: &Nexthop, all: &BTreeMap<u32, Nexthop>, name: &dyn Fn(u32) -> String) -> String {
    match &nexthop.kind {
        NexthopKind::Hop(_, hop) => hop_text(hop, name),
        NexthopKind::Blackhole(family) => format!("blackhole {family:?}"),
        NexthopKind::Group(members, _) => {
            // for the sake of its flows a gateway may stand in a group twice, and alone in one
            let member = |id: &u32| match all.get(id) {
                Some(member) if member.id != nexthop.id => nexthop_text(member, all, name),
                _ => "missing".to_owned(),
            };
            members.keys().map(member).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("; ")
        }
    }
}

fn route_line(route: &Route, nexthops: &BTreeMap<u32, Nexthop>, name: &dyn Fn(u32) -> String) -> String {
    let via = match &route.via {
        Via::Nothing => "nothing".to_owned(),
        Via::Hop(hop) => hop_text(hop, name),
        Via::Multipath(hops) => {
            hops.iter().map(|(hop, _)| hop_text(hop, name)).collect::<Vec<_>>().join("; ")
        }
        Via::Nexthop(id) => nexthops.get(id).map_or_else(
            || "a nexthop that is not there".to_owned(),
            |nexthop| nexthop_text(nexthop, nexthops, name),
        ),
    };
    let Route { destination, table, protocol, metric, kind, source, mtu, .. } = route;
    format!("route {destination} table {table} {protocol} {metric} {kind:?} {source:?} {mtu:?} via {via}")
}
