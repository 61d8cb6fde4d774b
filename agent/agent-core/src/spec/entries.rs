//! The lists of a NodeConfig, entry by entry.

use std::collections::btree_map::Entry::Vacant;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::node_config::{Arp, Device, Fdb, Firewall, Route};
use api::{Family, Mac, Vni, Vtep};
use ipnetwork::IpNetwork;

use super::check::{Checker, Entry};
use super::{DEFAULT_MARK, DEFAULT_RULE_PRIORITY, DeviceSpec, FirewallSpec, List, RouteSpec};

/// IFNAMSIZ, without the zero at its end.
const LONGEST_NAME: usize = 15;
/// RFC 791 and RFC 8200: what every link must carry.
const LEAST_MTU: u32 = 576;
const LEAST_MTU_V6: u32 = 1280;

pub(super) fn devices(list: &[Device], checker: &mut Checker) -> BTreeMap<Vtep, DeviceSpec> {
    let mut devices: BTreeMap<Vtep, DeviceSpec> = BTreeMap::new();
    for device in list {
        let object = format_args!("device {}", device.name);
        let mut entry = checker.entry(List::Devices, object);
        let Some((vtep, spec)) = device_of(device, &mut entry) else {
            checker.invalid_devices.insert(device.name.clone());
            continue;
        };
        let same = devices.iter().find(|(other, device)| {
            other.underlay() == vtep.underlay() && device.vni == spec.vni && device.port == spec.port
        });
        if let Some((other, _)) = same.filter(|(other, _)| **other != vtep) {
            let message = format!("has the VNI and the port of {}", other.name());
            entry.refuse::<()>("id", device.id, message);
        } else if let Vacant(place) = devices.entry(vtep) {
            place.insert(spec);
        } else {
            entry.refuse::<()>("name", &device.name, "stands in the list twice; the first one holds");
        }
    }
    devices
}

fn device_of(device: &Device, entry: &mut Entry<'_>) -> Option<(Vtep, DeviceSpec)> {
    if device.kind != "vxlan" {
        return entry.refuse("type", &device.kind, "is not supported; write vxlan");
    }
    let Some(vtep) = Vtep::named(&device.name) else {
        return entry.refuse("name", &device.name, "is not vx-bridge, vx-local, vx-bridge-6 or vx-local-6");
    };
    // All fields, so that one reading names everything that is wrong.
    let address = entry.interface("addr", &device.addr);
    let extra = device.extra_addrs.iter().filter_map(|text| entry.interface("extraAddrs", text));
    let mut addresses: BTreeSet<IpNetwork> = extra.collect();
    addresses.extend(address);
    let mac = entry.mac("mac", &device.mac);
    let vni = match Vni::try_from(i64::from(device.id)) {
        Ok(vni) => Some(vni),
        Err(error) => entry.refuse("id", device.id, format!("is not {}", error.expected)),
    };
    let port = match u16::try_from(device.port) {
        Ok(port) if port > 0 => Some(port),
        _ => entry.refuse("port", device.port, "is not a UDP port from 1 to 65535"),
    };
    let underlay = interface_name(&device.bind_dev, entry);
    let v6 = addresses.iter().any(|address| address.is_ipv6());
    let mtu = entry.mtu(device.mtu, if v6 { LEAST_MTU_V6 } else { LEAST_MTU });
    address?;
    let spec = DeviceSpec { vni: vni?, port: port?, mac: mac?, underlay: underlay?, addresses, mtu: mtu? };
    Some((vtep, spec))
}

fn interface_name(name: &str, entry: &mut Entry<'_>) -> Option<String> {
    let bad = |c: char| c == '/' || c.is_whitespace();
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains(bad) {
        return entry.refuse("bindDev", name, "is not the name of a network interface");
    }
    Some(name.to_owned())
}

pub(super) fn routes(
    list_name: &str,
    list: &[Route],
    known: &BTreeSet<Vtep>,
    checker: &mut Checker,
) -> BTreeMap<IpNetwork, RouteSpec> {
    let mut routes = BTreeMap::new();
    for route in list {
        let object = format_args!("{list_name} {}", route.cidr);
        let mut entry = checker.entry(List::Routes, object);
        let Some((cidr, spec)) = route_of(route, known, &mut entry) else { continue };
        match routes.get(&cidr) {
            None => drop(routes.insert(cidr, spec)),
            Some(first) if *first == spec => {}
            Some(_) => {
                entry.refuse::<()>("cidr", &route.cidr, "has two different routes; the first one holds");
            }
        }
    }
    routes
}

fn route_of(route: &Route, known: &BTreeSet<Vtep>, entry: &mut Entry<'_>) -> Option<(IpNetwork, RouteSpec)> {
    let cidr = entry.network("cidr", &route.cidr)?;
    let device = entry.device(&route.dev, known);
    let field = if route.gws.is_empty() { "gw" } else { "gws" };
    let mut gateways = Vec::with_capacity(route.gws.len().max(1));
    for text in route.gateways() {
        let gateway = entry.ip(field, text);
        gateways.extend(
            gateway.and_then(|ip| entry.same_family(field, ip, Family::of_network(cidr), &route.cidr)),
        );
    }
    let least = if cidr.is_ipv6() { LEAST_MTU_V6 } else { LEAST_MTU };
    let mtu = entry.mtu(route.mtu, least);
    // A route by some of its gateways is better than none.
    (!gateways.is_empty()).then_some(())?;
    gateways.sort_unstable();
    gateways.dedup();
    Some((cidr, RouteSpec { device: device?, gateways: gateways.into(), mtu: mtu? }))
}

pub(super) fn unreachable(list: &[String], checker: &mut Checker) -> BTreeSet<IpNetwork> {
    let networks = list
        .iter()
        .map(|text| checker.entry(List::Routes, format_args!("unreachable")).network("unreachable", text));
    networks.collect::<Vec<_>>().into_iter().flatten().collect()
}

/// Where packets of unknown and broadcast MACs go: Kosmos writes one such entry for each peer.
pub(super) fn is_flood(fdb: &Fdb) -> bool {
    fdb.mac.parse::<Mac>().is_ok_and(|mac| mac.0 == [0; 6])
}

pub(super) fn fdb(
    list: &[Fdb],
    known: &BTreeSet<Vtep>,
    checker: &mut Checker,
) -> BTreeMap<(Vtep, Mac), IpAddr> {
    let mut entries = BTreeMap::new();
    for fdb in list.iter().filter(|fdb| !is_flood(fdb)) {
        let object = format_args!("fdbs {} on {}", fdb.mac, fdb.dev);
        let mut entry = checker.entry(List::Fdbs, object);
        let mac = entry.mac("mac", &fdb.mac);
        let ip = entry.ip("ip", &fdb.ip);
        let Some(device) = entry.device(&fdb.dev, known) else { continue };
        let ip = ip.and_then(|ip| entry.same_family("ip", ip, device.underlay(), "the device's underlay"));
        let (Some(mac), Some(ip)) = (mac, ip) else { continue };
        if *entries.entry((device, mac)).or_insert(ip) != ip {
            entry.refuse::<()>("ip", &fdb.ip, "is a second address for this MAC; the first one holds");
        }
    }
    entries
}

pub(super) fn neighbours(
    list: &[Arp],
    known: &BTreeSet<Vtep>,
    checker: &mut Checker,
) -> BTreeMap<(Vtep, IpAddr), Mac> {
    let mut entries = BTreeMap::new();
    for arp in list {
        let object = format_args!("arps {} on {}", arp.ip, arp.dev);
        let mut entry = checker.entry(List::Arps, object);
        let mac = entry.mac("mac", &arp.mac);
        let ip = entry.ip("ip", &arp.ip);
        let device = entry.device(&arp.dev, known);
        let (Some(mac), Some(ip), Some(device)) = (mac, ip, device) else { continue };
        if *entries.entry((device, ip)).or_insert(mac) != mac {
            entry.refuse::<()>("mac", &arp.mac, "is a second MAC for this address; the first one holds");
        }
    }
    entries
}

pub(super) fn firewall(firewall: &Firewall, checker: &mut Checker) -> FirewallSpec {
    let object = format_args!("firewall");
    let mut entry = checker.entry(List::Firewall, object);
    let mut networks = |field: &'static str, list: &[String]| -> Vec<IpNetwork> {
        list.iter().filter_map(|text| entry.network(field, text)).collect()
    };
    let mut spec = FirewallSpec {
        pods: networks("podCIDRs", &firewall.pod_cidrs),
        node_pods: networks("nodePodCIDRs", &firewall.node_pod_cidrs),
        services: networks("serviceCIDRs", &firewall.service_cidrs),
        overlay: networks("overlayCIDRs", &firewall.overlay_cidrs),
        remote: networks("remoteCIDRs", &firewall.remote_cidrs),
        transit: firewall.transit,
        refused: BTreeSet::new(),
        mark: firewall.mark.unwrap_or(DEFAULT_MARK),
    };
    for pair in &firewall.refused {
        let from = entry.network("refused.from", &pair.from);
        let to = entry.network("refused.to", &pair.to);
        let (Some(from), Some(to)) = (from, to) else { continue };
        if from.is_ipv4() == to.is_ipv4() {
            spec.refused.insert((from, to));
        } else {
            entry.refuse::<()>("refused.to", to, format!("is not of the family of {from}"));
        }
    }
    if spec.mark == 0 {
        entry.refuse::<()>("mark", 0, "marks nothing; name a bit, such as 131072 (0x20000)");
        spec.mark = DEFAULT_MARK;
    }
    spec
}

pub(super) fn rule_priority(priority: Option<u32>, checker: &mut Checker) -> u32 {
    match priority {
        Some(priority) if !(2..=32765).contains(&priority) => {
            let object = format_args!("rulePriority");
            let mut entry = checker.entry(List::Routes, object);
            let expected = format!(
                "is not between the local and the main table (2 to 32765); {DEFAULT_RULE_PRIORITY} holds"
            );
            entry.refuse::<()>("rulePriority", priority, expected);
            DEFAULT_RULE_PRIORITY
        }
        Some(priority) => priority,
        None => DEFAULT_RULE_PRIORITY,
    }
}
