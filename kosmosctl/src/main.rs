//! kosmosctl: the person's way in. Only the dispatch is here; what a command does is in its own module.
//!
//! `main` starts no thread: `sandbox supervise` and `sandbox exec` change the namespaces of the whole process.

mod completion;
mod demo;
mod mesh;
mod plan;
mod sandbox;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Joins the pod and service networks of several Kubernetes clusters.
#[derive(Parser)]
#[command(name = "kosmosctl", version, about, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Mesh(mesh::Command),
    Plan(plan::PlanArgs),
    /// Build whole clusters out of network namespaces on this machine.
    #[command(subcommand)]
    Sandbox(sandbox::Command),
    /// Build a sandbox, show that every pair of clusters is connected, and remove it.
    Demo(demo::Args),
    /// Print a script that completes commands and options, for a shell to source.
    Completion(completion::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Mesh(command) => mesh::run(&command),
        Command::Plan(args) => plan::run(args),
        Command::Sandbox(command) => sandbox::run(command),
        Command::Demo(args) => demo::run(&args),
        Command::Completion(args) => completion::run(&args),
    };
    result.unwrap_or_else(|error| {
        report(&error);
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stderr, reason = "the last word of a command that failed")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {}", lifecycle::object::in_one_line(error));
}
