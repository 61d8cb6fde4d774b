//! The command line. It is part of the library so that others can build command lines that are known to parse.

mod built;
mod stream;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::PORT;
use crate::outage::{self, OutageOptions, ProbeOptions};
use crate::reach::{self, ReachOptions};
use crate::rtt::{self, RttOptions};
use crate::serve::{ServeOptions, Server};
use crate::target::{Protocol, Target, parse_lines};
use crate::throughput::{self, ThroughputOptions};
use crate::wire::{MAX_PAYLOAD, MAX_UDP_PAYLOAD};
use stream::StreamArgs;

/// Measures reachability, round-trip times, throughput and outages between pods and nodes.
///
/// `serve` answers in one network namespace; the other commands ask it from another one. A target is written
/// `[NAME=]ADDR[:PORT][,answer=NAME|NAME][,source=IP|IP][,protocols=tcp|udp|icmp]`: a named target must be answered by that
/// name (or by one of `answer=`, `*` for any), and must see the asker as one of `source=`, where given.
#[derive(Debug, Parser)]
#[command(name = "clusterlink-netperf", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer on TCP and UDP, IPv4 and IPv6, until ended.
    Serve(ServeArgs),
    /// Ask every target over every protocol; exit status 0 only if all answers are as expected.
    Reach(ReachArgs),
    /// Measure round-trip times, of one target or of several in turns.
    Rtt(RttArgs),
    /// Measure TCP bulk.
    Throughput(ThroughputArgs),
    /// Send at a fixed rate and tell what was lost, late, duplicated or re-ordered, when, and on which way.
    Outage(OutageArgs),
    /// The same to several targets at once, until standard input ends; prints one JSON document per target.
    Probe(ProbeArgs),
    /// Keep TCP connections up until standard input ends; prints what became of each, one JSON document per line.
    Stream(StreamArgs),
}

/// How to print a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// TCP and UDP port.
    #[arg(long, default_value_t = PORT)]
    pub port: u16,
    /// Address to bind, repeatable [default: all IPv4 and IPv6 addresses].
    #[arg(long)]
    pub bind: Vec<IpAddr>,
    /// Name to answer with [default: the host name].
    #[arg(long)]
    pub name: Option<String>,
    /// Answer on this CPU only.
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// Arguments of `reach`.
#[derive(Debug, Args)]
pub struct ReachArgs {
    /// Target, repeatable.
    #[arg(long)]
    pub target: Vec<Target>,
    /// File of targets, one per line; `-` for standard input.
    #[arg(long)]
    pub targets_file: Option<PathBuf>,
    /// Protocols to ask over.
    #[arg(long, value_delimiter = ',', default_values = ["tcp", "udp", "icmp"])]
    pub protocols: Vec<Protocol>,
    /// Payload bytes in each direction over TCP.
    #[arg(long, default_value_t = 9000, value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_PAYLOAD)))]
    pub bytes: u32,
    /// Payload bytes in each direction over UDP, several separated by commas.
    #[arg(long, value_delimiter = ',', default_values = ["200", "4000"],
          value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_UDP_PAYLOAD)))]
    pub udp_bytes: Vec<u32>,
    /// Payload bytes over ICMP, several separated by commas.
    #[arg(long, value_delimiter = ',', default_values = ["56"],
          value_parser = clap::value_parser!(u32).range(..=65_507))]
    pub icmp_bytes: Vec<u32>,
    /// Time for one attempt.
    #[arg(long, default_value = "2s", value_parser = positive_duration)]
    pub timeout: Duration,
    /// Further attempts after no answer; a wrong answer is never asked again.
    #[arg(long, default_value_t = 1)]
    pub retries: u32,
    /// Exchanges per target, protocol and size, each from its own source port.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub flows: u32,
    /// Exchanges at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub parallel: u16,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Arguments of `rtt`.
#[derive(Debug, Args)]
pub struct RttArgs {
    /// The target.
    #[arg(long, required_unless_present = "compare", conflicts_with = "compare")]
    pub target: Option<Target>,
    /// Targets that take turns; the first is what the others are compared with.
    #[arg(long, num_args = 2..)]
    pub compare: Vec<Target>,
    /// Protocol.
    #[arg(long, value_enum, default_value_t = Protocol::Udp)]
    pub protocol: Protocol,
    /// Measured exchanges per target.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub count: u32,
    /// Pause after each round.
    #[arg(long, default_value = "0", value_parser = duration)]
    pub interval: Duration,
    /// Exchanges per target before the measured ones.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    pub warmup: u32,
    /// Payload bytes in each direction.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_UDP_PAYLOAD)))]
    pub bytes: u32,
    /// Time for one exchange.
    #[arg(long, default_value = "1s", value_parser = positive_duration)]
    pub timeout: Duration,
    /// Measure on this CPU only; for fair ratios over UDP or TCP, run the servers with the same --cpu.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Arguments of `throughput`.
#[derive(Debug, Args)]
pub struct ThroughputArgs {
    /// The target.
    #[arg(long)]
    pub target: Target,
    /// For how long.
    #[arg(long, default_value = "2s", value_parser = positive_duration)]
    pub duration: Duration,
    /// Connections at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub streams: u32,
    /// From the server to here.
    #[arg(long)]
    pub reverse: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Arguments of `outage`.
#[derive(Debug, Args)]
pub struct OutageArgs {
    /// The target.
    #[arg(long)]
    pub target: Target,
    /// Packets per second.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// For how long.
    #[arg(long, default_value = "10s", value_parser = positive_duration)]
    pub duration: Duration,
    /// A packet that is on its way for so much longer than the fastest one is late.
    #[arg(long, default_value = "100ms", value_parser = positive_duration)]
    pub late: Duration,
    /// How long to wait for answers after the last packet.
    #[arg(long, default_value = "1s", value_parser = positive_duration)]
    pub wait: Duration,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Arguments of `probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Target, repeatable.
    #[arg(long, required = true)]
    pub target: Vec<Target>,
    /// Packets per second to each target.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// A packet that is on its way for so much longer than the fastest one is late.
    #[arg(long, default_value = "100ms", value_parser = positive_duration)]
    pub late: Duration,
    /// How long to wait for answers after the last packet.
    #[arg(long, default_value = "1s", value_parser = positive_duration)]
    pub wait: Duration,
}

/// Runs the command and writes its result to `out`; the status is failure if `reach` found one.
///
/// # Errors
/// The command cannot be carried out, or its result cannot be written.
pub fn run(command: Command, out: &mut impl Write) -> Result<ExitCode> {
    match command {
        Command::Serve(args) => serve(args, out)?,
        Command::Reach(args) => return reach(args, out),
        Command::Rtt(args) => measure_rtt(args, out)?,
        Command::Throughput(args) => {
            let timeout = ThroughputOptions::new(args.target.clone()).timeout;
            let ThroughputArgs { target, duration, streams, reverse, output } = args;
            let options = ThroughputOptions { target, duration, streams, reverse, timeout };
            print(out, output, &throughput::measure(&options)?)?;
        }
        Command::Outage(args) => {
            let OutageArgs { target, rate, duration, late, wait, output } = args;
            print(out, output, &outage::measure(&OutageOptions { target, rate, duration, late, wait })?)?;
        }
        Command::Probe(args) => {
            let ProbeArgs { target, rate, late, wait } = args;
            probe(&ProbeOptions { targets: target, rate, late, wait }, out)?;
        }
        Command::Stream(args) => stream::run(args, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says `started` once packets flow, and one report per target at the end.
fn probe(options: &ProbeOptions, out: &mut impl Write) -> Result<()> {
    let stop = end_of_input()?;
    let mut said = Ok(());
    let reports =
        outage::probe(options, &stop, || said = writeln!(out, "started").and_then(|()| out.flush()))?;
    said.context("cannot write the result")?;
    reports.iter().try_for_each(|report| print_json(out, report))
}

/// Whoever started this ends it by closing its input, and so does whoever dies.
fn end_of_input() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    std::thread::Builder::new().name("stop".to_owned()).spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        told.store(true, Ordering::Release);
    })?;
    Ok(stop)
}

fn serve(args: ServeArgs, out: &mut impl Write) -> Result<()> {
    let name = args.name.map_or_else(host_name, Ok)?;
    let server =
        Server::bind(&ServeOptions { port: args.port, bind: args.bind, name: name.clone(), cpu: args.cpu })?;
    let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    // whoever started this waits for the line
    writeln!(out, "{name} answers on {}", addresses.join(", "))?;
    out.flush()?;
    for thread in server.start().context("cannot start answering; check --cpu and the limit on processes")? {
        if thread.join().is_err() {
            bail!("an answering thread has ended; this is a bug");
        }
    }
    Ok(())
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host name; give --name")?;
    Ok(name.to_string_lossy().into_owned())
}

fn reach(args: ReachArgs, out: &mut impl Write) -> Result<ExitCode> {
    let mut targets = args.target;
    if let Some(file) = &args.targets_file {
        targets.extend(read_targets(file)?);
    }
    if targets.is_empty() {
        bail!("no target; give --target NAME=ADDR, or --targets-file with one per line");
    }
    let options = ReachOptions {
        targets,
        protocols: args.protocols.into_iter().collect::<BTreeSet<_>>(),
        tcp_bytes: args.bytes,
        udp_bytes: args.udp_bytes,
        icmp_bytes: args.icmp_bytes,
        timeout: args.timeout,
        retries: args.retries,
        flows: args.flows,
        parallel: usize::from(args.parallel),
    };
    let report = reach::run(&options);
    if report.cells.is_empty() {
        bail!("no target takes any of the given --protocols; see `protocols=` of the targets");
    }
    print(out, args.output, &report)?;
    Ok(if report.all_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_targets(file: &Path) -> Result<Vec<Target>> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.with_context(|| format!("--targets-file {}: cannot read", file.display()))?;
    parse_lines(&text).with_context(|| format!("--targets-file {}", file.display()))
}

fn measure_rtt(args: RttArgs, out: &mut impl Write) -> Result<()> {
    let single = args.target.is_some();
    let RttArgs { target, compare, protocol, count, interval, warmup, bytes, timeout, cpu, output } = args;
    let targets = target.into_iter().chain(compare).collect();
    let result =
        rtt::measure(&RttOptions { targets, protocol, count, interval, warmup, bytes, timeout, cpu })?;
    match (single, output, result.reports.first()) {
        (true, Output::Json, Some(report)) => print_json(out, report),
        _ => print(out, output, &result),
    }
}

fn print<T: Serialize + Display>(out: &mut impl Write, output: Output, result: &T) -> Result<()> {
    match output {
        Output::Json => print_json(out, result),
        Output::Table => write!(out, "{result}").context("cannot write the result"),
    }
}

fn print_json<T: Serialize>(out: &mut impl Write, result: &T) -> Result<()> {
    serde_json::to_writer(&mut *out, result).context("cannot write the result")?;
    writeln!(out).context("cannot write the result")
}

/// A number with a unit: `2s`, `1ms`, `500us`; `0` needs none.
///
/// # Errors
/// The text is no such thing; the message says how to write one.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let per_second = match &text[digits.len()..] {
        "s" => 1.0,
        "ms" => 1e3,
        "us" | "µs" => 1e6,
        "" if digits == "0" => 1.0,
        _ => return Err(how_to_write_a_duration(text)),
    };
    let number: f64 = digits.parse().map_err(|_| how_to_write_a_duration(text))?;
    Duration::try_from_secs_f64(number / per_second).map_err(|_| how_to_write_a_duration(text))
}

fn how_to_write_a_duration(text: &str) -> String {
    format!("`{text}` is not a duration; write a number and a unit, such as 2s, 1ms or 500us")
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: Vec<String>) -> Command {
        Cli::try_parse_from(std::iter::once("clusterlink-netperf".to_owned()).chain(args)).unwrap().command
    }

    #[test]
    fn clap_finds_no_mistake() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1.5ms"), Ok(Duration::from_micros(1500)));
        assert_eq!(duration("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "s", "-1s", "1h", "1e30s", "nan s"] {
            assert!(duration(bad).unwrap_err().contains("such as 2s"), "{bad}");
        }
        assert!(positive_duration("0").is_err());
    }

    #[test]
    fn targets_are_required_and_a_bad_file_is_named() {
        let fail = |args: &[&str]| {
            let command = parse(args.iter().map(|arg| (*arg).to_owned()).collect());
            run(command, &mut Vec::new()).unwrap_err()
        };
        assert!(fail(&["reach"]).to_string().contains("give --target"));
        assert!(fail(&["reach", "--targets-file", "/nowhere"]).to_string().contains("/nowhere"));
        let none = fail(&["reach", "--protocols=icmp", "--target=a=127.0.0.1,protocols=tcp"]);
        assert!(none.to_string().contains("`protocols=`"));
    }
}
