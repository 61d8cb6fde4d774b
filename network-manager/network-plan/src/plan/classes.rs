//! Nodes that have the same routes to other clusters, and those routes.

use std::{collections::HashMap, sync::Arc};

use api::{Family, vtep::Plane};
use ipnetwork::IpNetwork;

use super::{
    destinations::{Destination, Remote, Via, View},
    hops::{self, Hops, Way},
};
use crate::{
    hash,
    node_plan::{Part, Route},
    topology::Topology,
};

/// How many nodes of a P2P cluster a node sends packets for its services to.
const SERVICE_NODES: usize = 3;

/// What decides a node's routes to other clusters, beside its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    bridge: bool,
    underlay: [bool; 2],
    mtu: Option<u32>,
    /// The node itself, where some cluster cannot send to it.
    shadowed: Option<usize>,
}

impl Class {
    pub(crate) fn of(topology: &Topology, at: usize) -> Self {
        let node = &topology.nodes[at];
        Class {
            bridge: node.bridge,
            underlay: node.underlay.0.map(|address| address.is_some()),
            mtu: node.mtu,
            shadowed: topology.shadowed.iter().any(|(_, node)| *node == at).then_some(at),
        }
    }
}

/// What the nodes of a class have in common.
pub(crate) struct Common {
    pub(crate) part: Arc<Part>,
    /// Services of P2P clusters, and the nodes to choose from.
    spread: Vec<(IpNetwork, Family, Choice)>,
}

/// Nodes to choose from, with the seeds of their weights.
type Choice = Arc<[(usize, u64)]>;

impl Common {
    /// Computed for one node of the class; holds for all.
    pub(crate) fn new(view: &View<'_>, at: usize) -> Self {
        if view.topology.nodes[at].bridge { Self::of_bridge(view, at) } else { Self::of_internal(view, at) }
    }

    fn of_bridge(view: &View<'_>, at: usize) -> Self {
        let topology = view.topology;
        let (mut routes, mut spread) = (Vec::new(), Vec::new());
        for remote in &view.remotes {
            let mut ways = Ways::new(view, remote, at);
            routes.extend(remote.destinations.iter().filter_map(|destination| ways.route(destination)));
            if remote.spread.is_empty() {
                continue;
            }
            let peers = &topology.members[remote.cluster].bridges;
            match hops::way(topology, at, peers, Plane::Bridge, remote.family) {
                Some(way) => {
                    let nodes: Choice = way.peers.iter().map(|peer| (*peer, seed(topology, *peer))).collect();
                    spread.extend(remote.spread.iter().map(|net| (*net, remote.family, nodes.clone())));
                }
                None => {
                    let relay = ways.relay(&remote.senders);
                    routes.extend(remote.spread.iter().filter_map(|net| Some(relay.as_ref()?.route(*net))));
                }
            }
        }
        let mut hops = Hops::new(topology, at);
        for (other, member) in topology.members.iter().enumerate().filter(|(other, _)| *other != view.cluster)
        {
            if view.remotes.iter().any(|remote| remote.cluster == other) {
                member.bridges.iter().for_each(|peer| hops.add(*peer, Plane::Bridge));
            }
        }
        let (neighbours, forwards) = hops.finish();
        Common { part: Arc::new(Part { routes, neighbours, forwards }), spread }
    }

    fn of_internal(view: &View<'_>, at: usize) -> Self {
        let topology = view.topology;
        let gateways = &topology.members[view.cluster].bridges;
        let mut routes = view.routes_to_own_gateways(at);
        for remote in &view.remotes {
            let Some(way) = to_gateways(topology, at, &remote.senders, gateways, remote.family) else {
                continue;
            };
            let mtu = narrower(way.mtu, remote.mtu, topology, at, &way);
            routes.extend(remote.cover.iter().map(|net| Route { mtu, ..way.route(*net) }));
        }
        for family in Family::ALL {
            let remotes = view.remotes.iter().filter(|remote| remote.family == family);
            let mut senders: Vec<usize> = remotes.flat_map(|remote| remote.senders.iter().copied()).collect();
            senders.sort_unstable();
            senders.dedup();
            if let Some(way) = to_gateways(topology, at, &senders, gateways, family) {
                let then = view.remotes.iter().filter(|remote| remote.family == family);
                let mtu = narrower(way.mtu, then.filter_map(|remote| remote.mtu).min(), topology, at, &way);
                let hosts = view.hosts[family as usize].iter();
                routes.extend(hosts.map(|net| Route { mtu, ..way.route(*net) }));
            }
        }
        let mut hops = Hops::new(topology, at);
        gateways.iter().for_each(|gateway| hops.add(*gateway, Plane::Local));
        let (neighbours, forwards) = hops.finish();
        Common { part: Arc::new(Part { routes, neighbours, forwards }), spread: Vec::new() }
    }

    /// Routes to the services of P2P clusters by the nodes that rendezvous hashing gives this node: when one of a cluster's nodes
    /// goes, only those who used it choose anew.
    pub(crate) fn service_routes(&self, view: &View<'_>, at: usize) -> Vec<Route> {
        let own = seed(view.topology, at);
        let mut routes = Vec::with_capacity(self.spread.len());
        let mut chosen: HashMap<*const (usize, u64), Option<Way>> = HashMap::new();
        for (net, family, nodes) in &self.spread {
            let way = chosen.entry(nodes.as_ptr()).or_insert_with(|| {
                let peers = rendezvous(own, nodes);
                hops::way(view.topology, at, &peers, Plane::Bridge, *family)
            });
            routes.extend(way.as_ref().map(|way| way.route(*net)));
        }
        routes
    }
}

fn seed(topology: &Topology, at: usize) -> u64 {
    let id = &topology.nodes[at].id;
    hash::stable(&[id.cluster.as_bytes(), id.node.as_bytes()])
}

/// The nodes with the highest weights for this one.
fn rendezvous(own: u64, nodes: &[(usize, u64)]) -> Vec<usize> {
    let mut weights: Vec<(u64, usize)> =
        nodes.iter().map(|(node, seed)| (hash::mix(own ^ seed.rotate_left(32)), *node)).collect();
    if weights.len() > SERVICE_NODES {
        weights.select_nth_unstable_by(SERVICE_NODES - 1, |a, b| b.cmp(a));
        weights.truncate(SERVICE_NODES);
    }
    weights.into_iter().map(|(_, node)| node).collect()
}

/// The ways from a node with bridge devices to one other cluster, each found once.
struct Ways<'a> {
    topology: &'a Topology,
    own_gateways: &'a [usize],
    remote: &'a Remote,
    at: usize,
    to_gateways: Option<Option<Way>>,
}

impl<'a> Ways<'a> {
    fn new(view: &View<'a>, remote: &'a Remote, at: usize) -> Self {
        let topology = view.topology;
        let own_gateways = match topology.nodes[at].local {
            true => topology.members[view.cluster].bridges.as_slice(),
            false => &[],
        };
        Ways { topology, own_gateways, remote, at, to_gateways: None }
    }

    fn route(&mut self, destination: &Destination) -> Option<Route> {
        match destination.via {
            Via::Node(node) => {
                let direct = hops::way(self.topology, self.at, &[node], Plane::Bridge, self.remote.family);
                let way = direct.or_else(|| self.relay(&self.linked_gateways(node)))?;
                Some(way.route(destination.net))
            }
            Via::Gateways(cluster) => {
                if self.to_gateways.is_none() {
                    let peers = &self.topology.members[cluster].bridges;
                    let direct = hops::way(self.topology, self.at, peers, Plane::Bridge, self.remote.family);
                    let way = direct.or_else(|| self.relay(&self.remote.senders));
                    self.to_gateways = Some(way.map(|way| self.with_what_follows(way)));
                }
                Some(self.to_gateways.as_ref()?.as_ref()?.route(destination.net))
            }
        }
    }

    fn with_what_follows(&self, mut way: Way) -> Way {
        way.mtu = narrower(way.mtu, self.remote.beyond, self.topology, self.at, &way);
        way
    }

    /// Own gateways that have a link to this node.
    fn linked_gateways(&self, node: usize) -> Vec<usize> {
        let (topology, family) = (self.topology, self.remote.family);
        let linked = |own: &usize| topology.link(*own, node, Plane::Bridge, family).is_some();
        self.own_gateways.iter().copied().filter(linked).collect()
    }

    /// By way of own gateways that go there directly.
    fn relay(&self, gateways: &[usize]) -> Option<Way> {
        let gateways = if self.own_gateways.is_empty() { &[] } else { gateways };
        hops::way(self.topology, self.at, gateways, Plane::Local, self.remote.family)
    }
}

/// An internal node's way to its gateways: to those that go there directly, else to any, which relay.
fn to_gateways(
    topology: &Topology,
    at: usize,
    senders: &[usize],
    gateways: &[usize],
    family: Family,
) -> Option<Way> {
    let direct = hops::way(topology, at, senders, Plane::Local, family);
    direct.or_else(|| {
        if senders.is_empty() { None } else { hops::way(topology, at, gateways, Plane::Local, family) }
    })
}

/// The smaller of the MTU to the gateways and that of what follows, where it is below the device's; what is unknown
/// counts as wide enough.
fn narrower(first: Option<u32>, then: Option<u32>, topology: &Topology, at: usize, way: &Way) -> Option<u32> {
    let hop = hops::tunnel_mtu(topology, at, way);
    let (Some(then), Some(hop), Some(own)) = (then, hop, topology.nodes[at].mtu) else { return first };
    let path = hop.min(then);
    if path < own.saturating_sub(way.device.overhead()) { Some(path) } else { first }
}
