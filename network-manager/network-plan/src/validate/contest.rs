//! Addresses that several nodes claim. Who was planned before keeps his claim against newcomers, so that a wrong
//! object that arrives cuts nobody off; among equals nobody has it, since a guess would send packets to the wrong host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use api::Family;

use super::node::{Draft, underlay_field};
use crate::{
    rejection::{Problem, Rejection},
    topology::Node,
};

/// Within a cluster an underlay address belongs to one node.
pub(super) fn underlay_addresses(drafts: &mut Vec<Draft>, rejections: &mut Vec<Rejection>) {
    let mut claims: BTreeMap<(String, IpAddr), Vec<usize>> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate() {
        for address in draft.node.underlay.0.into_iter().flatten() {
            claims.entry((draft.node.id.cluster.clone(), address)).or_default().push(at);
        }
    }
    let contested = claims.into_iter().map(|((_, address), claimants)| (address, claimants));
    settle(drafts, contested, rejections, |address, other| Problem::DuplicateAddress {
        field: underlay_field(Family::of(address)),
        address,
        other,
    });
}

/// Across clusters, an address that others send to belongs to one node. (Equal private addresses of nodes that
/// nobody outside sends to, such as internal nodes in two sites, are nobody's business.)
pub(super) fn endpoints(drafts: &mut Vec<Draft>, rejections: &mut Vec<Rejection>) {
    let mut claims: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate().filter(|(_, draft)| draft.node.bridge) {
        for address in Family::ALL.into_iter().filter_map(|family| draft.node.endpoint(family)) {
            claims.entry(address).or_default().push(at);
        }
    }
    settle(drafts, claims, rejections, |address, other| Problem::DuplicateEndpoint { address, other });
}

fn settle(
    drafts: &mut Vec<Draft>,
    claims: impl IntoIterator<Item = (IpAddr, Vec<usize>)>,
    rejections: &mut Vec<Rejection>,
    problem: impl Fn(IpAddr, String) -> Problem,
) {
    let mut losers: BTreeMap<usize, Problem> = BTreeMap::new();
    for (address, claimants) in claims.into_iter().filter(|(_, claimants)| claimants.len() > 1) {
        let mut planned_before = claimants.iter().filter(|at| drafts[**at].kept.any());
        let winner = match (planned_before.next(), planned_before.next()) {
            (Some(only), None) => Some(*only),
            _ => None,
        };
        for at in claimants.iter().copied().filter(|at| Some(*at) != winner) {
            let other = winner.or_else(|| claimants.iter().copied().find(|other| *other != at));
            let name = other.map(|other| drafts[other].node.id.object_name()).unwrap_or_default();
            losers.entry(at).or_insert_with(|| problem(address, name));
        }
    }
    let mut at = 0;
    drafts.retain(|draft| {
        let lost = losers.remove(&at);
        at += 1;
        let stays = lost.is_none();
        rejections.extend(lost.map(|problem| Rejection::node(draft.node.id.object_name(), problem)));
        stays
    });
}

/// (cluster, node of another one): where that cluster would send to the node, one of its own has the address.
pub(crate) fn shadowed(nodes: &[Node], rejections: &mut Vec<Rejection>) -> BTreeSet<(usize, usize)> {
    let mut owners: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        for address in node.underlay.0.into_iter().flatten() {
            owners.entry(address).or_default().push(at);
        }
    }
    let mut shadowed = BTreeSet::new();
    for (at, node) in nodes.iter().enumerate().filter(|(_, node)| node.bridge) {
        for address in Family::ALL.into_iter().filter_map(|family| node.endpoint(family)) {
            for owner in owners.get(&address).into_iter().flatten().map(|owner| &nodes[*owner]) {
                if owner.cluster == node.cluster {
                    continue;
                }
                shadowed.insert((owner.cluster, at));
                let (other, cluster) = (owner.id.object_name(), owner.id.cluster.clone());
                let problem = Problem::EndpointShadowed { address, other, cluster };
                rejections.push(Rejection::node(node.id.object_name(), problem));
            }
        }
    }
    shadowed
}
