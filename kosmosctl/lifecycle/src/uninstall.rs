//! `uninstall`: the control cluster is as it was before.

use anyhow::bail;
use api::Cluster;
use clap::Args;
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    connect::{Connection, ControlArgs, Role},
    object::{CLUSTER_NODE, NODE_CONFIG, absent_as_none, said},
    removal,
    say::Say,
    steps::Steps,
    told::joined_as,
    wait::WaitArgs,
    write::{DryRun, Writer},
};

/// Remove the control cluster's part; every cluster has to be unjoined before.
#[derive(Args, Clone, Debug, Default)]
pub struct UninstallArgs {
    /// Where.
    #[command(flatten)]
    pub control: ControlArgs,
    /// Write nothing: client says what would be written, server has the API server check it, too.
    #[arg(long, value_enum, default_value_t = DryRun::None, num_args = 0..=1, default_missing_value = "client", require_equals = true)]
    pub dry_run: DryRun,
    /// How long.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Runs the command.
pub async fn run(args: &UninstallArgs, say: &mut Say) -> anyhow::Result<()> {
    uninstall(&Connection::control(&args.control).await?, args, say).await
}

/// Removes the control cluster's part from a cluster that is spoken to already.
pub async fn uninstall(control: &Connection, args: &UninstallArgs, say: &mut Say) -> anyhow::Result<()> {
    nothing_is_joined(control).await?;
    let writer = Writer::new(control.client.clone(), args.dry_run);
    let mut steps = Steps::new(say, "kosmosctl install");
    steps.begin("remove ClusterLink", control)?;
    let installation = removal::installed(&control.client, Role::Control, true).await;
    let installation = installation.map_err(|error| steps.failed(error))?;
    let was_there = !installation.objects.is_empty();
    removal::events(&mut steps, &writer, |_, _| true).await?;
    removal::remove(&mut steps, &writer, installation, &args.wait).await?;
    removal::settle(&mut steps, &writer, Role::Control, true, &args.wait).await?;
    if !args.dry_run.is_dry() {
        let word = if was_there { "ClusterLink is removed" } else { "there is no ClusterLink here" };
        steps.say.line(word)?;
    }
    Ok(())
}

async fn nothing_is_joined(control: &Connection) -> anyhow::Result<()> {
    let unread =
        |error: kube::Error| anyhow::anyhow!("the control cluster ({}): {}", control.server, said(&error));
    let clusters =
        absent_as_none(Api::<Cluster>::all(control.client.clone()).list(&ListParams::default()).await);
    let clusters = clusters.map_err(unread)?.map(|list| list.items).unwrap_or_default();
    if !clusters.is_empty() {
        let names: Vec<String> = clusters.iter().map(|cluster| cluster.name_any()).collect();
        bail!(
            "clusters are still joined, and their hosts would be left as they are: {}; first run kosmosctl unjoin NAME for each",
            names.join(", ")
        );
    }
    for kind in [CLUSTER_NODE, NODE_CONFIG] {
        let objects = absent_as_none(kind.api(&control.client, None).list(&ListParams::default()).await);
        let objects = objects.map_err(unread)?.map(|list| list.items).unwrap_or_default();
        if let Some(first) = objects.first() {
            bail!(
                "{} {} belong to no Cluster, such as {}: delete them (kubectl delete {}) once nobody needs them",
                objects.len(),
                kind.plural,
                first.name_any(),
                kind.plural
            );
        }
    }
    if let Some(name) = joined_as(&control.client).await.map_err(unread)? {
        bail!(
            "this cluster is itself still a member, as {name:?}: first run kosmosctl unjoin {name} with its own context as --member-context"
        );
    }
    Ok(())
}
