//! Reachability, RTT, throughput and outage measurement between pods and nodes.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use netperf::cli::{Cli, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command, &mut io::stdout().lock()) {
        Ok(status) => status,
        Err(error) => {
            // without a standard error there is nobody left to tell
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}
