//! Probes between pods of two clusters while a scenario goes on: four flows at 1 kHz in both directions, one for each
//! mode and family.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::{Family, NetworkType};
use netperf::outage::{OutageReport, ProbeOptions};
use netperf::target::Target;
use sandbox::Sandbox;

use crate::programs::Programs;

/// A packet that was on its way for so long is late.
const LATE: Duration = Duration::from_millis(100);
/// How long answers may take at the end.
const WAIT: Duration = Duration::from_secs(1);

/// From where to where.
#[derive(Debug, Clone)]
pub struct Way {
    /// The pod that asks.
    pub from: String,
    /// The pod or service that answers.
    pub to: String,
    /// Its addresses, one flow each.
    pub addresses: Vec<IpAddr>,
    /// What carries it.
    pub mode: NetworkType,
}

/// One flow's account.
#[derive(Debug)]
pub struct Flow {
    /// From where to where.
    pub way: Way,
    /// By which family.
    pub family: Family,
    /// What became of its packets.
    pub report: OutageReport,
}

/// Running probes. They end when this is dropped.
#[derive(Debug)]
pub struct Probes(Vec<Running>);

#[derive(Debug)]
struct Running {
    way: Way,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Probes {
    /// Starts a probe for each way, and waits until packets flow.
    ///
    /// # Errors
    /// A probe does not start.
    pub fn start(sandbox: &Sandbox, programs: &Programs, ways: &[Way], rate: u32) -> Result<Self> {
        let mut running =
            ways.iter().map(|way| spawn(sandbox, programs, way, rate)).collect::<Result<Vec<_>>>()?;
        for probe in &mut running {
            let mut line = String::new();
            probe.output.read_line(&mut line)?;
            if line.trim() != "started" {
                bail!("the probe in {} does not start: it says {line:?}", probe.way.from);
            }
        }
        Ok(Probes(running))
    }

    /// Ends them, and tells what became of every packet.
    ///
    /// # Errors
    /// A probe failed.
    pub fn stop(self) -> Result<Vec<Flow>> {
        // all are told first: none goes on while another one waits for its last answers
        let told: Vec<_> = self
            .0
            .into_iter()
            .map(|Running { way, child, input, output }| {
                drop(input);
                (way, child, output)
            })
            .collect();
        let mut flows = Vec::new();
        for (way, mut child, output) in told {
            for line in output.lines() {
                let report: OutageReport = serde_json::from_str(&line?)
                    .with_context(|| format!("what the probe in {} said is no report", way.from))?;
                flows.push(Flow { way: way.clone(), family: Family::of(report.address.ip()), report });
            }
            let status = child.wait()?;
            if !status.success() {
                bail!("the probe in {} failed: {status}", way.from);
            }
        }
        Ok(flows)
    }
}

fn spawn(sandbox: &Sandbox, programs: &Programs, way: &Way, rate: u32) -> Result<Running> {
    let target = |address: &IpAddr| Target::new(way.to.clone(), *address);
    let targets = way.addresses.iter().map(target).collect();
    let options = ProbeOptions { targets, rate, late: LATE, wait: WAIT };
    let program = programs.path("clusterlink-netperf").display().to_string();
    // before everybody else: what the sender sleeps through is not measured. Without the privilege it runs all the same.
    let argv = ["nice", "-n", "-15"].map(str::to_owned).into_iter().chain([program]).chain(options.to_args());
    let mut child = sandbox
        .command(&way.from, argv)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start a probe in {}", way.from))?;
    let input = child.stdin.take().context("its input is a pipe")?;
    let output = BufReader::new(child.stdout.take().context("its output is a pipe")?);
    Ok(Running { way: way.clone(), child, input, output })
}
