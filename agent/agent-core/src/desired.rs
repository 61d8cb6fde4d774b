//! What the kernel of this host shall hold: the NodeConfig, met with what the host is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::vtep::Plane;
use api::{Family, Mac, Vtep};
use ipnetwork::IpNetwork;

use crate::actual::{Actual, HostLink, HostRoute, Owner};
use crate::firewall::{self, DesiredFirewall, Tunnel};
use crate::model::{Device, INBOUND_TABLE, Kind, Nexthop, Route, RouteKey, Rule, Setting, Sysctl, TABLE};
use crate::nexthops::{self, Ways};
use crate::refusal::{Protected, Refused};
use crate::source::Sources;
use crate::spec::{DeviceSpec, RouteSpec, Spec};

/// What the kernel shall hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Devices.
    pub devices: BTreeMap<Vtep, Device>,
    /// Settings of them.
    pub sysctls: BTreeMap<Sysctl, u8>,
    /// Addresses of them.
    pub addresses: BTreeSet<(Vtep, IpNetwork)>,
    /// Neighbours.
    pub neighbours: BTreeMap<(Vtep, IpAddr), Mac>,
    /// FDB.
    pub fdb: BTreeMap<(Vtep, Mac), IpAddr>,
    /// Packet filter.
    pub firewall: Option<DesiredFirewall>,
    /// Nexthop objects.
    pub nexthops: BTreeMap<u32, Nexthop>,
    /// Routes.
    pub routes: BTreeMap<RouteKey, Route>,
    /// Rules.
    pub rules: BTreeSet<Rule>,
    /// Routes of the host of which ours take a part, and the first of ours for each.
    pub narrowed: BTreeMap<IpNetwork, (HostRoute, IpNetwork)>,
    /// What of the NodeConfig is not programmed here, and why.
    pub refused: Vec<Refused>,
}

/// What is known of this host, and not by looking at its kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The addresses that peers send to: an interface may have several.
    pub underlay: Vec<IpAddr>,
    /// The addresses by which this cluster's API server is asked.
    pub api_servers: BTreeSet<IpAddr>,
    /// The addresses of the API servers behind those.
    pub api_endpoints: BTreeSet<IpAddr>,
}

impl Desired {
    /// Meets a NodeConfig with the host.
    pub fn resolve(spec: &Spec, actual: &Actual, known: &Known) -> Self {
        let mut desired = Desired::default();
        for (vtep, device) in &spec.devices {
            match device_on_host(*vtep, device, actual, &known.underlay) {
                Ok((device, warning)) => {
                    desired.devices.insert(*vtep, device);
                    desired.refused.extend(warning);
                }
                Err(reason) => desired.refuse(Kind::Device, format!("device {}", vtep.name()), reason),
            }
        }
        desired.take_entries_of_devices(spec);
        desired.settle_routes(spec, actual, known);
        desired.settle_rules(spec);
        desired.settle_firewall(spec);
        desired
    }

    /// How many kernel objects.
    pub fn len(&self) -> usize {
        Kind::ALL.into_iter().map(|kind| self.count(kind)).sum()
    }

    /// How many kernel objects of a kind. Accepts in the chains of others depend on what stands there.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Device => self.devices.len(),
            Kind::Sysctl => self.sysctls.len(),
            Kind::Address => self.addresses.len(),
            Kind::Fdb => self.fdb.len(),
            Kind::Neighbour => self.neighbours.len(),
            Kind::Firewall => usize::from(self.firewall.is_some()),
            Kind::Accept => 0,
            Kind::Nexthop => self.nexthops.len(),
            Kind::Route => self.routes.len(),
            Kind::Rule => self.rules.len(),
        }
    }

    /// Whether it asks for nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn refuse(&mut self, kind: Kind, object: String, reason: String) {
        self.refused.push(Refused { kind, object, reason });
    }

    /// What hangs on a device. A device that cannot be has its one reason; its entries need none of their own.
    fn take_entries_of_devices(&mut self, spec: &Spec) {
        let on = |vtep: &Vtep| self.devices.contains_key(vtep);
        self.neighbours =
            spec.neighbours.iter().filter(|((vtep, _), _)| on(vtep)).map(|(key, mac)| (*key, *mac)).collect();
        self.fdb = spec.fdb.iter().filter(|((vtep, _), _)| on(vtep)).map(|(key, ip)| (*key, *ip)).collect();
        for (vtep, device) in spec.devices.iter().filter(|(vtep, _)| on(vtep)) {
            let families: BTreeSet<Family> =
                device.addresses.iter().map(|address| Family::of_network(*address)).collect();
            self.addresses.extend(device.addresses.iter().map(|address| (*vtep, *address)));
            let mut set =
                |setting: Setting| self.sysctls.insert(Sysctl { device: *vtep, setting }, setting.ours());
            if families.contains(&Family::V6) {
                set(Setting::DisableIpv6);
            }
            for family in families {
                set(Setting::Forwarding(family));
            }
            // Packets of own pods come back by whichever gateway the other side chose.
            if vtep.plane() == Plane::Local && spec.is_gateway() {
                set(Setting::RpFilter);
            }
        }
    }

    fn settle_routes(&mut self, spec: &Spec, actual: &Actual, known: &Known) {
        let protected = self.protected(spec, actual, known);
        let mut wanted: Vec<(RouteKey, &RouteSpec)> = Vec::new();
        let devices: BTreeSet<Vtep> = self.devices.keys().copied().collect();
        for (table, routes) in [(TABLE, &spec.routes), (INBOUND_TABLE, &spec.inbound)] {
            for (cidr, route) in routes.iter().filter(|(_, route)| devices.contains(&route.device)) {
                // The inbound table sees nothing but what came in by a bridge device: it shadows nothing.
                match protected.objection(*cidr).filter(|_| table == TABLE) {
                    Some(reason) => self.refuse(Kind::Route, format!("route {cidr}"), reason),
                    None => {
                        wanted.push((RouteKey::route(table, *cidr, route.mtu), route));
                        let part_of = protected.part_of(*cidr).filter(|_| table == TABLE);
                        if let Some(whole) = part_of {
                            self.narrowed.entry(whole.destination).or_insert_with(|| (whole.clone(), *cidr));
                        }
                    }
                }
            }
        }
        for cidr in &spec.unreachable {
            match protected.objection(*cidr) {
                // The route to it is refused already, for the same reason.
                Some(_) if spec.routes.contains_key(cidr) => {}
                Some(reason) => self.refuse(Kind::Route, format!("unreachable {cidr}"), reason),
                None => drop(self.routes.insert(RouteKey::unreachable(*cidr), Route::Unreachable)),
            }
        }
        self.settle_nexthops(&wanted, spec, actual);
    }

    /// What of this host no route of ours may take, given the tunnels.
    pub(crate) fn protected<'a>(&self, spec: &Spec, actual: &'a Actual, known: &'a Known) -> Protected<'a> {
        let locals = self.devices.values().map(|device| device.local);
        let endpoints = spec.fdb.values().copied().chain(locals).collect();
        Protected::new(&actual.host, endpoints, known)
    }

    fn settle_nexthops(&mut self, wanted: &[(RouteKey, &RouteSpec)], spec: &Spec, actual: &Actual) {
        let mut ways: BTreeMap<Ways<'_>, Vec<RouteKey>> = BTreeMap::new();
        for (key, route) in wanted {
            ways.entry((route.device, &route.gateways)).or_default().push(*key);
        }
        let plan = nexthops::plan(&ways, actual);
        let sources = spec.firewall.as_ref().map(|firewall| Sources::of(&actual.host, firewall));
        let route = |(key, route): &(RouteKey, &RouteSpec)| {
            let nexthop = plan.of[&(route.device, &*route.gateways)];
            // Only the host's own packets have no source yet, and they never look into the inbound table.
            let sources = sources.as_ref().filter(|_| key.table == TABLE);
            let source = sources.and_then(|sources| sources.towards(key.destination));
            (*key, Route::Via { nexthop, source, mtu: route.mtu })
        };
        self.routes.append(&mut wanted.iter().map(route).collect());
        self.nexthops = plan.objects;
    }

    fn settle_rules(&mut self, spec: &Spec) {
        let tables: BTreeSet<(u32, Family)> =
            self.routes.keys().map(|key| (key.table, Family::of_network(key.destination))).collect();
        for (table, family) in tables {
            if table == TABLE {
                self.rules.insert(Rule { priority: spec.rule_priority, family, input: None, table });
                continue;
            }
            for vtep in self.devices.keys().filter(|vtep| vtep.plane() == Plane::Bridge) {
                let input = Some(vtep.name().to_owned());
                self.rules.insert(Rule { priority: spec.rule_priority - 1, family, input, table });
            }
        }
    }

    fn settle_firewall(&mut self, spec: &Spec) {
        let tunnels: Vec<Tunnel> =
            self.devices.iter().map(|(device, tunnel)| Tunnel { device: *device, mtu: tunnel.mtu }).collect();
        let hosts: Vec<IpNetwork> =
            self.addresses.iter().map(|(_, address)| IpNetwork::from(address.ip())).collect();
        self.firewall = spec.firewall.as_ref().map(|firewall| DesiredFirewall {
            table: firewall::table(firewall, &tunnels, &hosts),
            mark: firewall.mark,
        });
    }
}

/// A device with what only the host knows: the underlay's index, address and MTU.
fn device_on_host(
    vtep: Vtep,
    spec: &DeviceSpec,
    actual: &Actual,
    underlay: &[IpAddr],
) -> Result<(Device, Option<Refused>), String> {
    let present = actual.devices.get(&vtep);
    if present.is_some_and(|device| {
        device.owner == Owner::Foreign
            || device.owner == Owner::Unmarked && (device.vni, device.port) != (spec.vni.get(), spec.port)
    }) {
        return Err("a device of this name exists and is not ours; delete or rename it".to_owned());
    }
    let family = vtep.underlay();
    let found = actual.host.link(&spec.underlay);
    let current = present.and_then(|device| device.local);
    let local = found.and_then(|(_, link)| local_address(link, family, underlay, current));
    let (Some((parent, link)), Some(local)) = (found, local) else {
        let reason = match found {
            None => format!("its underlay interface {} does not exist", spec.underlay),
            Some(_) => format!("its underlay interface {} has no {family} address", spec.underlay),
        };
        // A hiccup of the underlay is no reason to tear a tunnel down.
        let kept = present.and_then(|device| kept_as_it_is(spec, device));
        let object = format!("device {}", vtep.name());
        return kept
            .map(|device| (device, Some(Refused { kind: Kind::Device, object, reason: reason.clone() })))
            .ok_or(reason);
    };
    let largest = link.mtu.saturating_sub(vtep.overhead());
    let mtu = spec.mtu.unwrap_or(largest).min(largest);
    let too_large = spec.mtu.filter(|wanted| *wanted > largest).map(|wanted| Refused {
        kind: Kind::Device,
        object: format!("device {}", vtep.name()),
        reason: format!(
            "mtu {wanted} is more than {} carries ({} less {}); {largest} is set",
            spec.underlay,
            link.mtu,
            vtep.overhead()
        ),
    });
    Ok((Device { vni: spec.vni.get(), port: spec.port, local, parent, mac: spec.mac, mtu }, too_large))
}

fn kept_as_it_is(spec: &DeviceSpec, present: &crate::actual::ActualDevice) -> Option<Device> {
    let (local, parent) = (present.local?, present.parent?);
    let same = (present.vni, present.port) == (spec.vni.get(), spec.port);
    let mtu = present.mtu;
    same.then_some(Device { vni: present.vni, port: present.port, local, parent, mac: spec.mac, mtu })
}

/// The address that peers send to where it is known, else the one in use, else the first one: other addresses may
/// come and go (IPv6 privacy addresses do), and another one means another device.
fn local_address(
    link: &HostLink,
    family: Family,
    underlay: &[IpAddr],
    current: Option<IpAddr>,
) -> Option<IpAddr> {
    let of_family = || {
        let global = link.addresses.iter().filter(|address| address.global);
        global.map(|address| address.network.ip()).filter(|ip| Family::of(*ip) == family)
    };
    of_family()
        .find(|ip| underlay.contains(ip))
        .or_else(|| of_family().find(|ip| current == Some(*ip)))
        .or_else(|| of_family().next())
}
