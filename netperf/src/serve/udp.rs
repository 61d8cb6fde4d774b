//! Answers to datagrams, each from the address that was asked.
//!
//! A reply from another address than the one that was addressed would be dropped by the asker's connected socket and by
//! every connection tracker on the way. `IP_PKTINFO` and `IPV6_RECVPKTINFO` tell which address that was (ip(7), RFC 3542).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_pktinfo, timespec};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::Socket;

use crate::ledger::Ledgers;
use crate::wire::{self, Message, ServerTimes};

const LARGEST_DATAGRAM: usize = 1 << 16;
/// A burst of fragmented datagrams must not be lost in the server's own queue and be blamed on the network.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The address that a datagram was sent to, as the kernel wants it back.
#[derive(Debug, Clone, Copy)]
enum Addressed {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

pub(super) fn prepare(socket: Socket, address: SocketAddr) -> io::Result<UdpSocket> {
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        // without CAP_NET_ADMIN the kernel gives what net.core.rmem_max allows
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(socket.into())
}

pub(super) fn answer(socket: &UdpSocket, mut responder: Responder) {
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        match receive(socket, &mut buffer) {
            Ok(Received { length, source, addressed, received_us }) => {
                let answered_us = wire::clock_us();
                let times = ServerTimes { received_us: received_us.unwrap_or(answered_us), answered_us };
                if let Some(answer) = responder.answer(&buffer[..length], source, times) {
                    // an answer that cannot be sent is for the asker the same as one that is lost on the way
                    let _ = reply(socket, &answer, source, addressed);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // for example ENOMEM: give the kernel time instead of a busy loop
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A datagram as it came.
struct Received {
    length: usize,
    source: SocketAddr,
    addressed: Option<Addressed>,
    received_us: Option<u64>,
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = cmsg_space!(in_pktinfo, in6_pktinfo, timespec);
    let mut slices = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())?;
    let source = message.address.as_ref().and_then(socket_address);
    let source = source.ok_or_else(|| io::Error::other("datagram without a source address"))?;
    let (mut addressed, mut received_us) = (None, None);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => addressed = Some(Addressed::V4(info)),
            ControlMessageOwned::Ipv6PacketInfo(info) => addressed = Some(Addressed::V6(info)),
            ControlMessageOwned::ScmTimestampns(time) => received_us = Some(wire::time_us(time)),
            _ => {}
        }
    }
    Ok(Received { length: message.bytes, source, addressed, received_us })
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddrV4::new(v4.ip(), v4.port()).into());
    v4.or_else(|| {
        let v6 = storage.as_sockaddr_in6()?;
        Some(SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id()).into())
    })
}

fn reply(
    socket: &UdpSocket,
    bytes: &[u8],
    to: SocketAddr,
    addressed: Option<Addressed>,
) -> io::Result<usize> {
    let slices = [IoSlice::new(bytes)];
    let to = SockaddrStorage::from(to);
    let send = |control: &[ControlMessage<'_>]| {
        sendmsg(socket.as_raw_fd(), &slices, control, MsgFlags::empty(), Some(&to)).map_err(io::Error::from)
    };
    match addressed {
        Some(Addressed::V4(info)) => {
            // interface 0: the routing tables choose the way back, the address asked for is only the source
            let info = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: info.ipi_spec_dst,
                ipi_addr: in_addr { s_addr: 0 },
            };
            send(&[ControlMessage::Ipv4PacketInfo(&info)])
        }
        Some(Addressed::V6(info)) => {
            let link_local = Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local();
            let ipi6_ifindex = if link_local { info.ipi6_ifindex } else { 0 };
            send(&[ControlMessage::Ipv6PacketInfo(&in6_pktinfo { ipi6_ifindex, ..info })])
        }
        None => send(&[]),
    }
}

/// What a server answers to a datagram, apart from sockets.
#[derive(Debug)]
pub struct Responder {
    name: String,
    epoch: u64,
    ledgers: Ledgers,
}

impl Responder {
    /// Answers as `name`; `epoch` differs for each life of a server.
    #[must_use]
    pub fn new(name: String, epoch: u64) -> Self {
        Self { name, epoch, ledgers: Ledgers::default() }
    }

    /// The answer; `None` to what is not a request, so that two servers can never talk to each other.
    pub fn answer(&mut self, mut datagram: &[u8], source: SocketAddr, times: ServerTimes) -> Option<Vec<u8>> {
        let (message, nonce) = Message::read(&mut datagram).ok()?;
        match message {
            Message::Exchange { ask, .. } => {
                let arrived = u32::try_from(datagram.len()).ok()?;
                Some(exchange_answer(&self.name, nonce, ask.min(arrived), datagram, source))
            }
            Message::Echo { seq } => {
                let stamp = self.ledgers.flow(nonce).record(seq)?;
                Some(Message::EchoAnswer { seq, epoch: self.epoch, stamp, times }.encode(nonce))
            }
            Message::LedgerAsk { base } => {
                let page = self.ledgers.flow(nonce).page(base, self.epoch);
                Some(Message::LedgerPage(page).encode(nonce))
            }
            _ => None,
        }
    }
}

/// The answer to an exchange whose payload arrived as `arrived`, followed by `length` bytes of payload.
pub(super) fn exchange_answer(
    name: &str,
    nonce: u64,
    length: u32,
    arrived: &[u8],
    source: SocketAddr,
) -> Vec<u8> {
    let payload = wire::payload(!nonce, length);
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    let mut answer = Message::Answer {
        received: u32::try_from(arrived.len()).unwrap_or(u32::MAX),
        received_checksum: wire::checksum(arrived),
        source,
        length,
        checksum: wire::checksum(&payload),
        name: name.to_owned(),
    }
    .encode(nonce);
    answer.extend(payload);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> SocketAddr {
        SocketAddr::from(([10, 1, 2, 3], 4567))
    }

    #[test]
    fn an_answer_is_never_longer_than_what_was_sent_so_a_forged_source_gains_nothing() {
        let mut responder = Responder::new("pod".to_owned(), 1);
        let mut request = Message::Exchange { ask: 60_000, length: 10 }.encode(5);
        request.extend([0; 10]);
        let answer = responder.answer(&request, source(), ServerTimes::default()).unwrap();
        let mut rest = answer.as_slice();
        let (message, nonce) = Message::read(&mut rest).unwrap();
        assert_eq!((rest.len(), nonce), (10, 5));
        let Message::Answer { received, source: seen, name, .. } = message else { panic!("{message:?}") };
        assert_eq!((received, seen, name.as_str()), (10, source(), "pod"));
    }

    #[test]
    fn answers_and_noise_are_not_answered() {
        let mut responder = Responder::new("pod".to_owned(), 1);
        let answer = responder
            .answer(&Message::Exchange { ask: 0, length: 0 }.encode(5), source(), ServerTimes::default())
            .unwrap();
        assert_eq!(responder.answer(&answer, source(), ServerTimes::default()), None);
        for noise in [&b""[..], b"CLNP", b"GET / HTTP/1.1\r\n\r\n"] {
            assert_eq!(responder.answer(noise, source(), ServerTimes::default()), None);
        }
    }

    #[test]
    fn the_ledger_of_a_flow_survives_another_source_port() {
        let mut responder = Responder::new("pod".to_owned(), 77);
        let other = SocketAddr::from(([10, 1, 2, 3], 9));
        responder.answer(&Message::Echo { seq: 3 }.encode(5), source(), ServerTimes::default()).unwrap();
        let page = responder
            .answer(&Message::LedgerAsk { base: 0 }.encode(5), other, ServerTimes::default())
            .unwrap();
        let (Message::LedgerPage(page), 5) = Message::read(&mut page.as_slice()).unwrap() else { panic!() };
        assert_eq!((page.received(3), page.received(2), page.epoch), (Some(true), Some(false), 77));
    }
}
