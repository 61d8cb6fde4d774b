//! `kosmosctl demo`: builds a sandbox, shows what it is, who reaches whom, and what the ways cost, and removes it.
#![expect(clippy::print_stdout, reason = "a command line prints")]

mod display;
mod interrupt;
mod rtt;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use sandbox::matrix::{Matrix, MatrixOptions};
use sandbox::{Sandbox, UpOptions};

use display::Display;
use interrupt::TakesDown;
pub(crate) use interrupt::interrupted;

/// How long the controllers and agents have for their first complete pass.
const APPLIED_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the sandbox [default: demo-PID].
    #[arg(short, long)]
    name: Option<String>,
    #[command(flatten)]
    scenario: crate::sandbox::ScenarioArgs,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let name = args.name.clone().unwrap_or_else(|| format!("demo-{}", std::process::id()));
    let takes_down = TakesDown::at_interrupt(&name)?;
    let result = show(args, &name);
    takes_down.unless_interrupted();
    result
}

fn show(args: &Args, name: &str) -> Result<ExitCode> {
    let start = Instant::now();
    let display = Display::new(start);
    let scenario = args.scenario.scenario()?;
    let sandbox = Sandbox::up(&scenario, &UpOptions::named(name), |step| display.step(step))?;
    display.step("waiting for every NodeConfig to be applied");
    sandbox.wait_applied(APPLIED_TIMEOUT)?;
    display.pause(|| {
        println!("\nBuilt and applied in {:.1} s:\n", start.elapsed().as_secs_f64());
        crate::sandbox::print_status(&sandbox)
    })?;
    display.step("asking every pod, host and service from every other cluster");
    let matrix = sandbox.matrix(&MatrixOptions::default())?;
    display.pause(|| {
        print_matrix(&matrix);
        Ok(())
    })?;
    display.step("comparing round-trip times");
    let rtt = rtt::measure(&sandbox)?;
    display.pause(|| {
        println!("{rtt}");
        Ok(())
    })?;
    display.step("removing everything");
    sandbox.down()?;
    display.step("done");
    display.finish();
    println!("{}", verdict(&matrix, start.elapsed()));
    Ok(if matrix.all_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_matrix(matrix: &Matrix) {
    println!("\nWho reaches whom (fastest round trip of TCP, UDP and ICMP over every family, in µs):\n");
    println!("{}", matrix.by_place());
    println!("{}", matrix.by_class());
    print!("{}", matrix.failures());
    for skipped in &matrix.skipped {
        println!("left out: {skipped}");
    }
}

fn verdict(matrix: &Matrix, elapsed: Duration) -> String {
    let (all, failed) = (matrix.cells.len(), matrix.failed().count());
    let seconds = elapsed.as_secs_f64();
    if matrix.all_ok() {
        return format!(
            "all {all} exchanges between clusters came back, each from the right source ({seconds:.1} s in all)"
        );
    }
    format!(
        "{failed} of {all} exchanges FAILED, {} ends lack an address ({seconds:.1} s in all)",
        matrix.missing.len()
    )
}
