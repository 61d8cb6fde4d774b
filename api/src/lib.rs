//! The custom resources of `kosmos.io/v1alpha1` and the validated words they are made of.
//!
//! A resource holds text where its user writes text (`"10.1.0.0/16"`), so that one bad field never hides
//! the rest of a list; whoever reads it turns text into words ([`Mac`], [`Vni`], [`NodeId`],
//! [`ipnetwork::IpNetwork`]) once, at its edge, and carries only words further.

pub mod cluster;
pub mod cluster_node;
pub mod condition;
pub mod crd;
pub mod node_config;
mod schema;
pub mod vtep;
pub mod words;

pub use cluster::{
    Cluster, ClusterLinkOptions, ClusterSpec, ClusterStatus, IpFamily, NetworkType, TunnelType,
};
pub use cluster_node::{ClusterNode, ClusterNodeSpec, ClusterNodeStatus, Overlay};
pub use node_config::{NodeConfig, NodeConfigSpec, NodeConfigStatus};
pub use vtep::Vtep;
pub use words::{Family, Mac, NodeId, ParseError, Vni};

/// The API group of every resource here.
pub const GROUP: &str = "kosmos.io";
/// The label that names the cluster of a ClusterNode and of a NodeConfig, as in Kosmos.
pub const CLUSTER_LABEL: &str = "kosmos.io/cluster";
/// Node label: `true` makes a node a gateway of its cluster.
pub const GATEWAY_LABEL: &str = "kosmos.io/gateway";
/// Node label: `true` keeps a node out of the overlay.
pub const EXCLUDE_LABEL: &str = "kosmos.io/exclude";
/// Node label: `true` marks a virtual node (ClusterTree), which never joins the overlay.
pub const VIRTUAL_NODE_LABEL: &str = "kosmos.io/node";
/// Node annotation: the address that other clusters send to.
pub const PUBLIC_IP_ANNOTATION: &str = "kosmos.io/public-ip";
/// The role of a gateway node in `ClusterNode.spec.roles`.
pub const GATEWAY_ROLE: &str = "gateway";
