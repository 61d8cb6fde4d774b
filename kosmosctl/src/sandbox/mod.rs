//! `kosmosctl sandbox`: the sandbox as a tool.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod scenario;
mod status;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use ::sandbox::matrix::{MatrixOptions, Scope};
use ::sandbox::state::StateDir;
use ::sandbox::supervisor::{SuperviseOptions, supervise};
use ::sandbox::{Sandbox, UpOptions, client};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};

pub(crate) use scenario::ScenarioArgs;
pub(crate) use status::print_text as print_status;

/// How long the controllers and agents have for their first complete pass.
const APPLIED_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Build a sandbox and leave it running.
    Up(UpArgs),
    /// Show what a sandbox is made of and how its processes are.
    Status(status::StatusArgs),
    /// Run a command on a node, in a pod, in the root namespace or outside.
    Exec(ExecArgs),
    /// Ask everything from everywhere: exit status 0 only if every payload comes back from the right source.
    Matrix(MatrixArgs),
    /// Print the output of one of the processes, or the names of all.
    Logs(LogsArgs),
    /// Print the path of a cluster's kubeconfig.
    Kubeconfig(KubeconfigArgs),
    /// Remove a sandbox.
    Down(NameArgs),
    /// Be a sandbox.
    #[command(hide = true)]
    Supervise(SuperviseArgs),
}

#[derive(Args)]
pub(crate) struct NameArgs {
    /// Which sandbox.
    #[arg(short, long, default_value = "default")]
    name: String,
}

#[derive(Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Build the clusters, but start no controller and no agent.
    #[arg(long)]
    without_components: bool,
    /// Do not wait until every NodeConfig is applied.
    #[arg(long)]
    no_wait: bool,
    /// Stay, and take the sandbox down at Ctrl-C.
    #[arg(long)]
    foreground: bool,
}

#[derive(Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    name: NameArgs,
    /// A node (a1, a/node1), a pod (a1-pod1), root or outside.
    place: String,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Args)]
pub(crate) struct MatrixArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Ask within each cluster and the outside as well.
    #[arg(long)]
    own: bool,
    /// Exchanges per cell, each from its own source port.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    flows: u32,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = status::Output::Text)]
    output: status::Output,
}

#[derive(Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Name of the process: agent-a1, controller-manager-a, network-manager, netperf-a1-pod1, supervisor.
    process: Option<String>,
}

#[derive(Args)]
pub(crate) struct KubeconfigArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Name of the cluster, or `control`.
    #[arg(default_value = "control")]
    cluster: String,
}

#[derive(Args)]
pub(crate) struct SuperviseArgs {
    #[command(flatten)]
    name: NameArgs,
    #[arg(long)]
    without_components: bool,
    #[arg(long)]
    lifeline: bool,
}

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(args) => up(args),
        Command::Status(args) => status::print(&args),
        Command::Exec(args) => Ok(client::exec(&args.name.name, &args.place, &args.command)?),
        Command::Matrix(args) => matrix(&args),
        Command::Logs(args) => logs(&args),
        Command::Kubeconfig(args) => kubeconfig(&args),
        Command::Down(args) => down(&args),
        Command::Supervise(args) => Ok(supervise(&SuperviseOptions {
            name: args.name.name,
            without_components: args.without_components,
            lifeline: args.lifeline,
        })),
    }
}

fn up(args: UpArgs) -> Result<ExitCode> {
    let scenario = args.scenario.scenario()?;
    let options = UpOptions {
        without_components: args.without_components,
        detached: !args.foreground,
        ..UpOptions::named(args.name.name)
    };
    let up = Sandbox::up(&scenario, &options, |step| eprintln!("{step}"));
    let sandbox = up.inspect_err(|_| forget_if_silent(&options.name))?;
    if !args.without_components && !args.no_wait {
        eprintln!("waiting for every NodeConfig to be applied");
        sandbox.wait_applied(APPLIED_TIMEOUT)?;
    }
    status::print_text(&sandbox)?;
    if args.foreground {
        eprintln!("Ctrl-C takes it down");
        crate::demo::interrupted()?;
        sandbox.down()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a supervisor that ended without a word leaves is not worth reading, nor keeping.
fn forget_if_silent(name: &str) {
    let Ok(state) = StateDir::of(name) else { return };
    let is_silent = state.log("supervisor").metadata().is_ok_and(|log| log.len() == 0);
    if is_silent && state.is_up().is_ok_and(|up| !up) {
        // What it cannot remove, the next `up` of the name does.
        let _ = client::down(name);
    }
}

fn matrix(args: &MatrixArgs) -> Result<ExitCode> {
    let sandbox = Sandbox::attach(&args.name.name)?;
    let scope = Scope { remote: true, own: args.own };
    let matrix = sandbox.matrix(&MatrixOptions { scope, flows: args.flows, ..MatrixOptions::default() })?;
    match args.output {
        status::Output::Json => println!("{}", serde_json::to_string_pretty(&matrix)?),
        status::Output::Text => {
            println!("{}\n{}", matrix.by_place(), matrix.by_class());
            print!("{}", matrix.failures());
            matrix.skipped.iter().for_each(|skipped| println!("left out: {skipped}"));
            println!(
                "{} of {} exchanges ok",
                matrix.cells.len() - matrix.failed().count(),
                matrix.cells.len()
            );
        }
    }
    Ok(if matrix.all_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn logs(args: &LogsArgs) -> Result<ExitCode> {
    let state = StateDir::of(&args.name.name)?;
    state.must_be_up()?;
    let Some(process) = &args.process else {
        for process in state.status()?.processes {
            println!("{}", process.name);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let path = state.log(process);
    let text = std::fs::read(&path).with_context(|| {
        format!("process {process:?}: {}: see `kosmosctl sandbox logs` for their names", path.display())
    })?;
    std::io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn kubeconfig(args: &KubeconfigArgs) -> Result<ExitCode> {
    let state = StateDir::of(&args.name.name)?;
    state.must_be_up()?;
    let apis = state.status()?.apis;
    let Some(api) = apis.iter().find(|api| api.cluster == args.cluster) else {
        let known: Vec<&str> = apis.iter().map(|api| api.cluster.as_str()).collect();
        anyhow::bail!(
            "sandbox {:?} has no cluster {:?}; there are {}",
            args.name.name,
            args.cluster,
            known.join(", ")
        );
    };
    println!("{}", api.kubeconfig.display());
    Ok(ExitCode::SUCCESS)
}

fn down(args: &NameArgs) -> Result<ExitCode> {
    if client::down(&args.name)? {
        eprintln!("sandbox {:?} is down", args.name);
    } else {
        eprintln!("sandbox {:?} was not up", args.name);
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_log_with_words_in_it_is_kept() {
        let name = format!("silent-{}", std::process::id());
        let state = StateDir::of(&name).unwrap();
        for (words, kept) in [("cannot create a namespace\n", true), ("", false)] {
            drop(state.claim().unwrap());
            std::fs::write(state.log("supervisor"), words).unwrap();
            forget_if_silent(&name);
            assert_eq!(state.path().exists(), kept, "{words:?}");
        }
    }
}
