//! Exchanges as ICMP echo, over a datagram socket where `net.ipv4.ping_group_range` allows it, else over a raw one.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Exchange, local, millis};
use crate::failure::{Direction, Failure};
use crate::icmp::Echo;
use crate::wire;

/// An IP packet of 65,535 bytes less the IPv4 and the ICMP header.
const MAX_ICMP_PAYLOAD: u32 = 65_535 - 20 - 8;
const RECEIVE_BUFFER: usize = 4 << 20;

pub(crate) struct IcmpSession {
    socket: Socket,
    /// On a datagram socket the kernel chooses the identifier and delivers our own replies only.
    datagram: bool,
    next: Echo,
    timeout: Duration,
    buffer: Vec<u8>,
}

impl IcmpSession {
    pub(super) fn open(address: SocketAddr, timeout: Duration) -> Result<Self, Failure> {
        let v6 = address.is_ipv6();
        let (socket, datagram) = open_socket(v6).map_err(|error| Failure::Local { error })?;
        let connect = || -> io::Result<()> {
            if v6 {
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
            } else {
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
            }
            // a raw socket also gets the replies to all others that ask the same address; without CAP_NET_ADMIN it
            // has to do with the queue that it has
            let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
            // a raw socket takes the port for a protocol number (raw(7)), so it must be 0
            socket.connect(&SocketAddr::new(address.ip(), 0).into())
        };
        connect().map_err(|error| local(&error))?;
        Ok(Self {
            socket,
            datagram,
            next: Echo { v6, id: fresh_id(), seq: 0 },
            timeout,
            buffer: vec![0; 1 << 16],
        })
    }

    pub(super) fn exchange(&mut self, bytes: u32) -> Result<Exchange, Failure> {
        if bytes > MAX_ICMP_PAYLOAD {
            let error = format!(
                "{bytes} bytes do not fit into a packet; ask for at most {MAX_ICMP_PAYLOAD} over ICMP"
            );
            return Err(Failure::Local { error });
        }
        self.next.seq = self.next.seq.wrapping_add(1);
        let payload = wire::payload(wire::fresh_nonce(), bytes);
        let packet = self.next.request(&payload);
        let start = Instant::now();
        let after_ms = millis(self.timeout);
        self.socket.send(&packet).map_err(|error| Failure::from_io(&error, after_ms))?;
        loop {
            let left = self.timeout.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
            let left = left.ok_or(Failure::Timeout { after_ms })?;
            self.socket.set_read_timeout(Some(left)).map_err(|error| local(&error))?;
            let length =
                (&self.socket).read(&mut self.buffer).map_err(|error| Failure::from_io(&error, after_ms))?;
            let rtt = start.elapsed();
            if let Some(back) = self.next.reply(&self.buffer[..length], self.datagram) {
                return verify(&payload, back, rtt);
            }
        }
    }
}

/// No two sessions of this process share an identifier, and those of two processes start far from each other.
fn fresh_id() -> u16 {
    static FIRST: LazyLock<u16> = LazyLock::new(|| (wire::fresh_nonce() & 0xffff) as u16);
    static NEXT: AtomicU16 = AtomicU16::new(0);
    FIRST.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Who answers and which source was seen, ICMP does not say; and where the damage happened neither.
fn verify(sent: &[u8], back: &[u8], rtt: Duration) -> Result<Exchange, Failure> {
    if sent == back {
        return Ok(Exchange { rtt, name: None, source: None });
    }
    Err(Failure::ChecksumMismatch {
        direction: Direction::Unknown,
        received: u32::try_from(back.len()).unwrap_or(u32::MAX),
        expected: wire::checksum(sent),
        seen: wire::checksum(back),
    })
}

/// The socket, and whether it is a datagram socket.
fn open_socket(v6: bool) -> Result<(Socket, bool), String> {
    let (domain, protocol) =
        if v6 { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
    if let Ok(socket) = Socket::new(domain, Type::DGRAM, Some(protocol)) {
        return Ok((socket, true));
    }
    let raw = Socket::new(domain, Type::RAW, Some(protocol));
    raw.map(|socket| (socket, false)).map_err(|error| {
        format!(
            "ICMP socket: {error}; run with CAP_NET_RAW, or allow datagram ICMP with \
             `sysctl net.ipv4.ping_group_range=\"0 2147483647\"`"
        )
    })
}
