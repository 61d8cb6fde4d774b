//! Flows at a fixed rate: one thread sends for all of them, one for each receives; then the ledgers are read.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::account::{Observation, account};
use super::flow::{Errors, Flow, Heard, Sending};
use super::{OutageError, OutageOptions, OutageReport, ProbeOptions};
use crate::failure::Failure;
use crate::ledger::MAX_SEQ;
use crate::target::Target;
use crate::wire;

/// Sending a packet that takes longer is worth a note.
const HELD: Duration = Duration::from_millis(1);

/// Sends one flow from the network namespace of the calling thread, and accounts for it.
///
/// # Errors
/// The socket cannot be made, or the flow is empty or too long. Loss, even of everything, is a result.
pub fn measure(options: &OutageOptions) -> Result<OutageReport, OutageError> {
    let packets = packets(options)?;
    let OutageOptions { target, rate, late, wait, .. } = options.clone();
    let targets = vec![target];
    let reports = run(&ProbeOptions { targets, rate, late, wait }, packets, &AtomicBool::new(false), || {})?;
    Ok(reports.into_iter().next().expect("one target has one report"))
}

/// Sends a flow to each target from the network namespace of the calling thread until `stop` is set, and accounts for them.
/// Calls `started` when the first packets have been sent.
///
/// # Errors
/// A socket cannot be made. Loss, even of everything, is a result.
pub fn probe(
    options: &ProbeOptions,
    stop: &AtomicBool,
    started: impl FnOnce(),
) -> Result<Vec<OutageReport>, OutageError> {
    run(options, MAX_SEQ, stop, started)
}

fn packets(options: &OutageOptions) -> Result<u64, OutageError> {
    let packets = options.duration.as_secs_f64() * f64::from(options.rate);
    match packets.round() as u64 {
        0 => Err(OutageError::TooFew),
        packets if packets > MAX_SEQ => Err(OutageError::TooMany { packets, most: MAX_SEQ }),
        packets => Ok(packets),
    }
}

fn run(
    options: &ProbeOptions,
    most: u64,
    stop: &AtomicBool,
    started: impl FnOnce(),
) -> Result<Vec<OutageReport>, OutageError> {
    let open = |target: &Target| Flow::open(target.address).map_err(|error| failed(target, &error));
    let flows = options.targets.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let started_us = wire::clock_us();
    let (sent, heard) = exchange(&flows, options, Sender::new(started_us, most, options.rate), stop, started)
        .map_err(|error| {
            options.targets.first().map_or(OutageError::TooFew, |target| failed(target, &error))
        })?;
    let parts = options.targets.iter().zip(&flows).zip(heard).zip(&sent.errors);
    Ok(parts
        .map(|(((target, flow), heard), errors)| report(options, target, flow, heard, &sent, errors))
        .collect())
}

fn failed(target: &Target, error: &io::Error) -> OutageError {
    OutageError::Socket { target: target.name.clone(), failure: Box::new(Failure::from_io(error, 0)) }
}

fn report(
    options: &ProbeOptions,
    target: &Target,
    flow: &Flow,
    heard: Heard,
    sent: &Sent,
    send_errors: &Errors,
) -> OutageReport {
    let mut errors = heard.errors;
    for (text, count) in send_errors {
        *errors.entry(text.clone()).or_default() += count;
    }
    let mut observation = Observation {
        sent_us: sent.at_us.clone(),
        held_us: sent.held_us.clone(),
        arrivals: heard.arrivals,
        pages: Vec::new(),
        late_after_us: micros(options.late),
    };
    observation.pages = flow.read_ledger(&observation, options.wait, &mut errors);
    OutageReport {
        target: target.name.clone(),
        address: target.address,
        rate: options.rate,
        started_us: sent.started_us,
        skipped: sent.skipped,
        longest_pause_us: sent.longest_pause_us(),
        errors,
        account: account(&observation),
    }
}

fn exchange(
    flows: &[Flow],
    options: &ProbeOptions,
    sender: Sender,
    stop: &AtomicBool,
    started: impl FnOnce(),
) -> io::Result<(Sent, Vec<Heard>)> {
    let sending = Sending::new();
    let (sending, started_us) = (&sending, sender.sent.started_us);
    thread::scope(|scope| {
        let receive = |flow| {
            thread::Builder::new()
                .spawn_scoped(scope, move || Flow::receive(flow, started_us, sending, options.wait))
        };
        let receivers = flows.iter().map(receive).collect::<io::Result<Vec<_>>>();
        let sent = match &receivers {
            Ok(_) => sender.send(flows, stop, started),
            Err(_) => Sent::default(),
        };
        sending.end(sent.at_us.len() as u64);
        let ended = |_| io::Error::other("the receiving thread ended early");
        let heard = receivers?.into_iter().map(|receiver| receiver.join().map_err(ended));
        Ok((sent, heard.collect::<io::Result<_>>()?))
    })
}

/// What was sent to every target, and when.
#[derive(Debug, Default)]
struct Sent {
    started_us: u64,
    at_us: Vec<u64>,
    held_us: BTreeMap<u64, u64>,
    skipped: u64,
    errors: Vec<Errors>,
}

impl Sent {
    fn longest_pause_us(&self) -> u64 {
        self.at_us.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0)
    }
}

struct Sender {
    most: u64,
    pace: Pace,
    start: Instant,
    sent: Sent,
}

impl Sender {
    fn new(started_us: u64, most: u64, rate: u32) -> Self {
        let interval = Duration::from_nanos(1_000_000_000 / u64::from(rate.max(1)));
        let pace = Pace { interval, due: Duration::ZERO };
        Self { most, pace, start: Instant::now(), sent: Sent { started_us, ..Sent::default() } }
    }

    fn send(mut self, flows: &[Flow], stop: &AtomicBool, started: impl FnOnce()) -> Sent {
        self.sent.errors = vec![Errors::new(); flows.len()];
        let mut started = Some(started);
        for seq in 0..self.most {
            if stop.load(Ordering::Acquire) {
                break;
            }
            if let Some(early) = self.pace.due.checked_sub(self.start.elapsed()) {
                thread::sleep(early);
            }
            let before = self.start.elapsed();
            self.sent.skipped += self.pace.sent(before);
            self.sent.at_us.push(micros(before));
            for (flow, errors) in flows.iter().zip(&mut self.sent.errors) {
                if let Some(error) = flow.send(seq) {
                    *errors.entry(error.to_string()).or_default() += 1;
                }
            }
            let held = self.start.elapsed().saturating_sub(before);
            if held > HELD {
                self.sent.held_us.insert(seq, micros(held));
            }
            if let Some(started) = started.take() {
                started();
            }
        }
        self.sent
    }
}

/// When the next packet is due. What was slept through is not sent later: a burst would overflow queues that no flow of this
/// rate ever fills.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    due: Duration,
}

impl Pace {
    /// A packet is sent now; says how many would have been due since it was.
    fn sent(&mut self, now: Duration) -> u64 {
        let late = now.saturating_sub(self.due).as_nanos() / self.interval.as_nanos().max(1);
        let skipped = u32::try_from(late).unwrap_or(u32::MAX);
        self.due += self.interval * skipped.saturating_add(1);
        u64::from(skipped)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_packets_is_bounded_with_advice() {
        let mut options = OutageOptions::new(Target::new("a", [10, 0, 0, 1]));
        assert_eq!(packets(&options), Ok(10_000));
        options.duration = Duration::from_millis(1);
        options.rate = 100;
        assert!(packets(&options).unwrap_err().to_string().contains("raise one"));
        options.duration = Duration::from_secs(1 << 20);
        assert!(packets(&options).unwrap_err().to_string().contains("104857600 packets"));
    }

    #[test]
    fn what_is_slept_through_is_not_sent_later_and_the_beat_is_kept() {
        let ms = Duration::from_millis;
        let mut pace = Pace { interval: ms(1), due: Duration::ZERO };
        assert_eq!((pace.sent(Duration::from_micros(60)), pace.due), (0, ms(1)));
        assert_eq!((pace.sent(Duration::from_micros(1900)), pace.due), (0, ms(2)));
        assert_eq!((pace.sent(Duration::from_micros(300_400)), pace.due), (298, ms(301)));
    }
}
