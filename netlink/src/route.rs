//! Routes.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::ParseableParametrized;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMessage, RouteMetric,
    RouteNextHop, RouteNextHopFlags, RouteProtocol, RouteScope, RouteType, RouteVia,
};

use crate::address::network;
use crate::attributes::{self, Malformed};
use crate::ip::Family;
use crate::op::Verb;
use crate::transport::{Frame, Request};

const HEADER: usize = 12;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Forwards it.
    Unicast,
    /// Delivers it to this host.
    Local,
    /// Sends it as a broadcast.
    Broadcast,
    /// Drops it silently.
    Blackhole,
    /// Drops it and tells the sender that there is no way.
    Unreachable,
    /// Drops it and tells the sender that it is forbidden.
    Prohibit,
    /// Ends the search in this table.
    Throw,
    /// Another type by its number (`RTN_*`).
    Other(u8),
}

/// One way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The device; zero lets the kernel find it from the gateway.
    pub device: u32,
    /// The next router, possibly of the other family; `None` is directly on the link.
    pub gateway: Option<IpAddr>,
    /// The gateway is on the link although no route says so.
    pub onlink: bool,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// Nowhere: the route drops or throws.
    Nothing,
    /// One way out.
    Hop(Hop),
    /// Several ways, each with its weight.
    Multipath(Vec<(Hop, u16)>),
    /// A nexthop object by its id.
    Nexthop(u32),
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The prefix it is for.
    pub destination: IpNetwork,
    /// The table it stands in; any number above zero.
    pub table: u32,
    /// Who made it (`RTPROT_*` of `rtnetlink(7)`).
    pub protocol: u8,
    /// The lower one wins. For IPv6 the kernel makes 1024 of zero.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
    /// Where it leads.
    pub via: Via,
    /// The source address of what this host itself sends.
    pub source: Option<IpAddr>,
    /// The largest packet, where the route knows better than the device.
    pub mtu: Option<u32>,
}

impl Hop {
    /// Through a gateway that counts as reachable on the device, whatever the routes say.
    pub fn onlink(device: u32, gateway: IpAddr) -> Self {
        Self { device, gateway: Some(gateway), onlink: true }
    }

    /// Directly on the link.
    pub fn device(device: u32) -> Self {
        Self { device, gateway: None, onlink: false }
    }
}

impl Route {
    /// A forwarding route with metric zero.
    pub fn unicast(destination: IpNetwork, table: u32, protocol: u8, via: Via) -> Self {
        Self {
            destination,
            table,
            protocol,
            metric: 0,
            kind: RouteKind::Unicast,
            via,
            source: None,
            mtu: None,
        }
    }

    /// A route that refuses what nothing with a lower metric takes.
    pub fn unreachable(destination: IpNetwork, table: u32, protocol: u8, metric: u32) -> Self {
        let kind = RouteKind::Unreachable;
        Self { destination, table, protocol, metric, kind, via: Via::Nothing, source: None, mtu: None }
    }

    /// The family that it belongs to.
    pub fn family(&self) -> Family {
        Family::of_network(self.destination)
    }

    pub(crate) fn request(&self, verb: Verb) -> Request {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: self.family().into(),
            destination_prefix_length: self.destination.prefix(),
            // Tables above 255 stand in the attribute alone.
            table: u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
            protocol: RouteProtocol::from(self.protocol),
            scope: self.scope(verb),
            kind: self.kind.into(),
            flags: self.flags(),
            ..RouteHeader::default()
        };
        message.attributes = self.attributes();
        let message_type = if verb == Verb::Delete { libc::RTM_DELROUTE } else { libc::RTM_NEWROUTE };
        Request::new(message_type, verb.flags(), &message)
    }

    /// As `ip route` derives it: a gateway may be anywhere, its absence means the link.
    fn scope(&self, verb: Verb) -> RouteScope {
        match (&self.via, self.kind) {
            // In a deletion this matches every scope.
            _ if verb == Verb::Delete => RouteScope::NoWhere,
            (_, RouteKind::Local) => RouteScope::Host,
            (_, RouteKind::Broadcast) => RouteScope::Link,
            (Via::Hop(Hop { gateway: None, .. }), RouteKind::Unicast) => RouteScope::Link,
            _ => RouteScope::Universe,
        }
    }

    fn flags(&self) -> RouteFlags {
        let onlink = matches!(self.via, Via::Hop(Hop { onlink: true, .. }));
        if onlink { RouteFlags::Onlink } else { RouteFlags::empty() }
    }

    fn attributes(&self) -> Vec<RouteAttribute> {
        let mut attributes = Vec::with_capacity(7);
        attributes.push(RouteAttribute::Table(self.table));
        if self.destination.prefix() > 0 {
            attributes.push(RouteAttribute::Destination(self.destination.network().into()));
        }
        if self.metric > 0 {
            attributes.push(RouteAttribute::Priority(self.metric));
        }
        attributes.extend(self.source.map(|ip| RouteAttribute::PrefSource(ip.into())));
        attributes.extend(self.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
        match &self.via {
            Via::Nothing => {}
            Via::Nexthop(id) => attributes.push(RouteAttribute::NhId(*id)),
            Via::Hop(hop) => {
                attributes.extend(hop.gateway.map(|gateway| gateway_attribute(self.family(), gateway)));
                if hop.device > 0 {
                    attributes.push(RouteAttribute::Oif(hop.device));
                }
            }
            Via::Multipath(hops) => {
                let hops = hops.iter().map(|(hop, weight)| path(self.family(), *hop, *weight)).collect();
                attributes.push(RouteAttribute::MultiPath(hops));
            }
        }
        attributes
    }

    pub(crate) fn dump_request(family: Family, table: Option<u32>) -> Request {
        let mut message = RouteMessage::default();
        // Nothing else in the header: every field of it is a filter.
        message.header.address_family = family.into();
        message.attributes.extend(table.map(RouteAttribute::Table));
        Request::new(libc::RTM_GETROUTE, 0, &message)
    }

    pub(crate) fn decode(frame: &Frame<'_>) -> Result<Option<Self>, Malformed> {
        if frame.message_type != libc::RTM_NEWROUTE {
            return Ok(None);
        }
        let header = RouteHeader::parse(frame.payload)?;
        let Some(family) = Family::from_code(header.address_family.into()) else { return Ok(None) };
        if header.flags.contains(RouteFlags::Cloned) {
            return Ok(None);
        }
        let mut route =
            Self::unicast(family.everything(), header.table.into(), header.protocol.into(), Via::Nothing);
        route.kind = header.kind.into();
        route.read_attributes(frame, &header)?;
        if route.kind.leads_nowhere() {
            // IPv6 shows the loopback device here.
            route.via = Via::Nothing;
        }
        Ok(Some(route))
    }

    fn read_attributes(&mut self, frame: &Frame<'_>, header: &RouteHeader) -> Result<(), Malformed> {
        let kinds = [
            RTA_DST,
            RTA_OIF,
            RTA_GATEWAY,
            RTA_PRIORITY,
            RTA_PREFSRC,
            RTA_METRICS,
            RTA_MULTIPATH,
            RTA_TABLE,
            RTA_VIA,
            RTA_NH_ID,
        ];
        let parameter = (header.address_family, header.kind, RouteLwEnCapType::None);
        let decode = |nla: &_| RouteAttribute::parse_with_param(nla, parameter);
        let mut hop = Hop { device: 0, gateway: None, onlink: header.flags.contains(RouteFlags::Onlink) };
        let mut paths = None;
        let mut nexthop = None;
        for attribute in attributes::wanted(frame.payload, HEADER, &kinds, decode)? {
            match attribute {
                RouteAttribute::Destination(address) => {
                    let ip = ip_of(&address).ok_or_else(|| Malformed(format!("destination {address:?}")))?;
                    self.destination = network(ip, header.destination_prefix_length)?;
                }
                RouteAttribute::Oif(device) => hop.device = device,
                RouteAttribute::Gateway(address) => hop.gateway = ip_of(&address),
                RouteAttribute::Via(via) => hop.gateway = ip_of_via(&via),
                RouteAttribute::Priority(metric) => self.metric = metric,
                RouteAttribute::PrefSource(address) => self.source = ip_of(&address),
                RouteAttribute::Metrics(metrics) => self.mtu = metrics.iter().find_map(mtu_of),
                RouteAttribute::MultiPath(hops) => paths = Some(hops.iter().map(hop_of).collect()),
                RouteAttribute::Table(table) => self.table = table,
                RouteAttribute::NhId(id) => nexthop = Some(id),
                _ => {}
            }
        }
        // With a nexthop object the kernel also shows what it resolves to, for old programs.
        self.via = match (nexthop, paths) {
            (Some(id), _) => Via::Nexthop(id),
            (None, Some(paths)) => Via::Multipath(paths),
            (None, None) => Via::Hop(hop),
        };
        Ok(())
    }
}

fn gateway_attribute(family: Family, gateway: IpAddr) -> RouteAttribute {
    if Family::of(gateway) == family {
        return RouteAttribute::Gateway(gateway.into());
    }
    RouteAttribute::Via(match gateway {
        IpAddr::V4(ip) => RouteVia::Inet(ip),
        IpAddr::V6(ip) => RouteVia::Inet6(ip),
    })
}

fn path(family: Family, hop: Hop, weight: u16) -> RouteNextHop {
    let mut path = RouteNextHop::default();
    path.interface_index = hop.device;
    path.flags = if hop.onlink { RouteNextHopFlags::Onlink } else { RouteNextHopFlags::empty() };
    path.hops = u8::try_from(weight.saturating_sub(1)).unwrap_or(u8::MAX);
    path.attributes.extend(hop.gateway.map(|gateway| gateway_attribute(family, gateway)));
    path
}

fn hop_of(path: &RouteNextHop) -> (Hop, u16) {
    let gateway = path.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip_of(address),
        RouteAttribute::Via(via) => ip_of_via(via),
        _ => None,
    });
    let onlink = path.flags.contains(RouteNextHopFlags::Onlink);
    (Hop { device: path.interface_index, gateway, onlink }, u16::from(path.hops) + 1)
}

fn mtu_of(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn ip_of_via(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(ip) => Some((*ip).into()),
        RouteVia::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

impl RouteKind {
    fn leads_nowhere(self) -> bool {
        matches!(self, Self::Blackhole | Self::Unreachable | Self::Prohibit | Self::Throw)
    }
}

impl From<RouteKind> for RouteType {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Unicast => Self::Unicast,
            RouteKind::Local => Self::Local,
            RouteKind::Broadcast => Self::Broadcast,
            RouteKind::Blackhole => Self::BlackHole,
            RouteKind::Unreachable => Self::Unreachable,
            RouteKind::Prohibit => Self::Prohibit,
            RouteKind::Throw => Self::Throw,
            RouteKind::Other(number) => Self::from(number),
        }
    }
}

impl From<RouteType> for RouteKind {
    fn from(kind: RouteType) -> Self {
        match kind {
            RouteType::Unicast => Self::Unicast,
            RouteType::Local => Self::Local,
            RouteType::Broadcast => Self::Broadcast,
            RouteType::BlackHole => Self::Blackhole,
            RouteType::Unreachable => Self::Unreachable,
            RouteType::Prohibit => Self::Prohibit,
            RouteType::Throw => Self::Throw,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(gateway) = self.gateway {
            write!(f, "{gateway} ")?;
        }
        write!(f, "device {}", self.device)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != RouteKind::Unicast {
            write!(f, "{:?} ", self.kind)?;
        }
        write!(f, "route {} in table {} metric {}", self.destination, self.table, self.metric)?;
        match &self.via {
            Via::Nothing => Ok(()),
            Via::Hop(hop) => write!(f, " via {hop}"),
            Via::Nexthop(id) => write!(f, " via nexthop {id}"),
            Via::Multipath(hops) => {
                hops.iter().try_for_each(|(hop, weight)| write!(f, " via {hop} weight {weight}"))
            }
        }
    }
}
