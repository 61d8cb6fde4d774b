//! The binary: reads flags, connects, runs.

use std::path::PathBuf;

use clap::Parser;
use component::{LogOptions, asked_to_end, connect};
use controller_manager::{Config, run};

/// Publishes one member cluster to the mesh, and mirrors the mesh's plan for its nodes into it.
#[derive(Parser)]
#[command(name = "clusterlink-controller-manager", version)]
struct Arguments {
    /// Name of this member's Cluster object.
    #[arg(long, env = "CLUSTER_NAME")]
    cluster: String,
    /// Kubeconfig of the member; the service account of the pod where none is given.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Kubeconfig of the control cluster; where none is given the member is the control cluster.
    #[arg(long, env = "CONTROL_KUBECONFIG")]
    control_kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    log: LogOptions,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    arguments.log.start()?;
    let member = connect(arguments.kubeconfig.as_deref()).await?;
    let control = match &arguments.control_kubeconfig {
        Some(path) => connect(Some(path)).await?,
        None => member.clone(),
    };
    run(Config { cluster: arguments.cluster, member, control }, asked_to_end()?).await;
    Ok(())
}
