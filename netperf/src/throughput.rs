//! TCP bulk in one direction.

use std::fmt;
use std::io::{self, BufReader};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::{Direction, Failure};
use crate::serve::tcp::{drain, pump};
use crate::session::connect;
use crate::table::{Align, render};
use crate::target::Target;
use crate::wire::{self, Message};

/// What to measure.
#[derive(Debug, Clone)]
pub struct ThroughputOptions {
    /// Whom.
    pub target: Target,
    /// For how long.
    pub duration: Duration,
    /// Connections at the same time.
    pub streams: u32,
    /// From the server to here instead of from here to the server.
    pub reverse: bool,
    /// How long the connection may stand still.
    pub timeout: Duration,
}

impl ThroughputOptions {
    /// The defaults of the command line.
    #[must_use]
    pub const fn new(target: Target) -> Self {
        let timeout = Duration::from_secs(5);
        Self { target, duration: Duration::from_secs(2), streams: 1, reverse: false, timeout }
    }
}

/// What came through, as counted by the side that received it. [`fmt::Display`] is the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThroughputReport {
    /// The target's name.
    pub target: String,
    /// Its address.
    pub address: SocketAddr,
    /// Forward: from here to the server.
    pub direction: Direction,
    /// Bytes received over all connections.
    pub bytes: u64,
    /// Time of the connection that took longest.
    pub seconds: f64,
    /// All connections together, in 10⁹ bit/s of payload.
    pub gbit_per_s: f64,
    /// Each connection by itself.
    pub streams: Vec<f64>,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{target} ({address}): {failure}; check it with `reach`")]
pub struct ThroughputError {
    /// The target's name.
    pub target: String,
    /// Its address.
    pub address: SocketAddr,
    /// What happened.
    pub failure: Box<Failure>,
}

/// Measures from the network namespace of the calling thread.
///
/// # Errors
/// A connection fails or stands still.
pub fn measure(options: &ThroughputOptions) -> Result<ThroughputReport, ThroughputError> {
    let results: Vec<_> = thread::scope(|scope| {
        let streams: Vec<_> = (0..options.streams.max(1)).map(|_| scope.spawn(|| stream(options))).collect();
        let gone = || Err(Failure::Local { error: "the measuring thread ended early".to_owned() });
        streams.into_iter().map(|stream| stream.join().unwrap_or_else(|_| gone())).collect()
    });
    let results: Result<Vec<_>, _> = results.into_iter().collect();
    let Target { name, address, .. } = &options.target;
    let error =
        |failure| ThroughputError { target: name.clone(), address: *address, failure: Box::new(failure) };
    Ok(report(options, &results.map_err(error)?))
}

/// Bytes and time of one connection, counted where they are received.
fn stream(options: &ThroughputOptions) -> Result<(u64, Duration), Failure> {
    let after_ms = u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX);
    let stream = connect(options.target.address, options.timeout)?;
    let transfer = if options.reverse { download } else { upload };
    transfer(stream, options.duration).map_err(|error| Failure::from_wire(&error, after_ms))
}

fn upload(mut stream: std::net::TcpStream, duration: Duration) -> Result<(u64, Duration), wire::WireError> {
    io::Write::write_all(&mut stream, &Message::Sink.encode(wire::fresh_nonce()))?;
    pump(&mut stream, duration)?;
    stream.shutdown(Shutdown::Write)?;
    match Message::read(&mut BufReader::new(stream))?.0 {
        Message::SinkResult { bytes, micros } => Ok((bytes, Duration::from_micros(micros))),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
    }
}

fn download(mut stream: std::net::TcpStream, duration: Duration) -> Result<(u64, Duration), wire::WireError> {
    let millis = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    io::Write::write_all(&mut stream, &Message::Source { millis }.encode(wire::fresh_nonce()))?;
    Ok(drain(&mut stream)?)
}

fn report(options: &ThroughputOptions, results: &[(u64, Duration)]) -> ThroughputReport {
    let bytes = results.iter().map(|(bytes, _)| bytes).sum();
    let longest = results.iter().map(|(_, time)| *time).max().unwrap_or_default();
    ThroughputReport {
        target: options.target.name.clone(),
        address: options.target.address,
        direction: if options.reverse { Direction::Backward } else { Direction::Forward },
        bytes,
        seconds: longest.as_secs_f64(),
        gbit_per_s: gbit_per_s(bytes, longest),
        streams: results.iter().map(|(bytes, time)| gbit_per_s(*bytes, *time)).collect(),
    }
}

fn gbit_per_s(bytes: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { bytes as f64 * 8.0 / 1e9 / time.as_secs_f64() }
}

impl fmt::Display for ThroughputReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            ("TARGET", Align::Left),
            ("DIRECTION", Align::Left),
            ("STREAMS", Align::Right),
            ("MiB", Align::Right),
            ("SECONDS", Align::Right),
            ("Gbit/s", Align::Right),
        ];
        let direction = if self.direction == Direction::Backward { "to here" } else { "from here" };
        let row = [
            self.target.clone(),
            direction.to_owned(),
            self.streams.len().to_string(),
            (self.bytes >> 20).to_string(),
            format!("{:.2}", self.seconds),
            format!("{:.2}", self.gbit_per_s),
        ];
        f.write_str(&render(columns, &[row]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_add_up_over_the_longest_time() {
        let options = ThroughputOptions::new(Target::new("a", [10, 0, 0, 1]));
        let report = report(
            &options,
            &[(1_000_000_000, Duration::from_secs(1)), (1_000_000_000, Duration::from_secs(2))],
        );
        assert_eq!(report.gbit_per_s, 8.0);
        assert_eq!(report.streams, [8.0, 4.0]);
        assert_eq!(super::report(&options, &[]).gbit_per_s, 0.0);
    }
}
