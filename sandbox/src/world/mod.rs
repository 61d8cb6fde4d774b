//! The world of namespaces: described first, as data, then made.
//!
//! A packet's way without ClusterLink: pod → (veth) → its node's `cni0` → node's FORWARD chain → `eth0` → the bridge
//! `underlay` in the root namespace → another node's `eth0`, or the outside. Pods have host routes to their node
//! only, so that pods of one node speak through its FORWARD chain too, as on nodes with `br_netfilter`, which then need
//! not be there.

mod build;
mod cni;
mod firewall;
mod node;
mod outside;
mod pod;
mod proxy;
mod underlay;

use std::net::IpAddr;

use api::Family;
use ipnetwork::IpNetwork;

use crate::addressing::Layout;
use crate::scenario::ControlPlane;

pub use build::{BuildError, Namespaces, build};
pub use firewall::Ruleset;

/// The interface by which a node or a pod is attached.
pub(crate) const UPLINK: &str = "eth0";
/// The CNI's bridge on every node.
pub(crate) const CNI_BRIDGE: &str = "cni0";
/// The bridge that all nodes are attached to.
pub(crate) const UNDERLAY_BRIDGE: &str = "underlay";

/// One namespace and everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its name: `root`, `outside`, a node's or a pod's place.
    pub place: String,
    /// Keys below `net` and their values, written before any device is born: devices inherit `default`.
    pub sysctls: Vec<(String, String)>,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Its routes, beside those that addresses bring.
    pub routes: Vec<Route>,
    /// What its packet filter is loaded with.
    pub rulesets: Vec<Ruleset>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// How it comes to be.
    pub kind: DeviceKind,
    /// Its MTU.
    pub mtu: u32,
    /// The bridge that it is a port of.
    pub bridge: Option<String>,
    /// Its addresses with their prefixes.
    pub addresses: Vec<IpNetwork>,
}

/// How a device comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A bridge.
    Bridge,
    /// A veth pair, whose other end is `eth0` of another namespace with this MTU.
    VethTo {
        /// The other namespace.
        place: String,
        /// MTU of the other end.
        mtu: u32,
    },
    /// The end of a pair that another namespace makes.
    VethEnd,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub to: IpNetwork,
    /// The next router, possibly of the other family; without it the destination is on the link.
    pub via: Option<IpAddr>,
    /// The device.
    pub device: String,
}

impl Route {
    fn default_via(via: IpAddr, family: Family) -> Self {
        Route { to: everything(family), via: Some(via), device: UPLINK.to_owned() }
    }
}

/// `0.0.0.0/0` or `::/0`.
fn everything(family: Family) -> IpNetwork {
    let unspecified: IpAddr = match family {
        Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNetwork::new(unspecified, 0).expect("every family has a prefix of length 0")
}

/// An address with the prefix that is it alone.
fn host_prefix(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

/// An address with a network's prefix length.
fn within(address: IpAddr, network: IpNetwork) -> IpNetwork {
    IpNetwork::new(address, network.prefix()).expect("the network's prefix length fits its own family")
}

/// Link-local address of a node on the underlay, so that a family without underlay addresses has next hops as well.
fn link_local(cluster: u16, node: u16) -> IpAddr {
    std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, cluster, node).into()
}

/// What every namespace is set to. Addresses are usable at once: nobody else is there to be asked (RFC 4862, 5.4).
fn base_sysctls() -> Vec<(String, String)> {
    let mut keys = Vec::new();
    for device in ["all", "default"] {
        keys.push((format!("ipv6/conf/{device}/accept_dad"), "0".to_owned()));
        keys.push((format!("ipv6/conf/{device}/accept_ra"), "0".to_owned()));
        keys.push((format!("ipv6/conf/{device}/disable_ipv6"), "0".to_owned()));
        // A node tells its pods of shorter ways (RFC 4861, 8), on which nobody would translate a service's answer back.
        for family in ["ipv4", "ipv6"] {
            keys.push((format!("{family}/conf/{device}/accept_redirects"), "0".to_owned()));
        }
    }
    keys.push(("ipv4/ping_group_range".to_owned(), "0 0".to_owned()));
    // With br_netfilter, a service's backend that calls itself would be bridged to the port it came from, and dropped.
    for tables in ["iptables", "ip6tables", "arptables"] {
        keys.push((format!("bridge/bridge-nf-call-{tables}"), "0".to_owned()));
    }
    keys
}

/// What a namespace that forwards is set to beside that: strict rp_filter on every device that there will ever be.
fn router_sysctls() -> Vec<(String, String)> {
    let mut keys = base_sysctls();
    for device in ["all", "default"] {
        keys.push((format!("ipv4/conf/{device}/forwarding"), "1".to_owned()));
        keys.push((format!("ipv6/conf/{device}/forwarding"), "1".to_owned()));
        keys.push((format!("ipv4/conf/{device}/rp_filter"), "1".to_owned()));
        // Pods of one node reach each other through it, which is what a redirect would talk them out of.
        keys.push((format!("ipv4/conf/{device}/send_redirects"), "0".to_owned()));
    }
    keys
}

/// Every namespace of a layout, the root namespace first.
pub fn spaces(layout: &Layout) -> Vec<Space> {
    let mut spaces = vec![underlay::space(layout), outside::space(layout)];
    for (cluster, node) in layout.nodes() {
        spaces.push(node::space(layout, cluster, node));
        spaces.extend(node.pods.iter().map(|pod| match layout.control_plane {
            ControlPlane::Embedded => pod::space(cluster, node, pod),
            ControlPlane::Kubernetes => pod::unwired(pod),
        }));
    }
    spaces
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_end_of_a_pair_has_its_other_end() {
        let layout = Scenario::default().layout().unwrap();
        let spaces = spaces(&layout);
        let ends: BTreeSet<&str> = spaces
            .iter()
            .filter(|space| space.devices.iter().any(|device| device.kind == DeviceKind::VethEnd))
            .map(|space| space.place.as_str())
            .collect();
        let pairs = spaces.iter().flat_map(|space| &space.devices).filter_map(|device| match &device.kind {
            DeviceKind::VethTo { place, .. } => Some(place.as_str()),
            _ => None,
        });
        let pairs: Vec<&str> = pairs.collect();
        assert_eq!(pairs.len(), ends.len());
        assert_eq!(pairs.into_iter().collect::<BTreeSet<_>>(), ends);
        assert_eq!(ends.len(), 8 + 8 + 1);
    }

    #[test]
    fn device_names_fit_the_kernel_and_their_namespace() {
        let mut scenario = Scenario { pods_per_node: 200, ..Scenario::default() };
        scenario.clusters.iter_mut().for_each(|cluster| cluster.name.push_str("-with-a-long-name"));
        for space in spaces(&scenario.layout().unwrap()) {
            let names: BTreeSet<&str> = space.devices.iter().map(|device| device.name.as_str()).collect();
            assert_eq!(names.len(), space.devices.len(), "{}", space.place);
            assert!(names.iter().all(|name| name.len() <= 15), "{names:?}");
        }
    }

    #[test]
    fn every_node_filters_reverse_paths_strictly() {
        let layout = Scenario::default().layout().unwrap();
        for space in spaces(&layout) {
            let node = layout.nodes().any(|(_, node)| node.place == space.place);
            let strict = space.sysctls.contains(&("ipv4/conf/default/rp_filter".to_owned(), "1".to_owned()));
            assert!(strict || !node, "{}", space.place);
        }
    }
}
