//! Step 2: every node's overlay addresses, allocated once and kept ever after.
//!
//! What a node's status holds stays its own, as long as it lies in its cluster's pool and nobody else has it. A new
//! node's address is the pool's prefix with the host bits of its underlay address, as in Kosmos: it reads well.
//! Where that is taken, the address is probed by hash: first with the low bits kept and the upper ones changed
//! alike for the whole cluster, so that a cluster's addresses stay together and a summary of them stays short, then
//! anywhere. So no address depends on who comes later, and none ever on who goes.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
};

use api::{Family, Mac, Vtep};
use ipnetwork::IpNetwork;

use crate::{
    hash,
    rejection::{Problem, Rejection, pool_field},
    span::{self, Span, SpanSet},
    topology::{Member, Node},
    validate::{Kept, kept_text},
};

/// Probes that move the whole cluster's addresses, then probes for a node alone, then each address of a small pool.
const CLUSTER_PROBES: u64 = 8;
const NODE_PROBES: u64 = 64;
const SMALL_POOL_BITS: u32 = 16;

/// The MAC of a device with this overlay address: `02` (locally administered, unicast), the device, and the address
/// or, of IPv6, 32 bits of its hash.
pub(crate) fn mac(vtep: Vtep, address: IpAddr) -> Mac {
    let device = match vtep {
        Vtep::Bridge => 0x54,
        Vtep::Local => 0x55,
        Vtep::Bridge6 => 0x64,
        Vtep::Local6 => 0x65,
    };
    let [a, b, c, d] = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => (hash::stable(&[&v6.octets()]) as u32).to_be_bytes(),
    };
    Mac([0x02, device, a, b, c, d])
}

/// The devices whose addresses a node needs: of its planes, in the families of its pods and of its underlay.
fn needs(node: &Node, member: &Member, vtep: Vtep) -> bool {
    node.is_on(vtep.plane()) && (member.inner[vtep.underlay()] || node.underlay[vtep.underlay()].is_some())
}

/// Gives every node its overlay addresses. A node for which the pool has none left is not planned.
pub(crate) fn allocate(
    members: &[Member],
    nodes: &mut [Node],
    kept: &[Kept],
    (reserved, occupied): (BTreeSet<IpAddr>, &SpanSet),
    rejections: &mut Vec<Rejection>,
) -> BTreeSet<usize> {
    let mut taken =
        Taken { addresses: HashSet::with_capacity(nodes.len() * 2), macs: HashSet::new(), occupied };
    let away: Vec<IpAddr> = reserved.into_iter().collect();
    keep(members, nodes, kept, &mut taken, rejections);
    taken.addresses.extend(away);
    prefer(members, nodes, &mut taken);
    probe(members, nodes, &mut taken, rejections)
}

/// What is in use.
struct Taken<'a> {
    addresses: HashSet<IpAddr>,
    macs: HashSet<Mac>,
    occupied: &'a SpanSet,
}

impl Taken<'_> {
    /// Takes an address, if it and its MAC are free.
    fn take(&mut self, vtep: Vtep, address: IpAddr) -> bool {
        let mac = mac(vtep, address);
        let free = !self.addresses.contains(&address) && !self.macs.contains(&mac);
        if free {
            self.addresses.insert(address);
            self.macs.insert(mac);
        }
        free
    }

    /// Takes an address for somebody new: besides, it must be nobody's pod, service or underlay address.
    fn take_new(&mut self, vtep: Vtep, address: IpAddr) -> bool {
        !self.occupied.overlaps(Span::of_address(address)) && self.take(vtep, address)
    }
}

fn keep(
    members: &[Member],
    nodes: &mut [Node],
    kept: &[Kept],
    taken: &mut Taken<'_>,
    rejections: &mut Vec<Rejection>,
) {
    for (node, kept) in nodes.iter_mut().zip(kept) {
        let member = &members[node.cluster];
        for vtep in Vtep::ALL {
            let Some(text) = kept_text(kept, vtep) else { continue };
            let why = match &kept.0[vtep] {
                Some(Ok(address)) if Span::of(member.pools[vtep]).contains(Span::of_address(*address)) => {
                    if taken.take(vtep, *address) {
                        node.overlay[vtep] = Some(*address);
                        continue;
                    }
                    "is another node's, too"
                }
                Some(Ok(_)) => "lies outside of its cluster's pool",
                _ => "is not an address",
            };
            if needs(node, member, vtep) {
                let problem = Problem::AddressMoved { value: text, why, device: vtep.name() };
                rejections.push(Rejection::node(node.id.object_name(), problem));
            }
        }
    }
}

/// Each device of a node that still has no address.
fn missing<'a>(
    members: &'a [Member],
    nodes: &'a [Node],
) -> impl Iterator<Item = (usize, Vtep, &'a Node, &'a Member)> {
    nodes.iter().enumerate().flat_map(move |(at, node)| {
        let member = &members[node.cluster];
        let lacks = move |vtep: &Vtep| node.overlay[*vtep].is_none() && needs(node, member, *vtep);
        Vtep::ALL.into_iter().filter(lacks).map(move |vtep| (at, vtep, node, member))
    })
}

/// The pool's prefix with the underlay's host bits, for everybody for whom it is free, before anybody probes.
fn prefer(members: &[Member], nodes: &mut [Node], taken: &mut Taken<'_>) {
    let mut given: Vec<(usize, Vtep, IpAddr)> = Vec::new();
    for (at, vtep, node, member) in missing(members, nodes) {
        let pool = Pool::of(member.pools[vtep]);
        let Some(underlay) = node.underlay[vtep.underlay()] else { continue };
        let bits = span::number(underlay) & pool.hosts;
        given.extend(
            pool.address(bits).filter(|address| taken.take_new(vtep, *address)).map(|a| (at, vtep, a)),
        );
    }
    for (at, vtep, address) in given {
        nodes[at].overlay[vtep] = Some(address);
    }
}

fn probe(
    members: &[Member],
    nodes: &mut [Node],
    taken: &mut Taken<'_>,
    rejections: &mut Vec<Rejection>,
) -> BTreeSet<usize> {
    let (mut given, mut without) = (Vec::new(), BTreeSet::new());
    for (at, vtep, node, member) in missing(members, nodes) {
        let pool = Pool::of(member.pools[vtep]);
        match pool.probes(node, vtep).find(|address| taken.take_new(vtep, *address)) {
            Some(address) => given.push((at, vtep, address)),
            None => {
                let (pool, device, field) = (member.pools[vtep], vtep.name(), pool_field(vtep));
                let problem = Problem::PoolExhausted { pool, device, field };
                if without.insert(at) {
                    rejections.push(Rejection::node(node.id.object_name(), problem));
                }
            }
        }
    }
    for (at, vtep, address) in given {
        nodes[at].overlay[vtep] = Some(address);
    }
    without
}

/// A pool as the arithmetic sees it.
#[derive(Clone, Copy)]
struct Pool {
    family: Family,
    prefix: u128,
    hosts: u128,
}

impl Pool {
    fn of(pool: IpNetwork) -> Self {
        let span = Span::of(pool);
        Pool { family: span.family, prefix: span.first, hosts: span.last - span.first }
    }

    /// The address with these host bits; all zeros (anycast, RFC 4291 2.6.1) and all ones (broadcast) are no host's.
    fn address(self, bits: u128) -> Option<IpAddr> {
        let bits = bits & self.hosts;
        (bits != 0 && bits != self.hosts).then(|| span::address(self.family, self.prefix | bits))
    }

    fn probes(self, node: &Node, vtep: Vtep) -> impl Iterator<Item = IpAddr> {
        // A node without an underlay of this family is told from its neighbours by that of the other one.
        let family = vtep.underlay();
        let underlay = node.underlay[family].or(node.underlay[family.other()]).map_or(0, span::number);
        let whole_cluster = (0..CLUSTER_PROBES)
            .filter_map(move |attempt| self.beside_its_cluster(node, vtep, underlay, attempt));
        let alone = (0..NODE_PROBES).filter_map(move |attempt| self.anywhere(node, vtep, attempt));
        let small = self.hosts < 1 << SMALL_POOL_BITS;
        let each = if small { 1..self.hosts } else { 1..1 };
        whole_cluster.chain(alone).chain(each.filter_map(move |bits| self.address(bits)))
    }

    /// The underlay's low bits, below upper bits that are the same for all of the cluster's nodes in this attempt.
    fn beside_its_cluster(self, node: &Node, vtep: Vtep, underlay: u128, attempt: u64) -> Option<IpAddr> {
        let low: u128 = match self.family {
            Family::V4 => (1 << 16) - 1,
            Family::V6 => (1 << 64) - 1,
        };
        let upper = spread(&[node.id.cluster.as_bytes(), vtep.name().as_bytes(), &attempt.to_be_bytes()]);
        let varies = self.hosts > low && underlay != 0;
        varies.then(|| self.address((upper & !low) | (underlay & low))).flatten()
    }

    fn anywhere(self, node: &Node, vtep: Vtep, attempt: u64) -> Option<IpAddr> {
        let (cluster, name) = (node.id.cluster.as_bytes(), node.id.node.as_bytes());
        self.address(spread(&[cluster, name, vtep.name().as_bytes(), &attempt.to_be_bytes()]))
    }
}

/// 128 bits of hash.
fn spread(parts: &[&[u8]]) -> u128 {
    let first = hash::stable(parts);
    u128::from(first) | u128::from(hash::mix(first ^ 1)) << 64
}
