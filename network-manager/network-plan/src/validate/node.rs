//! A ClusterNode in words.

use std::{collections::BTreeMap, net::IpAddr};

use api::{ClusterNode, Family, NetworkType, NodeId, Vtep};
use ipnetwork::IpNetwork;

use super::{Clusters, VTEPS, of_cluster};
use crate::{
    Snapshot,
    rejection::{Problem, Rejection},
    span::{self, Span},
    topology::{Member, Node, PerFamily, PerVtep},
};

/// A node's overlay addresses as its status gives them, in words or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(pub(crate) PerVtep<Option<Result<IpAddr, String>>>);

impl Kept {
    pub(crate) fn of(node: &ClusterNode) -> Self {
        let Some(overlay) = node.status.as_ref().and_then(|status| status.overlay.as_ref()) else {
            return Kept::default();
        };
        let texts = [&overlay.bridge, &overlay.local, &overlay.bridge6, &overlay.local6];
        Kept(PerVtep(
            texts.map(|text| text.as_ref().map(|text| text.parse::<IpAddr>().map_err(|_| text.clone()))),
        ))
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.0.0.clone().into_iter().flatten().filter_map(Result::ok)
    }

    /// Whether the node was planned before.
    pub(crate) fn any(&self) -> bool {
        self.0.0.iter().any(Option::is_some)
    }
}

/// A node on its way into the topology.
pub(crate) struct Draft {
    pub(crate) node: Node,
    pub(crate) kept: Kept,
}

/// Every ClusterNode of a member that can be planned by itself.
pub(super) fn read_all(
    snapshot: &Snapshot<'_>,
    clusters: &Clusters,
    rejections: &mut Vec<Rejection>,
) -> Vec<Draft> {
    let mut by_name: BTreeMap<&str, Vec<&ClusterNode>> = BTreeMap::new();
    for node in &snapshot.nodes {
        by_name.entry(node.metadata.name.as_deref().unwrap_or_default()).or_default().push(node);
    }
    let mut drafts = Vec::with_capacity(by_name.len());
    for (name, same) in by_name {
        let read = match same.as_slice() {
            [node] => read(name, node, clusters, rejections),
            _ => Err(Problem::NameCollision { count: same.len(), ids: ids(&same) }),
        };
        match read {
            Ok(draft) => drafts.push(draft),
            Err(problem) => rejections.push(Rejection::node(name, problem)),
        }
    }
    drafts
}

fn ids(nodes: &[&ClusterNode]) -> String {
    let mut ids: Vec<String> =
        nodes.iter().map(|node| node.spec.id().map_or("?".to_owned(), |id| id.to_string())).collect();
    ids.sort();
    ids.join(", ")
}

fn read(
    name: &str,
    object: &ClusterNode,
    clusters: &Clusters,
    rejections: &mut Vec<Rejection>,
) -> Result<Draft, Problem> {
    let id = object.spec.id().ok_or(Problem::NoIdentity)?;
    check_name(name, &id)?;
    let member = match clusters.get(&id.cluster) {
        None => return Err(Problem::UnknownCluster { cluster: id.cluster }),
        Some(Err(problem)) => return Err(of_cluster(&id.cluster, problem)),
        Some(Ok(member)) => member,
    };
    let underlay = read_underlay(object)?;
    let interface = object.spec.interface_name.clone().filter(|interface| !interface.is_empty());
    let node = Node {
        bridge: member.mode == NetworkType::P2p || object.spec.is_gateway(),
        local: member.mode == NetworkType::Gateway,
        interface: interface.ok_or(Problem::NoInterface)?,
        public: read_public(object, &underlay)?,
        blocks: read_blocks(name, object, member, rejections),
        mtu: member.mtu.or(object.status.as_ref().and_then(|status| status.mtu)),
        overlay: PerVtep::default(),
        cluster: 0,
        underlay,
        id,
    };
    check_against_pools(&node, member)?;
    Ok(Draft { node, kept: Kept::of(object) })
}

fn check_name(name: &str, id: &NodeId) -> Result<(), Problem> {
    let expected = id.object_name();
    if name == expected {
        return Ok(());
    }
    let NodeId { cluster, node } = id.clone();
    Err(Problem::NameMismatch { cluster, node, expected, actual: name.to_owned() })
}

fn read_underlay(object: &ClusterNode) -> Result<PerFamily<Option<IpAddr>>, Problem> {
    let fields = [
        (Family::V4, "spec.ip", &object.spec.ip, "an IPv4 unicast address of a host"),
        (Family::V6, "spec.ip6", &object.spec.ip6, "an IPv6 unicast address of a host"),
    ];
    let mut underlay = PerFamily::default();
    for (family, field, text, expected) in fields {
        let Some(text) = text.as_ref().filter(|text| !text.is_empty()) else { continue };
        let invalid = || Problem::InvalidAddress { field, value: text.clone(), expected };
        let address =
            read_address(text).filter(|address| Family::of(*address) == family).ok_or_else(invalid)?;
        underlay[family] = Some(address);
    }
    if underlay == PerFamily::default() { Err(Problem::NoAddress) } else { Ok(underlay) }
}

/// An address that a packet can be sent to from another host.
fn read_address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let special = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let unusable = special || address.is_unspecified() || address.is_loopback() || address.is_multicast();
    (!unusable).then_some(address)
}

fn read_public(
    object: &ClusterNode,
    underlay: &PerFamily<Option<IpAddr>>,
) -> Result<PerFamily<Option<IpAddr>>, Problem> {
    let mut public = PerFamily::default();
    let Some(text) = object.spec.public_ip.as_ref().filter(|text| !text.is_empty()) else {
        return Ok(public);
    };
    let invalid =
        |expected| Problem::InvalidAddress { field: "spec.publicIP", value: text.clone(), expected };
    let address = read_address(text).ok_or_else(|| invalid("an address that other clusters can send to"))?;
    let family = Family::of(address);
    if underlay[family].is_none() {
        return Err(invalid("of a family in which the node has an underlay address"));
    }
    public[family] = Some(address);
    Ok(public)
}

fn read_blocks(
    name: &str,
    object: &ClusterNode,
    member: &Member,
    rejections: &mut Vec<Rejection>,
) -> Vec<IpNetwork> {
    let mut blocks = Vec::with_capacity(object.spec.pod_cidrs.len());
    for text in &object.spec.pod_cidrs {
        match span::parse_cidr(text) {
            Some(block) => blocks.push(block),
            None => rejections.push(Rejection::node(name, Problem::InvalidPodCidr { value: text.clone() })),
        }
    }
    blocks.retain(|block| member.inner[Family::of_network(*block)]);
    span::collapse(blocks)
}

/// A cluster's own overlay pools must leave its nodes' underlay addresses and pods alone.
fn check_against_pools(node: &Node, member: &Member) -> Result<(), Problem> {
    for vtep in VTEPS {
        let pool = Span::of(member.pools[vtep]);
        let clash = |field: &str, value: String| Problem::PoolOverlap {
            field: crate::rejection::pool_field(vtep),
            pool: member.pools[vtep],
            other_field: field.to_owned(),
            other: value,
        };
        for address in [node.underlay, node.public].into_iter().flat_map(|family| family.0).flatten() {
            if pool.contains(Span::of_address(address)) {
                return Err(clash("its own underlay address", address.to_string()));
            }
        }
        if let Some(block) = node.blocks.iter().find(|block| pool.overlaps(Span::of(**block))) {
            return Err(clash("spec.podCIDRs", block.to_string()));
        }
    }
    Ok(())
}

/// Two nodes of a cluster cannot have the same pods: neither block leads anywhere then.
pub(super) fn separate_blocks(drafts: &mut [Draft], rejections: &mut Vec<Rejection>) {
    let mut blocks: Vec<(usize, Span)> = Vec::new();
    for (at, draft) in drafts.iter().enumerate() {
        blocks.extend(draft.node.blocks.iter().map(|block| (at, Span::of(*block))));
    }
    let cluster = |at: usize| drafts[at].node.id.cluster.as_str();
    blocks.sort_by(|(a, x), (b, y)| (cluster(*a), x, a).cmp(&(cluster(*b), y, b)));
    let mut clashes: Vec<((usize, Span), (usize, Span))> = Vec::new();
    let mut outer: Vec<(usize, Span)> = Vec::new();
    for (at, block) in blocks {
        outer.retain(|(other, span)| cluster(*other) == cluster(at) && span.contains(block));
        clashes.extend(outer.iter().filter(|(other, _)| *other != at).map(|other| (*other, (at, block))));
        outer.push((at, block));
    }
    for (one, two) in clashes {
        for ((at, block), (other_at, other_block)) in [(one, two), (two, one)] {
            let (block, other_block) = (block.network(), other_block.network());
            let other = drafts[other_at].node.id.object_name();
            drafts[at].node.blocks.retain(|own| *own != block);
            let problem = Problem::BlockOverlap { block, other_block, other };
            rejections.push(Rejection::node(drafts[at].node.id.object_name(), problem));
        }
    }
}

/// The field that an underlay address of a family stands in.
pub(super) fn underlay_field(family: Family) -> &'static str {
    match family {
        Family::V4 => "spec.ip",
        Family::V6 => "spec.ip6",
    }
}

/// Whether a device's address has been kept.
pub(crate) fn kept_text(kept: &Kept, vtep: Vtep) -> Option<String> {
    match kept.0[vtep].as_ref()? {
        Ok(address) => Some(address.to_string()),
        Err(text) => Some(text.clone()),
    }
}
