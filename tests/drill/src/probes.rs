//! Probes between pods of two clusters while a scenario goes on, for each mode and family: packets at 1 kHz in both directions,
//! and connections over TCP.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::{Family, NetworkType};
use netperf::outage::{OutageReport, ProbeOptions};
use netperf::stream::{StreamOptions, StreamReport};
use netperf::target::Target;
use sandbox::Sandbox;

use crate::programs::Programs;

/// A packet that was on its way for so long is late.
const LATE: Duration = Duration::from_millis(100);
/// How long answers may take at the end; where every packet is answered, nobody waits so long.
const WAIT: Duration = Duration::from_secs(10);
/// A connection on which nothing comes through for so long has not survived.
const GIVEN_UP: Duration = Duration::from_secs(20);
/// From one exchange of a connection to the next, and its bytes: more than one segment each way, and little enough that forty
/// connections of a debug build leave the machine to the packets.
const BEAT: Duration = Duration::from_millis(50);
const BYTES: u32 = 2000;

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
    /// Connections over TCP to each of the addresses.
    pub connections: u32,
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

/// One connection's account.
#[derive(Debug)]
pub struct Stream {
    /// From where to where.
    pub way: Way,
    /// By which family.
    pub family: Family,
    /// What became of it.
    pub report: StreamReport,
}

/// What the probes have seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of packets.
    pub flows: Vec<Flow>,
    /// Of connections.
    pub streams: Vec<Stream>,
}

impl Seen {
    /// What was seen on ways of this mode, and the rest.
    pub fn partition(self, mode: NetworkType) -> (Self, Self) {
        let (flows, other_flows) = self.flows.into_iter().partition(|flow| flow.way.mode == mode);
        let (streams, other_streams) = self.streams.into_iter().partition(|stream| stream.way.mode == mode);
        (Seen { flows, streams }, Seen { flows: other_flows, streams: other_streams })
    }
}

/// Running probes. They end when this is dropped.
#[derive(Debug)]
pub struct Probes(Vec<Running>);

/// What a probe sends.
#[derive(Debug, Clone, Copy)]
enum Sends {
    Packets,
    Streams,
}

#[derive(Debug)]
struct Running {
    way: Way,
    sends: Sends,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Probes {
    /// Starts the probes of each way, and waits until packets flow.
    ///
    /// # Errors
    /// A probe does not start.
    pub fn start(sandbox: &Sandbox, programs: &Programs, ways: &[Way], rate: u32) -> Result<Self> {
        let both = |way| [(way, Sends::Packets), (way, Sends::Streams)];
        let spawn = |(way, sends)| spawn(sandbox, programs, way, sends, rate);
        let mut running = ways.iter().flat_map(both).map(spawn).collect::<Result<Vec<_>>>()?;
        for probe in &mut running {
            let mut line = String::new();
            probe.output.read_line(&mut line)?;
            if line.trim() != "started" {
                bail!("the probe in {} does not start: it says {line:?}", probe.way.from);
            }
        }
        Ok(Probes(running))
    }

    /// Ends them, and tells what became of every packet and connection.
    ///
    /// # Errors
    /// A probe failed.
    pub fn stop(self) -> Result<Seen> {
        // all are told first: none goes on while another one waits for its last answers
        let told: Vec<_> = self
            .0
            .into_iter()
            .map(|Running { way, sends, child, input, output }| {
                drop(input);
                (way, sends, child, output)
            })
            .collect();
        let mut seen = Seen::default();
        for (way, sends, mut child, output) in told {
            for line in output.lines() {
                seen.take(&way, sends, &line?)
                    .with_context(|| format!("what the probe in {} said is no report", way.from))?;
            }
            let status = child.wait()?;
            if !status.success() {
                bail!("the probe in {} failed: {status}", way.from);
            }
        }
        Ok(seen)
    }
}

impl Seen {
    fn take(&mut self, way: &Way, sends: Sends, line: &str) -> Result<()> {
        let way = way.clone();
        match sends {
            Sends::Packets => {
                let report: OutageReport = serde_json::from_str(line)?;
                self.flows.push(Flow { way, family: Family::of(report.address.ip()), report });
            }
            Sends::Streams => {
                let report: StreamReport = serde_json::from_str(line)?;
                self.streams.push(Stream { way, family: Family::of(report.address.ip()), report });
            }
        }
        Ok(())
    }
}

fn spawn(sandbox: &Sandbox, programs: &Programs, way: &Way, sends: Sends, rate: u32) -> Result<Running> {
    let target = |address: &IpAddr| Target::new(way.to.clone(), *address);
    let targets: Vec<Target> = way.addresses.iter().map(target).collect();
    let (nice, arguments) = match sends {
        // before everybody else: what the sender sleeps through is not measured. Without the privilege it runs all the same.
        Sends::Packets => ("-15", ProbeOptions { targets, rate, late: LATE, wait: WAIT }.to_args()),
        Sends::Streams => {
            let (interval, bytes, timeout) = (BEAT, BYTES, GIVEN_UP);
            let connections = way.connections;
            ("-10", StreamOptions { targets, connections, interval, bytes, timeout }.to_args())
        }
    };
    let program = programs.path("clusterlink-netperf").display().to_string();
    let argv = ["nice", "-n", nice].map(str::to_owned).into_iter().chain([program]).chain(arguments);
    let mut child = sandbox
        .command(&way.from, argv)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start a probe in {}", way.from))?;
    let input = child.stdin.take().context("its input is a pipe")?;
    let output = BufReader::new(child.stdout.take().context("its output is a pipe")?);
    Ok(Running { way: way.clone(), sends, child, input, output })
}
