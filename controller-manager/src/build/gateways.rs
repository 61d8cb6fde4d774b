//! Which nodes are gateways now. A cluster in P2P mode has them too: on the day it changes its mode they are known, and no
//! plan finds it without any (`docs/adr/0033`).

use std::{collections::BTreeSet, time::Duration};

use api::{Cluster, ClusterNode};
use jiff::Timestamp;
use network_plan::election::{self, Candidate};

use super::nodes::Member;
use crate::index::Index;

#[derive(Default)]
pub(crate) struct Gateways {
    /// Names of Nodes.
    pub(crate) chosen: BTreeSet<String>,
    /// When to choose again though nothing happens.
    pub(crate) again_in: Option<Duration>,
}

pub(crate) fn choose(index: &Index, cluster: &Cluster, members: &[Member<'_>], now: Timestamp) -> Gateways {
    let Some(options) = &cluster.spec.cluster_link_options else { return Gateways::default() };
    let candidates: Vec<Candidate> =
        members.iter().filter_map(|member| candidate(index, member, now)).collect();
    Gateways {
        chosen: election::choose(&candidates, usize::from(options.gateways)),
        again_in: election::next_choice_in(&candidates),
    }
}

/// A node can be a gateway once its agent has reported an underlay address.
fn candidate(index: &Index, member: &Member<'_>, now: Timestamp) -> Option<Candidate> {
    let name = member.id.object_name();
    let published = index.control.cluster_nodes.get(&name);
    let published = published.filter(|node| super::nodes::foreign_owner(node, &index.cluster).is_none());
    let reported = index.member.cluster_nodes.get(&name);
    let has_address = |node: &ClusterNode| node.spec.ip.is_some() || node.spec.ip6.is_some();
    if ![published, reported].into_iter().flatten().any(has_address) {
        return None;
    }
    Some(Candidate {
        name: member.id.node.clone(),
        labelled: member.labelled,
        not_ready_for: member.not_ready_since.map(|since| elapsed(since, now)),
        gateway: published.is_some_and(|node| node.spec.is_gateway()),
    })
}

/// Clocks differ: what lies ahead has just happened.
fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}
