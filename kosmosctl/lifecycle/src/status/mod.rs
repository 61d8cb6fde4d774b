//! `status`: is it well? Every cluster and node, what the components say of them, and who says nothing.

mod judge;
mod text;

use std::collections::BTreeMap;

use api::{Cluster, ClusterNode, NetworkType, NodeConfig};
use clap::{Args, ValueEnum};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::{Node, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, ObjectList},
};
use serde::Serialize;

use crate::{
    connect::{Connection, ControlArgs, MembersArgs, Role},
    manifest::NAMESPACE,
    object::{absent_as_none, said},
    print,
    say::Say,
    told::joined_as,
    version,
};

/// Say whether the mesh is well; the exit status is 0 only where it is.
///
/// What the control cluster knows is enough for clusters, nodes and what differs on them. With contexts of members their
/// versions and pods are looked at, too.
#[derive(Args, Clone, Debug, Default)]
pub struct StatusArgs {
    /// Where the mesh is.
    #[command(flatten)]
    pub control: ControlArgs,
    /// Whom to look into.
    #[command(flatten)]
    pub members: MembersArgs,
    /// Only this cluster.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t = StatusOutput::Text)]
    pub output: StatusOutput,
}

/// How a status is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StatusOutput {
    /// Tables, and what is wrong.
    #[default]
    Text,
    /// One YAML document.
    Yaml,
    /// One JSON document.
    Json,
}

/// How a mesh is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Whether nothing is wrong.
    pub well: bool,
    /// Components of the control cluster and of the members that were asked.
    pub components: Vec<Component>,
    /// Every cluster.
    pub clusters: Vec<ClusterState>,
    /// Every node.
    pub nodes: Vec<NodeState>,
    /// What is wrong.
    pub problems: Vec<String>,
    /// What works, with less than one might think.
    pub notices: Vec<String>,
}

/// A workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// The cluster: `control`, or a member's name.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Its version, where it says one.
    pub version: Option<String>,
    /// How many pods are available.
    pub available: i32,
    /// How many there should be.
    pub wanted: i32,
}

/// A cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterState {
    /// Its name.
    pub name: String,
    /// p2p or gateway.
    pub mode: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// How many of them carry the overlay as planned.
    pub applied: usize,
    /// Its pod CIDRs.
    pub pod_cidrs: Vec<String>,
    /// Its service CIDRs.
    pub service_cidrs: Vec<String>,
    /// Conditions that are not true, with their messages.
    pub conditions: BTreeMap<String, String>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Its cluster.
    pub cluster: String,
    /// Its name there.
    pub node: String,
    /// Its underlay addresses.
    pub addresses: Vec<String>,
    /// Whether its cluster's traffic to others passes here.
    pub gateway: bool,
    /// In one word or two.
    pub state: String,
    /// Kernel objects that should be there.
    pub entries: Option<u64>,
    /// What differs there, each with the kernel's answer.
    pub differing: Vec<String>,
    /// Conditions that are not true, with their messages.
    pub conditions: BTreeMap<String, String>,
}

/// Everything that a status is made of.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) nodes: Vec<ClusterNode>,
    pub(crate) configs: Vec<NodeConfig>,
    pub(crate) components: Vec<Component>,
    /// Nodes of a member that was asked, with whether a ready agent is there.
    pub(crate) agents: BTreeMap<(String, String), bool>,
    /// What could not be read, or is not there.
    pub(crate) missing: Vec<String>,
}

impl Facts {
    /// How a cluster takes part.
    fn mode(&self, cluster: &str) -> Option<NetworkType> {
        let cluster = self.clusters.iter().find(|other| other.name_any() == cluster)?;
        cluster.spec.cluster_link_options.as_ref().map(|options| options.network_type)
    }
}

/// Runs the command; says whether the mesh is well.
pub async fn run(args: &StatusArgs, say: &mut Say) -> anyhow::Result<bool> {
    let control = Connection::control(&args.control).await?;
    let members = Connection::members(&args.members, &args.control).await?;
    let status = status(&control, &members, args.cluster.as_deref()).await?;
    say.text(&match args.output {
        StatusOutput::Text => text::render(&status),
        StatusOutput::Yaml => print::yaml(&status)?,
        StatusOutput::Json => serde_json::to_string_pretty(&status)? + "\n",
    })?;
    Ok(status.well)
}

/// How the mesh of clusters that are spoken to already is.
pub async fn status(
    control: &Connection,
    members: &[Connection],
    only: Option<&str>,
) -> anyhow::Result<Status> {
    let facts = read(control, members).await.map_err(|error| {
        anyhow::anyhow!("the control cluster ({}, {}): {}", control.server, control.from, said(&error))
    })?;
    Ok(judge::judge(facts, only))
}

async fn read(control: &Connection, members: &[Connection]) -> Result<Facts, kube::Error> {
    let mut facts = Facts::default();
    let all = ListParams::default();
    let Some(clusters) = absent_as_none(Api::<Cluster>::all(control.client.clone()).list(&all).await)? else {
        facts.missing.push(format!(
            "{} serves no Clusters: is it the control cluster? kosmosctl install makes it one",
            control.server
        ));
        return Ok(facts);
    };
    facts.clusters = clusters.items;
    facts.nodes = Api::<ClusterNode>::all(control.client.clone()).list(&all).await?.items;
    facts.configs = Api::<NodeConfig>::all(control.client.clone()).list(&all).await?.items;
    workloads(control, "control", Role::Control, &mut facts).await?;
    for member in members {
        if let Err(error) = look_into(member, &mut facts).await {
            facts.missing.push(format!(
                "the member cluster ({}, {}): {}",
                member.server,
                member.from,
                said(&error)
            ));
        }
    }
    Ok(facts)
}

async fn look_into(member: &Connection, facts: &mut Facts) -> Result<(), kube::Error> {
    let Some(name) = joined_as(&member.client).await? else {
        facts.missing.push(format!("the member cluster ({}, {}) is not joined", member.server, member.from));
        return Ok(());
    };
    workloads(member, &name, Role::Member, facts).await?;
    let nodes = Api::<Node>::all(member.client.clone()).list(&ListParams::default()).await?;
    let agents = ListParams::default().labels("app.kubernetes.io/name=clusterlink-agent");
    let pods = Api::<Pod>::namespaced(member.client.clone(), NAMESPACE).list(&agents).await?;
    for node in nodes {
        let node = node.name_any();
        let ready = has_ready_agent(&pods, &node);
        facts.agents.insert((name.clone(), node), ready);
    }
    Ok(())
}

fn has_ready_agent(pods: &ObjectList<Pod>, node: &str) -> bool {
    pods.iter().any(|pod| {
        let here = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        here && conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

async fn workloads(at: &Connection, cluster: &str, role: Role, facts: &mut Facts) -> Result<(), kube::Error> {
    let speaker = version::speaker(role);
    let deployments = Api::<Deployment>::namespaced(at.client.clone(), NAMESPACE);
    let version = version::installed(at, role).await?.and_then(|installed| installed.version);
    let version = version.map(|version| version.to_string());
    match absent_as_none(deployments.get(speaker).await)? {
        None => {
            facts.missing.push(format!("cluster {cluster}: there is no Deployment {NAMESPACE}/{speaker}"))
        }
        Some(deployment) => facts.components.push(Component {
            cluster: cluster.to_owned(),
            name: speaker.to_owned(),
            version: version.clone(),
            available: deployment.status.and_then(|status| status.available_replicas).unwrap_or(0),
            wanted: deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1),
        }),
    }
    if role == Role::Control {
        return Ok(());
    }
    let sets = Api::<DaemonSet>::namespaced(at.client.clone(), NAMESPACE);
    match absent_as_none(sets.get("clusterlink-agent").await)? {
        None => facts
            .missing
            .push(format!("cluster {cluster}: there is no DaemonSet {NAMESPACE}/clusterlink-agent")),
        Some(set) => {
            let status = set.status.clone().unwrap_or_default();
            facts.components.push(Component {
                cluster: cluster.to_owned(),
                name: "clusterlink-agent".to_owned(),
                version: set.labels().get(crate::manifest::VERSION_LABEL).cloned().or(version),
                available: status.number_available.unwrap_or(0),
                wanted: status.desired_number_scheduled,
            });
        }
    }
    Ok(())
}
