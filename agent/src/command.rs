//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use component::LogOptions;

/// Makes this node's kernel equal to its NodeConfig, and keeps it so.
#[derive(Clone, Debug, Parser)]
#[command(name = "clusterlink-agent", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Apply a NodeConfig from this file once, without any API; no other name is needed then.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of this node's Node object.
    #[arg(long, env = "NODE_NAME")]
    pub node: Option<String>,
    /// Name of this cluster's Cluster object.
    #[arg(long, env = "CLUSTER_NAME")]
    pub cluster: Option<String>,
    /// Kubeconfig of this cluster; without it the one of the pod's service account.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// With --config: stay, and repair what somebody else changes.
    #[arg(long, requires = "config")]
    pub watch: bool,
    /// The log.
    #[command(flatten)]
    pub log: LogOptions,
}

/// What to do instead of running.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Remove everything of ClusterLink from this host's kernel, and nothing else. Needs no API.
    Cleanup,
}
