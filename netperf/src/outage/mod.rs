//! A UDP flow at a fixed rate: what was lost, late, duplicated or re-ordered, when, and on which way.
//!
//! The server stamps each answer with its own count and keeps a ledger of what it received; after the flow the asker
//! reads the ledger for every packet that was not answered. A packet in the ledger was lost on the way back, one that is
//! not was lost on the way there.
//!
//! A busy machine must not look like a bad network. The sender numbers what it really sends and never catches up on what it
//! slept through; arrivals carry the kernel's own time; both ends' queues are long, and what overflows the asker's all the same is said.

pub mod account;
mod flow;
mod probe;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use account::{Account, Event, EventKind, Gap, OneWay};
pub use probe::{measure, probe};

use crate::failure::Failure;
use crate::table::{Align, render};
use crate::target::Target;

/// What to measure.
#[derive(Debug, Clone)]
pub struct OutageOptions {
    /// Whom.
    pub target: Target,
    /// Packets per second.
    pub rate: u32,
    /// For how long.
    pub duration: Duration,
    /// A packet that was on its way for so much longer than the fastest one is late.
    pub late: Duration,
    /// How long to wait for answers after the last packet, and for the ledger.
    pub wait: Duration,
}

/// Several flows at once, until told to stop.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// Whom; one flow each.
    pub targets: Vec<Target>,
    /// Packets per second of each flow.
    pub rate: u32,
    /// A packet that was on its way for so much longer than the fastest one is late.
    pub late: Duration,
    /// How long to wait for answers after the last packet, and for the ledger.
    pub wait: Duration,
}

impl ProbeOptions {
    /// The defaults of the command line.
    #[must_use]
    pub const fn new(targets: Vec<Target>) -> Self {
        Self { targets, rate: 1000, late: Duration::from_millis(100), wait: Duration::from_secs(1) }
    }
}

impl OutageOptions {
    /// The defaults of the command line.
    #[must_use]
    pub const fn new(target: Target) -> Self {
        Self {
            target,
            rate: 1000,
            duration: Duration::from_secs(10),
            late: Duration::from_millis(100),
            wait: Duration::from_secs(1),
        }
    }
}

/// What happened to the flow. [`fmt::Display`] is the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutageReport {
    /// The target's name.
    pub target: String,
    /// Its address.
    pub address: SocketAddr,
    /// Packets per second as asked for.
    pub rate: u32,
    /// When the flow began, by this machine's clock in microseconds since 1970: what the events' times count from.
    pub started_us: u64,
    /// Packets that were due while the sender slept: neither sent nor lost, only not measured.
    pub skipped: u64,
    /// The longest time between two packets.
    pub longest_pause_us: u64,
    /// Errors of the asker's own socket, by text: ICMP messages that came back, missing routes.
    pub errors: BTreeMap<String, u64>,
    /// The counts and events.
    #[serde(flatten)]
    pub account: Account,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OutageError {
    /// The socket cannot be made.
    #[error("{target}: {failure}")]
    Socket {
        /// The target's name.
        target: String,
        /// What happened.
        failure: Box<Failure>,
    },
    /// More packets than the server remembers.
    #[error("--rate × --duration is {packets} packets; the server remembers {most}, so lower one of them")]
    TooMany {
        /// As asked for.
        packets: u64,
        /// As possible.
        most: u64,
    },
    /// No packet would be sent.
    #[error("--rate × --duration is less than one packet; raise one of them")]
    TooFew,
}

impl fmt::Display for OutageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let a = &self.account;
        let columns = [
            ("WAY", Align::Left),
            ("LOST", Align::Right),
            ("LATE", Align::Right),
            ("DUPLICATED", Align::Right),
            ("RE-ORDERED", Align::Right),
            ("LONGEST GAP", Align::Left),
        ];
        let row = |way: &str, one: &OneWay| {
            let gap = one.longest_gap.map_or_else(|| "-".to_owned(), |gap| gap.to_string());
            let [lost, late, duplicated, reordered] =
                [one.lost, one.late, one.duplicated, one.reordered].map(|count| count.to_string());
            [way.to_owned(), lost, late, duplicated, reordered, gap]
        };
        let rows = [row("there", &a.forward), row("back", &a.backward), row("unknown", &a.unknown)];
        writeln!(
            f,
            "{} ({}): {} sent at {}/s, {} answered",
            self.target, self.address, a.sent, self.rate, a.answered
        )?;
        let shown = if a.unknown.lost == 0 { &rows[..2] } else { &rows[..] };
        f.write_str(&render(columns, shown))?;
        let silence = a.longest_silence_us as f64 / 1000.0;
        let (skipped, pause) = (self.skipped, self.longest_pause_us as f64 / 1000.0);
        writeln!(f, "longest time without any answer {silence:.1} ms")?;
        writeln!(f, "the sender slept through {skipped} packets, longest pause {pause:.1} ms")?;
        if let Some(rtt) = a.rtt {
            writeln!(
                f,
                "RTT min {:.1} p50 {:.1} p99 {:.1} max {:.1} µs",
                rtt.min_us, rtt.p50_us, rtt.p99_us, rtt.max_us
            )?;
        }
        if a.server_restarts > 0 {
            writeln!(f, "the server restarted {} time(s) meanwhile", a.server_restarts)?;
        }
        for (error, count) in &self.errors {
            writeln!(f, "{count} × {error}")?;
        }
        Ok(())
    }
}
