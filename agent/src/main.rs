//! `clusterlink-agent`: parses, and calls the library.
#![expect(clippy::print_stdout, reason = "a summary is the answer to a command")]

use std::process::ExitCode;

use agent::command::{Arguments, Command, LogFormat};
use agent::{RealKernel, Report, Spec};
use anyhow::Context;
use clap::Parser;

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
        let spec = Spec::validate(&agent::config::load(path)?);
        let mut kernel = open()?;
        let report = agent::pass(&mut kernel, &spec, &[])?;
        return Ok(say(&report, "changed"));
    }
    anyhow::bail!("nothing to do: give --config FILE, or the command cleanup")
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
    println!("{} objects desired, {} {verb}, {} differing", report.desired, report.changed, report.differing.len());
    if report.is_applied() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
