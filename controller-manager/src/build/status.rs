//! What is said of the own Cluster.

use api::{
    Cluster, NodeId,
    cluster::ClusterLinkStatus,
    condition::{PUBLISHED, State},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{OwnStatus, cidrs::named, nodes};
use crate::index::{Index, Kind, Target, Trouble};

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

/// Something that stands in the way of publishing.
pub(crate) struct Obstacle {
    /// One CamelCase word.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Whether everything that should be written could be. `obstacles` are those that building met.
pub(crate) fn published(index: &Index, mut obstacles: Vec<Obstacle>) -> State {
    obstacles.extend(index.troubles.iter().map(|(target, trouble)| obstacle(index, target, trouble)));
    for (whose, resources) in [("member", &index.member), ("control", &index.control)] {
        let unreadable = resources.unreadable.iter();
        obstacles
            .extend(unreadable.map(|((kind, name), error)| unreadable_obstacle(whose, *kind, name, error)));
    }
    let Some(first) = obstacles.first() else {
        return State {
            kind: PUBLISHED,
            status: true,
            reason: "Complete".to_owned(),
            message: "every Node that takes part has its ClusterNode, and every NodeConfig is mirrored"
                .to_owned(),
        };
    };
    let reason = first.reason.to_owned();
    let message = named(obstacles.into_iter().map(|obstacle| obstacle.message));
    State { kind: PUBLISHED, status: false, reason, message }
}

/// One that a newer component wrote, perhaps.
fn unreadable_obstacle(whose: &str, kind: Kind, name: &str, error: &str) -> Obstacle {
    let version = env!("CARGO_PKG_VERSION");
    let message = format!(
        "{kind:?} {name} of the {whose} cluster does not fit its type: {error}. Correct it, or upgrade the controller-manager (version {version}) to the version of who wrote it; until then what was made of it stays as it is"
    );
    Obstacle { reason: "Unreadable", message }
}

fn obstacle(index: &Index, target: &Target, trouble: &Trouble) -> Obstacle {
    let Target { kind, name, .. } = target;
    match trouble {
        Trouble::Foreign { owner } => {
            let node = name.strip_prefix(&format!("{}-", index.cluster)).unwrap_or(name);
            nodes::collision(&NodeId::new(&index.cluster, node), owner)
        }
        Trouble::Rejected { answer } => {
            let message = format!("{kind:?} {name} was not accepted by its API server: {answer}");
            Obstacle { reason: "WriteRejected", message }
        }
    }
}
