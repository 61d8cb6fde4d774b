//! Turns observed CNI objects into CIDR facts; pure.
//!
//! An adapter declares what it wants to see as data ([`WatchSpec`]) and reads it from [`Observed`]; who watches, and
//! how, is somebody else's business. What it finds are [`Facts`]: the CIDRs that pods get their addresses from, for
//! the cluster and for each node, where that was read, and every [`Problem`] met on the way. A problem never costs
//! a fact that does not depend on it.

mod adapter;
mod calico;
pub mod cidr;
mod cilium;
mod facts;
mod field;
mod flannel;
mod node;
mod observed;
pub mod service_cidrs;
mod watch_spec;

pub use adapter::{AUTO, Adapter, Asked, CNI_FIELD, Choice, choose, facts, watches};
pub use facts::{Facts, Problem};
pub use observed::Observed;
pub use watch_spec::{NODES, WatchSpec};
