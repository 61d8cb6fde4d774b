//! The topology in words: what `validate` lets through, with every address allocated and every conflict found.
//! Whatever holds a [`Topology`] has nothing left to check.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    ops::{Index, IndexMut, Range},
};

use api::{Family, NetworkType, NodeId, Vtep, vtep::Plane};
use ipnetwork::IpNetwork;

use crate::{conflicts::Conflicts, span::SpanSet};

/// One value for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerFamily<T>(pub [T; 2]);

impl<T> Index<Family> for PerFamily<T> {
    type Output = T;

    fn index(&self, family: Family) -> &T {
        &self.0[family as usize]
    }
}

impl<T> IndexMut<Family> for PerFamily<T> {
    fn index_mut(&mut self, family: Family) -> &mut T {
        &mut self.0[family as usize]
    }
}

/// One value for each of the four devices. For an overlay address it is the device's plane and the address's
/// own family that count: an address stands on the other device where its own one does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerVtep<T>(pub [T; 4]);

impl<T> Index<Vtep> for PerVtep<T> {
    type Output = T;

    fn index(&self, vtep: Vtep) -> &T {
        &self.0[vtep as usize]
    }
}

impl<T> IndexMut<Vtep> for PerVtep<T> {
    fn index_mut(&mut self, vtep: Vtep) -> &mut T {
        &mut self.0[vtep as usize]
    }
}

/// A cluster that takes part.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// How its traffic leaves it.
    pub mode: NetworkType,
    /// Which families of pods and services take part.
    pub inner: PerFamily<bool>,
    /// Where its nodes' overlay addresses come from.
    pub pools: PerVtep<IpNetwork>,
    /// UDP ports of the devices.
    pub ports: PerVtep<u16>,
    /// Priority of the rule that leads to our table.
    pub rule_priority: Option<u32>,
    /// MTU of the underlay, where the user named one.
    pub mtu: Option<u32>,
    /// Pod CIDRs: those of the status, and node blocks outside of them. Sorted, none inside another.
    pub pods: Vec<IpNetwork>,
    /// Service CIDRs, likewise.
    pub services: Vec<IpNetwork>,
    /// Service CIDRs that others can route: those that overlap no own pod CIDR.
    pub routed_services: Vec<IpNetwork>,
    /// CIDRs that are named in globalCIDRsMap. Their order comes later: then others route what they are mapped to.
    pub withheld: Vec<IpNetwork>,
    /// Its nodes, in [`Topology::nodes`].
    pub nodes: Range<usize>,
    /// Those of them that have the bridge devices: gateways, or all in P2P mode.
    pub bridges: Vec<usize>,
}

/// A node that takes part.
#[derive(Clone, Debug)]
pub struct Node {
    /// Who it is.
    pub id: NodeId,
    /// Its cluster, in [`Topology::members`].
    pub cluster: usize,
    /// Whether it has the bridge devices.
    pub bridge: bool,
    /// Whether it has the local devices.
    pub local: bool,
    /// Underlay interface.
    pub interface: String,
    /// Underlay addresses.
    pub underlay: PerFamily<Option<IpAddr>>,
    /// What other clusters send to, where it is not the underlay address.
    pub public: PerFamily<Option<IpAddr>>,
    /// CIDRs of its pods; sorted, none inside another, none overlapping another node's.
    pub blocks: Vec<IpNetwork>,
    /// Underlay MTU, where known.
    pub mtu: Option<u32>,
    /// Its overlay addresses. One that is not needed now may stand here: it is kept for the day it is needed again.
    pub overlay: PerVtep<Option<IpAddr>>,
}

impl Node {
    /// Where nodes of other clusters send to, over this underlay.
    pub fn endpoint(&self, underlay: Family) -> Option<IpAddr> {
        self.underlay[underlay]?;
        self.public[underlay].or(self.underlay[underlay])
    }

    /// Its addresses as a host in the mesh: one on each plane that it is on.
    pub fn host_addresses(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        let planes = [Plane::Bridge, Plane::Local].into_iter().filter(|plane| self.is_on(*plane));
        planes.filter_map(move |plane| self.overlay[Vtep::of(plane, family)])
    }

    /// Whether it has devices of this plane.
    pub fn is_on(&self, plane: Plane) -> bool {
        match plane {
            Plane::Bridge => self.bridge,
            Plane::Local => self.local,
        }
    }
}

/// The whole mesh, valid.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// The clusters that take part, by name.
    pub members: Vec<Member>,
    /// The nodes that take part, by [`NodeId`], so that a cluster's nodes are neighbours.
    pub nodes: Vec<Node>,
    /// Who cannot send to whom although their underlays share a family: (sending cluster, receiving node).
    pub(crate) shadowed: BTreeSet<(usize, usize)>,
    /// Every cluster's CIDRs and every node's underlay addresses: no overlay route may touch them.
    pub(crate) occupied: SpanSet,
    /// Which CIDR is routable where.
    pub(crate) conflicts: Conflicts,
}

impl Topology {
    /// A node's cluster.
    pub fn member_of(&self, node: usize) -> &Member {
        &self.members[self.nodes[node].cluster]
    }

    /// The underlay family that carries packets of the inner `family` between two nodes on a plane: their own where
    /// both ends have it, else the other one; none where there is none in common.
    pub(crate) fn link(&self, from: usize, to: usize, plane: Plane, family: Family) -> Option<Family> {
        let (a, b) = (&self.nodes[from], &self.nodes[to]);
        let inner = |node: &Node| self.members[node.cluster].inner[family];
        if !(inner(a) && inner(b) && a.is_on(plane) && b.is_on(plane)) {
            return None;
        }
        if plane == Plane::Bridge
            && !self.shadowed.is_empty()
            && (self.shadowed.contains(&(a.cluster, to)) || self.shadowed.contains(&(b.cluster, from)))
        {
            return None;
        }
        let both = |underlay: Family| a.underlay[underlay].is_some() && b.underlay[underlay].is_some();
        [family, family.other()].into_iter().find(|underlay| both(*underlay))
    }
}
