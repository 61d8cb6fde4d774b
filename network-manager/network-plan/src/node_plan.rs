//! A node's network in words. What is the same for many nodes is computed once and shared.

use std::{net::IpAddr, sync::Arc};

use api::{Mac, NodeId, Vtep};
use ipnetwork::IpNetwork;

/// Everything that a node's kernel shall hold.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// Whose it is.
    pub id: NodeId,
    /// Its VXLAN devices.
    pub devices: Vec<Device>,
    /// What it has in common with others of its kind.
    pub shared: Arc<Part>,
    /// What only it has.
    pub own: Part,
    /// Of a gateway: where what comes in between clusters goes.
    pub inbound: Vec<Route>,
    /// CIDRs that are unreachable where no route holds.
    pub unreachable: Arc<[IpNetwork]>,
    /// Packet filter.
    pub firewall: Firewall,
    /// Priority of the rule.
    pub rule_priority: Option<u32>,
}

/// A part of a node's tables. The parts of a node never speak of the same route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Routes of our table.
    pub routes: Vec<Route>,
    /// Neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Forwarding entries.
    pub forwards: Vec<Forward>,
}

/// A VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Which.
    pub vtep: Vtep,
    /// Its overlay address.
    pub address: IpAddr,
    /// Its address of the other family, where no other device bears it.
    pub extra: Option<IpAddr>,
    /// Its MAC.
    pub mac: Mac,
    /// The underlay interface.
    pub interface: String,
    /// UDP port.
    pub port: u16,
    /// MTU, where the user named the underlay's.
    pub mtu: Option<u32>,
}

/// A route by way of one or several VTEPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub net: IpNetwork,
    /// The VTEPs' overlay addresses, sorted; never empty.
    pub vias: Arc<[IpAddr]>,
    /// The device that leads to all of them.
    pub device: Vtep,
    /// MTU, where it is below the device's.
    pub mtu: Option<u32>,
}

/// An overlay address has this MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// The VTEP's MAC.
    pub mac: Mac,
    /// The device.
    pub device: Vtep,
}

/// The VTEP with this MAC is at this underlay address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The underlay address.
    pub endpoint: IpAddr,
    /// The VTEP's MAC.
    pub mac: Mac,
    /// The device.
    pub device: Vtep,
}

/// The sets of the packet filter.
#[derive(Clone, Debug)]
pub struct Firewall {
    /// What all nodes of the cluster have in common.
    pub cluster: Arc<ClusterSets>,
    /// Pods of this node.
    pub node_pods: Vec<IpNetwork>,
    /// Whether transit passes here.
    pub transit: bool,
    /// Source and destination of what could be sent but never answered.
    pub refused: Arc<[(IpNetwork, IpNetwork)]>,
}

/// The sets that are the same on all nodes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSets {
    /// Own pods.
    pub pods: Vec<IpNetwork>,
    /// Own services.
    pub services: Vec<IpNetwork>,
    /// Own nodes' overlay addresses.
    pub overlay: Vec<IpNetwork>,
    /// Pods, services and overlay addresses of the clusters joined to this one.
    pub remote: Vec<IpNetwork>,
}
