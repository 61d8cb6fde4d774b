//! Round-trip times of one target, or of several that take turns within one run so that their ratio is fair.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::affinity;
use crate::failure::Failure;
use crate::session::Session;
use crate::statistics::{Quantiles, RatioOfMedians, ratio_of_medians};
use crate::table::{Align, render};
use crate::target::{Protocol, Target};

/// So many failures in a row and the target is given up.
const GIVE_UP: u32 = 10;
/// Seed of the bootstrap: the same samples give the same interval.
const SEED: u64 = 1;

/// What to measure.
#[derive(Debug, Clone)]
pub struct RttOptions {
    /// Whom; the first is what the others are compared with.
    pub targets: Vec<Target>,
    /// Over what.
    pub protocol: Protocol,
    /// Measured exchanges per target.
    pub count: u32,
    /// Pause after each round.
    pub interval: Duration,
    /// Exchanges per target before the measured ones.
    pub warmup: u32,
    /// Payload in each direction.
    pub bytes: u32,
    /// How long one exchange may take.
    pub timeout: Duration,
    /// Measure on this CPU only; to compare over UDP or TCP, bind the servers to the same one.
    pub cpu: Option<usize>,
}

impl RttOptions {
    /// The defaults of the command line.
    #[must_use]
    pub fn new(targets: Vec<Target>) -> Self {
        Self {
            targets,
            protocol: Protocol::Udp,
            count: 2000,
            interval: Duration::ZERO,
            warmup: 100,
            bytes: 64,
            timeout: Duration::from_secs(1),
            cpu: None,
        }
    }
}

/// The round-trip times of one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RttReport {
    /// The target's name.
    pub target: String,
    /// Its address.
    pub address: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    /// Payload in each direction.
    pub bytes: u32,
    /// Who answered; ICMP has no name.
    pub answered_by: Option<String>,
    /// Exchanges made after the warm-up.
    pub sent: u32,
    /// How many of them were answered.
    pub answered: u32,
    /// The others, by kind of failure.
    pub failures: BTreeMap<String, u32>,
    /// Quantiles of those that were answered.
    #[serde(flatten)]
    pub quantiles: Quantiles,
}

/// The median of a target in relation to that of the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The target's name.
    pub target: String,
    /// Its median over the first target's, with a 95 % confidence interval.
    #[serde(flatten)]
    pub ratio: RatioOfMedians,
}

/// Several targets that took turns. [`fmt::Display`] is the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RttComparison {
    /// One per target, in the order given.
    pub reports: Vec<RttReport>,
    /// One per target but the first.
    pub ratios: Vec<Ratio>,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RttError {
    /// A target does not answer.
    #[error(
        "{target} ({address}, {protocol}): {GIVE_UP} exchanges failed in a row, the last with {failure}; check it with `reach`"
    )]
    Gone {
        /// Its name.
        target: String,
        /// Its address.
        address: SocketAddr,
        /// Over what.
        protocol: Protocol,
        /// The last failure.
        failure: Box<Failure>,
    },
    /// The CPU to measure on cannot be used.
    #[error("--cpu {cpu}: {error}; give one that `taskset -cp $$` lists")]
    Cpu {
        /// As asked for.
        cpu: usize,
        /// Why not.
        error: String,
    },
    /// No exchange after the warm-up was answered.
    #[error("{0}: none of the measured exchanges was answered; raise --count or --timeout")]
    Nothing(String),
}

struct Series<'a> {
    target: &'a Target,
    session: Option<Session>,
    answered_by: Option<String>,
    /// One per round, in nanoseconds; `None` where the exchange failed.
    samples: Vec<Option<u64>>,
    failures: BTreeMap<String, u32>,
    failed_in_a_row: u32,
}

/// Measures all targets from the network namespace of the calling thread.
///
/// # Errors
/// A target does not answer, or not once after the warm-up; or the CPU cannot be used.
pub fn measure(options: &RttOptions) -> Result<RttComparison, RttError> {
    let Some(cpu) = options.cpu else { return take_turns(options) };
    // a thread of its own, so that the caller's keeps its CPUs
    let pinned = || {
        affinity::pin(cpu).map_err(|error| RttError::Cpu { cpu, error: error.to_string() })?;
        take_turns(options)
    };
    thread::scope(|scope| scope.spawn(pinned).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

fn take_turns(options: &RttOptions) -> Result<RttComparison, RttError> {
    let mut all: Vec<Series<'_>> = options.targets.iter().map(Series::new).collect();
    for round in 0..options.warmup + options.count {
        let measured = round >= options.warmup;
        // who begins changes with every round, so that no target always follows a pause
        for turn in 0..all.len() {
            let turn = (turn + round as usize) % all.len();
            all[turn].exchange(options, measured)?;
        }
        if !options.interval.is_zero() {
            thread::sleep(options.interval);
        }
    }
    let ratios =
        all.get(1..).unwrap_or_default().iter().filter_map(|series| series.ratio_to(&all[0])).collect();
    let reports = all.iter().map(|series| series.report(options)).collect::<Result<_, _>>()?;
    Ok(RttComparison { reports, ratios })
}

impl<'a> Series<'a> {
    const fn new(target: &'a Target) -> Self {
        Self {
            target,
            session: None,
            answered_by: None,
            samples: Vec::new(),
            failures: BTreeMap::new(),
            failed_in_a_row: 0,
        }
    }

    fn exchange(&mut self, options: &RttOptions, measured: bool) -> Result<(), RttError> {
        let result = self.attempt(options);
        let sample = match &result {
            Ok(rtt) => Some(u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX)),
            Err(_) => None,
        };
        if measured {
            self.samples.push(sample);
        }
        match result {
            Ok(_) => self.failed_in_a_row = 0,
            Err(failure) => self.fail(failure, options.protocol, measured)?,
        }
        Ok(())
    }

    fn attempt(&mut self, options: &RttOptions) -> Result<Duration, Failure> {
        let session = match &mut self.session {
            Some(session) => session,
            None => {
                self.session.insert(Session::open(options.protocol, self.target.address, options.timeout)?)
            }
        };
        let exchange = session.exchange(options.bytes)?;
        if self.answered_by.is_none() {
            self.answered_by = exchange.name;
        }
        Ok(exchange.rtt)
    }

    fn fail(&mut self, failure: Failure, protocol: Protocol, measured: bool) -> Result<(), RttError> {
        // a connection whose answer is still under way cannot be used for the next request
        self.session = None;
        self.failed_in_a_row += 1;
        if measured {
            *self.failures.entry(failure.label().to_owned()).or_default() += 1;
        }
        if self.failed_in_a_row < GIVE_UP {
            return Ok(());
        }
        let Target { name, address, .. } = self.target.clone();
        Err(RttError::Gone { target: name, address, protocol, failure: Box::new(failure) })
    }

    fn report(&self, options: &RttOptions) -> Result<RttReport, RttError> {
        let samples: Vec<u64> = self.samples.iter().flatten().copied().collect();
        let quantiles = Quantiles::of(&samples).ok_or_else(|| RttError::Nothing(self.target.name.clone()))?;
        Ok(RttReport {
            target: self.target.name.clone(),
            address: self.target.address,
            protocol: options.protocol,
            bytes: options.bytes,
            answered_by: self.answered_by.clone(),
            sent: options.count,
            answered: u32::try_from(samples.len()).unwrap_or(u32::MAX),
            failures: self.failures.clone(),
            quantiles,
        })
    }

    /// Over the rounds in which both were answered.
    fn ratio_to(&self, first: &Self) -> Option<Ratio> {
        let rounds: Vec<(u64, u64)> =
            first.samples.iter().zip(&self.samples).filter_map(|(a, b)| Some(((*a)?, (*b)?))).collect();
        let ratio = ratio_of_medians(&rounds, SEED)?;
        Some(Ratio { target: self.target.name.clone(), ratio })
    }
}

impl fmt::Display for RttComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right = |heading| (heading, Align::Right);
        let columns = [
            ("TARGET", Align::Left),
            ("PROTO", Align::Left),
            right("SENT"),
            right("LOST"),
            right("MIN µs"),
            right("P50"),
            right("P90"),
            right("P99"),
            right("MAX"),
            right("MEAN"),
            right("RATIO [95 %]"),
        ];
        let rows: Vec<_> = self.reports.iter().map(|report| self.row(report)).collect();
        f.write_str(&render(columns, &rows))
    }
}

impl RttComparison {
    fn row(&self, report: &RttReport) -> [String; 11] {
        let q = report.quantiles;
        let ratio = self.ratios.iter().find(|ratio| ratio.target == report.target).map(|ratio| ratio.ratio);
        let ratio = ratio.map_or_else(
            || if self.ratios.is_empty() { "-".to_owned() } else { "1".to_owned() },
            |RatioOfMedians { ratio, low, high }| format!("{ratio:.3} [{low:.3} {high:.3}]"),
        );
        let us = |value: f64| format!("{value:.1}");
        [
            report.target.clone(),
            report.protocol.to_string(),
            report.sent.to_string(),
            (report.sent - report.answered).to_string(),
            us(q.min_us),
            us(q.p50_us),
            us(q.p90_us),
            us(q.p99_us),
            us(q.max_us),
            us(q.mean_us),
            ratio,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series<'a>(target: &'a Target, samples: &[Option<u64>]) -> Series<'a> {
        Series { samples: samples.to_vec(), ..Series::new(target) }
    }

    #[test]
    fn a_ratio_uses_only_rounds_that_both_answered() {
        let target = Target::new("a", [10, 0, 0, 1]);
        let first = series(&target, &[Some(100), None, Some(100), Some(100)]);
        let second = series(&target, &[Some(200), Some(900), None, Some(200)]);
        let ratio = second.ratio_to(&first).unwrap().ratio;
        assert_eq!(ratio, RatioOfMedians { ratio: 2.0, low: 2.0, high: 2.0 });
    }

    #[test]
    fn a_target_is_given_up_after_failures_in_a_row_only() {
        let target = Target::new("a", [10, 0, 0, 1]);
        let mut series = Series::new(&target);
        for _ in 1..GIVE_UP {
            series.fail(Failure::Refused, Protocol::Udp, true).unwrap();
        }
        series.failed_in_a_row = 0;
        series.fail(Failure::Timeout { after_ms: 1 }, Protocol::Udp, true).unwrap();
        assert_eq!(
            series.failures,
            BTreeMap::from([("refused".to_owned(), GIVE_UP - 1), ("timeout".to_owned(), 1)])
        );
        series.failed_in_a_row = GIVE_UP - 1;
        let error = series.fail(Failure::Refused, Protocol::Udp, true).unwrap_err().to_string();
        assert!(
            error.contains("a (10.0.0.1:8889, udp): 10 exchanges failed") && error.contains("`reach`"),
            "{error}"
        );
    }

    #[test]
    fn json_is_flat_and_read_back() {
        let target = Target::new("a", [10, 0, 0, 1]);
        let options = RttOptions::new(vec![target.clone()]);
        let report = series(&target, &[Some(1500), None]).report(&options).unwrap();
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains(r#""p50_us":1.5"#), "{json}");
        assert_eq!(serde_json::from_str::<RttReport>(&json).unwrap(), report);
    }
}
