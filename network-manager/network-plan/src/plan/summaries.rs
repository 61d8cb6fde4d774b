//! Overlay addresses as prefixes: a hundred thousand nodes are a handful of routes.

use api::{Family, NetworkType, Vtep, vtep::Plane};
use ipnetwork::IpNetwork;

use crate::{
    span::{Span, SpanSet, host, number},
    summary::summarise,
    topology::{PerFamily, Topology},
};

/// Summaries of each cluster's overlay addresses that touch no other cluster's.
pub(crate) struct Summaries {
    /// Of the local addresses of a gateway-mode cluster.
    pub(crate) local: Vec<PerFamily<Vec<IpNetwork>>>,
    /// Of all overlay addresses of a cluster.
    pub(crate) all: Vec<PerFamily<Vec<IpNetwork>>>,
    /// Every overlay address with its cluster, sorted.
    addresses: PerFamily<Vec<(u128, usize)>>,
}

impl Summaries {
    pub(crate) fn new(topology: &Topology) -> Self {
        let addresses = PerFamily(Family::ALL.map(|family| addresses(topology, family)));
        let mut summaries = Summaries { local: Vec::new(), all: Vec::new(), addresses };
        for cluster in 0..topology.members.len() {
            let [v4, v6] = Family::ALL.map(|family| summaries.of_cluster(topology, cluster, family));
            summaries.local.push(PerFamily([v4.0, v6.0]));
            summaries.all.push(PerFamily([v4.1, v6.1]));
        }
        summaries
    }

    fn of_cluster(
        &self,
        topology: &Topology,
        cluster: usize,
        family: Family,
    ) -> (Vec<IpNetwork>, Vec<IpNetwork>) {
        let member = &topology.members[cluster];
        let others = self.addresses[family].iter().filter(|(_, owner)| *owner != cluster);
        let others = touchy(topology, family, others.map(|(address, _)| *address));
        let of_plane = |plane: Plane| {
            let vtep = Vtep::of(plane, family);
            let nodes = topology.nodes[member.nodes.clone()].iter();
            let mut wanted: Vec<u128> = nodes.filter_map(|node| node.overlay[vtep]).map(number).collect();
            wanted.sort_unstable();
            summarise(Span::of(member.pools[vtep]), &wanted, &others)
        };
        let (local, bridge) = (of_plane(Plane::Local), of_plane(Plane::Bridge));
        let all = bridge.into_iter().chain(local.iter().copied()).collect();
        let routed = member.mode == NetworkType::Gateway && member.inner[family];
        (if routed { local } else { Vec::new() }, all)
    }

    /// A summary of the host addresses of the nodes of other clusters that touches no address of the cluster itself.
    pub(crate) fn remote(
        &self,
        topology: &Topology,
        cluster: usize,
        joined: &[usize],
        family: Family,
    ) -> Vec<IpNetwork> {
        let own = self.addresses[family].iter().filter(|(_, owner)| *owner == cluster);
        let own = touchy(topology, family, own.map(|(address, _)| *address));
        let nodes = joined.iter().flat_map(|joined| &topology.nodes[topology.members[*joined].nodes.clone()]);
        let mut wanted: Vec<u128> = nodes.flat_map(|node| node.host_addresses(family)).map(number).collect();
        wanted.sort_unstable();
        let pools = super::pools(topology, family);
        pools.into_iter().flat_map(|pool| summarise(Span::of(pool), &wanted, &own)).collect()
    }
}

fn addresses(topology: &Topology, family: Family) -> Vec<(u128, usize)> {
    let vteps = [Vtep::of(Plane::Bridge, family), Vtep::of(Plane::Local, family)];
    let of_node =
        |node: &crate::Node| vteps.map(|vtep| node.overlay[vtep].map(|a| (number(a), node.cluster)));
    let mut addresses: Vec<(u128, usize)> = topology.nodes.iter().flat_map(of_node).flatten().collect();
    addresses.sort_unstable();
    addresses
}

/// What a summary must not touch: these addresses, and every pod, service and underlay address within the pools.
fn touchy(topology: &Topology, family: Family, addresses: impl Iterator<Item = u128>) -> Vec<Span> {
    let mut spans: Vec<Span> =
        addresses.map(|address| Span { family, first: address, last: address }).collect();
    for pool in super::pools(topology, family) {
        spans.extend(topology.occupied.within(Span::of(pool)));
    }
    SpanSet::new(spans).into_spans()
}

/// The route to one overlay address, unless it is somebody's pod, service or underlay address by now.
pub(crate) fn host_route(topology: &Topology, address: std::net::IpAddr) -> Option<IpNetwork> {
    (!topology.occupied.overlaps(Span::of_address(address))).then(|| host(address))
}
