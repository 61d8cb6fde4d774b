//! Long-lived TCP connections: whether they survive what happens on the way, and how long they stood still.
//!
//! Each carries one exchange after the other, of more than an MTU in both directions, with payloads of which every byte is
//! known. TCP sends again what the network loses: loss shows as a stall, and only a connection that ends, or bytes that are
//! not those that were sent, are a break. After a break another connection goes on.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::session::{Exchange, TcpSession};
use crate::target::Target;
use crate::wire::clock_us;

/// Before another connection is tried where none comes about.
const RETRY: Duration = Duration::from_millis(200);
/// For the first exchange of a connection.
const FIRST: Duration = Duration::from_secs(5);

/// What to keep up.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamOptions {
    /// To whom.
    pub targets: Vec<Target>,
    /// Connections to each of them, each from a port of its own.
    pub connections: u32,
    /// From one exchange to the next.
    pub interval: Duration,
    /// Payload bytes in each direction.
    pub bytes: u32,
    /// An exchange that takes longer is a break.
    pub timeout: Duration,
}

impl StreamOptions {
    /// The defaults of the command line.
    #[must_use]
    pub const fn new(targets: Vec<Target>) -> Self {
        let (interval, timeout) = (Duration::from_millis(10), Duration::from_secs(60));
        Self { targets, connections: 1, interval, bytes: 4000, timeout }
    }
}

/// A connection that did not survive, or one that did not come about after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Break {
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// This side of it; `None`: it never came about.
    pub local: Option<SocketAddr>,
    /// Why.
    pub failure: Failure,
}

/// What became of one connection and of those that took its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// The target's name.
    pub target: String,
    /// Its address.
    pub address: SocketAddr,
    /// Exchanges that were complete, with every byte as it was sent.
    pub exchanges: u64,
    /// The longest exchange: for so long nothing came through.
    pub longest_stall_us: u64,
    /// When it began, in microseconds since 1970.
    pub stalled_at_us: u64,
    /// Connections that ended before they were asked to.
    pub breaks: Vec<Break>,
}

/// Why there is no connection to begin with.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The target does not answer.
    #[error("{target}: {failure}")]
    Open {
        /// The target's name.
        target: String,
        /// What happened.
        failure: Box<Failure>,
    },
    /// No thread can be started.
    #[error("a connection's thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// Keeps connections to each target from the network namespace of the calling thread until `stop` is set. Calls `started` when
/// each of them has carried an exchange.
///
/// # Errors
/// A connection does not come about at the beginning. One that breaks later is a result.
pub fn keep(
    options: &StreamOptions,
    stop: &AtomicBool,
    started: impl FnOnce(),
) -> Result<Vec<StreamReport>, StreamError> {
    let mut lanes = Vec::new();
    for target in &options.targets {
        for _ in 0..options.connections {
            lanes.push(Lane::open(target, options).map_err(|failure| StreamError::Open {
                target: target.name.clone(),
                failure: Box::new(failure),
            })?);
        }
    }
    started();
    thread::scope(|scope| {
        let run = |lane: Lane| thread::Builder::new().spawn_scoped(scope, move || lane.run(options, stop));
        let running = lanes.into_iter().map(run).collect::<io::Result<Vec<_>>>()?;
        let ended = |_| io::Error::other("it ended early");
        Ok(running.into_iter().map(|lane| lane.join().map_err(ended)).collect::<io::Result<_>>()?)
    })
}

struct Lane {
    target: Target,
    session: TcpSession,
    report: StreamReport,
}

impl Lane {
    fn open(target: &Target, options: &StreamOptions) -> Result<Self, Failure> {
        let report = StreamReport {
            target: target.name.clone(),
            address: target.address,
            exchanges: 0,
            longest_stall_us: 0,
            stalled_at_us: clock_us(),
            breaks: Vec::new(),
        };
        Ok(Lane { session: connect(target, options)?, target: target.clone(), report })
    }

    fn run(mut self, options: &StreamOptions, stop: &AtomicBool) -> StreamReport {
        while !stop.load(Ordering::Acquire) {
            let (begun_us, begun) = (clock_us(), Instant::now());
            match exchange(&mut self.session, &self.target, options.bytes) {
                Ok(()) => self.took(begun_us, begun.elapsed()),
                Err(failure) => {
                    let local = self.session.local().ok();
                    self.report.breaks.push(Break { at_us: clock_us(), local, failure });
                    self.reconnect(options, stop);
                }
            }
            thread::sleep(options.interval.saturating_sub(begun.elapsed()));
        }
        self.report
    }

    fn took(&mut self, begun_us: u64, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.report.exchanges += 1;
        if micros > self.report.longest_stall_us {
            (self.report.longest_stall_us, self.report.stalled_at_us) = (micros, begun_us);
        }
    }

    /// Only the first failure of a row is told.
    fn reconnect(&mut self, options: &StreamOptions, stop: &AtomicBool) {
        let mut told = false;
        while !stop.load(Ordering::Acquire) {
            match connect(&self.target, options) {
                Ok(session) => {
                    self.session = session;
                    return;
                }
                Err(failure) if !told => {
                    told = true;
                    self.report.breaks.push(Break { at_us: clock_us(), local: None, failure });
                }
                Err(_) => {}
            }
            thread::sleep(RETRY);
        }
    }
}

/// A connection that has carried an exchange: whoever answers is known from then on.
fn connect(target: &Target, options: &StreamOptions) -> Result<TcpSession, Failure> {
    let mut session = TcpSession::open(target.address, FIRST.min(options.timeout))?;
    exchange(&mut session, target, options.bytes)?;
    session.set_timeout(options.timeout)?;
    Ok(session)
}

fn exchange(session: &mut TcpSession, target: &Target, bytes: u32) -> Result<(), Failure> {
    let Exchange { name, source, .. } = session.exchange(bytes)?;
    let answered = name.unwrap_or_default();
    if target.answer.is_empty() || target.answer.contains(&answered) {
        return Ok(());
    }
    Err(Failure::WrongIdentity { expected: target.answer.iter().cloned().collect(), answered, seen: source })
}
