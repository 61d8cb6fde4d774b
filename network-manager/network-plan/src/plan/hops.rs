//! The next hop: which VTEPs, over which device, and the neighbour and FDB entries that lead to them.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use api::{Family, Vtep, vtep::Plane};
use ipnetwork::IpNetwork;

use crate::{
    allocate,
    node_plan::{Forward, Neighbour, Route},
    topology::Topology,
};

/// The VTEPs that a route can go by, all behind one device.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) peers: Vec<usize>,
    pub(crate) device: Vtep,
    vias: Arc<[IpAddr]>,
    /// MTU of the path, where every end's is known and it is below the device's.
    pub(crate) mtu: Option<u32>,
}

impl Way {
    pub(crate) fn route(&self, net: IpNetwork) -> Route {
        Route { net, vias: self.vias.clone(), device: self.device, mtu: self.mtu }
    }
}

/// The way from a node to those of `peers` that it has a link to. A route has one device: where some links are carried by
/// the inner family's own underlay and some by the other, the first are taken.
pub(crate) fn way(
    topology: &Topology,
    from: usize,
    peers: &[usize],
    plane: Plane,
    family: Family,
) -> Option<Way> {
    let mut over = [Vec::new(), Vec::new()];
    for peer in peers.iter().copied().filter(|peer| *peer != from) {
        if let Some(underlay) = topology.link(from, peer, plane, family) {
            over[usize::from(underlay != family)].push(peer);
        }
    }
    let [same, other] = over;
    let (peers, underlay) = if same.is_empty() { (other, family.other()) } else { (same, family) };
    let device = Vtep::of(plane, underlay);
    let mut vias: Vec<IpAddr> =
        peers.iter().filter_map(|peer| topology.nodes[*peer].overlay[Vtep::of(plane, family)]).collect();
    vias.sort_unstable();
    if vias.is_empty() {
        return None;
    }
    let mtu = path_mtu(topology, from, &peers, device);
    Some(Way { peers, device, vias: vias.into(), mtu })
}

fn path_mtu(topology: &Topology, from: usize, peers: &[usize], device: Vtep) -> Option<u32> {
    let own = topology.nodes[from].mtu?;
    let smallest = smallest_mtu(topology, from, peers)?;
    (smallest < own).then(|| smallest.saturating_sub(device.overhead()))
}

/// The smallest underlay MTU of a node and its peers, where all are known.
fn smallest_mtu(topology: &Topology, from: usize, peers: &[usize]) -> Option<u32> {
    peers
        .iter()
        .try_fold(topology.nodes[from].mtu?, |least, peer| Some(least.min(topology.nodes[*peer].mtu?)))
}

/// The MTU that fits through the tunnels from a node to its peers, whether or not it is below the device's.
pub(crate) fn tunnel_mtu(topology: &Topology, from: usize, way: &Way) -> Option<u32> {
    Some(smallest_mtu(topology, from, &way.peers)?.saturating_sub(way.device.overhead()))
}

/// Collects the entries that lead from a node to its peers.
pub(crate) struct Hops<'a> {
    topology: &'a Topology,
    from: usize,
    neighbours: Vec<Neighbour>,
    forwards: Vec<Forward>,
    seen: BTreeSet<(usize, Vtep)>,
}

impl<'a> Hops<'a> {
    pub(crate) fn new(topology: &'a Topology, from: usize) -> Self {
        Hops { topology, from, neighbours: Vec::new(), forwards: Vec::new(), seen: BTreeSet::new() }
    }

    /// A peer on a plane, in every family in which there is a link.
    pub(crate) fn add(&mut self, peer: usize, plane: Plane) {
        for family in Family::ALL {
            let Some(underlay) = self.topology.link(self.from, peer, plane, family) else { continue };
            let node = &self.topology.nodes[peer];
            let device = Vtep::of(plane, underlay);
            let (Some(address), Some(device_address)) =
                (node.overlay[Vtep::of(plane, family)], node.overlay[device])
            else {
                continue;
            };
            let mac = allocate::mac(device, device_address);
            self.neighbours.push(Neighbour { address, mac, device });
            // Clusters reach each other's public addresses; within one, the underlay is one network.
            let endpoint = match plane {
                Plane::Bridge => node.endpoint(underlay),
                Plane::Local => node.underlay[underlay],
            };
            if let Some(endpoint) = endpoint.filter(|_| self.seen.insert((peer, device))) {
                self.forwards.push(Forward { endpoint, mac, device });
            }
        }
    }

    pub(crate) fn finish(self) -> (Vec<Neighbour>, Vec<Forward>) {
        (self.neighbours, self.forwards)
    }
}
