//! One flow on its socket: what it receives while somebody else sends, and the ledger that is read when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::libc::timespec;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use super::account::{Arrival, Observation};
use crate::session::open_udp;
use crate::wire::{self, Message, PAGE, Page};

/// How long the receiver sleeps at most before it looks whether it is done.
const POLL: Duration = Duration::from_millis(20);
/// Questions for one page of the ledger before it is given up.
const PAGE_TRIES: u32 = 5;
/// Some seconds of a flow at 1 kHz: an asker that sleeps loses nothing of what reached it.
const RECEIVE_BUFFER: usize = 8 << 20;

/// How often each error happened, by its text.
pub(super) type Errors = BTreeMap<String, u64>;

/// A flow of numbered packets to one server.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) socket: UdpSocket,
    pub(super) nonce: u64,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) arrivals: Vec<Arrival>,
    pub(super) errors: Errors,
}

impl Flow {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = open_udp(address)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            // without CAP_NET_ADMIN the kernel gives what net.core.rmem_max allows
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        Ok(Self { socket, nonce: wire::fresh_nonce() })
    }

    /// Sends a packet, and says what error that brought.
    pub(super) fn send(&self, seq: u64) -> Option<io::Error> {
        let datagram = Message::Echo { seq }.encode(self.nonce);
        // an error may belong to an earlier packet (ICMP) and has kept this one from being sent: once more
        let error = self.socket.send(&datagram).err()?;
        let _ = self.socket.send(&datagram);
        Some(error)
    }

    /// Receives until `wait` after the sending is over, or until nothing more can come. Times count from `started_us`.
    pub(super) fn receive(&self, started_us: u64, sending: &Sending, wait: Duration) -> Heard {
        let mut heard = Heard::default();
        let mut answered = BTreeSet::new();
        let mut buffer = [0; 2048];
        let mut overflowed = 0;
        let mut over: Option<Instant> = None;
        if let Err(error) = self.socket.set_read_timeout(Some(POLL)) {
            heard.errors.insert(error.to_string(), 1);
            return heard;
        }
        loop {
            let received = receive(&self.socket, &mut buffer);
            let queued = received.is_ok();
            match received {
                Ok(Datagram { length, at_us, dropped }) => {
                    overflowed = overflowed.max(dropped);
                    if let Some(arrival) = self.arrival(&buffer[..length], at_us.saturating_sub(started_us)) {
                        answered.insert(arrival.seq);
                        heard.arrivals.push(arrival);
                    }
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => *heard.errors.entry(error.to_string()).or_default() += 1,
            }
            if over.is_none() && sending.is_over() {
                over = Some(Instant::now());
            }
            // all answered: a little longer still, for duplicates
            let patience = if answered.len() as u64 == sending.sent() { wait.min(2 * POLL) } else { wait };
            // what waits in the queue has arrived, however long this thread had to wait for a processor
            if !queued && over.is_some_and(|since| since.elapsed() >= patience) {
                break;
            }
        }
        if overflowed > 0 {
            // these are counted as lost on the way back, and were not
            let text = "the asker's own receive queue overflowed".to_owned();
            heard.errors.insert(text, overflowed);
        }
        heard
    }

    fn arrival(&self, mut datagram: &[u8], at_us: u64) -> Option<Arrival> {
        match Message::read(&mut datagram) {
            Ok((Message::EchoAnswer { seq, epoch, stamp, times }, nonce)) if nonce == self.nonce => {
                Some(Arrival { seq, at_us, epoch, stamp, times })
            }
            _ => None,
        }
    }

    /// The first page for the totals, and each on which the fate of an unanswered packet stands.
    pub(super) fn read_ledger(
        &self,
        observation: &Observation,
        wait: Duration,
        errors: &mut Errors,
    ) -> Vec<Page> {
        let answered: BTreeSet<u64> = observation.arrivals.iter().map(|arrival| arrival.seq).collect();
        let unanswered = (0..observation.sent_us.len() as u64).filter(|seq| !answered.contains(seq));
        let bases: BTreeSet<u64> = std::iter::once(0).chain(unanswered.map(|seq| seq - seq % PAGE)).collect();
        let mut pages = Vec::new();
        for base in bases {
            match (0..PAGE_TRIES).find_map(|_| self.ask_page(base, wait / PAGE_TRIES)) {
                Some(page) => pages.push(page),
                None => {
                    // the path is down for good; asking for each of the other pages would only take time
                    let text = "the server's ledger cannot be read: no answer".to_owned();
                    *errors.entry(text).or_default() += 1;
                    break;
                }
            }
        }
        pages
    }

    fn ask_page(&self, base: u64, wait: Duration) -> Option<Page> {
        let start = Instant::now();
        // a pending ICMP error makes the first attempt fail
        let ask = Message::LedgerAsk { base }.encode(self.nonce);
        self.socket.send(&ask).or_else(|_| self.socket.send(&ask)).ok()?;
        let mut buffer = [0; 2048];
        loop {
            let left = wait.checked_sub(start.elapsed()).filter(|left| !left.is_zero())?;
            self.socket.set_read_timeout(Some(left)).ok()?;
            let length = self.socket.recv(&mut buffer).ok()?;
            match Message::read(&mut &buffer[..length]) {
                Ok((Message::LedgerPage(page), nonce)) if nonce == self.nonce && page.base == base => {
                    return Some(page);
                }
                _ => {}
            }
        }
    }
}

/// How far the sender is, for the receiver to know when nothing more can come.
#[derive(Debug)]
pub(super) struct Sending {
    /// Packets of each flow that were sent.
    sent: AtomicU64,
    over: AtomicBool,
}

impl Sending {
    pub(super) const fn new() -> Self {
        Self { sent: AtomicU64::new(0), over: AtomicBool::new(false) }
    }

    /// There will be no more packets than these.
    pub(super) fn end(&self, sent: u64) {
        self.sent.store(sent, Ordering::Release);
        self.over.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }
}

struct Datagram {
    length: usize,
    at_us: u64,
    /// What the kernel had to drop since the socket was made, because its queue was full.
    dropped: u64,
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = cmsg_space!(timespec, u32);
    let mut slices = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())?;
    let (mut at_us, mut dropped) = (None, 0);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::ScmTimestampns(time) => at_us = Some(wire::time_us(time)),
            ControlMessageOwned::RxqOvfl(count) => dropped = u64::from(count),
            _ => {}
        }
    }
    Ok(Datagram { length: message.bytes, at_us: at_us.unwrap_or_else(wire::clock_us), dropped })
}
