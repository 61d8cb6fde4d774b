//! `clusterlink-agent`: parses, and calls the library.
#![expect(clippy::print_stdout, reason = "a summary is the answer to a command")]

use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;

use agent::command::{Arguments, Command, LogFormat};
use agent::{RealKernel, Report, RunError, Spec};
use anyhow::Context;
use api::NodeId;
use clap::Parser;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(&arguments);
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(arguments: &Arguments) {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::new(&arguments.log_level));
    match arguments.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(Command::Cleanup) = arguments.command {
        let report = agent::cleanup(&mut open()?)?;
        return Ok(say(&report, "removed"));
    }
    if let Some(path) = &arguments.config {
        let config = agent::config::load(path)?;
        if arguments.watch {
            return until_signal(|| async move { Ok(agent::watch_file(&config).await) });
        }
        let report = agent::pass(&mut open()?, &Spec::validate(&config), &[])?;
        return Ok(say(&report, "changed"));
    }
    let node =
        arguments.node.clone().context("--node (NODE_NAME) is missing: the name of this node's Node")?;
    let cluster =
        arguments.cluster.clone().context("--cluster (CLUSTER_NAME) is missing: the name of this Cluster")?;
    let kubeconfig = arguments.kubeconfig.as_deref();
    until_signal(
        || async move { Ok(agent::run(client(kubeconfig).await?, NodeId::new(cluster, node)).await) },
    )
}

fn open() -> anyhow::Result<RealKernel> {
    RealKernel::open().context("cannot talk to the kernel; this needs CAP_NET_ADMIN")
}

fn say(report: &Report, verb: &str) -> ExitCode {
    for difference in &report.differing {
        println!("differs: {difference}");
    }
    for notice in report.notices.iter().chain(&report.unsupported) {
        println!("notice: {notice}");
    }
    println!(
        "{} objects desired, {} {verb}, {} differing",
        report.desired,
        report.changed,
        report.differing.len()
    );
    if report.is_applied() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<kube::Client> {
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
        None => Config::incluster().context("no --kubeconfig, and not in a pod")?,
    };
    kube::Client::try_from(config).context("cannot make a client of the kubeconfig")
}

/// Ends with SIGTERM or SIGINT, and leaves the data plane as it is.
fn until_signal<F>(work: impl FnOnce() -> F) -> anyhow::Result<ExitCode>
where
    F: Future<Output = anyhow::Result<Result<Infallible, RunError>>>,
{
    // The kernel has a thread of its own; what is left is waiting.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            ended = work() => match ended? {
                Ok(never) => match never {},
                Err(error) => Err(error.into()),
            },
            _ = terminate.recv() => Ok(ExitCode::SUCCESS),
            _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
        }
    })
}
