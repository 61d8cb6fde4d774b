//! Why an exchange failed, precisely enough to tell a firewall from a missing route.

use std::io;
use std::net::SocketAddr;

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::wire::WireError;

/// The way of a packet between the asker and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the asker to the server.
    Forward,
    /// From the server to the asker.
    Backward,
    /// Not known: the server could not be asked what it received.
    Unknown,
}

/// Why an exchange failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Failure {
    /// Nothing came back in time: dropped on the way there or back.
    #[error("timeout: no answer within {after_ms} ms")]
    Timeout {
        /// How long was waited.
        after_ms: u64,
    },
    /// The address was reached, and nothing listens on the port (or a firewall rejects).
    #[error("refused: nothing listens there, or a firewall rejects")]
    Refused,
    /// A kernel on the way said that there is no way.
    #[error("unreachable: {error}")]
    Unreachable {
        /// The error's text, from the local kernel or from an ICMP message.
        error: String,
    },
    /// The packet is too big for the path and may not be fragmented.
    #[error("too big for the path's MTU: {error}")]
    TooBig {
        /// The error's text.
        error: String,
    },
    /// The connection broke during the exchange.
    #[error("closed: the far side ended the connection: {error}")]
    Closed {
        /// The error's text.
        error: String,
    },
    /// The payload changed on its way.
    #[error(
        "checksum mismatch {direction:?}: {received} bytes arrived with {seen:016x} instead of {expected:016x}"
    )]
    ChecksumMismatch {
        /// Which payload was damaged.
        direction: Direction,
        /// Bytes that arrived.
        received: u32,
        /// Checksum of the payload as sent.
        expected: u64,
        /// Checksum of the payload as it arrived.
        seen: u64,
    },
    /// Another server answers than the one that was meant.
    #[error("wrong identity: `{answered}` answers instead of {}", or_list(expected))]
    WrongIdentity {
        /// Who should have answered.
        expected: Vec<String>,
        /// Who did.
        answered: String,
        /// The source address that it saw.
        seen: Option<SocketAddr>,
    },
    /// The far side saw another source address than it should have: something on the way translates addresses.
    #[error("wrong source: `{answered}` saw {seen} instead of {}", or_list(expected))]
    WrongSource {
        /// What should have been seen.
        expected: Vec<String>,
        /// What was seen.
        seen: SocketAddr,
        /// Who answered.
        answered: String,
    },
    /// What came back is not an answer of this protocol.
    #[error("not an answer: {detail}")]
    Malformed {
        /// What is wrong with it.
        detail: String,
    },
    /// Any other error of the local kernel.
    #[error("{error}")]
    Local {
        /// The error's text.
        error: String,
    },
}

fn or_list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

impl Failure {
    /// The failure that an error of a socket stands for; `after_ms` is what a time-out has waited.
    #[must_use]
    pub fn from_io(error: &io::Error, after_ms: u64) -> Self {
        let text = error.to_string();
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => return Self::Refused,
            Some(
                libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENETDOWN | libc::EACCES,
            ) => {
                return Self::Unreachable { error: text };
            }
            // ICMPv6 and ICMP "communication prohibited", "protocol unreachable", "source route failed"
            Some(libc::EPERM | libc::ENOPROTOOPT | libc::EPROTO | libc::EOPNOTSUPP | libc::EADDRNOTAVAIL) => {
                return Self::Unreachable { error: text };
            }
            Some(libc::EMSGSIZE) => return Self::TooBig { error: text },
            _ => {}
        }
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout { after_ms },
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Closed { error: text },
            _ => Self::Local { error: text },
        }
    }

    /// The failure that stands for an error while reading a message.
    #[must_use]
    pub fn from_wire(error: &WireError, after_ms: u64) -> Self {
        match error {
            WireError::Io(error) => Self::from_io(error, after_ms),
            other => Self::Malformed { detail: other.to_string() },
        }
    }

    /// The kind in few words, for counting and for narrow tables.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Refused => "refused",
            Self::Unreachable { .. } => "unreachable",
            Self::TooBig { .. } => "too-big",
            Self::Closed { .. } => "closed",
            Self::ChecksumMismatch { .. } => "checksum-mismatch",
            Self::WrongIdentity { .. } => "wrong-identity",
            Self::WrongSource { .. } => "wrong-source",
            Self::Malformed { .. } => "malformed",
            Self::Local { .. } => "local",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_becomes_the_cause_and_keeps_its_text() {
        let of = |errno| Failure::from_io(&io::Error::from_raw_os_error(errno), 20);
        assert_eq!(of(libc::ECONNREFUSED), Failure::Refused);
        assert_eq!(of(libc::EAGAIN), Failure::Timeout { after_ms: 20 });
        assert_eq!(of(libc::ETIMEDOUT), Failure::Timeout { after_ms: 20 });
        assert!(of(libc::ENETUNREACH).to_string().contains("Network is unreachable"));
        assert!(of(libc::EHOSTUNREACH).to_string().contains("No route to host"));
        assert_eq!(of(libc::EMSGSIZE).label(), "too-big");
        assert_eq!(of(libc::EPIPE).label(), "closed");
        assert_eq!(of(libc::EMFILE).label(), "local");
    }

    #[test]
    fn json_and_message_of_a_wrong_identity() {
        let failure = Failure::WrongIdentity {
            expected: vec!["a".into(), "b".into()],
            answered: "c".into(),
            seen: None,
        };
        assert_eq!(failure.to_string(), "wrong identity: `c` answers instead of `a` or `b`");
        let json = serde_json::to_string(&failure).unwrap();
        assert!(json.contains(r#""kind":"wrong-identity""#), "{json}");
        assert_eq!(serde_json::from_str::<Failure>(&json).unwrap(), failure);
    }
}
