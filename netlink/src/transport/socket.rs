//! The kernel's end: a netlink socket with every safety that it offers switched on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Error, Pace};

/// Room for the refusals of the largest chunk, many times over.
const FORCED_RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

/// What a connection needs of a socket; tests script another one.
pub(crate) trait Socket {
    /// Sends one datagram and says how much of it was taken.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Appends one datagram to the buffer, within its capacity, and returns its full length.
    fn receive(&mut self, buffer: &mut Vec<u8>, timeout: Duration) -> io::Result<usize>;

    /// How many answers the receive buffer holds.
    fn pace(&self) -> Pace;
}

/// A socket of `NETLINK_ROUTE` in the namespace of the thread that opened it, for ever.
#[derive(Debug)]
pub(crate) struct KernelSocket {
    socket: RawSocket,
    port: u32,
    pace: Pace,
}

impl KernelSocket {
    pub(crate) fn open() -> Result<Self, Error> {
        let mut socket = RawSocket::new(NETLINK_ROUTE).map_err(open_error("create"))?;
        let address = socket.bind_auto().map_err(open_error("bind"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(open_error("connect"))?;
        // Without the echo of our request in every answer, and with the kernel's own words in it.
        socket.set_cap_ack(true).map_err(open_error("shorten the answers of"))?;
        socket.set_ext_ack(true).map_err(open_error("ask for the reasons on"))?;
        if let Err(error) = socket.set_netlink_get_strict_chk(true) {
            // Linux < 4.20: dumps are then filtered by us alone.
            tracing::debug!(%error, "the kernel does not filter dumps");
        }
        let forced = setsockopt(&socket, sockopt::RcvBufForce, &FORCED_RECEIVE_BUFFER);
        if let Err(error) = forced {
            tracing::debug!(%error, "cannot enlarge the receive buffer, sending small chunks");
        }
        let pace = if forced.is_ok() { Pace::WIDE } else { Pace::NARROW };
        Ok(Self { socket, port: address.port_number(), pace })
    }

    /// Subscribes to a multicast group.
    pub(crate) fn join(&mut self, group: u32) -> Result<(), Error> {
        self.socket.add_membership(group).map_err(open_error("subscribe"))
    }

    /// Ends the subscription to a multicast group.
    pub(crate) fn leave(&mut self, group: u32) -> Result<(), Error> {
        self.socket.drop_membership(group).map_err(open_error("unsubscribe"))
    }

    /// The address by which the kernel knows this socket.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    fn wait(&self, until: Instant) -> io::Result<()> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let millis = left.as_micros().div_ceil(1000);
            let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
            let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, timeout) {
                Ok(0) => return Err(Errno::EAGAIN.into()),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Socket for KernelSocket {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.socket.send(bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, timeout: Duration) -> io::Result<usize> {
        let until = Instant::now() + timeout;
        loop {
            // `Vec` grows without bound as a `BufMut`: its spare capacity is the buffer.
            match self.socket.recv_from(buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                // Only the kernel has port zero: another process may send us anything.
                Ok((_, from)) if from.port_number() != 0 => buffer.clear(),
                Ok((length, _)) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(until)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn pace(&self) -> Pace {
        self.pace
    }
}

impl AsFd for KernelSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open_error(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Open { doing, source }
}
