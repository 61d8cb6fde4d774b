//! What goes through as it is: the own Cluster and NodeConfigs down, NodeConfigs' status up.

use api::{ClusterSpec, NodeConfig, NodeConfigStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::Desired;
use crate::index::{Index, labelled, terminating};

/// The agents' status is relayed at least this often, in seconds, though nothing but its time has changed.
const FRESH: i64 = 60;

/// The own Cluster, so that agents know which interface is the underlay, and the NodeConfigs of its nodes.
pub(crate) fn down<'a>(index: &'a Index, desired: &mut Desired<'a>) {
    if index.same_server {
        return;
    }
    // A credential has no place in a custom resource, and none of the control cluster's has one in a member.
    desired.cluster = index.own().map(|own| ClusterSpec { kubeconfig: None, ..own.spec.clone() });
    let own = index.control.node_configs.iter();
    let own = own.filter(|(_, seen)| labelled(&seen.object.metadata, &index.cluster));
    let own = own.filter(|(_, seen)| !terminating(&seen.object));
    desired.node_configs = own.map(|(name, seen)| (name.as_str(), seen)).collect();
}

/// What agents say of their NodeConfigs.
pub(crate) fn up<'a>(index: &'a Index, desired: &mut Desired<'a>) {
    if index.same_server {
        return;
    }
    for (name, below) in &index.member.node_configs {
        let Some(above) = index.control.node_configs.get(name) else { continue };
        if !labelled(&above.object.metadata, &index.cluster) {
            continue;
        }
        if let Some(status) = &below.object.status {
            let same_spec = above.digest == below.digest;
            desired.relayed.insert(name, relayed(status, &below.object, &above.object, same_spec));
        }
    }
}

/// The status in the control cluster's words: a generation counts in its own API only.
fn relayed(
    status: &NodeConfigStatus,
    below: &NodeConfig,
    above: &NodeConfig,
    same_spec: bool,
) -> NodeConfigStatus {
    let before = above.status.clone().unwrap_or_default();
    let translate = |observed: Option<i64>, before: Option<i64>| match observed {
        None => None,
        Some(observed) if same_spec && below.metadata.generation == Some(observed) => {
            above.metadata.generation
        }
        Some(_) => before,
    };
    let conditions = status.conditions.iter().map(|condition| {
        let same = before.conditions.iter().find(|other| other.type_ == condition.type_);
        let earlier = same.and_then(|same| same.observed_generation);
        Condition {
            observed_generation: translate(condition.observed_generation, earlier),
            ..condition.clone()
        }
    });
    let mut relayed = NodeConfigStatus {
        observed_generation: translate(status.observed_generation, before.observed_generation),
        conditions: conditions.collect(),
        ..status.clone()
    };
    if let (Some(new), Some(old)) = (&relayed.last_sync_time, &before.last_sync_time)
        && (old.0.as_second()..old.0.as_second() + FRESH).contains(&new.0.as_second())
    {
        relayed.last_sync_time = before.last_sync_time;
    }
    relayed
}
