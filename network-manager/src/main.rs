//! The binary: reads flags, connects, runs.

use std::path::PathBuf;

use clap::Parser;
use component::{LogOptions, asked_to_end, connect};

/// Plans the network of every node of the mesh and writes the NodeConfigs that differ.
#[derive(Parser)]
#[command(name = "clusterlink-network-manager", version)]
struct Arguments {
    /// Kubeconfig of the control cluster; the service account of the pod where none is given.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    log: LogOptions,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    arguments.log.start()?;
    let client = connect(arguments.kubeconfig.as_deref()).await?;
    network_manager::run(client, asked_to_end()?).await;
    Ok(())
}
