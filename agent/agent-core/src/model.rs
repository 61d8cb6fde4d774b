//! The kernel objects that ClusterLink programs, in its own words, and how each is known to be ours.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use api::{Family, Mac, Vtep};
use ipnetwork::IpNetwork;

/// The alias of our devices.
pub const ALIAS: &str = "clusterlink";
/// The protocol number of our routes, nexthops and rules; no entry of iproute2's `rt_protos` has it.
pub const PROTOCOL: u8 = 193;
/// Our routing table.
pub const TABLE: u32 = 200;
/// The table for what comes in between clusters at a gateway.
pub const INBOUND_TABLE: u32 = 201;
/// The metric of our routes that have no MTU of their own: what the kernel gives an IPv6 route that names none.
pub const ROUTE_METRIC: u32 = 1024;
/// The metric of the unreachable routes behind them.
pub const UNREACHABLE_METRIC: u32 = 1 << 20;
/// The ids that our nexthop objects take.
pub const NEXTHOP_IDS: RangeInclusive<u32> = 193_000_000..=193_999_999;

/// What sorts of kernel objects there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// VXLAN devices.
    Device,
    /// Settings of devices.
    Sysctl,
    /// Addresses of devices.
    Address,
    /// FDB entries.
    Fdb,
    /// Neighbours.
    Neighbour,
    /// Our nftables table.
    Firewall,
    /// Accepts in the chains of others.
    Accept,
    /// Nexthop objects and groups.
    Nexthop,
    /// Routes.
    Route,
    /// Rules.
    Rule,
}

impl Kind {
    /// Every kind, in the order in which they are programmed.
    pub const ALL: [Kind; 10] = [
        Kind::Device,
        Kind::Sysctl,
        Kind::Address,
        Kind::Fdb,
        Kind::Neighbour,
        Kind::Firewall,
        Kind::Accept,
        Kind::Nexthop,
        Kind::Route,
        Kind::Rule,
    ];

    /// A short word for it, for labels and tables.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Device => "device",
            Kind::Sysctl => "sysctl",
            Kind::Address => "address",
            Kind::Fdb => "fdb",
            Kind::Neighbour => "neighbour",
            Kind::Firewall => "firewall",
            Kind::Accept => "accept",
            Kind::Nexthop => "nexthop",
            Kind::Route => "route",
            Kind::Rule => "rule",
        }
    }
}

/// A VXLAN device of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of both ends.
    pub port: u16,
    /// Underlay address that its packets come from.
    pub local: IpAddr,
    /// Index of the underlay interface.
    pub parent: u32,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
}

/// A key below `net.ipv4.conf.<device>` or `net.ipv6.conf.<device>` of one of our devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    /// The device.
    pub device: Vtep,
    /// The key.
    pub setting: Setting,
}

/// The keys that the agent sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// `ipv6.disable_ipv6`: a host may disable IPv6 on every new device.
    DisableIpv6,
    /// `ipv4.rp_filter`.
    RpFilter,
    /// `forwarding`, of either family.
    Forwarding(Family),
}

impl Setting {
    /// Every key, in the order in which they are set.
    pub const ALL: [Setting; 4] = [
        Setting::DisableIpv6,
        Setting::RpFilter,
        Setting::Forwarding(Family::V4),
        Setting::Forwarding(Family::V6),
    ];

    /// The only value that the agent ever writes on purpose. A device that has it although nobody asks for it has it
    /// from us, so that it may be taken back.
    pub fn ours(self) -> u8 {
        match self {
            Setting::DisableIpv6 => 0,
            // Loose: a source is right when any device leads to it (RFC 3704).
            Setting::RpFilter => 2,
            Setting::Forwarding(_) => 1,
        }
    }

    /// The family's directory and the file.
    pub fn path(self) -> (&'static str, &'static str) {
        match self {
            Setting::DisableIpv6 => ("ipv6", "disable_ipv6"),
            Setting::RpFilter => ("ipv4", "rp_filter"),
            Setting::Forwarding(Family::V4) => ("ipv4", "forwarding"),
            Setting::Forwarding(Family::V6) => ("ipv6", "forwarding"),
        }
    }
}

/// A nexthop object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nexthop {
    /// A VTEP on one of our devices, taken to be on the link whatever the routes say.
    Single {
        /// The device.
        device: Vtep,
        /// The VTEP's overlay address.
        gateway: IpAddr,
    },
    /// Several of them.
    Group {
        /// Ids of the members, each with the weight of one.
        members: BTreeSet<u32>,
        /// How it keeps flows where they are; `None` is a plain hash-threshold group.
        resilience: Option<Resilience>,
    },
}

/// The settings of a resilient group (Linux 5.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resilience {
    /// Slots that flows are hashed to; cannot be changed afterwards.
    pub buckets: u16,
    /// Seconds after which a slot without traffic may move to another member.
    pub idle_seconds: u32,
    /// Seconds after which even busy slots are moved; zero is never.
    pub unbalanced_seconds: u32,
}

impl Resilience {
    /// For a group of this many members: 64 slots, more where the members are more than half of that.
    pub fn for_members(members: usize) -> Self {
        let buckets = u16::try_from((2 * members).next_power_of_two()).unwrap_or(1 << 15).max(64);
        Resilience { buckets, idle_seconds: 120, unbalanced_seconds: 0 }
    }
}

/// What makes a route another one: two with the same key replace each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// The table.
    pub table: u32,
    /// The destination.
    pub destination: IpNetwork,
    /// The metric.
    pub metric: u32,
}

impl RouteKey {
    /// A route to VTEPs. Its MTU is a part of its metric: IPv4 routes by one nexthop object with the same source and
    /// metric share all their other settings (`fib_find_info_nh` does not compare them), so that another MTU would be
    /// taken and ignored.
    pub fn route(table: u32, destination: IpNetwork, mtu: Option<u32>) -> Self {
        RouteKey { table, destination, metric: ROUTE_METRIC + mtu.unwrap_or(0) }
    }

    /// The keys of all routes to VTEPs that have this one's table and destination.
    pub(crate) fn of_any_mtu(&self) -> std::ops::Range<Self> {
        RouteKey { metric: 0, ..*self }..RouteKey { metric: UNREACHABLE_METRIC, ..*self }
    }

    /// The route behind it that leads nowhere.
    pub fn unreachable(destination: IpNetwork) -> Self {
        RouteKey { table: TABLE, destination, metric: UNREACHABLE_METRIC }
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {} in table {} metric {}", self.destination, self.table, self.metric)
    }
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Sends by a nexthop object.
    Via {
        /// Its id.
        nexthop: u32,
        /// The source address of the host's own packets; without it the device's.
        source: Option<IpAddr>,
        /// MTU, where it is below the device's.
        mtu: Option<u32>,
    },
    /// Refuses: nothing of ours leaks to the default route.
    Unreachable,
}

/// A policy rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Its place; the lower one is asked first.
    pub priority: u32,
    /// Whose packets.
    pub family: Family,
    /// Only those that came in by this device.
    pub input: Option<String>,
    /// The table to look into.
    pub table: u32,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.family, self.priority)?;
        if let Some(input) = &self.input {
            write!(f, " iif {input}")?;
        }
        write!(f, " lookup {}", self.table)
    }
}
