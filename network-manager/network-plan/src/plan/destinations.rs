//! What one cluster can reach, and by way of whom: once for a cluster, however many nodes it has.

use std::sync::Arc;

use api::{Family, NetworkType, Vtep, vtep::Plane};
use ipnetwork::IpNetwork;

use super::{
    hops::{self, Way},
    summaries::{Summaries, host_route},
};
use crate::{
    node_plan::Route,
    rejection::Use,
    span::{self, Span, SpanSet},
    topology::Topology,
};

/// Whom a packet for a destination goes to, seen from a node with bridge devices.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Via {
    /// Any gateway of this cluster.
    Gateways(usize),
    /// This node.
    Node(usize),
}

/// A network of another cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    pub(crate) net: IpNetwork,
    pub(crate) via: Via,
}

/// Another cluster, in one family, as this one sees it.
pub(crate) struct Remote {
    pub(crate) cluster: usize,
    pub(crate) family: Family,
    /// Own nodes with bridge devices that have a link to one of its nodes.
    pub(crate) senders: Vec<usize>,
    /// Everything but services of P2P clusters, as nodes with bridge devices route it.
    pub(crate) destinations: Vec<Destination>,
    /// Services of a P2P cluster: each node chooses some of its nodes.
    pub(crate) spread: Vec<IpNetwork>,
    /// The same pods and services in as few prefixes as possible.
    pub(crate) cover: Vec<IpNetwork>,
    /// The smallest MTU of the tunnels to it and in it, where all are known.
    pub(crate) mtu: Option<u32>,
    /// The smallest MTU of the tunnels between its gateways and its nodes, where all are known and there are any.
    pub(crate) beyond: Option<u32>,
}

/// A cluster's view of the mesh.
pub(crate) struct View<'a> {
    pub(crate) topology: &'a Topology,
    pub(crate) summaries: &'a Summaries,
    pub(crate) cluster: usize,
    pub(crate) remotes: Vec<Remote>,
    /// Per family: the other clusters' host addresses.
    pub(crate) hosts: [Vec<IpNetwork>; 2],
    pub(crate) unreachable: Arc<[IpNetwork]>,
}

impl<'a> View<'a> {
    pub(crate) fn new(topology: &'a Topology, summaries: &'a Summaries, cluster: usize) -> Self {
        let mut remotes = Vec::new();
        for family in Family::ALL {
            for other in 0..topology.members.len() {
                remotes.extend(remote(topology, summaries, cluster, (other, family)));
            }
        }
        let hosts = Family::ALL.map(|family| {
            let joined: Vec<usize> =
                remotes.iter().filter(|r: &&Remote| r.family == family).map(|r| r.cluster).collect();
            summaries.remote(topology, cluster, &joined, family)
        });
        let unreachable = unreachable(topology, cluster, &remotes);
        View { topology, summaries, cluster, remotes, hosts, unreachable }
    }

    /// Host routes to the own gateways, where what they translated and masqueraded is answered to.
    pub(crate) fn routes_to_own_gateways(&self, at: usize) -> Vec<Route> {
        let topology = self.topology;
        let mut routes = Vec::new();
        for gateway in topology.members[self.cluster].bridges.iter().filter(|gateway| **gateway != at) {
            for family in Family::ALL {
                let address = topology.nodes[*gateway].overlay[Vtep::of(Plane::Local, family)];
                let net = address.and_then(|address| host_route(topology, address));
                let way = hops::way(topology, at, &[*gateway], Plane::Local, family);
                routes.extend(net.zip(way).map(|(net, way): (IpNetwork, Way)| way.route(net)));
            }
        }
        routes
    }
}

/// Another cluster in one family, if there is any link to it.
fn remote(
    topology: &Topology,
    summaries: &Summaries,
    cluster: usize,
    (other, family): (usize, Family),
) -> Option<Remote> {
    let (own, member) = (&topology.members[cluster], &topology.members[other]);
    if other == cluster || !own.inner[family] || !member.inner[family] {
        return None;
    }
    let linked = |sender: &usize| {
        member.bridges.iter().any(|peer| topology.link(*sender, *peer, Plane::Bridge, family).is_some())
    };
    let senders: Vec<usize> = own.bridges.iter().copied().filter(linked).collect();
    if senders.is_empty() {
        return None;
    }
    let (mut destinations, spread) = pods_and_services(topology, cluster, other, family);
    destinations.extend(host_addresses(topology, summaries, other, family));
    let cover = cover(topology, cluster, other, family);
    let beyond = within(topology, other, family);
    let mtu = match own.mode {
        NetworkType::Gateway => narrowest(topology, &senders, &member.bridges, family)
            .map(|mtu| mtu.min(beyond.unwrap_or(u32::MAX))),
        NetworkType::P2p => None,
    };
    Some(Remote { cluster: other, family, senders, destinations, spread, cover, mtu, beyond })
}

/// The units of another cluster that are routable here.
fn routable(
    topology: &Topology,
    cluster: usize,
    other: usize,
    family: Family,
) -> impl Iterator<Item = &crate::conflicts::Unit> {
    let conflicts = &topology.conflicts;
    conflicts
        .units_of(other)
        .filter(move |(number, unit)| {
            Family::of_network(unit.net) == family && conflicts.routable(cluster, *number)
        })
        .map(|(_, unit)| unit)
}

fn pods_and_services(
    topology: &Topology,
    cluster: usize,
    other: usize,
    family: Family,
) -> (Vec<Destination>, Vec<IpNetwork>) {
    let (mut destinations, mut spread) = (Vec::new(), Vec::new());
    for unit in routable(topology, cluster, other, family) {
        let via = match (unit.node, topology.members[other].mode) {
            (Some(node), _) => Via::Node(node),
            (None, NetworkType::Gateway) => Via::Gateways(other),
            (None, NetworkType::P2p) => {
                spread.push(unit.net);
                continue;
            }
        };
        destinations.push(Destination { net: unit.net, via });
    }
    (destinations, spread)
}

/// Addresses on bridge devices one by one, those on local devices summarised.
fn host_addresses(
    topology: &Topology,
    summaries: &Summaries,
    other: usize,
    family: Family,
) -> Vec<Destination> {
    let bridges = topology.members[other].bridges.iter().filter_map(|node| {
        let address = topology.nodes[*node].overlay[Vtep::of(Plane::Bridge, family)]?;
        Some(Destination { net: host_route(topology, address)?, via: Via::Node(*node) })
    });
    let summary = summaries.local[other][family].iter();
    bridges.chain(summary.map(|net| Destination { net: *net, via: Via::Gateways(other) })).collect()
}

/// Pods and services of another cluster in as few prefixes as can be said without claiming anybody else's.
fn cover(topology: &Topology, cluster: usize, other: usize, family: Family) -> Vec<IpNetwork> {
    let units: Vec<_> = routable(topology, cluster, other, family).collect();
    let member = &topology.members[other];
    let undisputed = topology.conflicts.undisputed_pods(other).iter().copied().filter(|net| {
        let span = Span::of(*net);
        span.family == family && !member.withheld.iter().any(|cidr| Span::of(*cidr).overlaps(span))
    });
    let blocks: SpanSet = SpanSet::new(
        units.iter().filter(|unit| unit.use_ == Use::Pod).map(|unit| Span::of(unit.net)).collect(),
    );
    // A wide prefix whose every block is refused leads nowhere.
    let used = undisputed.filter(|net| blocks.overlaps(Span::of(*net)));
    span::collapse(used.chain(units.iter().map(|unit| unit.net)))
}

fn narrowest(topology: &Topology, senders: &[usize], peers: &[usize], family: Family) -> Option<u32> {
    let mut narrowest = u32::MAX;
    for sender in senders {
        let way = hops::way(topology, *sender, peers, Plane::Bridge, family)?;
        narrowest = narrowest.min(hops::tunnel_mtu(topology, *sender, &way)?);
    }
    Some(narrowest)
}

/// The MTU that fits through any tunnel between nodes of a gateway-mode cluster.
fn within(topology: &Topology, cluster: usize, family: Family) -> Option<u32> {
    let member = &topology.members[cluster];
    let nodes = &topology.nodes[member.nodes.clone()];
    if member.mode == NetworkType::P2p || nodes.len() < 2 {
        return None;
    }
    let least = nodes.iter().try_fold(u32::MAX, |least, node| Some(least.min(node.mtu?)))?;
    let overhead = |underlay: Family| Vtep::of(Plane::Local, underlay).overhead();
    let at_home = nodes.iter().all(|node| node.underlay[family].is_some());
    let other = if at_home { 0 } else { overhead(family.other()) };
    Some(least.saturating_sub(overhead(family).max(other)))
}

fn unreachable(topology: &Topology, cluster: usize, remotes: &[Remote]) -> Arc<[IpNetwork]> {
    let inner = topology.members[cluster].inner;
    let pools = Family::ALL.into_iter().filter(|family| inner[*family]);
    let pools = pools.flat_map(|family| super::pools(topology, family));
    let free = pools.filter(|pool| !topology.occupied.overlaps(Span::of(*pool)));
    span::collapse(remotes.iter().flat_map(|remote| remote.cover.iter().copied()).chain(free)).into()
}
