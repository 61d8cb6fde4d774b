//! Step 4: every node's network. Cannot fail: whatever could, did in the steps before.
//!
//! The packet's story. A pod's packet for another cluster finds a route in our table. On a node with bridge devices
//! (a gateway, or any node of a P2P cluster) the route's gateway is a VTEP of the other cluster: the neighbour entry turns
//! its overlay address into its MAC, the FDB entry turns the MAC into its underlay address, VXLAN carries the packet
//! there. On an internal node the gateways are the own cluster's, over the local devices. What comes in
//! at a gateway looks into the inbound table first, which leads to the pod's node, again over the local devices.
//!
//! A link's outer family need not be the inner one (`Topology::link`). Where a gateway has no link to a destination and another
//! gateway of its cluster has one, it relays there; the other one goes directly, so no packet ever turns back.
//!
//! Nodes of a cluster that have the same families, MTU and role have the same routes to other clusters. Those are computed once and
//! shared, so the cost grows with what is different, not with the square of the nodes.

mod classes;
mod destinations;
mod filter;
mod hops;
mod summaries;

use std::{collections::BTreeMap, sync::Arc};

use api::{Family, NodeId, Vtep, vtep::Plane};
use ipnetwork::IpNetwork;

use crate::{
    allocate,
    node_plan::{Device, Firewall, NodePlan, Part, Route},
    topology::{Node, Topology},
};
use classes::Class;
use destinations::View;
use hops::Hops;
use summaries::Summaries;

/// Every node's network.
pub type Plan = BTreeMap<NodeId, NodePlan>;

/// Computes every node's network.
pub fn plan(topology: &Topology) -> Plan {
    let summaries = Summaries::new(topology);
    let mut plan = Plan::new();
    for cluster in 0..topology.members.len() {
        let view = View::new(topology, &summaries, cluster);
        let filter = filter::Filter::new(&view);
        let mut classes: BTreeMap<Class, Arc<classes::Common>> = BTreeMap::new();
        for at in topology.members[cluster].nodes.clone() {
            let class = Class::of(topology, at);
            let common = classes.entry(class).or_insert_with(|| Arc::new(classes::Common::new(&view, at)));
            let node_plan = node_plan(&view, &filter, common, at);
            plan.insert(topology.nodes[at].id.clone(), node_plan);
        }
    }
    plan
}

fn node_plan(view: &View<'_>, filter: &filter::Filter, common: &classes::Common, at: usize) -> NodePlan {
    let (topology, node) = (view.topology, &view.topology.nodes[at]);
    let own = own_part(view, common, at);
    NodePlan {
        id: node.id.clone(),
        devices: devices(topology, at, &[&common.part, &own]),
        inbound: if node.bridge && node.local { inbound(topology, at) } else { Vec::new() },
        unreachable: view.unreachable.clone(),
        firewall: Firewall {
            cluster: filter.sets.clone(),
            node_pods: node.blocks.clone(),
            transit: node.bridge && node.local,
            refused: filter.refused_at(at),
        },
        rule_priority: topology.member_of(at).rule_priority,
        shared: common.part.clone(),
        own,
    }
}

/// Routes to the services of P2P clusters; and on a gateway, everything about its own cluster.
fn own_part(view: &View<'_>, common: &classes::Common, at: usize) -> Part {
    let topology = view.topology;
    let mut part = Part { routes: common.service_routes(view, at), ..Part::default() };
    let node = &topology.nodes[at];
    if node.bridge && node.local {
        part.routes.extend(view.routes_to_own_gateways(at));
        let mut hops = Hops::new(topology, at);
        for peer in topology.members[node.cluster].nodes.clone().filter(|peer| *peer != at) {
            hops.add(peer, Plane::Local);
        }
        (part.neighbours, part.forwards) = hops.finish();
    }
    part
}

/// A gateway's routes to the pods and the local address of each other node of its cluster.
fn inbound(topology: &Topology, at: usize) -> Vec<Route> {
    let mut routes = Vec::new();
    let nodes = topology.members[topology.nodes[at].cluster].nodes.clone();
    for peer in nodes.filter(|peer| *peer != at) {
        for family in Family::ALL {
            let Some(way) = hops::way(topology, at, &[peer], Plane::Local, family) else { continue };
            let node = &topology.nodes[peer];
            let blocks = node.blocks.iter().filter(|block| Family::of_network(**block) == family).copied();
            let address = node.overlay[Vtep::of(Plane::Local, family)].map(crate::span::host);
            routes.extend(blocks.chain(address).map(|net| way.route(net)));
        }
    }
    routes
}

/// The devices that the node uses: those in a family of its pods, those that stand in for one, those that lead to somebody.
fn devices(topology: &Topology, at: usize, parts: &[&Part]) -> Vec<Device> {
    let (node, member) = (&topology.nodes[at], topology.member_of(at));
    let used = |vtep: Vtep| parts.iter().any(|part| part.forwards.iter().any(|f| f.device == vtep));
    let exists = |vtep: Vtep| {
        let family = vtep.underlay();
        let stands_in = node.underlay[family.other()].is_none();
        node.is_on(vtep.plane())
            && node.underlay[family].is_some()
            && (member.inner[family] || stands_in || used(vtep))
    };
    let existing: Vec<Vtep> = Vtep::ALL.into_iter().filter(|vtep| exists(*vtep)).collect();
    existing.iter().filter_map(|vtep| device(node, member, *vtep, &existing)).collect()
}

fn device(node: &Node, member: &crate::Member, vtep: Vtep, existing: &[Vtep]) -> Option<Device> {
    let other = Vtep::of(vtep.plane(), vtep.underlay().other());
    let carries_both = !existing.contains(&other) && member.inner[other.underlay()];
    let address = node.overlay[vtep]?;
    Some(Device {
        vtep,
        address,
        extra: node.overlay[other].filter(|_| carries_both),
        mac: allocate::mac(vtep, address),
        interface: node.interface.clone(),
        port: member.ports[vtep],
        mtu: member.mtu.map(|mtu| mtu.saturating_sub(vtep.overhead())),
    })
}

/// The distinct pools of the mesh in a family, widest only.
fn pools(topology: &Topology, family: Family) -> Vec<IpNetwork> {
    let vteps = [Vtep::of(Plane::Bridge, family), Vtep::of(Plane::Local, family)];
    let pools = topology.members.iter().flat_map(|member| vteps.map(|vtep| member.pools[vtep]));
    crate::span::collapse(pools)
}
