//! The flow on its socket: one thread sends at fixed times, one receives; then the ledger is read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::account::{Arrival, Observation, account};
use super::{OutageError, OutageOptions, OutageReport};
use crate::failure::Failure;
use crate::ledger::MAX_SEQ;
use crate::session::open_udp;
use crate::wire::{self, Message, PAGE, Page};

/// How long the receiver sleeps at most before it looks whether it is done.
const POLL: Duration = Duration::from_millis(20);
/// Questions for one page of the ledger before it is given up.
const PAGE_TRIES: u32 = 5;

type Errors = BTreeMap<String, u64>;

/// Sends the flow from the network namespace of the calling thread, and accounts for it.
///
/// # Errors
/// The socket cannot be made, or the flow is empty or too long. Loss, even of everything, is a result.
pub fn measure(options: &OutageOptions) -> Result<OutageReport, OutageError> {
    let packets = packets(options)?;
    let target = &options.target;
    let failed = |error: &io::Error| OutageError::Socket {
        target: target.name.clone(),
        failure: Box::new(Failure::from_io(error, 0)),
    };
    let socket = open_udp(target.address).map_err(|error| failed(&error))?;
    let flow = wire::fresh_nonce();
    let (mut observation, mut errors) =
        exchange(&socket, flow, packets, options).map_err(|error| failed(&error))?;
    observation.pages = read_ledger(&socket, flow, &observation, options.wait, &mut errors);
    Ok(OutageReport {
        target: target.name.clone(),
        address: target.address,
        rate: options.rate,
        errors,
        account: account(&observation),
    })
}

fn packets(options: &OutageOptions) -> Result<u64, OutageError> {
    let packets = options.duration.as_secs_f64() * f64::from(options.rate);
    match packets.round() as u64 {
        0 => Err(OutageError::TooFew),
        packets if packets > MAX_SEQ => Err(OutageError::TooMany { packets, most: MAX_SEQ }),
        packets => Ok(packets),
    }
}

fn exchange(
    socket: &UdpSocket,
    flow: u64,
    packets: u64,
    options: &OutageOptions,
) -> io::Result<(Observation, Errors)> {
    let receiver = socket.try_clone()?;
    receiver.set_read_timeout(Some(POLL))?;
    let sending = AtomicBool::new(true);
    let start = Instant::now();
    let late_after_us = micros(options.late);
    let (sent_us, arrivals, errors) = thread::scope(|scope| {
        let receive = thread::Builder::new()
            .spawn_scoped(scope, || receive(&receiver, flow, packets, start, &sending, options.wait))?;
        let (sent_us, mut errors) = send(socket, flow, packets, start, options.rate);
        sending.store(false, Ordering::Release);
        let (arrivals, receive_errors) =
            receive.join().map_err(|_| io::Error::other("the receiving thread ended early"))?;
        for (text, count) in receive_errors {
            *errors.entry(text).or_default() += count;
        }
        io::Result::Ok((sent_us, arrivals, errors))
    })?;
    Ok((Observation { sent_us, arrivals, pages: Vec::new(), late_after_us }, errors))
}

/// The time of each packet. Times are fixed beforehand: a delay of one does not delay those after it.
fn send(socket: &UdpSocket, flow: u64, packets: u64, start: Instant, rate: u32) -> (Vec<u64>, Errors) {
    let mut sent = Vec::with_capacity(usize::try_from(packets).unwrap_or(0));
    let mut errors = Errors::new();
    for seq in 0..packets {
        let due = Duration::from_nanos(seq.saturating_mul(1_000_000_000) / u64::from(rate));
        if let Some(early) = due.checked_sub(start.elapsed()) {
            thread::sleep(early);
        }
        let datagram = Message::Echo { seq }.encode(flow);
        sent.push(micros(start.elapsed()));
        // an error may belong to an earlier packet (ICMP) and has kept this one from being sent: once more
        if let Err(error) = socket.send(&datagram) {
            *errors.entry(error.to_string()).or_default() += 1;
            let _ = socket.send(&datagram);
        }
    }
    (sent, errors)
}

fn receive(
    socket: &UdpSocket,
    flow: u64,
    packets: u64,
    start: Instant,
    sending: &AtomicBool,
    wait: Duration,
) -> (Vec<Arrival>, Errors) {
    let mut arrivals = Vec::new();
    let mut answered = BTreeSet::new();
    let mut errors = Errors::new();
    let mut buffer = [0; 2048];
    let mut sent_all: Option<Instant> = None;
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let at_us = micros(start.elapsed());
                if let Some(arrival) = arrival(&buffer[..length], flow, at_us) {
                    answered.insert(arrival.seq);
                    arrivals.push(arrival);
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => *errors.entry(error.to_string()).or_default() += 1,
        }
        if sent_all.is_none() && !sending.load(Ordering::Acquire) {
            sent_all = Some(Instant::now());
        }
        // all answered: a little longer still, for duplicates
        let patience = if answered.len() as u64 == packets { wait.min(2 * POLL) } else { wait };
        if sent_all.is_some_and(|since| since.elapsed() >= patience) {
            return (arrivals, errors);
        }
    }
}

fn arrival(mut datagram: &[u8], flow: u64, at_us: u64) -> Option<Arrival> {
    match Message::read(&mut datagram) {
        Ok((Message::EchoAnswer { seq, epoch, stamp }, nonce)) if nonce == flow => {
            Some(Arrival { seq, at_us, epoch, stamp })
        }
        _ => None,
    }
}

/// The first page for the totals, and each on which the fate of an unanswered packet stands.
fn read_ledger(
    socket: &UdpSocket,
    flow: u64,
    observation: &Observation,
    wait: Duration,
    errors: &mut Errors,
) -> Vec<Page> {
    let answered: BTreeSet<u64> = observation.arrivals.iter().map(|arrival| arrival.seq).collect();
    let unanswered = (0..observation.sent_us.len() as u64).filter(|seq| !answered.contains(seq));
    let bases: BTreeSet<u64> = std::iter::once(0).chain(unanswered.map(|seq| seq - seq % PAGE)).collect();
    let mut pages = Vec::new();
    for base in bases {
        match (0..PAGE_TRIES).find_map(|_| ask_page(socket, flow, base, wait / PAGE_TRIES)) {
            Some(page) => pages.push(page),
            None => {
                // the path is down for good; asking for each of the other pages would only take time
                *errors.entry("the server's ledger cannot be read: no answer".to_owned()).or_default() += 1;
                break;
            }
        }
    }
    pages
}

fn ask_page(socket: &UdpSocket, flow: u64, base: u64, wait: Duration) -> Option<Page> {
    let start = Instant::now();
    // a pending ICMP error makes the first attempt fail
    let ask = Message::LedgerAsk { base }.encode(flow);
    socket.send(&ask).or_else(|_| socket.send(&ask)).ok()?;
    let mut buffer = [0; 2048];
    loop {
        let left = wait.checked_sub(start.elapsed()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).ok()?;
        let length = socket.recv(&mut buffer).ok()?;
        match Message::read(&mut &buffer[..length]) {
            Ok((Message::LedgerPage(page), nonce)) if nonce == flow && page.base == base => {
                return Some(page);
            }
            _ => {}
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

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
}
