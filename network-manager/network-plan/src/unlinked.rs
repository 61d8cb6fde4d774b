//! Nodes that should reach each other and have no underlay family in common: said, never guessed around.

use std::collections::BTreeMap;

use api::{NetworkType, vtep::Plane};

use crate::{
    rejection::{Problem, Rejection},
    topology::{Member, Node},
};

/// Which underlay families a node has.
type Mask = [bool; 2];

fn mask(node: &Node) -> Mask {
    node.underlay.0.map(|address| address.is_some())
}

fn in_common(one: Mask, two: Mask) -> bool {
    one.iter().zip(two).any(|(one, two)| *one && two)
}

/// Ends of a cluster's tunnels that are interchangeable: by their families, how many, and the first of them.
type Ends = Vec<(Vec<Mask>, usize, String)>;

/// Any gateway will do; of a P2P cluster each node stands for itself.
fn ends(member: &Member, nodes: &[Node]) -> Ends {
    let mut by_mask: BTreeMap<Mask, (usize, String)> = BTreeMap::new();
    for node in member.bridges.iter().map(|at| &nodes[*at]) {
        by_mask.entry(mask(node)).or_insert_with(|| (0, node.id.object_name())).0 += 1;
    }
    match member.mode {
        NetworkType::P2p => {
            by_mask.into_iter().map(|(mask, (count, name))| (vec![mask], count, name)).collect()
        }
        NetworkType::Gateway => {
            let first = by_mask.values().next().map(|(_, name)| name.clone());
            first.map(|name| (by_mask.into_keys().collect(), 1, name)).into_iter().collect()
        }
    }
}

/// Reports pairs of clusters with nodes that cannot reach each other, and nodes that cannot reach their gateways.
pub(crate) fn report(members: &[Member], nodes: &[Node], rejections: &mut Vec<Rejection>) {
    let all: Vec<Ends> = members.iter().map(|member| ends(member, nodes)).collect();
    for (at, member) in members.iter().enumerate() {
        for (other_at, other) in members.iter().enumerate().filter(|(other_at, _)| *other_at != at) {
            let shared = member.inner.0.iter().zip(other.inner.0).any(|(own, other)| *own && other);
            let missing = missing(&all[at], &all[other_at]).filter(|_| shared);
            rejections.extend(missing.map(|(pairs, one, two)| {
                let cluster = other.name.clone();
                Rejection::cluster(
                    member.name.as_str(),
                    Problem::NoCommonUnderlay { cluster, pairs, one, two },
                )
            }));
        }
        internal(member, nodes, rejections);
    }
}

fn missing(own: &Ends, other: &Ends) -> Option<(usize, String, String)> {
    let mut found: Option<(usize, String, String)> = None;
    for (masks, count, name) in own {
        for (other_masks, other_count, other_name) in other {
            let linked = masks.iter().any(|one| other_masks.iter().any(|two| in_common(*one, *two)));
            if !linked {
                found.get_or_insert_with(|| (0, name.clone(), other_name.clone())).0 += count * other_count;
            }
        }
    }
    found
}

fn internal(member: &Member, nodes: &[Node], rejections: &mut Vec<Rejection>) {
    let gateways: Vec<(Mask, &Node)> =
        member.bridges.iter().map(|at| (mask(&nodes[*at]), &nodes[*at])).collect();
    let Some((_, first)) = gateways.first() else { return };
    let internal = nodes[member.nodes.clone()].iter().filter(|node| !node.is_on(Plane::Bridge));
    for node in internal.filter(|node| !gateways.iter().any(|(gateway, _)| in_common(*gateway, mask(node)))) {
        let problem = Problem::NoPathToGateway { gateway: first.id.object_name() };
        rejections.push(Rejection::node(node.id.object_name(), problem));
    }
}
