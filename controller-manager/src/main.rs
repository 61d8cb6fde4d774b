//! The binary: reads flags, connects, runs.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use controller_manager::{Config, connect::connect, run};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

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
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Which log lines: a level, or directives as in RUST_LOG.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log_level: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_new(&arguments.log_level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let member = connect(arguments.kubeconfig.as_deref()).await?;
    let control = match &arguments.control_kubeconfig {
        Some(path) => connect(Some(path)).await?,
        None => member.clone(),
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    run(Config { cluster: arguments.cluster, member, control }, shutdown).await;
    Ok(())
}
