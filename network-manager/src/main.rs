//! The binary: reads flags, connects, runs.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Plans the network of every node of the mesh and writes the NodeConfigs that differ.
#[derive(Parser)]
#[command(name = "clusterlink-network-manager", version)]
struct Arguments {
    /// Kubeconfig of the control cluster; the service account of the pod where none is given.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
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
    let client = connect(arguments.kubeconfig).await?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    network_manager::run(client, shutdown).await;
    Ok(())
}

async fn connect(kubeconfig: Option<PathBuf>) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => {
            let of_file = || format!("--kubeconfig {}", path.display());
            let kubeconfig = Kubeconfig::read_from(&path).with_context(of_file)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(of_file)?
        }
        None => Config::incluster().context("no --kubeconfig was given, and this does not run in a pod")?,
    };
    Client::try_from(config).context("the control cluster's API cannot be spoken to")
}
