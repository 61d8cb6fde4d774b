//! What to write, from what is there. Pure.
//!
//! What happens to a NodeConfig that exists and is not in the plan:
//!
//! | its ClusterNode | the NodeConfig |
//! |---|---|
//! | is gone, or its Cluster is | is deleted: what is missing in the input is missing in the output |
//! | its cluster has left (no options, `enable: false`), or wants IPsec | is deleted: clear text is no substitute |
//! | or its Cluster cannot be planned as it stands (an address is missing, a name is taken ...) | stays as it is, the last good one; the condition says so |
//! | or its Cluster cannot be read at all | stays |
//!
//! NodeConfigs without our label are somebody else's.

use std::collections::{BTreeMap, BTreeSet};

use api::{CLUSTER_LABEL, ClusterNode, NodeConfig, NodeConfigSpec, NodeId, Overlay, condition::State};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use network_plan::{Kind, Rejection, Snapshot, Topology};
use serde_json::{Value, json};

use crate::{
    conditions,
    index::{Index, Resource, Unreadable},
    notices::is_trouble,
    waves::Wave,
};

/// What a write is to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Which resource.
    pub resource: Resource,
    /// Which object.
    pub name: String,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// To what.
    pub target: Target,
    /// What.
    pub action: Action,
    /// Conditions that an Event shall tell of.
    pub notices: Vec<Condition>,
}

/// What is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Overlay addresses and conditions: comes before every NodeConfig, so that no address is used that is not noted.
    Addresses(Value),
    /// Conditions only.
    Status(Value),
    /// A NodeConfig, and when it is written among others.
    Apply(Value, Wave),
    /// Deletion of the object with this uid.
    Delete(Option<String>),
}

/// What comes of looking at everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reconciled {
    /// Everything that differs, addresses first.
    pub writes: Vec<Write>,
    /// How many objects have something that is not acted on, and those that cannot be read.
    pub rejected: BTreeMap<Resource, usize>,
}

/// Looks at everything.
pub fn reconcile(index: &Index, now: &Time) -> Reconciled {
    let stand_ins = index.stand_ins();
    let snapshot = Snapshot::new(index.clusters.values(), index.nodes.values().chain(&stand_ins));
    let (topology, rejections) = network_plan::topology(&snapshot);
    let by_object = by_object(&rejections);
    let of = |kind: Kind, name: &str| {
        by_object.get(&kind).and_then(|of| of.get(name)).map_or(&[][..], Vec::as_slice)
    };

    let overlays: BTreeMap<String, Overlay> =
        topology.nodes.iter().map(|node| (node.id.object_name(), node.overlay_status())).collect();
    let mut statuses = Vec::new();
    for (name, node) in &index.nodes {
        let rejections = of(Kind::ClusterNode, name);
        statuses.extend(node_status(index, (name, node), overlays.get(name), rejections, now));
    }
    for (name, cluster) in &index.clusters {
        let conditions =
            &cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let states = conditions::of_cluster(of(Kind::Cluster, name));
        let meta = (cluster.metadata.generation, now);
        if let Some((wanted, notices)) = changed(states, conditions, meta) {
            let action = Action::Status(json!({"conditions": wanted}));
            statuses.push(Write { target: target(Resource::Cluster, name), action, notices });
        }
    }
    statuses.extend(index.unreadable.iter().filter_map(|(key, object)| unreadable_status(key, object, now)));
    statuses.sort_by_key(|write| !matches!(write.action, Action::Addresses(_)));
    let stays = |name: &str| stays(index, name, of(Kind::ClusterNode, name));
    statuses.extend(configs(index, &topology, stays));
    Reconciled { writes: statuses, rejected: rejected(index, &by_object) }
}

fn rejected(index: &Index, by_object: &ByObject<'_>) -> BTreeMap<Resource, usize> {
    let kinds = [(Kind::Cluster, Resource::Cluster), (Kind::ClusterNode, Resource::ClusterNode)];
    let count = |kind: Kind, of: Resource| {
        let known = |name: &str| match of {
            Resource::Cluster => index.clusters.contains_key(name),
            _ => index.nodes.contains_key(name),
        };
        by_object.get(&kind).map_or(0, |names| names.keys().filter(|name| known(name)).count())
    };
    let mut rejected: BTreeMap<Resource, usize> =
        kinds.map(|(kind, resource)| (resource, count(kind, resource))).into();
    rejected.insert(Resource::NodeConfig, 0);
    for (resource, _) in index.unreadable.keys() {
        *rejected.entry(*resource).or_default() += 1;
    }
    rejected
}

/// What cannot be read is told that it cannot. A NodeConfig is written anew, or its ClusterNode is told.
fn unreadable_status(
    (resource, name): &(Resource, String),
    object: &Unreadable,
    now: &Time,
) -> Option<Write> {
    if *resource == Resource::NodeConfig {
        return None;
    }
    let state = conditions::of_unreadable(&object.error);
    let (wanted, notices) = changed(vec![state], &object.conditions, (object.generation, now))?;
    let mut body = json!({"conditions": wanted});
    if let Some(overlay) = &object.overlay {
        // What is not applied again is given up.
        body["overlay"] = json!(overlay);
    }
    Some(Write { target: target(*resource, name), action: Action::Status(body), notices })
}

type ByObject<'a> = BTreeMap<Kind, BTreeMap<&'a str, Vec<&'a Rejection>>>;

fn by_object(rejections: &[Rejection]) -> ByObject<'_> {
    let mut by_object = ByObject::new();
    for rejection in rejections {
        let subject = &rejection.subject;
        by_object.entry(subject.kind).or_default().entry(&subject.name).or_default().push(rejection);
    }
    by_object
}

fn target(resource: Resource, name: &str) -> Target {
    Target { resource, name: name.to_owned() }
}

/// Whether a NodeConfig without a plan is kept as it is.
fn stays(index: &Index, name: &str, rejections: &[&Rejection]) -> bool {
    let unreadable = |resource, name: &str| index.unreadable.contains_key(&(resource, name.to_owned()));
    if unreadable(Resource::ClusterNode, name) {
        return true;
    }
    let Some(node) = index.nodes.get(name) else { return false };
    let cluster = node.spec.cluster_name.as_deref().unwrap_or_default();
    if unreadable(Resource::Cluster, cluster) {
        return true;
    }
    network_plan::keeps_last(rejections.iter().copied())
}

fn node_status(
    index: &Index,
    (name, node): (&str, &ClusterNode),
    planned: Option<&Overlay>,
    rejections: &[&Rejection],
    now: &Time,
) -> Option<Write> {
    if node.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = node.status.clone().unwrap_or_default();
    // A node that is not planned today keeps its addresses for the day it is planned again.
    let overlay = planned.cloned().or_else(|| status.overlay.clone());
    let stale = planned.is_none() && index.configs.contains_key(name) && stays(index, name, rejections);
    let cluster = node.spec.cluster_name.as_deref().unwrap_or_default();
    let state = if index.unreadable.contains_key(&(Resource::Cluster, cluster.to_owned())) {
        conditions::of_node_of_unreadable(cluster)
    } else {
        conditions::of_node(rejections, stale)
    };
    let meta = (node.metadata.generation, now);
    let conditions = changed(vec![state.clone()], &status.conditions, meta);
    let moved = overlay != status.overlay;
    if !moved && conditions.is_none() {
        return None;
    }
    let (wanted, notices) = conditions.unwrap_or_else(|| {
        (vec![state.over(&status.conditions, node.metadata.generation, now.clone())], Vec::new())
    });
    let mut body = json!({"conditions": wanted});
    if let Some(overlay) = &overlay {
        body["overlay"] = json!(overlay);
    }
    let action = if moved { Action::Addresses(body) } else { Action::Status(body) };
    Some(Write { target: target(Resource::ClusterNode, name), action, notices })
}

/// The conditions to write where any of them differs, and those that are worth an Event.
fn changed(
    states: Vec<State>,
    old: &[Condition],
    (generation, now): (Option<i64>, &Time),
) -> Option<(Vec<Condition>, Vec<Condition>)> {
    let wanted: Vec<Condition> =
        states.into_iter().map(|state| state.over(old, generation, now.clone())).collect();
    let before = |kind: &str| old.iter().find(|condition| condition.type_ == kind);
    let said = |condition: &Condition| {
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    };
    let differs =
        |condition: &&Condition| before(&condition.type_).map(said).as_ref() != Some(&said(condition));
    let stale_generation = |condition: &Condition| {
        before(&condition.type_).is_some_and(|old| old.observed_generation != condition.observed_generation)
    };
    if !wanted.iter().any(|condition| differs(&condition) || stale_generation(condition)) {
        return None;
    }
    // That all is well from the start is no news; that something is not, or is again, or changed, is.
    let was_bad = |condition: &&Condition| before(&condition.type_).is_some_and(|old| old.status != "True");
    let notable =
        |condition: &&Condition| differs(condition) && (is_trouble(condition) || was_bad(condition));
    let notices = wanted.iter().filter(notable).cloned().collect();
    Some((wanted, notices))
}

fn configs(index: &Index, topology: &Topology, stays: impl Fn(&str) -> bool) -> Vec<Write> {
    let plan = network_plan::plan(topology);
    let planned: BTreeSet<String> = plan.keys().map(NodeId::object_name).collect();
    let mut writes = applications(index, &plan);
    for (name, config) in &index.configs {
        let label = config.metadata.labels.as_ref().and_then(|labels| labels.get(CLUSTER_LABEL));
        let Some(cluster) = label else { continue };
        let unknown_cluster = index.unreadable.contains_key(&(Resource::Cluster, cluster.clone()));
        let going = config.metadata.deletion_timestamp.is_some();
        if planned.contains(name) || unknown_cluster || going || stays(name) {
            continue;
        }
        let action = Action::Delete(config.metadata.uid.clone());
        writes.push(Write { target: target(Resource::NodeConfig, name), action, notices: Vec::new() });
    }
    writes
}

/// The NodeConfigs that differ, those first that others wait for.
fn applications(index: &Index, plan: &network_plan::Plan) -> Vec<Write> {
    let mut differing = Vec::new();
    for (id, node) in plan {
        let name = id.object_name();
        let spec = network_plan::render(node);
        let old = index.configs.get(&name);
        let going = old.is_some_and(|old| old.metadata.deletion_timestamp.is_some());
        if !going && !old.is_some_and(|old| is_so(old, &id.cluster, &spec)) {
            differing.push((Wave::of(old.map(|old| &old.spec), &spec), id, spec));
        }
    }
    let receive: BTreeSet<&str> = differing
        .iter()
        .filter(|(wave, ..)| *wave == Wave::Receivers)
        .map(|(_, id, _)| id.cluster.as_str())
        .collect();
    for (wave, id, _) in &mut differing {
        if receive.contains(id.cluster.as_str()) {
            *wave = wave.beside_receiver();
        }
    }
    differing.sort_by_key(|(wave, ..)| *wave);
    let write = |(wave, id, spec): (Wave, &NodeId, NodeConfigSpec)| {
        let labels = json!({CLUSTER_LABEL: id.cluster});
        let action = Action::Apply(json!({"metadata": {"labels": labels}, "spec": spec}), wave);
        Write { target: target(Resource::NodeConfig, &id.object_name()), action, notices: Vec::new() }
    };
    differing.into_iter().map(write).collect()
}

fn is_so(old: &NodeConfig, cluster: &str, spec: &NodeConfigSpec) -> bool {
    let label = old.metadata.labels.as_ref().and_then(|labels| labels.get(CLUSTER_LABEL));
    label.is_some_and(|label| label == cluster) && old.spec == *spec
}
