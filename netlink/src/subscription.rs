//! A subscription to multicast groups of one namespace: datagrams come in, what is made of their messages goes out.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::attributes::Malformed;
use crate::transport::{Error, Frame, KernelSocket, Socket, frames};

/// Larger than any notification.
const BUFFER: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Subscription<T> {
    socket: KernelSocket,
    /// Stands for everything that was lost, or that cannot be decoded.
    lost: T,
    pending: VecDeque<T>,
    buffer: Vec<u8>,
}

impl<T: Clone> Subscription<T> {
    /// Subscribes to the calling thread's namespace.
    pub(crate) fn open(groups: &[u32], lost: T) -> Result<Self, Error> {
        let mut socket = KernelSocket::open()?;
        for group in groups {
            socket.join(*group)?;
        }
        Ok(Self { socket, lost, pending: VecDeque::new(), buffer: Vec::with_capacity(BUFFER) })
    }

    /// The next one, or `None` when the time is over; zero asks without waiting.
    pub(crate) fn next(
        &mut self,
        timeout: Duration,
        decode: impl Fn(&Frame<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Option<T>, Error> {
        let until = Instant::now() + timeout;
        while self.pending.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if !self.read(left, &decode)? {
                return Ok(None);
            }
        }
        Ok(self.pending.pop_front())
    }

    /// Reads one datagram; `false` is none in time.
    fn read(
        &mut self,
        timeout: Duration,
        decode: impl Fn(&Frame<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<bool, Error> {
        self.buffer.clear();
        match self.socket.receive(&mut self.buffer, timeout) {
            Ok(length) if length > self.buffer.len() => self.pending.push_back(self.lost.clone()),
            Ok(0) => return Err(Error::Closed),
            Ok(_) => {
                for frame in frames(&self.buffer) {
                    let made = frame.ok().and_then(|frame| decode(&frame).ok());
                    self.pending.extend(made.unwrap_or_else(|| Some(self.lost.clone())));
                }
            }
            Err(error) => match Error::from_receive(error, timeout) {
                Error::Overrun => self.pending.push_back(self.lost.clone()),
                Error::Timeout { .. } => return Ok(false),
                error => return Err(error),
            },
        }
        Ok(true)
    }
}

impl<T> AsFd for Subscription<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
