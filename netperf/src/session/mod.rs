//! One asker's socket to one target, over which exchanges follow each other.

mod icmp;
mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::failure::{Direction, Failure};
use crate::target::Protocol;
use crate::wire::{self, Message};

pub(crate) use tcp::{TcpSession, connect};
pub(crate) use udp::open as open_udp;

/// What one exchange has shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exchange {
    pub(crate) rtt: Duration,
    /// ICMP is answered by the kernel, which has no name and reports no source.
    pub(crate) name: Option<String>,
    pub(crate) source: Option<SocketAddr>,
}

pub(crate) enum Session {
    Tcp(tcp::TcpSession),
    Udp(udp::UdpSession),
    Icmp(icmp::IcmpSession),
}

impl Session {
    /// A new source port (or ICMP identifier) each time. Each later exchange may take `timeout`.
    pub(crate) fn open(protocol: Protocol, address: SocketAddr, timeout: Duration) -> Result<Self, Failure> {
        Ok(match protocol {
            Protocol::Tcp => Self::Tcp(tcp::TcpSession::open(address, timeout)?),
            Protocol::Udp => Self::Udp(udp::UdpSession::open(address, timeout)?),
            Protocol::Icmp => Self::Icmp(icmp::IcmpSession::open(address, timeout)?),
        })
    }

    /// Sends `bytes` of payload and wants as many back.
    pub(crate) fn exchange(&mut self, bytes: u32) -> Result<Exchange, Failure> {
        match self {
            Self::Tcp(session) => session.exchange(bytes),
            Self::Udp(session) => session.exchange(bytes),
            Self::Icmp(session) => session.exchange(bytes),
        }
    }
}

/// A request with its payload, and what its answer must match.
struct Request {
    nonce: u64,
    bytes: u32,
    checksum: u64,
    frame: Vec<u8>,
}

impl Request {
    fn new(bytes: u32) -> Self {
        let nonce = wire::fresh_nonce();
        let payload = wire::payload(nonce, bytes);
        let mut frame = Message::Exchange { ask: bytes, length: bytes }.encode(nonce);
        frame.extend(&payload);
        Self { nonce, bytes, checksum: wire::checksum(&payload), frame }
    }

    /// Both payloads arrived whole, and the answer is as long as asked.
    fn verify(&self, answer: Message, payload: &[u8], rtt: Duration) -> Result<Exchange, Failure> {
        let Message::Answer { received, received_checksum, source, name, .. } = answer else {
            return Err(Failure::Malformed {
                detail: format!("{answer:?} is not the answer to an exchange"),
            });
        };
        if (received, received_checksum) != (self.bytes, self.checksum) {
            let (expected, seen) = (self.checksum, received_checksum);
            return Err(Failure::ChecksumMismatch {
                direction: Direction::Forward,
                received,
                expected,
                seen,
            });
        }
        let expected = wire::checksum(&wire::payload(!self.nonce, self.bytes));
        let seen = wire::checksum(payload);
        if expected != seen {
            let received = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            return Err(Failure::ChecksumMismatch {
                direction: Direction::Backward,
                received,
                expected,
                seen,
            });
        }
        Ok(Exchange { rtt, name: Some(name), source: Some(source) })
    }
}

fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
}

fn local(error: &io::Error) -> Failure {
    Failure::from_io(error, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(request: &Request, received: &[u8]) -> Message {
        Message::Answer {
            received: u32::try_from(received.len()).unwrap(),
            received_checksum: wire::checksum(received),
            source: SocketAddr::from(([10, 0, 0, 1], 4)),
            length: request.bytes,
            checksum: 0,
            name: "n".to_owned(),
        }
    }

    #[test]
    fn damage_is_found_in_both_directions() {
        let request = Request::new(3000);
        let sent = wire::payload(request.nonce, 3000);
        let back = wire::payload(!request.nonce, 3000);
        let verify = |received: &[u8], back: &[u8]| {
            request.verify(answer_to(&request, received), back, Duration::ZERO)
        };

        assert_eq!(verify(&sent, &back).unwrap().name.as_deref(), Some("n"));
        let mut damaged = back.clone();
        damaged[2999] ^= 0x80;
        let failed =
            [verify(&sent[1..], &back), verify(&damaged, &back), verify(&sent, &damaged), verify(&sent, &[])];
        let directions = failed.map(|result| match result {
            Err(Failure::ChecksumMismatch { direction, .. }) => direction,
            other => panic!("{other:?}"),
        });
        assert_eq!(
            directions,
            [Direction::Forward, Direction::Forward, Direction::Backward, Direction::Backward]
        );
    }
}
