//! What the plan cannot use: which object, why, what it means for that object, and what to do about it.

use std::{collections::BTreeSet, net::IpAddr};

use api::Vtep;
use ipnetwork::IpNetwork;

/// The kind of an object that a rejection speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A Cluster.
    Cluster,
    /// A ClusterNode.
    ClusterNode,
}

impl Kind {
    /// As it stands in `kind:`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cluster => "Cluster",
            Kind::ClusterNode => "ClusterNode",
        }
    }
}

/// The object that a rejection speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Its kind.
    pub kind: Kind,
    /// Its `metadata.name`.
    pub name: String,
}

impl Subject {
    /// A Cluster.
    pub fn cluster(name: impl Into<String>) -> Self {
        Subject { kind: Kind::Cluster, name: name.into() }
    }

    /// A ClusterNode.
    pub fn node(name: impl Into<String>) -> Self {
        Subject { kind: Kind::ClusterNode, name: name.into() }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// What a rejection means for its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// It takes no part, by somebody's wish or because clear text is not wanted: its NodeConfigs go.
    Leaves,
    /// It cannot be planned as it stands: others plan without it, its last good NodeConfigs stay.
    Unplanned,
    /// It takes part; some CIDR of it is not routed everywhere.
    Overlap,
    /// It takes part; a field that is set is not acted on.
    Unsupported,
    /// It takes part; something of it is missing.
    Partial,
}

/// Pods or services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Pod addresses.
    Pod,
    /// Service addresses.
    Service,
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Use::Pod => "pod",
            Use::Service => "service",
        })
    }
}

/// Why something of an object is not used. The message names the field, the value, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it and its fields mean")]
pub enum Problem {
    // A cluster that takes no part.
    #[error(
        "spec.clusterLinkOptions is missing: the cluster takes no part; add it (an empty object takes every default)"
    )]
    NoOptions,
    #[error("spec.clusterLinkOptions.enable is false: the cluster takes no part")]
    Disabled,
    #[error(
        "spec.clusterLinkOptions.tunnelType is ipsec, which is not supported yet, and clear text is no substitute: the cluster takes no part; set it to vxlan to run in clear text"
    )]
    IpsecUnsupported,

    // A cluster that cannot be planned.
    #[error("metadata.name {name:?} stands in {count} Cluster documents: none of them is used; keep one")]
    DuplicateCluster { name: String, count: usize },
    #[error("{field} {value:?} is not {expected}: correct it")]
    InvalidPool { field: &'static str, value: String, expected: &'static str },
    #[error(
        "{field} {pool} overlaps {other_field} {other}: overlay addresses need a range of their own; choose another"
    )]
    PoolOverlap { field: &'static str, pool: IpNetwork, other_field: String, other: String },
    #[error(
        "spec.clusterLinkOptions.ports gives {port} to {one} and to {two}: give each device its own UDP port"
    )]
    PortClash { port: u16, one: &'static str, two: &'static str },
    #[error("spec.clusterLinkOptions.ports gives port 0 to {device}: give it one from 1 to 65535")]
    PortZero { device: &'static str },
    #[error(
        "UDP port {port} of {device} is not {mesh}, the one that the rest of the mesh uses: make spec.clusterLinkOptions.ports the same in every cluster"
    )]
    PortMismatch { device: &'static str, port: u16, mesh: u16 },
    #[error(
        "spec.clusterLinkOptions.networkType is gateway and none of its {nodes} usable ClusterNodes has the role gateway in spec.roles: label a node kosmos.io/gateway=true, or look at the cluster's controller-manager, which chooses them"
    )]
    NoGateway { nodes: usize },

    // A cluster that takes part with less.
    #[error("{field} {value:?} is not a CIDR such as 10.1.0.0/16: it is not routed")]
    InvalidCidr { field: &'static str, value: String },
    #[error(
        "service CIDR {service} overlaps pod CIDR {pod} of the same cluster: the service CIDR is not routed from other clusters; correct status.clusterLinkStatus"
    )]
    ServiceInPods { service: IpNetwork, pod: IpNetwork },
    #[error(
        "spec.clusterLinkOptions.globalCIDRsMap maps {from:?} to {to:?}, which is not supported yet: {from} is routed from other clusters neither as it is nor as {to}; remove the entry to route it as it is"
    )]
    GlobalMapUnsupported { from: String, to: String },
    #[error("{field} is set and never read: {advice}")]
    IgnoredField { field: &'static str, advice: &'static str },
    #[error(
        "{use_} CIDR {cidr} overlaps {other_use} CIDR {other} of cluster {cluster}: neither is routed from the other's cluster{elsewhere}; give one of them another range"
    )]
    CidrOverlap {
        use_: Use,
        cidr: IpNetwork,
        other_use: Use,
        other: IpNetwork,
        cluster: String,
        elsewhere: String,
    },
    #[error(
        "{use_} CIDR {cidr} covers underlay address {address} of ClusterNode {node}: a route to it would swallow the tunnels themselves, so it is not routed {where_}; give it another range"
    )]
    CoversUnderlay { use_: Use, cidr: IpNetwork, address: IpAddr, node: String, where_: String },
    #[error(
        "{use_} CIDR {cidr} overlaps overlay pool {pool} of cluster {cluster}: it is not routed from other clusters; give one of them another range"
    )]
    OverlapsPool { use_: Use, cidr: IpNetwork, pool: IpNetwork, cluster: String },
    #[error(
        "{pairs} pair(s) of nodes of this cluster and of cluster {cluster} have no underlay family in common, such as {one} and {two}: they do not reach each other; give them one"
    )]
    NoCommonUnderlay { cluster: String, pairs: usize, one: String, two: String },

    // A node that cannot be planned.
    #[error("spec.clusterName or spec.nodeName is missing: set both")]
    NoIdentity,
    #[error(
        "spec.clusterName {cluster:?} and spec.nodeName {node:?} make the name {expected:?}, not {actual:?}: rename the object"
    )]
    NameMismatch { cluster: String, node: String, expected: String, actual: String },
    #[error(
        "{count} ClusterNodes would share this name (cluster/node {ids}): none of them is used; rename a cluster or a node"
    )]
    NameCollision { count: usize, ids: String },
    #[error("spec.clusterName {cluster:?}: there is no such Cluster")]
    UnknownCluster { cluster: String },
    #[error("spec.clusterName {cluster:?}: that cluster takes no part ({reason}), see its conditions")]
    ClusterLeft { cluster: String, reason: &'static str },
    #[error("spec.clusterName {cluster:?}: that cluster cannot be planned ({reason}), see its conditions")]
    ClusterUnplanned { cluster: String, reason: &'static str },
    #[error(
        "spec.ip and spec.ip6 are both missing: the node's agent sets them; is it running, and has it found the underlay interface?"
    )]
    NoAddress,
    #[error("{field} {value:?} is not {expected}: correct it, or the interface that it was read from")]
    InvalidAddress { field: &'static str, value: String, expected: &'static str },
    #[error(
        "spec.interfaceName is missing: the node's agent sets it; set nicNodeNames or defaultNICName in its Cluster if it cannot detect it"
    )]
    NoInterface,
    #[error(
        "{field} {address} is an underlay address of ClusterNode {other}, too: one of the two is stale or wrong; delete or correct it"
    )]
    DuplicateAddress { field: &'static str, address: IpAddr, other: String },
    #[error(
        "other clusters would send to {address} for this node and for ClusterNode {other}: annotate the Nodes with kosmos.io/public-ip, one address each"
    )]
    DuplicateEndpoint { address: IpAddr, other: String },
    #[error(
        "overlay pool {pool} of its cluster has no free address left for {device}: give {field} a wider range"
    )]
    PoolExhausted { pool: IpNetwork, device: &'static str, field: &'static str },

    // A node that takes part with less.
    #[error("spec.podCIDRs {value:?} is not a CIDR such as 10.1.0.0/24: it is not routed")]
    InvalidPodCidr { value: String },
    #[error(
        "spec.podCIDRs {block} overlaps {other_block} of ClusterNode {other}: neither leads to a node until one of them is gone"
    )]
    BlockOverlap { block: IpNetwork, other_block: IpNetwork, other: String },
    #[error(
        "spec.podCIDRs is empty: in a P2P cluster no pod of this node is reached from other clusters; its controller-manager sets it"
    )]
    NoPodCidrs,
    #[error("status.overlay {value:?} {why}: the node gets another address for {device}")]
    AddressMoved { value: String, why: &'static str, device: &'static str },
    #[error(
        "it shares no underlay family with any gateway of its cluster, such as {gateway}: it reaches no other cluster; give it, or a gateway, an address of the other family"
    )]
    NoPathToGateway { gateway: String },
    #[error(
        "cluster {cluster} cannot send to {address}: its own ClusterNode {other} has that address; annotate this Node with kosmos.io/public-ip"
    )]
    EndpointShadowed { address: IpAddr, other: String, cluster: String },
}

impl Problem {
    /// One CamelCase word, as in a condition's `reason`.
    pub fn reason(&self) -> &'static str {
        use Problem::*;
        match self {
            NoOptions => "NoOptions",
            Disabled => "Disabled",
            IpsecUnsupported => "IPsecUnsupported",
            DuplicateCluster { .. } => "DuplicateCluster",
            InvalidPool { .. } => "InvalidPool",
            PoolOverlap { .. } => "PoolOverlap",
            PortClash { .. } => "PortClash",
            PortZero { .. } => "PortZero",
            PortMismatch { .. } => "PortMismatch",
            NoGateway { .. } => "NoGateway",
            InvalidCidr { .. } => "InvalidCIDR",
            ServiceInPods { .. } => "ServiceInPods",
            GlobalMapUnsupported { .. } => "GlobalCIDRsMapUnsupported",
            IgnoredField { .. } => "IgnoredField",
            CidrOverlap { .. } => "CIDROverlap",
            CoversUnderlay { .. } => "CoversUnderlay",
            OverlapsPool { .. } => "OverlapsPool",
            NoCommonUnderlay { .. } => "NoCommonUnderlay",
            NoIdentity => "NoIdentity",
            NameMismatch { .. } => "NameMismatch",
            NameCollision { .. } => "NameCollision",
            UnknownCluster { .. } => "UnknownCluster",
            ClusterLeft { .. } => "ClusterLeft",
            ClusterUnplanned { .. } => "ClusterUnplanned",
            NoAddress => "NoAddress",
            InvalidAddress { .. } => "InvalidAddress",
            NoInterface => "NoInterface",
            DuplicateAddress { .. } => "DuplicateAddress",
            DuplicateEndpoint { .. } => "DuplicateEndpoint",
            PoolExhausted { .. } => "PoolExhausted",
            InvalidPodCidr { .. } => "InvalidPodCIDR",
            BlockOverlap { .. } => "BlockOverlap",
            NoPodCidrs => "NoPodCIDRs",
            AddressMoved { .. } => "AddressMoved",
            NoPathToGateway { .. } => "NoPathToGateway",
            EndpointShadowed { .. } => "EndpointShadowed",
        }
    }

    /// What it means for its object.
    pub fn effect(&self) -> Effect {
        use Problem::*;
        match self {
            NoOptions | Disabled | IpsecUnsupported | UnknownCluster { .. } | ClusterLeft { .. } => {
                Effect::Leaves
            }
            DuplicateCluster { .. }
            | InvalidPool { .. }
            | PoolOverlap { .. }
            | PortClash { .. }
            | PortZero { .. }
            | PortMismatch { .. }
            | NoGateway { .. }
            | NoIdentity
            | NameMismatch { .. }
            | NameCollision { .. }
            | ClusterUnplanned { .. }
            | NoAddress
            | InvalidAddress { .. }
            | NoInterface
            | DuplicateAddress { .. }
            | DuplicateEndpoint { .. }
            | PoolExhausted { .. } => Effect::Unplanned,
            ServiceInPods { .. } | CidrOverlap { .. } | CoversUnderlay { .. } | OverlapsPool { .. } => {
                Effect::Overlap
            }
            GlobalMapUnsupported { .. } | IgnoredField { .. } => Effect::Unsupported,
            InvalidCidr { .. }
            | NoCommonUnderlay { .. }
            | InvalidPodCidr { .. }
            | BlockOverlap { .. }
            | NoPodCidrs
            | AddressMoved { .. }
            | NoPathToGateway { .. }
            | EndpointShadowed { .. } => Effect::Partial,
        }
    }
}

/// Something that the plan does not use, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rejection {
    /// The object.
    pub subject: Subject,
    /// Why.
    pub problem: Problem,
}

impl Rejection {
    /// A rejection that speaks of a Cluster.
    pub fn cluster(name: impl Into<String>, problem: Problem) -> Self {
        Rejection { subject: Subject::cluster(name), problem }
    }

    /// A rejection that speaks of a ClusterNode.
    pub fn node(name: impl Into<String>, problem: Problem) -> Self {
        Rejection { subject: Subject::node(name), problem }
    }
}

/// Whether a node that is not planned keeps the last NodeConfig that it was given, by the rejections that speak of it:
/// a fault keeps it, an exit from the mesh does not, and neither does an object that is gone.
pub fn keeps_last<'a>(of_node: impl IntoIterator<Item = &'a Rejection>) -> bool {
    let effects: BTreeSet<Effect> = of_node.into_iter().map(|rejection| rejection.problem.effect()).collect();
    effects.contains(&Effect::Unplanned) && !effects.contains(&Effect::Leaves)
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.subject, self.problem.reason(), self.problem)
    }
}

/// The field that names the pool of a device.
pub(crate) fn pool_field(vtep: Vtep) -> &'static str {
    match vtep {
        Vtep::Bridge => "spec.clusterLinkOptions.bridgeCIDRs.ip",
        Vtep::Bridge6 => "spec.clusterLinkOptions.bridgeCIDRs.ip6",
        Vtep::Local => "spec.clusterLinkOptions.localCIDRs.ip",
        Vtep::Local6 => "spec.clusterLinkOptions.localCIDRs.ip6",
    }
}
