//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use component::LogOptions;

use crate::PROC_SYS_NET;

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
    /// Where the last good NodeConfig is kept, with which a node begins that boots while no API answers.
    #[arg(
        long,
        value_name = "DIR",
        env = "STATE_DIRECTORY",
        default_value = "/var/lib/clusterlink",
        global = true
    )]
    pub state_directory: PathBuf,
    /// Serve /livez, /readyz and /metrics here.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9870", global = true)]
    pub listen: SocketAddr,
    /// Where the settings of network devices are; in a container /proc/sys is often read-only.
    #[arg(long, value_name = "DIR", default_value = PROC_SYS_NET, global = true)]
    pub proc_sys_net: PathBuf,
    /// The log.
    #[command(flatten)]
    pub log: LogOptions,
}

/// What to do instead of running.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Remove everything of ClusterLink from this host's kernel, and nothing else. Needs no API.
    Cleanup,
    /// Compare this host's kernel with the last good NodeConfig, and ask the agent that runs here. Needs no API.
    Status {
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print what of ClusterLink is in this host's kernel, and what of the host it depends on, as JSON.
    Dump,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}
