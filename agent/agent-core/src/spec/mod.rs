//! A NodeConfig in words: every text is parsed here, once, and what is wrong is named, entry by entry.

mod check;
mod entries;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use api::vtep::Plane;
use api::{Mac, NodeConfigSpec, Vni, Vtep};
use ipnetwork::IpNetwork;

use check::Checker;

use crate::model::Kind;

/// Where a Cluster names no other priority.
pub const DEFAULT_RULE_PRIORITY: u32 = 200;
/// Where a NodeConfig names no other mark.
pub const DEFAULT_MARK: u32 = 0x20000;

/// A NodeConfig in words, with a list of what in it is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Devices.
    pub devices: BTreeMap<Vtep, DeviceSpec>,
    /// Routes of our table.
    pub routes: BTreeMap<IpNetwork, RouteSpec>,
    /// Routes of the inbound table.
    pub inbound: BTreeMap<IpNetwork, RouteSpec>,
    /// Destinations that are unreachable where no route holds.
    pub unreachable: BTreeSet<IpNetwork>,
    /// Behind which underlay address a MAC is.
    pub fdb: BTreeMap<(Vtep, Mac), IpAddr>,
    /// Which MAC an overlay address has.
    pub neighbours: BTreeMap<(Vtep, IpAddr), Mac>,
    /// The packet filter's sets.
    pub firewall: Option<FirewallSpec>,
    /// Priority of the rule to our table; the inbound rules have the one before.
    pub rule_priority: u32,
    /// Entries that are left out, each with its reason.
    pub invalid: Vec<InvalidEntry>,
    /// Fields that are accepted and never acted upon.
    pub unsupported: Vec<String>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// VNI.
    pub vni: Vni,
    /// UDP port.
    pub port: u16,
    /// MAC.
    pub mac: Mac,
    /// Name of the underlay interface.
    pub underlay: String,
    /// Its addresses.
    pub addresses: BTreeSet<IpNetwork>,
    /// MTU, where it is not simply what the underlay leaves.
    pub mtu: Option<u32>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// The device.
    pub device: Vtep,
    /// Overlay addresses of the VTEPs, ascending, each once; never empty.
    pub gateways: Box<[IpAddr]>,
    /// MTU, where it is below the device's.
    pub mtu: Option<u32>,
}

/// The sets that the packet filter's rules are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallSpec {
    /// Pods of the own cluster.
    pub pods: Vec<IpNetwork>,
    /// Pods of this node.
    pub node_pods: Vec<IpNetwork>,
    /// Services of the own cluster.
    pub services: Vec<IpNetwork>,
    /// Overlay addresses of the own cluster.
    pub overlay: Vec<IpNetwork>,
    /// Everything of other clusters.
    pub remote: Vec<IpNetwork>,
    /// Whether transit passes here.
    pub transit: bool,
    /// Pairs to refuse, from and to.
    pub refused: BTreeSet<(IpNetwork, IpNetwork)>,
    /// The mark bits.
    pub mark: u32,
}

/// Which list of a NodeConfig an entry stands in: while one is unreadable there, nothing of its kind is deleted,
/// because it may be what the entry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// `devices`; everything hangs on a device.
    Devices,
    /// `routes`, `inboundRoutes`, `unreachable`, `rulePriority`.
    Routes,
    /// `fdbs`.
    Fdbs,
    /// `arps`.
    Arps,
    /// `firewall`.
    Firewall,
}

impl List {
    /// The kind of what its entries become.
    pub fn kind(self) -> Kind {
        match self {
            List::Devices => Kind::Device,
            List::Routes => Kind::Route,
            List::Fdbs => Kind::Fdb,
            List::Arps => Kind::Neighbour,
            List::Firewall => Kind::Firewall,
        }
    }
}

/// An entry that is no word of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InvalidEntry {
    /// Where it stands.
    pub list: List,
    /// The object, by the name that a person knows it by.
    pub object: String,
    /// The field.
    pub field: &'static str,
    /// What it holds.
    pub value: String,
    /// What should stand there.
    pub expected: String,
}

impl fmt::Display for InvalidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {:?}: {}", self.object, self.field, self.value, self.expected)
    }
}

impl Spec {
    /// Takes what is right of a NodeConfig and names the rest.
    pub fn validate(config: &NodeConfigSpec) -> Self {
        let mut checker = Checker::default();
        let devices = entries::devices(&config.devices, &mut checker);
        let known: BTreeSet<Vtep> = devices.keys().copied().collect();
        let mut spec = Spec {
            routes: entries::routes("routes", &config.routes, &known, &mut checker),
            inbound: entries::routes("inboundRoutes", &config.inbound_routes, &known, &mut checker),
            unreachable: entries::unreachable(&config.unreachable, &mut checker),
            fdb: entries::fdb(&config.fdbs, &known, &mut checker),
            neighbours: entries::neighbours(&config.arps, &known, &mut checker),
            firewall: config.firewall.as_ref().map(|firewall| entries::firewall(firewall, &mut checker)),
            rule_priority: entries::rule_priority(config.rule_priority, &mut checker),
            devices,
            ..Spec::default()
        };
        if !config.iptables.is_empty() {
            let count = config.iptables.len();
            spec.unsupported.push(format!(
                "iptables: {count} free-text rule(s) are ignored; say what the rules are for in firewall instead"
            ));
        }
        let floods = config.fdbs.iter().filter(|fdb| entries::is_flood(fdb)).count();
        if floods > 0 {
            spec.unsupported.push(format!(
                "fdbs: {floods} entry(ies) for 00:00:00:00:00:00 are ignored; nothing is flooded, arps says every MAC"
            ));
        }
        spec.invalid = checker.invalid;
        spec
    }

    /// Whether packets between other nodes and other clusters pass here. Kosmos's own NodeConfigs do not say, but give
    /// both planes to gateways only.
    pub(crate) fn is_gateway(&self) -> bool {
        match &self.firewall {
            Some(firewall) => firewall.transit,
            None => {
                let has = |plane| self.devices.keys().any(|vtep| vtep.plane() == plane);
                has(Plane::Bridge) && has(Plane::Local)
            }
        }
    }

    /// The lists that hold an entry which could not be read.
    pub fn doubtful(&self) -> BTreeSet<List> {
        self.invalid.iter().map(|entry| entry.list).collect()
    }
}
