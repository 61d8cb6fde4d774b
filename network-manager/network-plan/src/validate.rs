//! Step 1: from objects to words. Everything that can fail, fails here; what is left needs no second look.

mod cluster;
mod contest;
mod node;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use api::{NetworkType, NodeId, Vtep};

use crate::{
    Snapshot,
    rejection::{Effect, Problem, Rejection},
    span::{self, Span},
    topology::{Member, Node},
};

/// What takes part: words, but addresses not allocated yet and conflicts not looked for.
pub(crate) struct Valid {
    pub(crate) members: Vec<Member>,
    pub(crate) nodes: Vec<Node>,
    /// Per node: the overlay addresses that it bore before.
    pub(crate) kept: Vec<node::Kept>,
    /// Overlay addresses of nodes that cannot be planned today: nobody else gets them.
    pub(crate) reserved: BTreeSet<IpAddr>,
}

pub(crate) use contest::shadowed;
pub(crate) use node::{Kept, kept_text};

impl Valid {
    /// Without the nodes at these places.
    pub(crate) fn leave_out(&mut self, places: &BTreeSet<usize>) {
        let mut at = 0;
        self.nodes.retain(|_| {
            at += 1;
            !places.contains(&(at - 1))
        });
        index(&mut self.members, &mut self.nodes);
    }
}

/// Sorts what takes part from what does not, and says why.
pub(crate) fn validate(snapshot: &Snapshot<'_>, rejections: &mut Vec<Rejection>) -> Valid {
    let mut clusters = cluster::read_all(snapshot, rejections);
    cluster::agree_on_ports(&mut clusters, rejections);
    let mut drafts = node::read_all(snapshot, &clusters, rejections);
    contest::underlay_addresses(&mut drafts, rejections);
    contest::endpoints(&mut drafts, rejections);
    refuse_headless(&mut clusters, &mut drafts, rejections);
    node::separate_blocks(&mut drafts, rejections);

    let reserved = reserved(snapshot, &drafts);
    let mut valid = join(clusters, drafts, reserved);
    for member in &mut valid.members {
        adopt_uncovered_blocks(member, &valid.nodes);
        cluster::separate_services(member, rejections);
    }
    warn_of_nodes_without_pods(&valid, rejections);
    valid
}

/// What a cluster's name leads to: a member, or why it is none.
pub(crate) type Clusters = BTreeMap<String, Result<Member, Problem>>;

/// A gateway-mode cluster none of whose usable nodes is a gateway leads nowhere.
fn refuse_headless(clusters: &mut Clusters, drafts: &mut Vec<node::Draft>, rejections: &mut Vec<Rejection>) {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for draft in drafts.iter() {
        let (nodes, bridges) = counts.entry(&draft.node.id.cluster).or_default();
        *nodes += 1;
        *bridges += usize::from(draft.node.bridge);
    }
    let headless: Vec<(String, usize)> = counts
        .iter()
        .filter(|(_, (_, bridges))| *bridges == 0)
        .map(|(c, (n, _))| ((*c).to_owned(), *n))
        .collect();
    for (name, nodes) in headless {
        refuse_cluster(clusters, &name, Problem::NoGateway { nodes }, rejections);
        drafts.retain(|draft| {
            let stays = draft.node.id.cluster != name;
            if !stays {
                let problem = Problem::ClusterUnplanned { cluster: name.clone(), reason: "NoGateway" };
                rejections.push(Rejection::node(draft.node.id.object_name(), problem));
            }
            stays
        });
    }
}

fn refuse_cluster(clusters: &mut Clusters, name: &str, problem: Problem, rejections: &mut Vec<Rejection>) {
    rejections.push(Rejection::cluster(name, problem.clone()));
    clusters.insert(name.to_owned(), Err(problem));
}

/// How a node's rejection follows from its cluster's.
fn of_cluster(cluster: &str, problem: &Problem) -> Problem {
    let (cluster, reason) = (cluster.to_owned(), problem.reason());
    match problem.effect() {
        Effect::Leaves => Problem::ClusterLeft { cluster, reason },
        _ => Problem::ClusterUnplanned { cluster, reason },
    }
}

/// Overlay addresses of ClusterNodes that are not planned today. They come back one day, perhaps soon.
fn reserved(snapshot: &Snapshot<'_>, drafts: &[node::Draft]) -> BTreeSet<IpAddr> {
    let planned: BTreeSet<&NodeId> = drafts.iter().map(|draft| &draft.node.id).collect();
    let away = snapshot.nodes.iter().filter(|node| !node.spec.id().is_some_and(|id| planned.contains(&id)));
    away.flat_map(|node| Kept::of(node).addresses()).collect()
}

/// Members and nodes in their final order.
fn join(clusters: Clusters, mut drafts: Vec<node::Draft>, reserved: BTreeSet<IpAddr>) -> Valid {
    drafts.sort_by(|a, b| a.node.id.cmp(&b.node.id));
    let mut members: Vec<Member> = clusters.into_values().filter_map(Result::ok).collect();
    let (mut nodes, kept) =
        drafts.into_iter().map(|draft| (draft.node, draft.kept)).unzip::<_, _, Vec<_>, _>();
    index(&mut members, &mut nodes);
    Valid { members, nodes, kept, reserved }
}

/// The places by which clusters and nodes know each other. Clusters are in the order of their names, and so are the nodes.
fn index(members: &mut [Member], nodes: &mut [Node]) {
    let mut start = 0;
    for (cluster, member) in members.iter_mut().enumerate() {
        let own = nodes[start..].iter_mut().take_while(|node| node.id.cluster == member.name);
        let end = start + own.map(|node| node.cluster = cluster).count();
        member.nodes = start..end;
        member.bridges = member.nodes.clone().filter(|at| nodes[*at].bridge).collect();
        start = end;
    }
}

/// A node's block outside of its cluster's CIDRs is a pod CIDR that the status does not know yet.
fn adopt_uncovered_blocks(member: &mut Member, nodes: &[Node]) {
    let covered = span::SpanSet::new(member.pods.iter().map(|cidr| Span::of(*cidr)).collect());
    let blocks = nodes[member.nodes.clone()].iter().flat_map(|node| &node.blocks);
    let uncovered: Vec<_> = blocks.filter(|block| !covered.contains(Span::of(**block))).copied().collect();
    if !uncovered.is_empty() {
        member.pods = span::collapse(member.pods.iter().copied().chain(uncovered));
    }
}

fn warn_of_nodes_without_pods(valid: &Valid, rejections: &mut Vec<Rejection>) {
    let known: BTreeSet<String> = rejections.iter().map(|rejection| rejection.subject.name.clone()).collect();
    for member in valid.members.iter().filter(|member| member.mode == NetworkType::P2p) {
        let without = valid.nodes[member.nodes.clone()].iter().filter(|node| node.blocks.is_empty());
        let names = without.map(|node| node.id.object_name()).filter(|name| !known.contains(name));
        rejections.extend(names.map(|name| Rejection::node(name, Problem::NoPodCidrs)));
    }
}

/// The four devices in the order in which pools and ports are looked at.
const VTEPS: [Vtep; 4] = Vtep::ALL;
