//! What is said of the own Cluster.

use api::{Cluster, NodeId, cluster::ClusterLinkStatus, condition::State};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{OwnStatus, cidrs::named, nodes};
use crate::{
    PUBLISHED,
    index::{Index, Target, Trouble},
};

pub(crate) fn own(
    cluster: &Cluster,
    found: ClusterLinkStatus,
    states: Vec<State>,
    now: Timestamp,
) -> OwnStatus {
    let old = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let generation = cluster.metadata.generation;
    let conditions = states.into_iter().map(|state| state.over(old, generation, Time(now)));
    OwnStatus { found, conditions: conditions.collect() }
}

/// Whether everything that should be written could be. `problems` are those that building met.
pub(crate) fn published(index: &Index, mut problems: Vec<String>) -> State {
    let met = problems.len();
    problems.extend(index.troubles.iter().map(|(target, trouble)| sentence(index, target, trouble)));
    let collides = index.troubles.values().any(|trouble| matches!(trouble, Trouble::Foreign { .. }));
    let reason = match () {
        () if problems.is_empty() => "Complete",
        () if collides || problems.iter().any(|problem| problem.contains("would be named")) => {
            "NameCollision"
        }
        () if met > 0 => "InvalidValue",
        () => "WriteRejected",
    };
    let message = if problems.is_empty() {
        "every Node that takes part has its ClusterNode, and every NodeConfig is mirrored".to_owned()
    } else {
        named(problems.iter().cloned())
    };
    State { kind: PUBLISHED, status: problems.is_empty(), reason: reason.to_owned(), message }
}

fn sentence(index: &Index, target: &Target, trouble: &Trouble) -> String {
    let Target { kind, name, .. } = target;
    match trouble {
        Trouble::Foreign { owner } => {
            let node = name.strip_prefix(&format!("{}-", index.cluster)).unwrap_or(name);
            nodes::collision(&NodeId::new(&index.cluster, node), owner)
        }
        Trouble::Rejected { answer } => {
            format!("{kind:?} {name} was not accepted by its API server: {answer}")
        }
    }
}
