//! The binary: reads flags, connects, lives.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use component::{
    Daemon, Liveness, LogOptions, Readiness, Registry, asked_to_end, connect, election::ElectionOptions,
};
use network_manager::{Config, FIELD_MANAGER, Metrics, TURNS_WITHIN, run};

/// Plans the network of every node of the mesh and writes the NodeConfigs that differ.
#[derive(Parser)]
#[command(name = "clusterlink-network-manager", version)]
struct Arguments {
    /// Kubeconfig of the control cluster; the service account of the pod where none is given.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS", env = "LISTEN", default_value = "0.0.0.0:9872")]
    listen: SocketAddr,
    #[command(flatten)]
    election: ElectionOptions,
    #[command(flatten)]
    log: LogOptions,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    arguments.log.start()?;
    let client = connect(arguments.kubeconfig.as_deref()).await?;
    let (candidate, leadership) = arguments.election.stand(&client, FIELD_MANAGER)?;
    let mut registry = Registry::with_prefix("clusterlink_network_manager");
    registry.register_collector(Box::new(leadership.clone()));
    let metrics = Metrics::register(&mut registry);
    let (liveness, readiness) = (Liveness::within(TURNS_WITHIN), Readiness::waiting_for("its first turn"));
    let config =
        Config { client, leadership, metrics, liveness: liveness.clone(), readiness: readiness.clone() };
    let daemon = Daemon { listen: arguments.listen, registry, liveness, readiness, candidate };
    daemon.live(run(config), asked_to_end()?).await;
    Ok(())
}
