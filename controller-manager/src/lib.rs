//! One per member cluster: publishes what is found there, chooses its gateways, mirrors its NodeConfigs down.
//!
//! It is the member's one uplink, and the only holder of a credential for the control cluster:
//!
//! ```text
//! member's API: Node, CNI objects, ServiceCIDR, ClusterNode (agents' facts), NodeConfig (agents' status)
//! control's API: own Cluster, own ClusterNodes, own NodeConfigs
//!      │ watch        → index         → build            → diff              → write (server-side apply)
//!      ▼
//! control's API: Cluster.status, ClusterNode, NodeConfig.status      member's API: Cluster (spec), NodeConfig (spec)
//! ```
//!
//! [`build::build`] and [`diff::diff`] are pure. Nothing is written before every watch has delivered its first complete
//! list, and nothing is removed on the strength of anything but a complete list. Of several replicas only the leader
//! writes; the others watch, so that they know everything on the day they lead. [`uplink`] keeps the credential fresh.

pub mod build;
pub mod diff;
pub mod index;
mod metrics;
mod pace;
mod probe;
mod run;
pub mod uplink;
mod watch;
mod write;

pub use metrics::Metrics;
pub use run::{Config, Surroundings, TURNS_WITHIN, run, run_among};
pub use uplink::Uplink;

/// The field manager of everything written here, and the Lease that the leader holds.
pub const FIELD_MANAGER: &str = "clusterlink-controller-manager";
