//! Reading: everything of ours, and of the host what decisions depend on.

use std::collections::BTreeMap;
use std::path::Path;

use agent_core::{
    ALIAS, Actual, ActualDevice, ActualNexthop, Host, HostAddress, HostLink, HostRoute, INBOUND_TABLE,
    KernelError, NEXTHOP_IDS, Nexthop, Owner, PROTOCOL, Resilience, Route, RouteKey, Rule, Setting, Sysctl,
    TABLE,
};
use api::{Family, Mac, Vtep};
use netlink::{Link, LinkKind, Netlink, NexthopKind, RouteKind, RuleAction, Scope, Via};

use super::parts::Parts;

/// Where other people's routes stand.
const MAIN_TABLE: u32 = 254;
/// Linux 5.13 brought resilient nexthop groups.
const RESILIENT_SINCE: (u32, u32) = (5, 13);

/// What is needed of devices while the rest is read.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// Ours, and those that we may adopt.
    pub(super) ours: BTreeMap<u32, Vtep>,
    /// All that bear one of our names.
    pub(super) indexes: BTreeMap<Vtep, u32>,
    names: BTreeMap<u32, String>,
}

/// Reads some parts anew, and the settings. After an error what was read is of no use.
pub(super) fn refresh(
    netlink: &mut Netlink,
    proc_sys_net: &Path,
    mut parts: Parts,
    actual: &mut Actual,
    known: &mut Devices,
) -> Result<(), KernelError> {
    if parts.has(Parts::LINKS) {
        let links = netlink.links().map_err(cannot_read("devices"))?;
        actual.devices.clear();
        actual.host.links.clear();
        let found = devices(&links, actual);
        if found.ours != known.ours {
            // What hangs on a device hangs on its index.
            parts = Parts::ALL;
        }
        *known = found;
        actual.addresses.clear();
        addresses(netlink, known, actual).map_err(cannot_read("addresses"))?;
    }
    entries(netlink, parts, known, actual).map_err(cannot_read("neighbours"))?;
    actual.sysctls.clear();
    for vtep in known.ours.values() {
        let set = settings(proc_sys_net, vtep.name());
        actual.sysctls.extend(set.map(|(setting, value)| (Sysctl { device: *vtep, setting }, value)));
    }
    if parts.has(Parts::NEXTHOPS) {
        actual.nexthops.clear();
        nexthops(netlink, known, actual).map_err(cannot_read("nexthops"))?;
    }
    all_routes(netlink, parts, known, actual)?;
    actual.host.defaults = settings(proc_sys_net, "default").collect();
    actual.host.forwarding = forwarding(proc_sys_net);
    actual.host.resilient_groups = has_resilient_groups();
    Ok(())
}

fn all_routes(
    netlink: &mut Netlink,
    parts: Parts,
    known: &Devices,
    actual: &mut Actual,
) -> Result<(), KernelError> {
    if parts.has(Parts::ROUTES) {
        actual.routes.clear();
    }
    if parts.has(Parts::HOST_ROUTES) {
        actual.host.routes.clear();
        actual.host.routers.clear();
    }
    if parts.has(Parts::RULES) {
        actual.rules.clear();
    }
    for family in [netlink::Family::V4, netlink::Family::V6] {
        if parts.has(Parts::ROUTES) {
            let read = routes(netlink, family, actual);
            unless_absent(read, family).map_err(cannot_read("routes"))?;
        }
        if parts.has(Parts::HOST_ROUTES) {
            let read = host_routes(netlink, family, known, actual);
            unless_absent(read, family).map_err(cannot_read("routes"))?;
        }
        if parts.has(Parts::RULES) {
            let read = rules(netlink, family, actual);
            unless_absent(read, family).map_err(cannot_read("rules"))?;
        }
    }
    Ok(())
}

/// A host that was booted without IPv6 has no routes and no rules of it, and says so with an error.
fn unless_absent(reading: Result<(), netlink::Error>, family: netlink::Family) -> Result<(), netlink::Error> {
    match reading {
        Err(netlink::Error::Dump { refusal, .. })
            if family == netlink::Family::V6 && refusal.is_unsupported() =>
        {
            Ok(())
        }
        reading => reading,
    }
}

/// The host's devices and addresses alone.
pub(super) fn host(netlink: &mut Netlink) -> Result<Host, KernelError> {
    let mut actual = Actual::default();
    let links = netlink.links().map_err(cannot_read("devices"))?;
    let devices = devices(&links, &mut actual);
    addresses(netlink, &devices, &mut actual).map_err(cannot_read("addresses"))?;
    Ok(actual.host)
}

fn cannot_read(what: &'static str) -> impl Fn(netlink::Error) -> KernelError {
    move |error| KernelError::Read { what, reason: error.to_string() }
}

fn devices(links: &[Link], actual: &mut Actual) -> Devices {
    let mut ours = BTreeMap::new();
    let mut indexes = BTreeMap::new();
    for link in links {
        let renamed = renamed(link, links);
        let Some(vtep) = Vtep::named(&link.name).or(renamed) else {
            actual.host.links.insert(link.index, host_link(link));
            continue;
        };
        let device = ActualDevice { renamed: renamed.is_some(), ..device(link) };
        indexes.insert(vtep, link.index);
        if device.owner != Owner::Foreign {
            ours.insert(link.index, vtep);
        }
        actual.devices.insert(vtep, device);
    }
    Devices { ours, indexes, names: links.iter().map(|link| (link.index, link.name.clone())).collect() }
}

/// Which of our devices this is that somebody gave another name. It holds the VNI, so none of the right name can be made
/// beside it.
fn renamed(link: &Link, links: &[Link]) -> Option<Vtep> {
    let vni = link.vxlan()?.vni;
    if link.alias.as_deref() != Some(ALIAS) || Vtep::named(&link.name).is_some() {
        return None;
    }
    let vtep = Vtep::ALL.into_iter().find(|vtep| vtep.vni() == vni)?;
    links.iter().all(|other| other.name != vtep.name()).then_some(vtep)
}

fn device(link: &Link) -> ActualDevice {
    let vxlan = link.vxlan();
    let owner = match (vxlan, link.alias.as_deref()) {
        (Some(_), Some(ALIAS)) => Owner::Ours,
        (Some(_), None | Some("")) => Owner::Unmarked,
        _ => Owner::Foreign,
    };
    ActualDevice {
        index: link.index,
        owner,
        renamed: false,
        vni: vxlan.map_or(0, |vxlan| vxlan.vni),
        port: vxlan.map_or(0, |vxlan| vxlan.port),
        local: vxlan.and_then(|vxlan| vxlan.local),
        parent: vxlan.and_then(|vxlan| vxlan.parent),
        learning: vxlan.is_some_and(|vxlan| vxlan.learning),
        mac: link.mac.map(|mac| Mac(mac.0)),
        mtu: link.mtu,
        up: link.up,
    }
}

fn host_link(link: &Link) -> HostLink {
    HostLink {
        name: link.name.clone(),
        mtu: link.mtu,
        bridge: link.kind == LinkKind::Bridge,
        vxlan: link.vxlan().map(|vxlan| (vxlan.vni, vxlan.port)),
        addresses: Vec::new(),
    }
}

fn addresses(netlink: &mut Netlink, devices: &Devices, actual: &mut Actual) -> Result<(), netlink::Error> {
    for address in netlink.addresses()? {
        if let Some(vtep) = devices.ours.get(&address.device) {
            // The kernel makes link-local addresses by itself.
            if address.scope != Scope::Link {
                actual.addresses.insert((*vtep, address.address));
            }
        } else if let Some(link) = actual.host.links.get_mut(&address.device) {
            let global = address.scope == Scope::Universe;
            link.addresses.push(HostAddress { network: address.address, global });
        }
    }
    Ok(())
}

fn entries(
    netlink: &mut Netlink,
    parts: Parts,
    devices: &Devices,
    actual: &mut Actual,
) -> Result<(), netlink::Error> {
    if parts.has(Parts::NEIGHBOURS) {
        actual.neighbours.clear();
        for (index, vtep) in &devices.ours {
            let found = netlink.neighbours(*index)?.into_iter();
            let permanent = found.filter(|neighbour| neighbour.state == netlink::NeighbourState::Permanent);
            actual.neighbours.extend(
                permanent.map(|neighbour| ((*vtep, neighbour.address), neighbour.mac.map(|mac| Mac(mac.0)))),
            );
        }
    }
    if parts.has(Parts::FDB) {
        actual.fdb.clear();
        for (index, vtep) in &devices.ours {
            let found = netlink.fdb(*index)?.into_iter();
            actual.fdb.extend(found.filter_map(|entry| Some((*vtep, Mac(entry.mac.0), entry.destination?))));
        }
    }
    Ok(())
}

/// The settings of a device, or of `default`.
fn settings(proc_sys_net: &Path, device: &'static str) -> impl Iterator<Item = (Setting, u8)> {
    Setting::ALL.into_iter().filter_map(move |setting| {
        let (family, file) = setting.path();
        let key = netlink::sysctl::Sysctl::net(&[family, "conf", device, file]).ok()?.below(proc_sys_net);
        // A kernel without IPv6 has no such file: what is wanted there is then written, and that says why not.
        Some((setting, key.read().ok()?.parse().ok()?))
    })
}

fn nexthops(netlink: &mut Netlink, devices: &Devices, actual: &mut Actual) -> Result<(), netlink::Error> {
    for nexthop in netlink.nexthops()? {
        if !NEXTHOP_IDS.contains(&nexthop.id) {
            continue;
        }
        actual.nexthops.insert(nexthop.id, self::nexthop(&nexthop, devices));
    }
    Ok(())
}

/// Whose a nexthop is, and what.
pub(super) fn nexthop(nexthop: &netlink::Nexthop, devices: &Devices) -> ActualNexthop {
    match nexthop.protocol {
        PROTOCOL => own_nexthop(&nexthop.kind, devices).map_or(ActualNexthop::Odd, ActualNexthop::Ours),
        _ => ActualNexthop::Foreign,
    }
}

fn own_nexthop(kind: &NexthopKind, devices: &Devices) -> Option<Nexthop> {
    match kind {
        NexthopKind::Hop(_, hop) => {
            let device = *devices.ours.get(&hop.device)?;
            hop.onlink.then_some(Nexthop::Single { device, gateway: hop.gateway? })
        }
        NexthopKind::Group(members, resilience) => {
            let resilience = resilience.map(|resilience| Resilience {
                buckets: resilience.buckets,
                idle_seconds: seconds(resilience.idle_timer),
                unbalanced_seconds: seconds(resilience.unbalanced_timer),
            });
            let equal = members.values().all(|weight| *weight == 1);
            equal.then(|| Nexthop::Group { members: members.keys().copied().collect(), resilience })
        }
        NexthopKind::Blackhole(_) => None,
    }
}

fn seconds(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn routes(netlink: &mut Netlink, family: netlink::Family, actual: &mut Actual) -> Result<(), netlink::Error> {
    for table in [TABLE, INBOUND_TABLE] {
        for route in netlink.routes(family, Some(table))? {
            // Without IPv6 the kernel answers for all families at once.
            if route.protocol == PROTOCOL && route.family() == family {
                let key = RouteKey { table, destination: route.destination, metric: route.metric };
                actual.routes.insert(key, own_route(&route));
            }
        }
    }
    Ok(())
}

fn host_routes(
    netlink: &mut Netlink,
    family: netlink::Family,
    devices: &Devices,
    actual: &mut Actual,
) -> Result<(), netlink::Error> {
    let main = netlink.routes(family, Some(MAIN_TABLE))?;
    for route in main.iter().filter(|route| route.family() == family) {
        actual.host.routers.extend(routers(route, devices));
        actual.host.routes.extend(host_route(route, devices));
    }
    Ok(())
}

pub(super) fn own_route(route: &netlink::Route) -> Option<Route> {
    match (&route.via, route.kind) {
        (_, RouteKind::Unreachable) => Some(Route::Unreachable),
        (Via::Nexthop(id), RouteKind::Unicast) => {
            Some(Route::Via { nexthop: *id, source: route.source, mtu: route.mtu })
        }
        _ => None,
    }
}

/// A route that ours could shadow: not the default one, not ours, and not what every device has.
fn host_route(route: &netlink::Route, devices: &Devices) -> Option<HostRoute> {
    let on_link_only = match route.destination.ip() {
        std::net::IpAddr::V4(ip) => ip.is_link_local() || ip.is_multicast(),
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
    };
    let device = match &route.via {
        Via::Hop(hop) => Some(hop.device),
        _ => None,
    };
    let ours = route.protocol == PROTOCOL || device.is_some_and(|device| devices.ours.contains_key(&device));
    let counts = route.kind == RouteKind::Unicast && route.destination.prefix() > 0;
    (counts && !ours && !on_link_only).then(|| HostRoute {
        destination: route.destination,
        device: device.and_then(|device| devices.names.get(&device).cloned()),
        protocol: route.protocol,
    })
}

/// The routers of other people's routes. Link-local ones are in nobody's way.
fn routers(route: &netlink::Route, devices: &Devices) -> Vec<std::net::IpAddr> {
    let hops: Vec<netlink::Hop> = match &route.via {
        Via::Hop(hop) => vec![*hop],
        Via::Multipath(hops) => hops.iter().map(|(hop, _)| *hop).collect(),
        Via::Nexthop(_) | Via::Nothing => Vec::new(),
    };
    let foreign = hops.into_iter().filter(|hop| !devices.ours.contains_key(&hop.device));
    foreign.filter_map(|hop| hop.gateway).collect()
}

fn rules(netlink: &mut Netlink, family: netlink::Family, actual: &mut Actual) -> Result<(), netlink::Error> {
    for rule in netlink.rules(family)?.into_iter().filter(|rule| rule.protocol == PROTOCOL) {
        let plain = (&rule.to, &rule.from, &rule.output, &rule.mark) == (&None, &None, &None, &None);
        if let (RuleAction::Lookup(table), true) = (rule.action, plain) {
            let family = if family == netlink::Family::V4 { Family::V4 } else { Family::V6 };
            actual.rules.insert(Rule { priority: rule.priority, family, input: rule.input, table });
        }
    }
    Ok(())
}

fn forwarding(proc_sys_net: &Path) -> BTreeMap<Family, bool> {
    let keys =
        [(Family::V4, &["ipv4", "ip_forward"][..]), (Family::V6, &["ipv6", "conf", "all", "forwarding"][..])];
    keys.into_iter()
        .filter_map(|(family, key)| {
            let value = netlink::sysctl::Sysctl::net(key).ok()?.below(proc_sys_net).read().ok()?;
            Some((family, value != "0"))
        })
        .collect()
}

/// By the kernel's version: to try would be to write.
pub(super) fn has_resilient_groups() -> bool {
    let Ok(system) = nix::sys::utsname::uname() else { return false };
    version(&system.release().to_string_lossy()).is_some_and(|version| version >= RESILIENT_SINCE)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.4.0-150-generic"), Some((5, 4)));
        assert!(version("5.4.0") < Some(RESILIENT_SINCE));
        assert!(version("5.13-rc1") >= Some(RESILIENT_SINCE));
        assert_eq!(version("custom"), None);
    }
}
