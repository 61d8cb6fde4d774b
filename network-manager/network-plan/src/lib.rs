//! Computes every node's network from the whole topology; pure.
//!
//! ```text
//! Snapshot ─ validate ─ allocate ─ conflicts ─► Topology ─ plan ─► NodePlan ─ render ─► NodeConfig
//!                 └─────────┴──────────┴─► Rejections
//! ```
//!
//! Nothing here reads a clock, a file or an API; nothing depends on the order of the input or on an earlier
//! output, but for the overlay addresses, which are an input once they were given ([`Node::overlay_status`]).

pub mod election;

mod allocate;
mod conflicts;
mod diff;
mod hash;
mod node_plan;
mod plan;
mod rejection;
mod render;
mod span;
mod summary;
mod topology;
mod unlinked;
mod validate;

pub use diff::{Change, Configs, diff};
pub use node_plan::{ClusterSets, Device, Firewall, Forward, Neighbour, NodePlan, Part, Route};
pub use plan::{Plan, plan};
pub use rejection::{Effect, Kind, Problem, Rejection, Subject, Use, keeps_last};
pub use render::render;
pub use topology::{Member, Node, PerFamily, PerVtep, Topology};

use api::{Cluster, ClusterNode, Vtep, cluster_node::Overlay};

/// Everything that the plan is made of.
#[derive(Clone, Debug, Default)]
pub struct Snapshot<'a> {
    /// Every Cluster.
    pub clusters: Vec<&'a Cluster>,
    /// Every ClusterNode.
    pub nodes: Vec<&'a ClusterNode>,
}

impl<'a> Snapshot<'a> {
    /// A snapshot of these objects.
    pub fn new(
        clusters: impl IntoIterator<Item = &'a Cluster>,
        nodes: impl IntoIterator<Item = &'a ClusterNode>,
    ) -> Self {
        Snapshot { clusters: clusters.into_iter().collect(), nodes: nodes.into_iter().collect() }
    }
}

/// Steps 1 to 3: what takes part, with its addresses and with what is routable where; and what does not, and why.
pub fn topology(snapshot: &Snapshot<'_>) -> (Topology, Vec<Rejection>) {
    let mut rejections = Vec::new();
    let mut valid = validate::validate(snapshot, &mut rejections);
    let occupied = conflicts::occupied(&valid.members, &valid.nodes);
    let reserved = (std::mem::take(&mut valid.reserved), &occupied);
    let without =
        allocate::allocate(&valid.members, &mut valid.nodes, &valid.kept, reserved, &mut rejections);
    valid.leave_out(&without);
    let shadowed = validate::shadowed(&valid.nodes, &mut rejections);
    unlinked::report(&valid.members, &valid.nodes, &mut rejections);
    let conflicts = conflicts::conflicts(&valid.members, &valid.nodes, &mut rejections);
    let topology = Topology { members: valid.members, nodes: valid.nodes, shadowed, occupied, conflicts };
    rejections.sort();
    rejections.dedup();
    (topology, rejections)
}

impl Node {
    /// What belongs into the node's `status.overlay`: an input of every later plan.
    pub fn overlay_status(&self) -> Overlay {
        let text = |vtep: Vtep| self.overlay[vtep].map(|address| address.to_string());
        Overlay {
            bridge: text(Vtep::Bridge),
            bridge6: text(Vtep::Bridge6),
            local: text(Vtep::Local),
            local6: text(Vtep::Local6),
        }
    }
}
