//! A Kosmos ClusterLink that is there already: it owns the same devices on the hosts and the same definitions.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use kube::{
    Api, ResourceExt,
    api::{ListParams, ObjectList},
};

use super::{Check, Findings};
use crate::{
    connect::{Connection, Role},
    manifest::NAMESPACE,
    object::{CLUSTER, CLUSTER_NODE, Kind, NODE_CONFIG, absent_as_none},
    write::is_ours,
};

const GUIDE: &str = "docs/migrating-from-kosmos.md";
/// What Kosmos calls its programs.
const DEPLOYMENTS: [&str; 5] = [
    "clusterlink-network-manager",
    "clusterlink-operator",
    "clusterlink-controller-manager",
    "clusterlink-elector",
    "clusterlink-proxy",
];
const DAEMON_SETS: [&str; 2] = ["clusterlink-agent", "clusterlink-floater"];

pub(super) async fn check(connection: &Connection, findings: &mut Findings) -> anyhow::Result<()> {
    let all = ListParams::default();
    let deployments = Api::<Deployment>::all(connection.client.clone()).list(&all).await?;
    let sets = Api::<DaemonSet>::all(connection.client.clone()).list(&all).await?;
    let (running, stopped) = programs(&deployments, &sets);
    let who = connection.role;
    if !running.is_empty() {
        findings.fail(
            Check::Kosmos,
            format!("another ClusterLink runs in the {who} cluster ({}): two of them would fight for vx-bridge and vx-local on the hosts; stop it in the order of {GUIDE}, its packets keep flowing meanwhile", running.join(", ")),
        );
    } else if !stopped.is_empty() {
        findings.ok(
            Check::Kosmos,
            format!("another ClusterLink in the {who} cluster is stopped ({})", stopped.join(", ")),
        );
    }
    definitions(connection, findings).await?;
    if running.is_empty() && stopped.is_empty() {
        findings.ok(Check::Kosmos, format!("no other ClusterLink runs in the {who} cluster"));
    }
    Ok(())
}

fn programs(
    deployments: &ObjectList<Deployment>,
    sets: &ObjectList<DaemonSet>,
) -> (Vec<String>, Vec<String>) {
    let deployments =
        deployments.iter().filter(|object| DEPLOYMENTS.contains(&object.name_any().as_str())).map(|object| {
            let replicas = object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let running = object.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
            ("deployment", object.namespace(), object.name_any(), replicas > 0 || running > 0)
        });
    let sets = sets.iter().filter(|object| DAEMON_SETS.contains(&object.name_any().as_str())).map(|object| {
        let status = object.status.clone().unwrap_or_default();
        let runs = status.desired_number_scheduled > 0 || status.current_number_scheduled > 0;
        ("daemonset", object.namespace(), object.name_any(), runs)
    });
    let (mut running, mut stopped) = (Vec::new(), Vec::new());
    for (kind, namespace, name, runs) in deployments.chain(sets) {
        let namespace = namespace.unwrap_or_default();
        if namespace != NAMESPACE {
            let list = if runs { &mut running } else { &mut stopped };
            list.push(format!("{kind} {namespace}/{name}"));
        }
    }
    (running, stopped)
}

/// Definitions that somebody else has made: their schema is replaced, their objects stay.
async fn definitions(connection: &Connection, findings: &mut Findings) -> anyhow::Result<()> {
    let Some(kind) = Kind::named("CustomResourceDefinition") else { return Ok(()) };
    let api = kind.api(&connection.client, None);
    for resource in [CLUSTER, CLUSTER_NODE, NODE_CONFIG] {
        let name = format!("{}.{}", resource.plural, resource.group);
        let Some(definition) = api.get_opt(&name).await?.filter(|definition| !is_ours(definition)) else {
            continue;
        };
        let stored = definition.data["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
        if stored.iter().any(|version| version != resource.version) {
            findings.fail(
                Check::Kosmos,
                format!("customresourcedefinition {name} in the {} cluster stores versions {stored:?}, of which only {} is known: migrate its objects first", connection.role, resource.version),
            );
            continue;
        }
        let objects =
            absent_as_none(resource.api(&connection.client, None).list(&ListParams::default()).await)?;
        let objects = objects.map(|list| list.items).unwrap_or_default();
        let unfit: Vec<String> =
            objects.iter().filter(|object| !fits(resource, object)).map(|object| object.name_any()).collect();
        findings.warn(
            Check::Kosmos,
            format!("customresourcedefinition {name} in the {} cluster is somebody else's (Kosmos's?): it gets ClusterLink's schema, its {} objects stay, and it stays when ClusterLink goes ({GUIDE})", connection.role, objects.len()),
        );
        if !unfit.is_empty() {
            findings.warn(
                Check::Kosmos,
                format!(
                    "{} do not fit the schema and take no part before they are corrected: {}",
                    resource.plural,
                    unfit.join(", ")
                ),
            );
        }
    }
    if connection.role == Role::Control {
        leaking(connection, findings).await?;
    }
    Ok(())
}

fn fits(kind: Kind, object: &kube::api::DynamicObject) -> bool {
    let object = object.clone();
    match kind.kind {
        "Cluster" => object.try_parse::<api::Cluster>().is_ok(),
        "ClusterNode" => object.try_parse::<api::ClusterNode>().is_ok(),
        _ => object.try_parse::<api::NodeConfig>().is_ok(),
    }
}

/// Kosmos keeps whole kubeconfigs in its Clusters.
async fn leaking(connection: &Connection, findings: &mut Findings) -> anyhow::Result<()> {
    let clusters = absent_as_none(CLUSTER.api(&connection.client, None).list(&ListParams::default()).await)?;
    let leaking: Vec<String> = clusters
        .iter()
        .flat_map(|list| &list.items)
        .filter(|cluster| cluster.data["spec"]["kubeconfig"].as_str().is_some_and(|text| !text.is_empty()))
        .map(|cluster| cluster.name_any())
        .collect();
    if !leaking.is_empty() {
        findings.warn(
            Check::Kosmos,
            format!("spec.kubeconfig of Cluster {} holds a credential that whoever reads Clusters can use: ClusterLink never reads it; remove it once Kosmos is gone", leaking.join(", ")),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn list<K: serde::de::DeserializeOwned + Clone>(items: serde_json::Value) -> ObjectList<K> {
        serde_json::from_value(serde_json::json!({"metadata": {}, "items": items})).unwrap()
    }

    #[test]
    fn what_runs_elsewhere_is_told_from_what_is_stopped_and_from_ours() {
        let deployments = list(serde_json::json!([
            {"metadata": {"name": "clusterlink-elector", "namespace": "kosmos-system"}, "spec": {"replicas": 0, "selector": {}, "template": {}}},
            {"metadata": {"name": "clusterlink-network-manager", "namespace": "kosmos-system"}, "spec": {"selector": {}, "template": {}}},
            {"metadata": {"name": "clusterlink-network-manager", "namespace": "clusterlink-system"}, "spec": {"selector": {}, "template": {}}},
            {"metadata": {"name": "shop", "namespace": "kosmos-system"}, "spec": {"selector": {}, "template": {}}}]));
        let sets = list(serde_json::json!([
            {"metadata": {"name": "clusterlink-agent", "namespace": "kosmos-system"},
             "status": {"desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": 3}}]));
        let (running, stopped) = programs(&deployments, &sets);
        assert_eq!(
            running,
            [
                "deployment kosmos-system/clusterlink-network-manager",
                "daemonset kosmos-system/clusterlink-agent"
            ]
        );
        assert_eq!(stopped, ["deployment kosmos-system/clusterlink-elector"]);
    }
}
