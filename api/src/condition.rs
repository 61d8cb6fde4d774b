//! Conditions: what an operator reads first. One writer for each type.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Cluster, by the controller-manager: the CIDRs in its status are those that its CNI and API server use now.
pub const CIDRS_KNOWN: &str = "CIDRsKnown";
/// Cluster, by the controller-manager: every Node that takes part has its ClusterNode, every NodeConfig is mirrored.
pub const PUBLISHED: &str = "Published";
/// Cluster and ClusterNode, by the network-manager: it takes part in the plan; where not, the reason says why.
pub const PLANNED: &str = "Planned";
/// Cluster, by the network-manager: no CIDR of it overlaps another cluster's, an overlay pool or an underlay address.
pub const CIDRS_UNIQUE: &str = "CIDRsUnique";
/// Cluster, by the network-manager: every field that is set is one that ClusterLink acts on.
pub const OPTIONS_SUPPORTED: &str = "OptionsSupported";
/// NodeConfig, by its agent: the kernel equals the spec, as re-read after the last pass.
pub const APPLIED: &str = "Applied";
/// NodeConfig, by its agent: every field that is set is one that the agent acts on.
pub const SPEC_SUPPORTED: &str = "SpecSupported";
/// NodeConfig, by its agent: the node's disk holds it, for a boot without an API.
pub const LAST_GOOD_KEPT: &str = "LastGoodKept";

/// A condition's new state, before it meets the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Type, one of the constants here.
    pub kind: &'static str,
    /// True, or false.
    pub status: bool,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence that names object, field and value, and what to do.
    pub message: String,
}

impl State {
    /// The condition to write: its transition time is kept where its status does not change.
    pub fn over(self, old: &[Condition], generation: Option<i64>, now: Time) -> Condition {
        let status = if self.status { "True" } else { "False" };
        let unchanged = old.iter().find(|c| c.type_ == self.kind && c.status == status);
        Condition {
            type_: self.kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason,
            message: self.message,
            observed_generation: generation,
            last_transition_time: unchanged.map_or(now, |c| c.last_transition_time.clone()),
        }
    }
}

/// Whether a condition of this type stands at `True`.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|c| c.type_ == kind && c.status == "True")
}
