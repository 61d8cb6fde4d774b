//! The sets of the packet filter, and the pairs that would be sent but never answered.

use std::{collections::BTreeMap, sync::Arc};

use api::{Family, NetworkType};
use ipnetwork::IpNetwork;

use super::destinations::{Remote, View};
use crate::{
    node_plan::ClusterSets,
    span::{self, Span},
};

type Pairs = Vec<(IpNetwork, IpNetwork)>;

/// A cluster's packet filter.
pub(crate) struct Filter {
    pub(crate) sets: Arc<ClusterSets>,
    /// Refused on every node of a gateway-mode cluster.
    everywhere: Arc<[(IpNetwork, IpNetwork)]>,
    /// Refused on a node of a P2P cluster.
    at: BTreeMap<usize, Arc<[(IpNetwork, IpNetwork)]>>,
}

impl Filter {
    pub(crate) fn new(view: &View<'_>) -> Self {
        let member = &view.topology.members[view.cluster];
        let (mut everywhere, mut at): (Pairs, BTreeMap<usize, Pairs>) = (Vec::new(), BTreeMap::new());
        for remote in &view.remotes {
            for (node, source) in unanswerable(view, remote) {
                let refused = targets(view, remote).into_iter().map(|target| (source, target));
                match node {
                    Some(node) => at.entry(node).or_default().extend(refused),
                    None => everywhere.extend(refused),
                }
            }
        }
        let in_order = |mut pairs: Pairs| -> Arc<[(IpNetwork, IpNetwork)]> {
            pairs.sort_by_key(|(from, to)| (Span::of(*from), Span::of(*to)));
            pairs.into()
        };
        let all = &view.summaries.all[view.cluster];
        let sets = ClusterSets {
            pods: member.pods.clone(),
            services: member.services.clone(),
            overlay: span::collapse(all.0.iter().flatten().copied()),
            remote: remote_cidrs(view),
        };
        Filter {
            sets: Arc::new(sets),
            everywhere: in_order(everywhere),
            at: at.into_iter().map(|(node, pairs)| (node, in_order(pairs))).collect(),
        }
    }

    pub(crate) fn refused_at(&self, node: usize) -> Arc<[(IpNetwork, IpNetwork)]> {
        self.at.get(&node).unwrap_or(&self.everywhere).clone()
    }
}

fn remote_cidrs(view: &View<'_>) -> Vec<IpNetwork> {
    let covers = view.remotes.iter().flat_map(|remote| remote.cover.iter().copied());
    span::collapse(covers.chain(view.hosts.iter().flatten().copied()))
}

/// Own pods that the other cluster does not route back to: of the cluster, or of a node in P2P mode.
fn unanswerable(view: &View<'_>, remote: &Remote) -> Vec<(Option<usize>, IpNetwork)> {
    let (topology, family) = (view.topology, remote.family);
    let answered: Vec<(Option<usize>, IpNetwork)> = topology
        .conflicts
        .units_of(view.cluster)
        .filter(|(number, _)| topology.conflicts.routable(remote.cluster, *number))
        .map(|(_, unit)| (unit.node, unit.net))
        .collect();
    let member = &topology.members[view.cluster];
    let mut sources: Vec<(Option<usize>, IpNetwork)> = match member.mode {
        NetworkType::Gateway => member.pods.iter().map(|net| (None, *net)).collect(),
        NetworkType::P2p => {
            let blocks = |at: usize| topology.nodes[at].blocks.iter().map(move |net| (Some(at), *net));
            member.nodes.clone().flat_map(blocks).collect()
        }
    };
    let answered: std::collections::BTreeSet<(Option<usize>, Span)> =
        answered.into_iter().map(|(node, net)| (node, Span::of(net))).collect();
    sources.retain(|(node, net)| {
        Family::of_network(*net) == family && !answered.contains(&(*node, Span::of(*net)))
    });
    sources
}

/// Everything of the other cluster that is routed here.
fn targets(view: &View<'_>, remote: &Remote) -> Vec<IpNetwork> {
    let nodes = &view.summaries.all[remote.cluster][remote.family];
    remote.cover.iter().chain(nodes).copied().collect()
}
