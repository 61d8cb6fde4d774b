//! `clusterlink-agent`: parses, and calls the library.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a summary is the answer to a command")]

use std::convert::Infallible;
use std::process::ExitCode;

use agent::command::{Arguments, Command, Output};
use agent::last_good::Store;
use agent::look::Status;
use agent::{Known, Options, RealKernel, Report, RunError, Spec};
use anyhow::Context;
use api::NodeId;
use clap::Parser;
use component::{asked_to_end, connect};

fn main() -> ExitCode {
    one_heap();
    let arguments = Arguments::parse();
    if let Err(error) = arguments.log.start() {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One heap for all threads: glibc would make one for each, and what a pass used for a moment would stay in the kernel
/// thread's for ever. None of our threads waits for another one's allocations.
#[expect(unsafe_code, reason = "there is no safe way to tell the allocator")]
fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a setting of the allocator, before there is any other thread.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(command) = &arguments.command {
        return answer(command, arguments);
    }
    let options = Options {
        state_directory: arguments.state_directory.clone(),
        listen: Some(arguments.listen),
        proc_sys_net: arguments.proc_sys_net.clone(),
        api_server: None,
    };
    if let Some(path) = &arguments.config {
        let config = agent::config::load(path)?;
        if arguments.watch {
            return until_signal(|| async move { Ok(agent::watch_file(config, options).await) });
        }
        let report = agent::pass(&mut open(arguments)?, &Spec::validate(&config), &Known::default())?;
        return Ok(say(&report, "changed"));
    }
    let node =
        arguments.node.clone().context("--node (NODE_NAME) is missing: the name of this node's Node")?;
    let cluster =
        arguments.cluster.clone().context("--cluster (CLUSTER_NAME) is missing: the name of this Cluster")?;
    let kubeconfig = arguments.kubeconfig.as_deref();
    let options = Options { api_server: agent::api_server::host(kubeconfig), ..options };
    until_signal(|| async move {
        Ok(agent::run(connect(kubeconfig).await?, NodeId::new(cluster, node), options).await)
    })
}

fn answer(command: &Command, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut kernel = open(arguments)?;
    let store = Store::new(&arguments.state_directory);
    match command {
        Command::Cleanup => {
            let report = agent::cleanup(&mut kernel)?;
            let code = say(&report, "removed");
            store.forget()?;
            Ok(code)
        }
        Command::Status { output } => {
            let status = Status::look(&mut kernel, &store, arguments.listen)?;
            match output {
                Output::Text => print!("{}", status.text()),
                Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
            }
            Ok(if status.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Dump => {
            println!("{}", serde_json::to_string_pretty(&agent::look::dump(&mut kernel)?)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn open(arguments: &Arguments) -> anyhow::Result<RealKernel> {
    RealKernel::open_with(&arguments.proc_sys_net)
        .context("cannot talk to the kernel; this needs CAP_NET_ADMIN")
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

/// Ends with SIGTERM or SIGINT, and leaves the data plane as it is.
fn until_signal<F>(work: impl FnOnce() -> F) -> anyhow::Result<ExitCode>
where
    F: Future<Output = anyhow::Result<Result<Infallible, RunError>>>,
{
    // The kernel has a thread of its own; what is left is waiting.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asked_to_end = asked_to_end()?;
        tokio::select! {
            ended = work() => match ended? {
                Ok(never) => match never {},
                Err(error) => Err(error.into()),
            },
            () = asked_to_end => Ok(ExitCode::SUCCESS),
        }
    })
}
