//! One netlink socket and the ways of talking over it: a batch of changes, a dump, a single question.
//!
//! The kernel handles a request while it is being sent and queues its answers on our socket, so a chunk of
//! a batch must not provoke more answers than the receive buffer holds (about 280 with the default size).
//! Where the buffer could be forced to 8 MiB, chunks are large and only their last message asks for an
//! acknowledgement: refusals are always answered, in order, and an answer that does not fit is reported as
//! `ENOBUFS`. Elsewhere chunks are small and every message asks.

mod batch;
mod dump;
mod error;
mod frame;
mod socket;

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;

use std::time::Duration;

use netlink_packet_core::{Emitable, NetlinkHeader};

pub use self::error::{Error, Refusal};
pub(crate) use self::frame::{Frame, frames};
pub(crate) use self::socket::{KernelSocket, Socket};

const HEADER: usize = 16;

/// The kernel may take long for one message (it holds the RTNL lock for others), but not this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Larger than any datagram that the kernel builds for a dump (32 KiB).
const RECEIVE_BUFFER: usize = 64 * 1024;

/// One message, without the header fields that the connection fills in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub message_type: u16,
    pub flags: u16,
    pub body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(message_type: u16, flags: u16, body: &impl Emitable) -> Self {
        let mut bytes = vec![0; body.buffer_len()];
        body.emit(&mut bytes);
        Self { message_type, flags, body: bytes }
    }

    /// Appends the whole message, aligned to four bytes as `NLMSG_ALIGN` asks.
    fn append_to(&self, bytes: &mut Vec<u8>, sequence: u32, more_flags: u16) {
        let start = bytes.len();
        let length = HEADER + self.body.len();
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(length).unwrap_or(u32::MAX);
        header.message_type = self.message_type;
        header.flags = self.flags | netlink_packet_core::NLM_F_REQUEST | more_flags;
        header.sequence_number = sequence;
        bytes.resize(start + HEADER, 0);
        header.emit(&mut bytes[start..]);
        bytes.extend_from_slice(&self.body);
        bytes.resize(start + length.next_multiple_of(4), 0);
    }
}

/// How many answers a chunk may provoke, and who asks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub messages: usize,
    pub acknowledge: Acknowledge,
}

/// Which messages of a chunk ask for an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledge {
    Each,
    Last,
}

impl Pace {
    /// For a receive buffer of 8 MiB.
    pub(crate) const WIDE: Self = Self { messages: 512, acknowledge: Acknowledge::Last };
    /// For the default receive buffer, which overflows at some 280 answers.
    pub(crate) const NARROW: Self = Self { messages: 128, acknowledge: Acknowledge::Each };
}

/// A socket with the state of the conversation on it.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    socket: S,
    pace: Pace,
    timeout: Duration,
    sequence: u32,
    /// An exchange ended early: answers to it may still be queued.
    stale: bool,
    buffer: Vec<u8>,
}

impl<S: Socket> Connection<S> {
    pub(crate) fn new(socket: S) -> Self {
        let pace = socket.pace();
        Self {
            socket,
            pace,
            timeout: ANSWER_TIMEOUT,
            sequence: 1,
            stale: false,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
        }
    }

    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    fn next_sequences(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Runs one exchange; whatever ends it early leaves a mark, so that the next one starts clean.
    fn exchange<T>(&mut self, talk: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.stale {
            self.drain()?;
        }
        self.stale = true;
        let result = talk(self);
        self.stale = match &result {
            Ok(_) => false,
            Err(error) => error.leaves_answers(),
        };
        result
    }

    /// Throws away what an aborted exchange left. Reading to the end also finishes an abandoned dump.
    fn drain(&mut self) -> Result<(), Error> {
        loop {
            match self.receive(Duration::ZERO) {
                Ok(()) | Err(Error::Overrun) => {}
                Err(Error::Timeout { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let sent = self.socket.send(bytes).map_err(|error| Error::from_send(error, bytes.len()))?;
        if sent == bytes.len() { Ok(()) } else { Err(Error::ShortSend { sent, expected: bytes.len() }) }
    }

    fn receive(&mut self, timeout: Duration) -> Result<(), Error> {
        self.buffer.clear();
        let length =
            self.socket.receive(&mut self.buffer, timeout).map_err(|e| Error::from_receive(e, timeout))?;
        match length {
            0 => Err(Error::Closed),
            _ if length > self.buffer.len() => Err(Error::Truncated { length, buffer: self.buffer.len() }),
            _ => Ok(()),
        }
    }
}
