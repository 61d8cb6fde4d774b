//! Step 3: which CIDR is routable where, found between all pairs at once.
//!
//! Networks are nested or disjoint, never anything between. So one pass over all of them in order, with a stack
//! of those that are open, meets every pair that overlaps and no other: the cost is that of sorting, and of what is found.
//!
//! A CIDR x of cluster T is routable in cluster S when it overlaps no pod or service CIDR of S, when it covers no
//! underlay address that S has or sends to, when it overlaps no overlay pool, and when no third cluster's CIDR for which
//! all of this holds as well overlaps it: nobody could say whose the packet is.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use api::{Family, NetworkType, Vtep};
use ipnetwork::IpNetwork;

use crate::{
    rejection::{Problem, Rejection, Use},
    span::{Span, SpanSet},
    topology::{Member, Node},
};

/// How many clusters a message names.
const NAMED: usize = 5;

/// A CIDR that other clusters may route to: of a gateway-mode cluster as its status has it, of a P2P cluster a
/// node's block.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) cluster: usize,
    /// The node that it leads to, of a block.
    pub(crate) node: Option<usize>,
    pub(crate) use_: Use,
    pub(crate) net: IpNetwork,
}

/// Which CIDR is routable where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conflicts {
    /// By cluster, then in order of address.
    pub(crate) units: Vec<Unit>,
    /// Where each cluster's units begin; one more than there are clusters.
    starts: Vec<usize>,
    /// Routable in no other cluster.
    nowhere: HashSet<usize>,
    /// Per cluster: not routable in this one.
    blocked: Vec<HashSet<usize>>,
    /// Per cluster: pod CIDRs that neither a pod CIDR, a service CIDR nor a pool of anybody else touches.
    alone: Vec<Vec<IpNetwork>>,
}

impl Conflicts {
    /// A cluster's units, with their numbers.
    pub(crate) fn units_of(&self, cluster: usize) -> impl Iterator<Item = (usize, &Unit)> {
        let range = self.starts[cluster]..self.starts[cluster + 1];
        range.clone().zip(&self.units[range])
    }

    /// Whether nodes of cluster `at` route this unit of another cluster.
    pub(crate) fn routable(&self, at: usize, unit: usize) -> bool {
        self.units[unit].cluster != at && !self.nowhere.contains(&unit) && !self.blocked[at].contains(&unit)
    }

    /// Pod CIDRs of the cluster that mean the same everywhere.
    pub(crate) fn undisputed_pods(&self, cluster: usize) -> &[IpNetwork] {
        &self.alone[cluster]
    }
}

/// Who says that a range is his.
#[derive(Clone, Copy, Debug)]
enum Claim {
    /// A CIDR; `declared` where the cluster knows it as its own, `unit` where others may route it.
    Cidr { cluster: usize, use_: Use, declared: bool, unit: Option<usize>, shown: IpNetwork },
    /// An overlay pool, and a cluster that uses it.
    Pool { cluster: usize, pool: IpNetwork },
    /// An underlay address; `sent_to` where other clusters send to it.
    Endpoint { node: usize, sent_to: bool },
}

/// Every cluster's CIDRs and every node's underlay addresses.
pub(crate) fn occupied(members: &[Member], nodes: &[Node]) -> SpanSet {
    let cidrs = members.iter().flat_map(|member| member.pods.iter().chain(&member.services));
    let addresses = nodes.iter().flat_map(|node| node.underlay.0.into_iter().chain(node.public.0).flatten());
    SpanSet::new(cidrs.map(|cidr| Span::of(*cidr)).chain(addresses.map(Span::of_address)).collect())
}

/// Finds every overlap, decides what is routable where, and reports each.
pub(crate) fn conflicts(members: &[Member], nodes: &[Node], rejections: &mut Vec<Rejection>) -> Conflicts {
    let (units, starts) = units(members, nodes);
    let mut found = Found::default();
    sweep(claims(members, nodes, &units), nodes, &mut found);
    let mut conflicts = Conflicts {
        blocked: vec![HashSet::new(); members.len()],
        nowhere: found.nowhere.clone(),
        alone: Vec::new(),
        units,
        starts,
    };
    for (at, unit) in &found.blocked {
        conflicts.blocked[*at].insert(*unit);
    }
    let ambiguous = ambiguous(members, &found, &mut conflicts);
    conflicts.alone = members
        .iter()
        .enumerate()
        .map(|(at, member)| {
            member.pods.iter().filter(|cidr| !found.touched.contains(&(at, **cidr))).copied().collect()
        })
        .collect();
    report(members, nodes, &found, &ambiguous, rejections);
    conflicts
}

fn units(members: &[Member], nodes: &[Node]) -> (Vec<Unit>, Vec<usize>) {
    let (mut units, mut starts) = (Vec::new(), vec![0]);
    for (cluster, member) in members.iter().enumerate() {
        let takes_part = |net: &&IpNetwork| {
            let span = Span::of(**net);
            member.inner[span.family] && !member.withheld.iter().any(|cidr| Span::of(*cidr).overlaps(span))
        };
        let mut own: Vec<Unit> = Vec::new();
        let unit = |node, use_, net: &IpNetwork| Unit { cluster, node, use_, net: *net };
        match member.mode {
            NetworkType::Gateway => {
                own.extend(member.pods.iter().filter(takes_part).map(|net| unit(None, Use::Pod, net)));
            }
            NetworkType::P2p => {
                for at in member.nodes.clone() {
                    let blocks = nodes[at].blocks.iter().filter(takes_part);
                    own.extend(blocks.map(|net| unit(Some(at), Use::Pod, net)));
                }
            }
        }
        own.extend(member.routed_services.iter().filter(takes_part).map(|net| unit(None, Use::Service, net)));
        own.sort_by_key(|unit| Span::of(unit.net));
        units.extend(own);
        starts.push(units.len());
    }
    (units, starts)
}

fn claims(members: &[Member], nodes: &[Node], units: &[Unit]) -> Vec<(Span, Claim)> {
    let mut claims: Vec<(Span, Claim)> = Vec::new();
    for (cluster, member) in members.iter().enumerate() {
        for (use_, cidrs) in [(Use::Pod, &member.pods), (Use::Service, &member.services)] {
            let declared =
                |net: &IpNetwork| Claim::Cidr { cluster, use_, declared: true, unit: None, shown: *net };
            claims.extend(cidrs.iter().map(|net| (Span::of(*net), declared(net))));
        }
    }
    for (at, unit) in units.iter().enumerate() {
        let Unit { cluster, use_, net, .. } = *unit;
        let span = Span::of(net);
        let pods = &members[cluster].pods;
        let covering = pods.iter().find(|cidr| use_ == Use::Pod && Span::of(**cidr).contains(span));
        let shown = covering.copied().unwrap_or(net);
        claims.push((span, Claim::Cidr { cluster, use_, declared: false, unit: Some(at), shown }));
    }
    let mut pools: BTreeMap<Span, usize> = BTreeMap::new();
    for (cluster, member) in members.iter().enumerate() {
        for vtep in Vtep::ALL {
            pools.entry(Span::of(member.pools[vtep])).or_insert(cluster);
        }
    }
    claims.extend(
        pools.into_iter().map(|(span, cluster)| (span, Claim::Pool { cluster, pool: span.network() })),
    );
    for (at, node) in nodes.iter().enumerate() {
        for family in Family::ALL {
            let endpoint = node.endpoint(family).filter(|_| node.bridge);
            let own = node.underlay[family].filter(|address| Some(*address) != endpoint);
            let claim = |address, sent_to| (Span::of_address(address), Claim::Endpoint { node: at, sent_to });
            claims.extend(endpoint.map(|address| claim(address, true)));
            claims.extend(own.map(|address| claim(address, false)));
        }
    }
    claims.sort_by_key(|(span, _)| *span);
    claims
}

/// What the sweep met.
#[derive(Default)]
struct Found {
    nowhere: HashSet<usize>,
    /// (cluster, unit of another one that overlaps its own or covers what it uses)
    blocked: HashSet<(usize, usize)>,
    /// Units of different clusters that overlap.
    rivals: Vec<(usize, usize)>,
    /// Declared CIDRs that somebody else's CIDR or a pool touches.
    touched: HashSet<(usize, IpNetwork)>,
    overlaps: BTreeSet<(Shown, Shown)>,
    in_pools: BTreeSet<(Shown, IpNetwork, usize)>,
    /// (CIDR, whether only the node's own cluster sees the clash) to the first address found, and its node.
    covered: BTreeMap<(Shown, Option<usize>), (Span, usize)>,
    /// Which overlap of shown CIDRs two rivals belong to.
    rival_of: BTreeMap<(usize, usize), (Shown, Shown)>,
}

/// A CIDR as the reader of a message knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    cluster: usize,
    use_: Use,
    net: IpNetwork,
}

fn sweep(claims: Vec<(Span, Claim)>, nodes: &[Node], found: &mut Found) {
    let mut open: Vec<(Span, Claim)> = Vec::new();
    for (span, claim) in claims {
        while open.last().is_some_and(|(outer, _)| !outer.contains(span)) {
            open.pop();
        }
        for (_, outer) in &open {
            meet(*outer, claim, span, nodes, found);
        }
        open.push((span, claim));
    }
}

/// Two claims of which the first contains the second.
fn meet(outer: Claim, inner: Claim, span: Span, nodes: &[Node], found: &mut Found) {
    match (outer, inner) {
        (Claim::Cidr { .. }, Claim::Cidr { .. }) => meet_cidrs(outer, inner, found),
        (Claim::Cidr { cluster, use_, declared, unit, shown }, Claim::Endpoint { node, sent_to }) => {
            let shown = Shown { cluster, use_, net: shown };
            let own = nodes[node].cluster;
            if declared && (sent_to || own != cluster) {
                found.touched.insert((cluster, shown.net));
            }
            let Some(unit) = unit else { return };
            if sent_to {
                found.nowhere.insert(unit);
                found.covered.entry((shown, None)).or_insert((span, node));
            } else if own != cluster {
                found.blocked.insert((own, unit));
                found.covered.entry((shown, Some(own))).or_insert((span, node));
            }
        }
        (Claim::Cidr { cluster, use_, declared, unit, shown }, Claim::Pool { cluster: pool_user, pool })
        | (Claim::Pool { cluster: pool_user, pool }, Claim::Cidr { cluster, use_, declared, unit, shown }) => {
            if declared {
                found.touched.insert((cluster, shown));
            }
            if let Some(unit) = unit {
                found.nowhere.insert(unit);
                found.in_pools.insert((Shown { cluster, use_, net: shown }, pool, pool_user));
            }
        }
        _ => {}
    }
}

fn meet_cidrs(one: Claim, two: Claim, found: &mut Found) {
    let (
        Claim::Cidr { cluster: a, use_: a_use, declared: a_declared, unit: a_unit, shown: a_shown },
        Claim::Cidr { cluster: b, use_: b_use, declared: b_declared, unit: b_unit, shown: b_shown },
    ) = (one, two)
    else {
        return;
    };
    if a == b {
        return;
    }
    for (declared, cluster, net) in [(a_declared, a, a_shown), (b_declared, b, b_shown)] {
        if declared {
            found.touched.insert((cluster, net));
        }
    }
    let a_shown = Shown { cluster: a, use_: a_use, net: a_shown };
    let b_shown = Shown { cluster: b, use_: b_use, net: b_shown };
    let pair = (a_shown.min(b_shown), a_shown.max(b_shown));
    if let (Some(unit), true) = (a_unit, b_declared) {
        found.blocked.insert((b, unit));
        found.overlaps.insert(pair);
    }
    if let (Some(unit), true) = (b_unit, a_declared) {
        found.blocked.insert((a, unit));
        found.overlaps.insert(pair);
    }
    if let (Some(one), Some(two)) = (a_unit, b_unit) {
        found.rivals.push((one, two));
        found.rival_of.insert((one, two), pair);
        found.overlaps.insert(pair);
    }
}

/// Third clusters to which both of two rivals would be routable: to them neither is. Returns them by what they see overlap.
fn ambiguous(
    members: &[Member],
    found: &Found,
    conflicts: &mut Conflicts,
) -> BTreeMap<(Shown, Shown), BTreeSet<usize>> {
    let mut elsewhere: BTreeMap<(Shown, Shown), BTreeSet<usize>> = BTreeMap::new();
    for at in 0..members.len() {
        for (one, two) in &found.rivals {
            let clears = |unit: &usize| {
                let elsewhere = conflicts.units[*unit].cluster != at && !found.nowhere.contains(unit);
                elsewhere && !found.blocked.contains(&(at, *unit))
            };
            if clears(one) && clears(two) {
                conflicts.blocked[at].extend([*one, *two]);
                elsewhere.entry(found.rival_of[&(*one, *two)]).or_default().insert(at);
            }
        }
    }
    elsewhere
}

fn report(
    members: &[Member],
    nodes: &[Node],
    found: &Found,
    ambiguous: &BTreeMap<(Shown, Shown), BTreeSet<usize>>,
    rejections: &mut Vec<Rejection>,
) {
    let name = |cluster: usize| members[cluster].name.clone();
    for pair in &found.overlaps {
        let elsewhere = elsewhere(members, ambiguous.get(pair));
        for (shown, other) in [(pair.0, pair.1), (pair.1, pair.0)] {
            let problem = Problem::CidrOverlap {
                use_: shown.use_,
                cidr: shown.net,
                other_use: other.use_,
                other: other.net,
                cluster: name(other.cluster),
                elsewhere: elsewhere.clone(),
            };
            rejections.push(Rejection::cluster(name(shown.cluster), problem));
        }
    }
    for (shown, pool, user) in &found.in_pools {
        let problem =
            Problem::OverlapsPool { use_: shown.use_, cidr: shown.net, pool: *pool, cluster: name(*user) };
        rejections.push(Rejection::cluster(name(shown.cluster), problem));
    }
    for ((shown, only), (span, node)) in &found.covered {
        let where_ =
            only.map_or("from any other cluster".to_owned(), |at| format!("from cluster {}", name(at)));
        let problem = Problem::CoversUnderlay {
            use_: shown.use_,
            cidr: shown.net,
            address: crate::span::address(span.family, span.first),
            node: nodes[*node].id.object_name(),
            where_,
        };
        rejections.push(Rejection::cluster(name(shown.cluster), problem));
    }
}

fn elsewhere(members: &[Member], clusters: Option<&BTreeSet<usize>>) -> String {
    let Some(clusters) = clusters else { return String::new() };
    let named: Vec<&str> = clusters.iter().take(NAMED).map(|at| members[*at].name.as_str()).collect();
    let more = clusters.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!(", nor either of them from {}{more}, which could not tell whose a packet is", named.join(", "))
}
