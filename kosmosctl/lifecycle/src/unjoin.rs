//! `unjoin`: a cluster leaves the mesh, and nothing of it stays: not in the others, not on its hosts, not in its API.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use api::{Cluster, ClusterNode, NodeConfig};
use clap::Args;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use serde_json::json;

use crate::{
    connect::{Connection, ControlArgs, MemberArgs, Role},
    join::{cluster_name, is_applied},
    membership,
    object::{CLUSTER, CLUSTER_NODE, NODE_CONFIG, absent_as_none, is_workload, said},
    preflight::IDENTITY,
    removal,
    say::Say,
    steps::Steps,
    told::joined_as,
    wait::{self, Reached, WaitArgs},
    write::{DryRun, Writer},
};

/// The finalizer by which agents hold a NodeConfig until their host is clean.
const AGENTS_FINALIZER: &str = "kosmos.io/clusterlink-agent";

/// Take a cluster out of the mesh.
///
/// First the plan leaves it out, so that the other clusters withdraw their routes; then its agents clean their hosts; then
/// its own objects go, and what the control cluster knows of it. Where the member is gone or does not answer, --force
/// removes it from the control cluster alone.
#[derive(Args, Clone, Debug, Default)]
pub struct UnjoinArgs {
    /// The name of the cluster in the mesh.
    #[arg(value_parser = cluster_name)]
    pub name: String,
    /// Where the mesh is.
    #[command(flatten)]
    pub control: ControlArgs,
    /// Where the member is.
    #[command(flatten)]
    pub member: MemberArgs,
    /// Go on where the member or a host does not answer (within --timeout), and say what stays there. Without a member's
    /// context: do not ask it at all.
    #[arg(long)]
    pub force: bool,
    /// Write nothing: client says what would be written, server has the API server check it, too.
    #[arg(long, value_enum, default_value_t = DryRun::None, num_args = 0..=1, default_missing_value = "client", require_equals = true)]
    pub dry_run: DryRun,
    /// How long.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Runs the command.
pub async fn run(args: &UnjoinArgs, say: &mut Say) -> anyhow::Result<()> {
    let control = Connection::control(&args.control).await?;
    let named = args.member.member_kubeconfig.is_some() || args.member.member_context.is_some();
    let member = match (named, args.force) {
        (false, true) => None,
        (false, false) => bail!(
            "which cluster is {:?}? give --member-context or --member-kubeconfig; where it is gone for good, --force removes it from the mesh alone",
            args.name
        ),
        (true, _) => Some(Connection::member(&args.member, &args.control).await?),
    };
    unjoin(&control, member.as_ref(), args, say).await
}

/// Takes a cluster out; `member` is none where it is not to be asked.
pub async fn unjoin(
    control: &Connection,
    member: Option<&Connection>,
    args: &UnjoinArgs,
    say: &mut Say,
) -> anyhow::Result<()> {
    let name = &args.name;
    if let Some(member) = member {
        is_that_cluster(control, member, name).await?;
    }
    let again = format!("kosmosctl join {name}");
    let mut steps = Steps::new(say, again);
    let above = Writer::new(control.client.clone(), args.dry_run);
    withdraw(&mut steps, control, &above, args, member.is_some()).await?;
    let left = match member {
        Some(member) => leave(&mut steps, control, member, args).await?,
        None => hosts(control, name).await?,
    };
    forget(&mut steps, control, &above, args, !left.is_empty() || member.is_none()).await?;
    if args.dry_run.is_dry() {
        return Ok(());
    }
    steps.say.line(format_args!("cluster {name:?} has left the mesh"))?;
    say_what_stays(&mut steps, &left, member.is_none(), name)
}

/// Refuses to take apart another cluster than the one that bears the name.
async fn is_that_cluster(control: &Connection, member: &Connection, name: &str) -> anyhow::Result<()> {
    let cluster = absent_as_none(Api::<Cluster>::all(control.client.clone()).get(name).await)?;
    let identity = member.identity().await?;
    let known = cluster.and_then(|cluster| cluster.annotations().get(IDENTITY).cloned());
    if let Some(known) = known.filter(|known| *known != identity) {
        bail!(
            "the member cluster ({}) is not cluster {name:?}: its kube-system namespace has uid {identity}, that one's has {known}; give the context of the right one",
            member.server
        );
    }
    let told = joined_as(&member.client).await?;
    if let Some(other) = told.filter(|other| other != name && !other.is_empty()) {
        bail!("the member cluster ({}) is joined as {other:?}, not as {name:?}", member.server);
    }
    Ok(())
}

/// The plan leaves the cluster out: nobody learns of it any more, and everybody withdraws what leads there.
async fn withdraw(
    steps: &mut Steps<'_>,
    control: &Connection,
    above: &Writer,
    args: &UnjoinArgs,
    asks_hosts: bool,
) -> anyhow::Result<()> {
    let name = &args.name;
    steps.begin(format_args!("withdraw cluster {name:?} from the mesh"), control)?;
    let out = json!({"spec": {"clusterLinkOptions": {"enable": false}}});
    let object = CLUSTER.object(None, name);
    let written = above.merge(&object, &out).await;
    steps.settle(above, crate::object::Name::of(&object), written)?;
    if args.dry_run.is_dry() || !asks_hosts {
        return Ok(());
    }
    let withdrawn = wait::until(steps, args.wait.timeout, || withdrawn(control, name)).await;
    match withdrawn {
        Err(error) if args.force => steps.note(format_args!("{error}; going on, by --force")),
        other => other,
    }
}

/// Whether the plan of the cluster's nodes is gone or going. How many others have still to apply theirs is said and not
/// waited for: a node that is away would hold everybody up.
async fn withdrawn(control: &Connection, name: &str) -> Result<Reached, kube::Error> {
    let configs =
        absent_as_none(Api::<NodeConfig>::all(control.client.clone()).list(&ListParams::default()).await)?;
    let configs = configs.map(|list| list.items).unwrap_or_default();
    let (own, others): (Vec<NodeConfig>, Vec<NodeConfig>) =
        configs.into_iter().partition(|config| is_of(config.labels(), name));
    let planned = own.iter().find(|config| config.metadata.deletion_timestamp.is_none());
    if let Some(config) = planned {
        return Ok(Reached::NotYet(format!(
            "the network-manager still plans NodeConfig {} (does it run?)",
            config.name_any()
        )));
    }
    let late = others.iter().filter(|config| config.status.is_some() && !is_applied(config)).count();
    Ok(Reached::Yes(match late {
        0 => "the plan leads there no more, and every other node has applied that".to_owned(),
        late => format!("the plan leads there no more; {late} other nodes have still to apply that"),
    }))
}

fn is_of(labels: &BTreeMap<String, String>, name: &str) -> bool {
    labels.get(api::CLUSTER_LABEL).is_some_and(|label| label == name)
}

/// The hosts are cleaned, then the member's objects go. Returns the hosts that could not be cleaned.
async fn leave(
    steps: &mut Steps<'_>,
    control: &Connection,
    member: &Connection,
    args: &UnjoinArgs,
) -> anyhow::Result<BTreeSet<String>> {
    let name = &args.name;
    let same_cluster = control.identity().await? == member.identity().await?;
    let below = Writer::new(member.client.clone(), args.dry_run);
    steps.begin(format_args!("clean the hosts of cluster {name:?}"), member)?;
    let mut left = BTreeSet::new();
    if !args.dry_run.is_dry() {
        match wait::until(steps, args.wait.timeout, || hosts_are_clean(member, name)).await {
            Ok(()) => {}
            Err(_) if args.force => left = release(steps, member, &below, name).await?,
            Err(error) => return Err(error),
        }
    }
    steps.begin("remove ClusterLink", member)?;
    let alone = !same_cluster;
    let installation =
        removal::installed(&member.client, Role::Member, alone).await.map_err(|error| steps.failed(error))?;
    if !same_cluster {
        // Before their definitions: those may be somebody else's and stay.
        let own = resources(member, name).await.map_err(|error| steps.failed(said(&error)))?;
        // Who would make them anew goes first.
        let (workloads, rest) = split(installation);
        removal::remove(steps, &below, workloads, &args.wait).await?;
        steps.delete(&below, &own).await?;
        removal::events(steps, &below, |_, _| true).await?;
        removal::remove(steps, &below, rest, &args.wait).await?;
    } else {
        removal::remove(steps, &below, installation, &args.wait).await?;
    }
    removal::settle(steps, &below, Role::Member, alone, &args.wait).await?;
    Ok(left)
}

fn split(installation: removal::Installation) -> (removal::Installation, removal::Installation) {
    let (workloads, rest) = installation.objects.into_iter().partition(is_workload);
    (
        removal::Installation { objects: workloads, foreign: Vec::new() },
        removal::Installation { objects: rest, foreign: installation.foreign },
    )
}

async fn own_configs(at: &Connection, name: &str) -> Result<Vec<NodeConfig>, kube::Error> {
    let own = ListParams::default().labels(&format!("{}={name}", api::CLUSTER_LABEL));
    let configs = absent_as_none(Api::<NodeConfig>::all(at.client.clone()).list(&own).await)?;
    Ok(configs.map(|list| list.items).unwrap_or_default())
}

/// An agent takes its finalizer off when its host is clean.
async fn hosts_are_clean(member: &Connection, name: &str) -> Result<Reached, kube::Error> {
    let left = own_configs(member, name).await?;
    let Some(first) = left.first() else {
        return Ok(Reached::Yes("every host is clean".to_owned()));
    };
    let prefix = format!("{name}-");
    let node = first.name_any();
    let node = node.strip_prefix(&prefix).unwrap_or(&node);
    let why = if first.metadata.deletion_timestamp.is_some() {
        format!("the agent of node {node} has not cleaned it yet (does it run?)")
    } else {
        format!("the controller-manager has not withdrawn NodeConfig {} yet (does it run?)", first.name_any())
    };
    Ok(Reached::NotYet(format!("{} hosts are left: {why}; --force leaves them as they are", left.len())))
}

/// Takes the agents' finalizer off what they do not answer for. Returns their nodes.
async fn release(
    steps: &mut Steps<'_>,
    member: &Connection,
    below: &Writer,
    name: &str,
) -> anyhow::Result<BTreeSet<String>> {
    let mut left = BTreeSet::new();
    for config in own_configs(member, name).await.map_err(|error| steps.failed(said(&error)))? {
        let object = NODE_CONFIG.object(None, &config.name_any());
        drop_finalizer(steps, below, &config, &object).await?;
        let node = config.name_any();
        left.insert(node.strip_prefix(&format!("{name}-")).unwrap_or(&node).to_owned());
    }
    Ok(left)
}

async fn drop_finalizer(
    steps: &mut Steps<'_>,
    writer: &Writer,
    config: &NodeConfig,
    object: &DynamicObject,
) -> anyhow::Result<()> {
    let others: Vec<&String> = config.finalizers().iter().filter(|one| *one != AGENTS_FINALIZER).collect();
    if others.len() == config.finalizers().len() {
        return Ok(());
    }
    let written = writer.merge(object, &json!({"metadata": {"finalizers": others}})).await;
    steps.settle(writer, crate::object::Name::of(object), written).map(drop)
}

/// Our resources of the cluster, in its own API or in the control cluster's; of ClusterNodes it is the spec that says whose.
async fn resources(at: &Connection, name: &str) -> Result<Vec<DynamicObject>, kube::Error> {
    let all = ListParams::default();
    let mut found: Vec<DynamicObject> = Vec::new();
    // First: without it nobody makes the others anew.
    if absent_as_none(Api::<Cluster>::all(at.client.clone()).get(name).await)?.is_some() {
        found.push(CLUSTER.object(None, name));
    }
    let configs = own_configs(at, name).await?;
    found.extend(configs.iter().map(|config| NODE_CONFIG.object(None, &config.name_any())));
    let nodes = absent_as_none(Api::<ClusterNode>::all(at.client.clone()).list(&all).await)?;
    let is_own = |node: &&ClusterNode| {
        let of_spec = node.spec.cluster_name.as_deref();
        of_spec == Some(name) || of_spec.is_none() && is_of(node.labels(), name)
    };
    let nodes = nodes.map(|list| list.items).unwrap_or_default();
    found.extend(nodes.iter().filter(is_own).map(|node| CLUSTER_NODE.object(None, &node.name_any())));
    Ok(found)
}

/// The control cluster forgets the cluster; its credential ends with its service account.
async fn forget(
    steps: &mut Steps<'_>,
    control: &Connection,
    above: &Writer,
    args: &UnjoinArgs,
    releases: bool,
) -> anyhow::Result<()> {
    let name = &args.name;
    steps.begin(format_args!("forget cluster {name:?}"), control)?;
    let mut membership = membership::render(name)?;
    membership.reverse();
    // First what it may, so that nothing of what follows is written again.
    steps.delete(above, &membership).await?;
    if releases {
        for config in own_configs(control, name).await.map_err(|error| steps.failed(said(&error)))? {
            let object = NODE_CONFIG.object(None, &config.name_any());
            drop_finalizer(steps, above, &config, &object).await?;
        }
    }
    let own = resources(control, name).await.map_err(|error| steps.failed(said(&error)))?;
    let prefix = format!("{name}-");
    steps.delete(above, &own).await?;
    let nodes: BTreeSet<String> = own.iter().map(ResourceExt::name_any).collect();
    removal::events(steps, above, |kind, of| match kind {
        "Cluster" => of == name,
        _ => nodes.contains(of) && of.starts_with(&prefix),
    })
    .await?;
    if args.dry_run.is_dry() || !args.wait.wait {
        return Ok(());
    }
    wait::until(steps, args.wait.timeout, || async {
        let left = resources(control, name).await?;
        Ok(match left.first() {
            None => Reached::Yes("nothing of it is left".to_owned()),
            Some(first) => Reached::NotYet(format!("{} is being deleted", crate::object::Name::of(first))),
        })
    })
    .await
}

/// The hosts of a cluster that is not asked.
async fn hosts(control: &Connection, name: &str) -> Result<BTreeSet<String>, kube::Error> {
    let nodes =
        absent_as_none(Api::<ClusterNode>::all(control.client.clone()).list(&ListParams::default()).await)?;
    let nodes = nodes.map(|list| list.items).unwrap_or_default();
    let own = nodes.into_iter().filter(|node| node.spec.cluster_name.as_deref() == Some(name));
    Ok(own.filter_map(|node| node.spec.node_name).collect())
}

fn say_what_stays(
    steps: &mut Steps<'_>,
    left: &BTreeSet<String>,
    unasked: bool,
    name: &str,
) -> anyhow::Result<()> {
    if !left.is_empty() {
        let hosts: Vec<&str> = left.iter().map(String::as_str).collect();
        steps.say.remark(format_args!(
            "these hosts still carry devices, routes and rules of ClusterLink: {}; run `clusterlink-agent cleanup` as root on each, it needs no API",
            hosts.join(", ")
        ))?;
    }
    if unasked {
        steps.say.remark(format_args!(
            "the member was not asked: if its API server ever answers again, finish with kosmosctl unjoin {name} --member-context CONTEXT"
        ))?;
    }
    Ok(())
}
