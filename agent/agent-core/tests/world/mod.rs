//! A small world, in which everything meets everything: few names, few addresses, two underlay interfaces.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use agent_core::firewall::{Accept, ChainState, ForwardChain};
use agent_core::{
    Actual, ActualDevice, ActualNexthop, Host, HostAddress, HostLink, HostRoute, Nexthop, Owner, Route,
};
use api::node_config::{Arp, CidrPair, Device, Fdb, Firewall, NodeConfigSpec, Route as RouteEntry};
use api::{Family, Vtep};
use proptest::prelude::*;
use proptest::sample::Index;

/// The id of a nexthop in our range that is somebody else's.
pub const FOREIGN_NEXTHOP: u32 = 193_000_001;

pub fn host() -> Actual {
    let address = |text: &str| HostAddress { network: text.parse().unwrap(), global: true };
    let link = |name: &str, addresses: &[&str]| HostLink {
        name: name.to_owned(),
        mtu: 1500,
        addresses: addresses.iter().map(|text| address(text)).collect(),
        ..HostLink::default()
    };
    let links = [
        (2, link("eth0", &["172.31.1.1/16", "fc00:31::1/64"])),
        (3, link("eth1", &["172.30.1.1/16"])),
        (4, HostLink { vxlan: Some((1, 8472)), ..link("flannel.1", &["10.1.1.0/32"]) }),
        (5, HostLink { bridge: true, ..link("cni0", &["10.1.1.1/24"]) }),
    ];
    let route = |text: &str, device: &str| HostRoute {
        destination: text.parse().unwrap(),
        device: Some(device.to_owned()),
        protocol: 2,
    };
    let mut actual = Actual {
        host: Host {
            links: BTreeMap::from(links),
            routes: vec![route("10.1.1.0/24", "cni0"), route("172.31.0.0/16", "eth0")],
            forwarding: BTreeMap::from([(Family::V4, true), (Family::V6, true)]),
            resilient_groups: true,
            routers: ["172.31.0.1", "10.6.0.1"].map(|ip| ip.parse().unwrap()).into(),
            defaults: agent_core::Setting::ALL
                .into_iter()
                .map(|setting| (setting, 1 - setting.ours() % 2))
                .collect(),
        },
        nexthops: BTreeMap::from([(FOREIGN_NEXTHOP, ActualNexthop::Foreign)]),
        ..Actual::default()
    };
    let chain = ForwardChain::Iptables { family: Family::V4, legacy: false, table: "filter".to_owned() };
    actual.firewall.chains.insert(chain, ChainState { drops: true, accept: Accept::Absent });
    actual
}

pub fn device(vtep: Vtep, addr: &str, mac: u8, vni: i32, bind_dev: &str) -> Device {
    Device {
        kind: "vxlan".to_owned(),
        name: vtep.name().to_owned(),
        addr: addr.to_owned(),
        mac: format!("02:54:00:00:00:{mac:02x}"),
        bind_dev: bind_dev.to_owned(),
        id: vni,
        port: i32::from(vtep.default_port()),
        ..Device::default()
    }
}

pub fn route(cidr: &str, dev: &str, gws: &[&str]) -> RouteEntry {
    let several = gws.len() > 1;
    RouteEntry {
        cidr: cidr.to_owned(),
        gw: gws[0].to_owned(),
        dev: dev.to_owned(),
        gws: if several { list(gws) } else { Vec::new() },
        mtu: None,
    }
}

pub fn list(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The first gateway of the first cluster of the data plane's notes.
pub fn gateway() -> NodeConfigSpec {
    NodeConfigSpec {
        devices: vec![
            device(Vtep::Bridge, "241.31.1.1/32", 1, 54, "eth0"),
            device(Vtep::Local, "242.31.1.1/32", 2, 55, "eth0"),
        ],
        routes: vec![
            route("10.2.0.0/16", "vx-bridge", &["241.31.2.1", "241.31.2.2"]),
            route("10.92.0.0/16", "vx-bridge", &["241.31.2.1", "241.31.2.2"]),
            route("10.3.1.0/24", "vx-bridge", &["241.31.3.1"]),
        ],
        inbound_routes: vec![route("10.1.3.0/24", "vx-local", &["242.31.1.3"])],
        unreachable: list(&["10.2.0.0/16", "10.3.0.0/16", "241.0.0.0/8"]),
        fdbs: vec![Fdb { ip: "172.31.2.1".into(), mac: "02:54:ac:1f:02:01".into(), dev: "vx-bridge".into() }],
        arps: vec![Arp { ip: "241.31.2.1".into(), mac: "02:54:ac:1f:02:01".into(), dev: "vx-bridge".into() }],
        firewall: Some(Firewall {
            pod_cidrs: list(&["10.1.0.0/16"]),
            node_pod_cidrs: list(&["10.1.1.0/24"]),
            service_cidrs: list(&["10.91.0.0/16"]),
            overlay_cidrs: list(&["242.31.1.0/24"]),
            remote_cidrs: list(&["10.2.0.0/16", "10.92.0.0/16", "10.3.0.0/16"]),
            transit: true,
            ..Firewall::default()
        }),
        ..NodeConfigSpec::default()
    }
}

const NETWORKS: [&str; 9] = [
    "10.2.0.0/16",
    "10.2.0.0/20",
    "10.2.0.0/24",
    "10.3.1.0/24",
    "10.3.2.0/24",
    "10.0.0.0/8",
    "fd02::/48",
    "fd03:1::/64",
    "241.31.9.9/32",
];
const GATEWAYS: [&str; 5] = ["241.31.2.1", "241.31.2.2", "241.31.2.3", "fd41::1", "fd41::2"];
const UNDERLAY: [&str; 4] = ["172.31.2.1", "172.31.2.2", "10.3.1.7", "fc00:31::2"];

fn any_device(vtep: Vtep) -> impl Strategy<Value = Option<Device>> {
    let text = move |last: u8| match vtep.underlay() {
        Family::V4 => format!("241.31.1.{last}/32"),
        Family::V6 => format!("fd41::{last}/128"),
    };
    let vni = i32::try_from(vtep.vni()).unwrap();
    let nic = prop::sample::select(vec!["eth0", "eth0", "eth1", "nowhere"]);
    let parts = (1u8..3, 1u8..3, 0i32..2, nic, any::<bool>());
    let build = parts.prop_map(move |(last, mac, more, nic, extra)| {
        let mut device = device(vtep, &text(last), mac, vni + 2 * more, nic);
        device.extra_addrs = if extra { vec!["fd42::7/128".to_owned()] } else { Vec::new() };
        device.mtu = (mac == 2).then_some(1400);
        device
    });
    prop::option::weighted(0.8, build)
}

fn any_vtep() -> impl Strategy<Value = Vtep> {
    prop::sample::select(Vtep::ALL.to_vec())
}

fn any_route() -> impl Strategy<Value = RouteEntry> {
    let gws = prop::sample::subsequence(GATEWAYS.to_vec(), 1..4);
    let cidr = prop::sample::select(NETWORKS.to_vec());
    (cidr, gws, any_vtep(), prop::option::of(Just(1380u32))).prop_map(|(cidr, gws, dev, mtu)| RouteEntry {
        gws: list(&gws),
        mtu,
        ..route(cidr, dev.name(), &gws)
    })
}

fn any_firewall() -> impl Strategy<Value = Option<Firewall>> {
    let remote = prop::sample::subsequence(NETWORKS.to_vec(), 0..4);
    let pair = CidrPair { from: "10.1.0.0/16".to_owned(), to: "10.9.0.0/16".to_owned() };
    let build = (remote, any::<bool>(), any::<bool>()).prop_map(move |(remote, transit, refuses)| Firewall {
        pod_cidrs: list(&["10.1.0.0/16", "fd01::/56"]),
        node_pod_cidrs: list(&["10.1.1.0/24"]),
        remote_cidrs: list(&remote),
        transit,
        refused: refuses.then(|| pair.clone()).into_iter().collect(),
        ..Firewall::default()
    });
    prop::option::of(build)
}

fn any_fdb() -> impl Strategy<Value = Fdb> {
    (prop::sample::select(UNDERLAY.to_vec()), 1u8..4, any_vtep()).prop_map(|(ip, mac, dev)| Fdb {
        ip: ip.to_owned(),
        mac: format!("02:54:00:00:01:{mac:02x}"),
        dev: dev.name().to_owned(),
    })
}

fn any_arp() -> impl Strategy<Value = Arp> {
    (prop::sample::select(GATEWAYS.to_vec()), 1u8..4, any_vtep()).prop_map(|(ip, mac, dev)| Arp {
        ip: ip.to_owned(),
        mac: format!("02:54:00:00:01:{mac:02x}"),
        dev: dev.name().to_owned(),
    })
}

/// NodeConfigs that do not fit the host in places (shadows, interfaces that do not exist), but are readable: what is
/// unreadable forbids deletions, which the laws here are not about.
pub fn any_config() -> impl Strategy<Value = NodeConfigSpec> {
    let routes = || prop::collection::vec(any_route(), 0..6);
    let unreachable = prop::sample::subsequence(NETWORKS.to_vec(), 0..3);
    let entries = (prop::collection::vec(any_fdb(), 0..5), prop::collection::vec(any_arp(), 0..5));
    let parts = (
        Vtep::ALL.map(any_device),
        (routes(), routes()),
        unreachable,
        entries,
        any_firewall(),
        prop::option::of(150u32..153),
    );
    parts.prop_map(
        |(devices, (routes, inbound_routes), unreachable, (fdbs, arps), firewall, rule_priority)| {
            readable(NodeConfigSpec {
                devices: devices.into_iter().flatten().collect(),
                routes,
                inbound_routes,
                unreachable: list(&unreachable),
                fdbs,
                arps,
                firewall,
                rule_priority,
                ..NodeConfigSpec::default()
            })
        },
    )
}

/// Leaves out what the validation would name.
fn readable(mut config: NodeConfigSpec) -> NodeConfigSpec {
    let names: BTreeSet<String> = config.devices.iter().map(|device| device.name.clone()).collect();
    for routes in [&mut config.routes, &mut config.inbound_routes] {
        let mut seen = BTreeSet::new();
        routes.retain_mut(|route| {
            let v6 = route.cidr.contains(':');
            route.gws.retain(|gw| gw.contains(':') == v6);
            names.contains(&route.dev) && !route.gws.is_empty() && seen.insert(route.cidr.clone())
        });
    }
    let mut seen = BTreeSet::new();
    config.fdbs.retain(|fdb| {
        names.contains(&fdb.dev)
            && fdb.dev.ends_with("-6") == fdb.ip.contains(':')
            && seen.insert((fdb.dev.clone(), fdb.mac.clone()))
    });
    let mut seen = BTreeSet::new();
    config.arps.retain(|arp| names.contains(&arp.dev) && seen.insert((arp.dev.clone(), arp.ip.clone())));
    let checked = agent_core::Spec::validate(&config);
    assert_eq!(checked.invalid, [], "the generator makes readable NodeConfigs");
    config
}

/// Gives each gateway its neighbour and each neighbour its FDB entry, where they have none.
pub fn complete(config: &mut NodeConfigSpec) {
    let gateways: BTreeSet<(String, String)> = config
        .routes
        .iter()
        .chain(&config.inbound_routes)
        .flat_map(|route| route.gateways().map(|gateway| (route.dev.clone(), gateway.to_owned())))
        .collect();
    for (number, (dev, ip)) in gateways.into_iter().enumerate() {
        if config.arps.iter().all(|arp| (&arp.dev, &arp.ip) != (&dev, &ip)) {
            config.arps.push(Arp { ip, mac: format!("02:54:00:00:02:{number:02x}"), dev });
        }
    }
    for Arp { mac, dev, .. } in config.arps.clone() {
        if config.fdbs.iter().all(|fdb| (&fdb.dev, &fdb.mac) != (&dev, &mac)) {
            let ip = if dev.ends_with("-6") { "fc00:31::2" } else { "172.31.2.1" };
            config.fdbs.push(Fdb { ip: ip.to_owned(), mac, dev });
        }
    }
}

/// A kernel in which anything of ours may be left, by whichever agents: devices that are not what anybody wants now,
/// entries on them, nexthops that lead nowhere, routes that use them, rules, a table.
pub fn any_kernel() -> impl Strategy<Value = Actual> {
    let device = |vtep: Vtep| {
        let parts = (0u32..3, 2u32..4, any::<bool>(), prop::option::of(1u8..4), any::<bool>(), any::<bool>());
        let build = parts.prop_map(move |(vni, parent, learning, mac, up, small)| ActualDevice {
            index: 20 + u32::try_from(Vtep::ALL.iter().position(|other| *other == vtep).unwrap()).unwrap(),
            owner: Owner::Ours,
            renamed: learning && small,
            vni: vtep.vni() + 10 * vni,
            port: vtep.default_port(),
            local: (parent == 2).then(|| "172.31.1.1".parse().unwrap()),
            parent: Some(parent),
            learning,
            mac: mac.map(|last| format!("02:54:00:00:00:{last:02x}").parse().unwrap()),
            mtu: if small { 1000 } else { 1450 },
            up,
        });
        prop::option::of(build)
    };
    let entry = (any_vtep(), prop::sample::select(GATEWAYS.to_vec()), 1u8..4, prop::option::of(0usize..4));
    let entries = prop::collection::vec(entry, 0..12);
    let nexthops = prop::collection::vec((2u32..20, any_vtep(), 0usize..5, 0u8..4), 0..10);
    let route = (prop::sample::select(NETWORKS.to_vec()), any::<bool>(), 0u8..4, any::<Index>());
    let routes = prop::collection::vec(route, 0..8);
    let rules = prop::collection::vec((149u32..154, any::<bool>(), any::<bool>()), 0..4);
    let parts = (Vtep::ALL.map(device), entries, nexthops, routes, rules, any_firewall());
    parts.prop_map(|(devices, entries, nexthops, routes, rules, firewall)| {
        let mut state = host();
        for (vtep, device) in Vtep::ALL.into_iter().zip(devices) {
            let Some(device) = device else { continue };
            state.devices.insert(vtep, device);
            let fresh = state.host.defaults.iter();
            let fresh = fresh
                .map(|(setting, value)| (agent_core::Sysctl { device: vtep, setting: *setting }, *value));
            state.sysctls.extend(fresh);
        }
        leave_entries(&mut state, entries);
        leave_nexthops(&mut state, nexthops);
        leave_routes(&mut state, routes, rules);
        let config = NodeConfigSpec { firewall, ..NodeConfigSpec::default() };
        let spec = agent_core::Spec::validate(&config);
        let desired = agent_core::Desired::resolve(&spec, &state, &agent_core::Known::default());
        state.firewall.table = desired.firewall.map(|firewall| firewall.table);
        state
    })
}

fn leave_entries(state: &mut Actual, entries: Vec<(Vtep, &'static str, u8, Option<usize>)>) {
    for (vtep, address, mac, behind) in entries {
        if !state.devices.contains_key(&vtep) {
            continue;
        }
        let address: IpAddr = address.parse().unwrap();
        let mac: api::Mac = format!("02:54:00:00:01:{mac:02x}").parse().unwrap();
        match behind {
            Some(behind) => drop(state.fdb.insert((vtep, mac, UNDERLAY[behind].parse().unwrap()))),
            None if mac.0[5] == 1 => drop(state.addresses.insert((vtep, address.into()))),
            None => drop(state.neighbours.insert((vtep, address), (mac.0[5] == 2).then_some(mac))),
        }
        let sysctl = agent_core::Sysctl { device: vtep, setting: agent_core::Setting::RpFilter };
        state.sysctls.insert(sysctl, sysctl.setting.ours());
    }
}

fn leave_nexthops(state: &mut Actual, nexthops: Vec<(u32, Vtep, usize, u8)>) {
    for (number, device, gateway, what) in nexthops {
        let id = 193_000_000 + number;
        let singles: BTreeSet<u32> = state
            .nexthops
            .iter()
            .filter(|(_, nexthop)| matches!(nexthop, ActualNexthop::Ours(Nexthop::Single { .. })))
            .map(|(id, _)| *id)
            .filter(|other| *other != id)
            .collect();
        let single = Nexthop::Single { device, gateway: GATEWAYS[gateway].parse().unwrap() };
        let left = match what {
            0 => ActualNexthop::Odd,
            1 if !singles.is_empty() => {
                let resilience = (gateway > 0).then(|| agent_core::Resilience::for_members(singles.len()));
                ActualNexthop::Ours(Nexthop::Group { members: singles, resilience })
            }
            _ if state.devices.contains_key(&device) => ActualNexthop::Ours(single),
            _ => continue,
        };
        let in_group = |nexthop: &ActualNexthop| matches!(nexthop, ActualNexthop::Ours(Nexthop::Group { members, .. }) if members.contains(&id));
        if !state.nexthops.values().any(in_group) {
            state.nexthops.insert(id, left);
        }
    }
}

fn leave_routes(
    state: &mut Actual,
    routes: Vec<(&'static str, bool, u8, Index)>,
    rules: Vec<(u32, bool, bool)>,
) {
    for (destination, inbound, what, which) in routes {
        let table = if inbound { agent_core::INBOUND_TABLE } else { agent_core::TABLE };
        let destination = destination.parse().unwrap();
        let mtu = (what == 3).then_some(1380);
        let usable: Vec<u32> = state
            .nexthops
            .iter()
            .filter(|(_, nexthop)| matches!(nexthop, ActualNexthop::Ours(_)))
            .map(|(id, _)| *id)
            .collect();
        let key = agent_core::RouteKey::route(table, destination, mtu);
        let left = match what {
            0 => None,
            1 => Some(Route::Unreachable),
            _ if usable.is_empty() => None,
            _ => Some(Route::Via { nexthop: usable[which.index(usable.len())], source: None, mtu }),
        };
        state.routes.insert(key, left);
    }
    for (priority, v6, inbound) in rules {
        state.rules.insert(agent_core::Rule {
            priority,
            family: if v6 { Family::V6 } else { Family::V4 },
            input: inbound.then(|| "vx-bridge".to_owned()),
            table: if inbound { agent_core::INBOUND_TABLE } else { agent_core::TABLE },
        });
    }
}

/// What a vandal does: each number picks one thing, each index one victim.
pub fn any_vandalism() -> impl Strategy<Value = Vec<(u8, Index)>> {
    prop::collection::vec((0u8..11, any::<Index>()), 0..6)
}

fn pick<T: Clone>(items: impl IntoIterator<Item = T>, index: &Index) -> Option<T> {
    let items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then(|| items[index.index(items.len())].clone())
}

pub fn vandalise(state: &mut Actual, damage: &[(u8, Index)]) {
    for (what, index) in damage {
        vandalise_once(state, *what, index);
    }
}

fn vandalise_once(state: &mut Actual, what: u8, index: &Index) {
    match what {
        0 | 1 => {
            let Some(vtep) = pick(state.devices.keys().copied(), index) else { return };
            if what == 0 {
                return state.lose_device(vtep);
            }
            let device = state.devices.get_mut(&vtep).unwrap();
            device.mtu = 1000;
            device.mac = None;
            device.up = index.index(2) == 0;
        }
        2 => drop(pick(state.addresses.clone(), index).map(|address| state.addresses.remove(&address))),
        3 => {
            let key = pick(state.neighbours.keys().copied(), index);
            state.neighbours.extend(key.map(|key| (key, None)));
        }
        4 => drop(pick(state.fdb.clone(), index).map(|entry| state.fdb.remove(&entry))),
        5 => {
            if let Some((vtep, mac, _)) = pick(state.fdb.clone(), index) {
                state.fdb.insert((vtep, mac, "192.0.2.1".parse().unwrap()));
            }
        }
        6 => {
            let ours = state.nexthops.iter().filter(|(_, nexthop)| **nexthop != ActualNexthop::Foreign);
            if let Some(id) = pick(ours.map(|(id, _)| *id), index) {
                state.lose_nexthops(BTreeSet::from([id]));
            }
        }
        7 => drop(state.nexthops.insert(193_000_050, ActualNexthop::Odd)),
        8 => drop(pick(state.routes.keys().copied(), index).map(|key| state.routes.insert(key, None))),
        9 => drop(pick(state.rules.clone(), index).map(|rule| state.rules.remove(&rule))),
        _ => state.firewall.table = None,
    }
}

type Routes = BTreeMap<String, (String, BTreeSet<IpAddr>)>;

/// A kernel's state without the numbers that depend on its history: indexes and nexthop ids, and whether one gateway
/// stands alone or in a group.
pub fn meaning(actual: &Actual) -> (Actual, Routes) {
    let mut plain = actual.clone();
    for device in plain.devices.values_mut() {
        device.index = 0;
    }
    let routes = plain.routes.iter().map(|(key, route)| (key.to_string(), describe(route, actual))).collect();
    plain.routes.clear();
    plain.nexthops.clear();
    for chain in plain.firewall.chains.values_mut() {
        chain.accept = Accept::Absent;
    }
    (plain, routes)
}

fn describe(route: &Option<Route>, actual: &Actual) -> (String, BTreeSet<IpAddr>) {
    let Some(Route::Via { nexthop, source, mtu }) = route else {
        return (format!("{route:?}"), BTreeSet::new());
    };
    let single = |id: &u32| match actual.nexthops.get(id) {
        Some(ActualNexthop::Ours(Nexthop::Single { device, gateway })) => (*device, *gateway),
        other => panic!("a route uses {other:?}"),
    };
    let ways: BTreeSet<(Vtep, IpAddr)> = match actual.nexthops.get(nexthop) {
        Some(ActualNexthop::Ours(Nexthop::Group { members, .. })) => members.iter().map(single).collect(),
        _ => BTreeSet::from([single(nexthop)]),
    };
    let device = ways.first().map(|(device, _)| device.name());
    (format!("{device:?} {source:?} {mtu:?}"), ways.into_iter().map(|(_, gateway)| gateway).collect())
}

/// What is not ours.
pub fn strangers(actual: &Actual) -> (Host, Vec<u32>, Vec<Vtep>) {
    let foreign = actual.nexthops.iter().filter(|(_, nexthop)| **nexthop == ActualNexthop::Foreign);
    let devices = actual.devices.iter().filter(|(_, device)| device.owner == Owner::Foreign);
    (actual.host.clone(), foreign.map(|(id, _)| *id).collect(), devices.map(|(vtep, _)| *vtep).collect())
}
