//! Who can be reached, who answers there, and which source address the far side sees.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::failure::Failure;
use crate::session::{Exchange, Session};
use crate::table::{Align, render};
pub use crate::target::{Protocol, Target, TargetError};

/// What to ask of every target.
#[derive(Debug, Clone)]
pub struct ReachOptions {
    /// Whom to ask.
    pub targets: Vec<Target>,
    /// Over what.
    pub protocols: BTreeSet<Protocol>,
    /// Payload in each direction over TCP.
    pub tcp_bytes: u32,
    /// Payloads in each direction over UDP, each a cell of its own.
    pub udp_bytes: Vec<u32>,
    /// Payloads in each direction over ICMP, each a cell of its own.
    pub icmp_bytes: Vec<u32>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Further attempts after a timeout or a refusal; a wrong answer is never asked again.
    pub retries: u32,
    /// Exchanges per cell, each from a source port of its own, so that every path of a multipath route is taken.
    pub flows: u32,
    /// Exchanges at the same time.
    pub parallel: usize,
}

impl ReachOptions {
    /// The defaults of the command line.
    #[must_use]
    pub fn new(targets: Vec<Target>) -> Self {
        Self {
            targets,
            protocols: BTreeSet::from([Protocol::Tcp, Protocol::Udp, Protocol::Icmp]),
            tcp_bytes: 9000,
            udp_bytes: vec![200, 4000],
            icmp_bytes: vec![56],
            timeout: Duration::from_secs(2),
            retries: 1,
            flows: 1,
            parallel: 64,
        }
    }
}

/// Who answered, and what it saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The name of the server; ICMP has none.
    pub name: Option<String>,
    /// The source address and port that the server saw; ICMP reports none.
    pub source: Option<SocketAddr>,
    /// From the request to the end of the answer, in microseconds; TCP without its handshake. Taken afterwards, one cell
    /// at a time, so that it says nothing of how many cells were asked at once.
    pub rtt_us: f64,
}

/// How one exchange ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All that was expected came back.
    Ok(Answer),
    /// It did not.
    Failed(Failure),
}

/// One exchange of the matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The target's name.
    pub target: String,
    /// Its address; the port has no meaning for ICMP.
    pub address: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    /// Payload in each direction.
    pub bytes: u32,
    /// Which of the flows, from 0.
    pub flow: u32,
    /// Attempts made, at least 1.
    pub attempts: u32,
    /// How it ended.
    pub outcome: Outcome,
}

impl Cell {
    /// Whether all that was expected came back.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        matches!(self.outcome, Outcome::Ok(_))
    }

    /// The answer, if the cell is ok.
    #[must_use]
    pub const fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Failed(_) => None,
        }
    }

    fn row_key(&self) -> (&str, SocketAddr, Protocol, u32) {
        (&self.target, self.address, self.protocol, self.bytes)
    }
}

/// All cells, in the order of targets, protocols, sizes and flows. [`fmt::Display`] is the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReachReport {
    /// The cells.
    pub cells: Vec<Cell>,
}

impl ReachReport {
    /// Whether every cell is ok; `false` without cells, for nothing was proven.
    #[must_use]
    pub fn all_ok(&self) -> bool {
        !self.cells.is_empty() && self.cells.iter().all(Cell::is_ok)
    }

    /// The cells that are not.
    pub fn failed(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| !cell.is_ok())
    }
}

/// A cell that is still to be filled.
#[derive(Debug, Clone, Copy)]
struct Job<'a> {
    target: &'a Target,
    protocol: Protocol,
    bytes: u32,
    flow: u32,
}

/// Asks all targets, at most `parallel` at a time, from the network namespace of the calling thread.
#[must_use]
pub fn run(options: &ReachOptions) -> ReachReport {
    let jobs = plan(options);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(jobs.len()));
    let work = || {
        while let Some((index, job)) = claim(&next, &jobs) {
            let cell = fill(job, options);
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, cell));
        }
    };
    thread::scope(|scope| {
        for _ in 1..options.parallel.clamp(1, jobs.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let mut cells = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    cells.sort_by_key(|(index, _)| *index);
    let mut cells: Vec<Cell> = cells.into_iter().map(|(_, cell)| cell).collect();
    time_alone(&mut cells, options.timeout);
    ReachReport { cells }
}

/// The first exchange on a path also pays for neighbour resolution, connection tracking and cold caches: the second one is
/// timed. The report stands without this, so the first failure ends it.
fn time_alone(cells: &mut [Cell], timeout: Duration) {
    for cell in cells {
        let &mut Cell { protocol, address, bytes, .. } = cell;
        let Outcome::Ok(answer) = &mut cell.outcome else { continue };
        let second = Session::open(protocol, address, timeout).and_then(|mut session| {
            session.exchange(bytes)?;
            session.exchange(bytes)
        });
        match second {
            Ok(exchange) => answer.rtt_us = exchange.rtt.as_secs_f64() * 1e6,
            Err(_) => return,
        }
    }
}

fn claim<'a, 'j>(next: &AtomicUsize, jobs: &'j [Job<'a>]) -> Option<(usize, &'j Job<'a>)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(index).map(|job| (index, job))
}

fn plan(options: &ReachOptions) -> Vec<Job<'_>> {
    let mut jobs = Vec::new();
    for target in &options.targets {
        for protocol in options.protocols.iter().copied().filter(|protocol| target.takes(*protocol)) {
            let sizes = match protocol {
                Protocol::Tcp => std::slice::from_ref(&options.tcp_bytes),
                Protocol::Udp => &options.udp_bytes,
                Protocol::Icmp => &options.icmp_bytes,
            };
            for bytes in sizes.iter().copied() {
                jobs.extend((0..options.flows.max(1)).map(|flow| Job { target, protocol, bytes, flow }));
            }
        }
    }
    jobs
}

fn fill(job: &Job<'_>, options: &ReachOptions) -> Cell {
    let &Job { target, protocol, bytes, flow } = job;
    let mut session = None;
    let mut attempts = 0;
    let result = loop {
        attempts += 1;
        let exchange = attempt(&mut session, job, options.timeout);
        let result = exchange.and_then(|exchange| judge(target, exchange));
        match &result {
            Err(failure) if attempts <= options.retries && may_pass(failure) => {}
            _ => break result,
        }
        if protocol == Protocol::Tcp {
            session = None;
        }
    };
    let outcome = result.map_or_else(Outcome::Failed, Outcome::Ok);
    Cell { target: target.name.clone(), address: target.address, protocol, bytes, flow, attempts, outcome }
}

/// A datagram is repeated from the same port: another one might take another path and hide that this one is broken.
fn attempt(session: &mut Option<Session>, job: &Job<'_>, timeout: Duration) -> Result<Exchange, Failure> {
    let session = match session {
        Some(session) => session,
        None => session.insert(Session::open(job.protocol, job.target.address, timeout)?),
    };
    session.exchange(job.bytes)
}

/// Loss may pass; a wrong answer is a finding even if the next one were right.
const fn may_pass(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Timeout { .. }
            | Failure::Refused
            | Failure::Unreachable { .. }
            | Failure::TooBig { .. }
            | Failure::Closed { .. }
    )
}

fn judge(target: &Target, exchange: Exchange) -> Result<Answer, Failure> {
    let Exchange { rtt, name, source } = exchange;
    if let Some(answered) =
        name.as_ref().filter(|name| !target.answer.is_empty() && !target.answer.contains(*name))
    {
        let expected = target.answer.iter().cloned().collect();
        return Err(Failure::WrongIdentity { expected, answered: answered.clone(), seen: source });
    }
    if let Some(seen) = source.filter(|seen| !target.source.is_empty() && !target.source.contains(&seen.ip()))
    {
        let expected = target.source.iter().map(ToString::to_string).collect();
        return Err(Failure::WrongSource { expected, seen, answered: name.unwrap_or_default() });
    }
    Ok(Answer { name, source, rtt_us: rtt.as_secs_f64() * 1e6 })
}

impl fmt::Display for ReachReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            ("TARGET", Align::Left),
            ("ADDRESS", Align::Left),
            ("PROTO", Align::Left),
            ("BYTES", Align::Right),
            ("RTT µs", Align::Right),
            ("ANSWERED BY", Align::Left),
            ("SEEN AS", Align::Left),
            ("RESULT", Align::Left),
        ];
        let rows: Vec<_> = self.cells.chunk_by(|a, b| a.row_key() == b.row_key()).map(row).collect();
        f.write_str(&render(columns, &rows))?;
        let failed = self.failed().count();
        if failed == 0 {
            writeln!(f, "{} of {} ok", self.cells.len(), self.cells.len())
        } else {
            writeln!(f, "{failed} of {} FAILED", self.cells.len())
        }
    }
}

/// All flows of one target, protocol and size.
fn row(flows: &[Cell]) -> [String; 8] {
    let answers: Vec<&Answer> = flows.iter().filter_map(Cell::answer).collect();
    let slowest = answers.iter().map(|answer| answer.rtt_us).max_by(f64::total_cmp);
    let names: BTreeSet<&str> = answers.iter().filter_map(|answer| answer.name.as_deref()).collect();
    let sources: BTreeSet<String> = answers.iter().filter_map(|a| Some(a.source?.ip().to_string())).collect();
    let first = &flows[0];
    [
        first.target.clone(),
        first.address.ip().to_string(),
        first.protocol.to_string(),
        first.bytes.to_string(),
        slowest.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt:.1}")),
        joined_or_dash(names.into_iter().map(str::to_owned)),
        joined_or_dash(sources.into_iter()),
        result_text(flows, answers.len()),
    ]
}

fn joined_or_dash(items: impl Iterator<Item = String>) -> String {
    let joined = items.collect::<Vec<_>>().join(",");
    if joined.is_empty() { "-".to_owned() } else { joined }
}

fn result_text(flows: &[Cell], ok: usize) -> String {
    let failure = flows.iter().find_map(|cell| match &cell.outcome {
        Outcome::Failed(failure) => Some(failure),
        Outcome::Ok(_) => None,
    });
    let attempts = flows.iter().map(|cell| cell.attempts).max().unwrap_or(1);
    match failure {
        Some(failure) if flows.len() > 1 => format!("{failure} ({ok} of {} flows ok)", flows.len()),
        Some(failure) => failure.to_string(),
        None if attempts > 1 => format!("ok at attempt {attempts}"),
        None if flows.len() > 1 => format!("ok, {} flows", flows.len()),
        None => "ok".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    fn exchange(name: &str, source: &str) -> Exchange {
        let rtt = Duration::from_micros(12);
        Exchange { rtt, name: Some(name.to_owned()), source: Some(source.parse().unwrap()) }
    }

    #[test]
    fn every_target_meets_every_protocol_and_size_it_takes() {
        let mut options =
            ReachOptions::new(vec![target("a=10.0.0.1"), target("s=10.96.0.1:80,protocols=tcp")]);
        options.flows = 2;
        let jobs: Vec<_> =
            plan(&options).iter().map(|j| (j.target.name.as_str(), j.protocol, j.bytes)).collect();
        let flows_of =
            |name, protocol, bytes| jobs.iter().filter(|job| **job == (name, protocol, bytes)).count();
        assert_eq!(jobs.len(), 2 * (1 + 2 + 1) + 2);
        assert_eq!(flows_of("a", Protocol::Udp, 4000), 2);
        assert_eq!(flows_of("s", Protocol::Tcp, 9000), 2);
    }

    #[test]
    fn another_name_or_source_is_a_failure() {
        let wanted = target("a=10.0.0.1,source=10.0.0.9");
        assert_eq!(judge(&wanted, exchange("a", "10.0.0.9:1")).unwrap().rtt_us, 12.0);
        let wrong = judge(&wanted, exchange("b", "10.0.0.9:1")).unwrap_err();
        assert_eq!(wrong.to_string(), "wrong identity: `b` answers instead of `a`");
        let wrong = judge(&wanted, exchange("a", "192.168.0.1:1")).unwrap_err();
        assert_eq!(wrong.to_string(), "wrong source: `a` saw 192.168.0.1:1 instead of `10.0.0.9`");
        let icmp = Exchange { rtt: Duration::ZERO, name: None, source: None };
        assert!(judge(&wanted, icmp).is_ok());
    }

    fn report() -> ReachReport {
        let cell = |flow, outcome| Cell {
            target: "b/web".to_owned(),
            address: "10.2.0.5:8889".parse().unwrap(),
            protocol: Protocol::Udp,
            bytes: 4000,
            flow,
            attempts: 1,
            outcome,
        };
        let source = Some("10.1.0.5:40000".parse().unwrap());
        let ok = Outcome::Ok(Answer { name: Some("b/web".to_owned()), source, rtt_us: 21.26 });
        ReachReport {
            cells: vec![cell(0, ok), cell(1, Outcome::Failed(Failure::Timeout { after_ms: 2000 }))],
        }
    }

    #[test]
    fn the_table_puts_flows_into_one_row() {
        let expected = "\
TARGET  ADDRESS   PROTO  BYTES  RTT µs  ANSWERED BY  SEEN AS   RESULT
b/web   10.2.0.5  udp     4000    21.3  b/web        10.1.0.5  timeout: no answer within 2000 ms (1 of 2 flows ok)
1 of 2 FAILED
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn json_is_read_back_and_has_these_words() {
        let json = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<ReachReport>(&json).unwrap(), report());
        for word in
            [r#""outcome":{"ok":{"name":"b/web","source":"10.1.0.5:40000""#, r#""failed":{"kind":"timeout""#]
        {
            assert!(json.contains(word), "{json}");
        }
    }

    #[test]
    fn nothing_asked_is_nothing_proven() {
        assert!(!ReachReport { cells: Vec::new() }.all_ok());
        assert!(!report().all_ok());
    }
}
