//! Watches the whole topology and writes the NodeConfigs that differ.
//!
//! ```text
//! control cluster's API: Cluster, ClusterNode, NodeConfig
//!      │ watch ─► index ─► reconcile (pure; network-plan) ─► write what differs (server-side apply)
//!      ▼
//! ClusterNode.status.overlay, then NodeConfig.spec; conditions of Cluster and ClusterNode; Events
//! ```
//!
//! Nothing is written before each of the three watches has delivered its first complete list, and nothing is deleted on the
//! strength of anything but a complete list. Of several replicas only the leader writes; the others watch, so that they
//! know everything on the day they lead. What a ClusterNode's absence, a cluster's exit or a fault mean for a NodeConfig that
//! exists is decided in [`reconcile`].

mod conditions;
pub mod index;
mod metrics;
mod notices;
mod pace;
pub mod reconcile;
mod run;
mod watch;
pub mod waves;
mod write;

pub use metrics::Metrics;
pub use run::{Config, TURNS_WITHIN, run};

/// The field manager of everything written here, and the Lease that the leader holds.
pub const FIELD_MANAGER: &str = "clusterlink-network-manager";
