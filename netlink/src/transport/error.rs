//! What can go wrong on the way, and what the kernel refuses.

use std::fmt;
use std::io;
use std::time::Duration;

use nix::errno::Errno;

/// The conversation with the kernel failed: what was asked may or may not have happened.
///
/// Read the kernel again before deciding anything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket could be opened or set up.
    #[error("cannot {doing} a netlink socket: {source}")]
    Open {
        /// The step that failed.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel did not take the datagram.
    #[error("cannot send {length} bytes to the kernel: {source}")]
    Send {
        /// The size of the datagram.
        length: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel took a part of the datagram only.
    #[error("the kernel took {sent} of {expected} bytes")]
    ShortSend {
        /// What it took.
        sent: usize,
        /// What it was given.
        expected: usize,
    },
    /// A message or chunk is larger than the send buffer (`EMSGSIZE`).
    #[error("{length} bytes are more than the socket can send at once (EMSGSIZE)")]
    TooLarge {
        /// The size of the datagram.
        length: usize,
    },
    /// The answer could not be read.
    #[error("cannot read the kernel's answer: {0}")]
    Receive(#[source] io::Error),
    /// The socket was closed or shut down.
    #[error("the netlink socket is closed")]
    Closed,
    /// Answers were lost because the receive buffer was full (`ENOBUFS`).
    #[error("the receive buffer overran and answers were lost (ENOBUFS); read the kernel again")]
    Overrun,
    /// No answer came in time.
    #[error("no answer from the kernel within {waited:?}")]
    Timeout {
        /// How long the wait was.
        waited: Duration,
    },
    /// The answer did not fit in the buffer.
    #[error("an answer of {length} bytes does not fit in a buffer of {buffer}")]
    Truncated {
        /// The size of the answer.
        length: usize,
        /// The size of the buffer.
        buffer: usize,
    },
    /// An answer belongs to another question.
    #[error("an answer has the sequence number {found}, expected {first} to {last}")]
    Sequence {
        /// The number that came.
        found: u32,
        /// The first number of the exchange.
        first: u32,
        /// The last number of the exchange.
        last: u32,
    },
    /// The exchange ended although some messages were never answered.
    #[error("{missing} of {sent} messages were not answered, the first is number {first}")]
    Unanswered {
        /// How many answers are missing.
        missing: usize,
        /// How many messages were sent.
        sent: usize,
        /// The index of the first one without an answer.
        first: usize,
    },
    /// A message of the kernel cannot be decoded.
    #[error("cannot decode a message of the kernel{}: {what}", in_reading(reading))]
    Malformed {
        /// What was being read.
        reading: Option<&'static str>,
        /// What is wrong with it.
        what: String,
    },
    /// The kernel changed under every attempt to read it (`NLM_F_DUMP_INTR`).
    #[error("reading the {reading} was interrupted by changes {attempts} times in a row")]
    Interrupted {
        /// What was being read.
        reading: &'static str,
        /// How often it was tried.
        attempts: u32,
    },
    /// The kernel refused to show its state.
    #[error("cannot read the {reading}: {refusal}")]
    Dump {
        /// What was being read.
        reading: &'static str,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// The namespace that the socket should live in cannot be entered.
    #[error(transparent)]
    Namespace(#[from] crate::netns::NamespaceError),
}

fn in_reading(reading: &Option<&'static str>) -> String {
    reading.map(|reading| format!(" while reading the {reading}")).unwrap_or_default()
}

impl Error {
    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { reading: None, what: what.into() }
    }

    pub(super) fn from_send(error: io::Error, length: usize) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMSGSIZE) => Self::TooLarge { length },
            Some(Errno::EBADF | Errno::ENOTCONN | Errno::EPIPE) => Self::Closed,
            _ => Self::Send { length, source: error },
        }
    }

    pub(crate) fn from_receive(error: io::Error, waited: Duration) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOBUFS) => Self::Overrun,
            Some(Errno::EAGAIN | Errno::ETIMEDOUT) => Self::Timeout { waited },
            Some(Errno::EBADF | Errno::ENOTCONN) => Self::Closed,
            _ if error.kind() == io::ErrorKind::TimedOut => Self::Timeout { waited },
            _ => Self::Receive(error),
        }
    }

    /// Whether answers may still be on their way after this end of an exchange.
    pub(super) fn leaves_answers(&self) -> bool {
        !matches!(self, Self::Dump { .. } | Self::Interrupted { .. } | Self::TooLarge { .. })
    }
}

/// The kernel refused one message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Refusal {
    /// The place of the message in its batch.
    pub index: usize,
    /// The positive error number.
    pub errno: i32,
    /// The kernel's own words (extended acknowledgement), where it gave any.
    pub message: Option<String>,
}

impl Refusal {
    /// The object to delete or change does not exist.
    pub fn is_absent(&self) -> bool {
        use Errno::{EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH};
        matches!(self.code(), ENOENT | ESRCH | ENODEV | EADDRNOTAVAIL)
    }

    /// The object to add exists already.
    pub fn is_present(&self) -> bool {
        self.code() == Errno::EEXIST
    }

    /// The kernel cannot do this at all, whatever the arguments.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self.code(),
            Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::ENOSYS
        )
    }

    fn code(&self) -> Errno {
        Errno::from_raw(self.errno)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code();
        match &self.message {
            Some(message) => write!(f, "{message} ({code:?})"),
            None => write!(f, "{} ({code:?})", code.desc()),
        }
    }
}

impl std::error::Error for Refusal {}
