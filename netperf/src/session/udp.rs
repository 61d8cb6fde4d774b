//! Exchanges as datagrams.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::{Exchange, Request, local, millis};
use crate::failure::Failure;
use crate::wire::{MAX_UDP_PAYLOAD, Message};

pub(crate) struct UdpSession {
    socket: UdpSocket,
    address: SocketAddr,
    timeout: Duration,
    buffer: Vec<u8>,
}

/// A connected socket with a port of its own that reports what ICMP says about its packets.
pub(crate) fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // without IP_RECVERR a connected socket hears of a closed port only, not of "host unreachable" (udp(7))
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    socket.connect(address)?;
    Ok(socket)
}

impl UdpSession {
    pub(super) fn open(address: SocketAddr, timeout: Duration) -> Result<Self, Failure> {
        let socket = open(address).map_err(|error| local(&error))?;
        Ok(Self { socket, address, timeout, buffer: vec![0; 1 << 16] })
    }

    pub(super) fn exchange(&mut self, bytes: u32) -> Result<Exchange, Failure> {
        if bytes > MAX_UDP_PAYLOAD {
            let error = format!(
                "{bytes} bytes do not fit into a datagram; ask for at most {MAX_UDP_PAYLOAD} over UDP"
            );
            return Err(Failure::Local { error });
        }
        let request = Request::new(bytes);
        let start = Instant::now();
        self.socket.send(&request.frame).map_err(|error| self.failure(&error))?;
        loop {
            let left = self.timeout.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
            let left = left.ok_or_else(|| Failure::Timeout { after_ms: millis(self.timeout) })?;
            self.socket.set_read_timeout(Some(left)).map_err(|error| local(&error))?;
            let length = self.socket.recv(&mut self.buffer).map_err(|error| self.failure(&error))?;
            let rtt = start.elapsed();
            let mut datagram = &self.buffer[..length];
            let (answer, nonce) =
                Message::read(&mut datagram).map_err(|error| Failure::from_wire(&error, 0))?;
            // an answer to an earlier request that was given up may still arrive
            if nonce == request.nonce {
                return request.verify(answer, datagram, rtt);
            }
        }
    }

    /// What an error means. The next datagram after one that was too big takes the route as it is by then: the kernel stamps
    /// a socket's route with the state of the table after it has looked the route up, so that of an MTU which another socket
    /// learns in between this one would never hear (`ip6_sk_dst_store_flow` in net/ipv6/ip6_output.c).
    fn failure(&self, error: &io::Error) -> Failure {
        match Failure::from_io(error, millis(self.timeout)) {
            too_big @ Failure::TooBig { .. } => {
                self.socket.connect(self.address).err().map_or(too_big, |error| local(&error))
            }
            failure => failure,
        }
    }
}
