//! The protocol between those who ask and [`crate::serve`], the same over TCP and UDP.
//!
//! Every message starts with 16 bytes (all integers big-endian) and continues with the fields of its kind, in the order of
//! the fields of [`Message`]:
//!
//! ```text
//! 0      magic "CLNP"
//! 4      version (2)
//! 5      kind
//! 6..8   zero
//! 8..16  nonce: chosen by the asker, repeated in the answer
//! ```
//!
//! An `Exchange` is followed by `length` bytes of payload. Its `Answer` says who answers, the source address that was
//! seen, how many payload bytes arrived with which checksum, and is followed by a payload of the asked length (over UDP at
//! most as long as the payload that came, so that the server is no amplifier). The payload of a request is
//! [`payload`]`(nonce, length)`, that of the answer [`payload`]`(!nonce, length)`, so each side can tell whether what
//! arrived is what was meant. A UDP message is one datagram; over TCP messages follow each other on one connection.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nix::sys::time::TimeSpec;

const MAGIC: [u8; 4] = *b"CLNP";
const VERSION: u8 = 2;
const FLAG_DUPLICATE: u8 = 1;
const FLAG_REORDERED: u8 = 2;

/// Longest payload of one exchange; longer ones are refused by both sides.
pub const MAX_PAYLOAD: u32 = 16 << 20;
/// Longest payload of a UDP exchange: a datagram of 65,507 bytes less the answer's header and the longest name.
pub const MAX_UDP_PAYLOAD: u32 = 65_507 - 16 - 43 - MAX_NAME as u32;
/// Longest name of an answering server in bytes (a DNS label has 63, a Linux host name 64, a full name 255).
pub const MAX_NAME: usize = 255;
/// Sequence numbers whose fate one [`Message::LedgerPage`] tells.
pub const PAGE: u64 = 1024;
/// Bytes of the bitmap in a [`Message::LedgerPage`].
pub const PAGE_BYTES: usize = PAGE as usize / 8;

/// What the server says about one received sequence number of an outage flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// How many packets of this flow the server had received, this one included.
    pub counter: u64,
    /// The same sequence number had come before.
    pub duplicate: bool,
    /// A higher sequence number had come before.
    pub reordered: bool,
}

/// When the server received a packet (the kernel's own time of its arrival, so a server that slept delays nothing) and when
/// it answered, by the server's clock in microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerTimes {
    /// When the kernel had the packet.
    pub received_us: u64,
    /// When the answer was handed to the kernel.
    pub answered_us: u64,
}

/// What the server received of one flow as a whole, and of [`PAGE`] sequence numbers one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The first sequence number of the bitmap.
    pub base: u64,
    /// The life of the server that speaks; it changes when the server restarts.
    pub epoch: u64,
    /// Packets received, repetitions included.
    pub received: u64,
    /// Packets whose sequence number had come before.
    pub duplicates: u64,
    /// Packets that came after a higher sequence number, repetitions not included.
    pub reordered: u64,
    /// Bit `i % 8` of byte `i / 8` is set if `base + i` was received.
    pub bitmap: [u8; PAGE_BYTES],
}

impl Page {
    /// Whether the server received `seq`; `None` if this page does not cover it.
    #[must_use]
    pub fn received(&self, seq: u64) -> Option<bool> {
        let offset = seq.checked_sub(self.base).filter(|offset| *offset < PAGE)?;
        let byte = self.bitmap[usize::try_from(offset / 8).ok()?];
        Some(byte & (1 << (offset % 8)) != 0)
    }
}

/// One message, without the payload that follows an exchange and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Kind 1: asks for an answer of `ask` payload bytes; `length` payload bytes follow.
    Exchange {
        /// Payload bytes wanted back.
        ask: u32,
        /// Payload bytes that follow.
        length: u32,
    },
    /// Kind 2: the answer; `length` payload bytes follow.
    Answer {
        /// Payload bytes that arrived.
        received: u32,
        /// Checksum of the payload that arrived.
        received_checksum: u64,
        /// Who asked, as the server saw it.
        source: SocketAddr,
        /// Payload bytes that follow.
        length: u32,
        /// Checksum of the payload that follows.
        checksum: u64,
        /// Who answers.
        name: String,
    },
    /// Kind 3: packet `seq` of the outage flow whose number is the nonce.
    Echo {
        /// Position in the flow, from 0.
        seq: u64,
    },
    /// Kind 4: the server's answer to one `Echo`.
    EchoAnswer {
        /// As asked.
        seq: u64,
        /// The life of the server; it changes when the server restarts.
        epoch: u64,
        /// What the server saw.
        stamp: Stamp,
        /// When the packet came in and when this answer went out.
        times: ServerTimes,
    },
    /// Kind 5: asks which of the [`PAGE`] sequence numbers from `base` the server has received.
    LedgerAsk {
        /// First sequence number asked for.
        base: u64,
    },
    /// Kind 6: the answer to `LedgerAsk`.
    LedgerPage(Page),
    /// Kind 7, TCP: bulk follows until the sender shuts down its half.
    Sink,
    /// Kind 8, TCP: what arrived after `Sink`, and in which time.
    SinkResult {
        /// Bulk bytes received.
        bytes: u64,
        /// From the `Sink` message to the end of the bulk.
        micros: u64,
    },
    /// Kind 9, TCP: asks for bulk during this time.
    Source {
        /// For how long.
        millis: u32,
    },
}

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The bytes ended within the message, or the connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Another protocol or another version speaks.
    #[error("not a netperf message: it starts with {0:02x?}; is another program listening on this port?")]
    Foreign([u8; 5]),
    /// A field has a value that it cannot have.
    #[error("netperf message: field `{field}` is {value}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}

impl Message {
    /// The bytes of this message, without a payload.
    #[must_use]
    pub fn encode(&self, nonce: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend(MAGIC);
        out.extend([VERSION, self.kind(), 0, 0]);
        out.extend(nonce.to_be_bytes());
        self.encode_body(&mut out);
        out
    }

    /// The next message and its nonce; the reader is left at the payload.
    ///
    /// # Errors
    /// The reader fails or ends, or what it yields is not a message of this protocol.
    pub fn read(reader: &mut impl Read) -> Result<(Self, u64), WireError> {
        let start: [u8; 5] = array(reader)?;
        if start[..4] != MAGIC || start[4] != VERSION {
            return Err(WireError::Foreign(start));
        }
        let [kind, _, _] = array(reader)?;
        let nonce = u64::from_be_bytes(array(reader)?);
        Ok((Self::read_body(kind, reader)?, nonce))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Exchange { .. } => 1,
            Self::Answer { .. } => 2,
            Self::Echo { .. } => 3,
            Self::EchoAnswer { .. } => 4,
            Self::LedgerAsk { .. } => 5,
            Self::LedgerPage(_) => 6,
            Self::Sink => 7,
            Self::SinkResult { .. } => 8,
            Self::Source { .. } => 9,
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Exchange { ask, length } => {
                out.extend(ask.to_be_bytes());
                out.extend(length.to_be_bytes());
            }
            Self::Answer { received, received_checksum, source, length, checksum, name } => {
                out.extend(received.to_be_bytes());
                out.extend(received_checksum.to_be_bytes());
                encode_source(*source, out);
                out.extend(length.to_be_bytes());
                out.extend(checksum.to_be_bytes());
                let name = &name.as_bytes()[..name.len().min(MAX_NAME)];
                out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
                out.extend(name);
            }
            Self::Echo { seq } => out.extend(seq.to_be_bytes()),
            Self::EchoAnswer { seq, epoch, stamp, times } => {
                for field in [*seq, *epoch, times.received_us, times.answered_us] {
                    out.extend(field.to_be_bytes());
                }
                out.extend(stamp.counter.to_be_bytes());
                out.push(
                    (u8::from(stamp.duplicate) * FLAG_DUPLICATE)
                        | (u8::from(stamp.reordered) * FLAG_REORDERED),
                );
            }
            Self::LedgerAsk { base } => out.extend(base.to_be_bytes()),
            Self::LedgerPage(page) => encode_page(page, out),
            Self::Sink => {}
            Self::SinkResult { bytes, micros } => {
                out.extend(bytes.to_be_bytes());
                out.extend(micros.to_be_bytes());
            }
            Self::Source { millis } => out.extend(millis.to_be_bytes()),
        }
    }

    fn read_body(kind: u8, reader: &mut impl Read) -> Result<Self, WireError> {
        Ok(match kind {
            1 => Self::Exchange { ask: bounded("ask", reader)?, length: bounded("length", reader)? },
            2 => Self::Answer {
                received: u32::from_be_bytes(array(reader)?),
                received_checksum: u64::from_be_bytes(array(reader)?),
                source: read_source(reader)?,
                length: bounded("length", reader)?,
                checksum: u64::from_be_bytes(array(reader)?),
                name: read_name(reader)?,
            },
            3 => Self::Echo { seq: u64::from_be_bytes(array(reader)?) },
            4 => Self::EchoAnswer {
                seq: u64::from_be_bytes(array(reader)?),
                epoch: u64::from_be_bytes(array(reader)?),
                times: ServerTimes {
                    received_us: u64::from_be_bytes(array(reader)?),
                    answered_us: u64::from_be_bytes(array(reader)?),
                },
                stamp: read_stamp(reader)?,
            },
            5 => Self::LedgerAsk { base: u64::from_be_bytes(array(reader)?) },
            6 => Self::LedgerPage(read_page(reader)?),
            7 => Self::Sink,
            8 => Self::SinkResult {
                bytes: u64::from_be_bytes(array(reader)?),
                micros: u64::from_be_bytes(array(reader)?),
            },
            9 => Self::Source { millis: u32::from_be_bytes(array(reader)?) },
            other => return Err(WireError::Field { field: "kind", value: u64::from(other) }),
        })
    }
}

fn array<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn bounded(field: &'static str, reader: &mut impl Read) -> Result<u32, WireError> {
    let value = u32::from_be_bytes(array(reader)?);
    if value > MAX_PAYLOAD {
        return Err(WireError::Field { field, value: u64::from(value) });
    }
    Ok(value)
}

fn encode_source(source: SocketAddr, out: &mut Vec<u8>) {
    let ip = match source.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    out.extend(ip.octets());
    out.extend(source.port().to_be_bytes());
}

fn read_source(reader: &mut impl Read) -> Result<SocketAddr, WireError> {
    let ip = Ipv6Addr::from(array::<16>(reader)?).to_canonical();
    Ok(SocketAddr::new(ip, u16::from_be_bytes(array(reader)?)))
}

fn read_name(reader: &mut impl Read) -> Result<String, WireError> {
    let [length] = array(reader)?;
    let mut name = vec![0; usize::from(length)];
    reader.read_exact(&mut name)?;
    Ok(String::from_utf8_lossy(&name).into_owned())
}

fn read_stamp(reader: &mut impl Read) -> Result<Stamp, WireError> {
    let counter = u64::from_be_bytes(array(reader)?);
    let [flags] = array(reader)?;
    Ok(Stamp { counter, duplicate: flags & FLAG_DUPLICATE != 0, reordered: flags & FLAG_REORDERED != 0 })
}

fn encode_page(page: &Page, out: &mut Vec<u8>) {
    for field in [page.base, page.epoch, page.received, page.duplicates, page.reordered] {
        out.extend(field.to_be_bytes());
    }
    out.extend(page.bitmap);
}

fn read_page(reader: &mut impl Read) -> Result<Page, WireError> {
    Ok(Page {
        base: u64::from_be_bytes(array(reader)?),
        epoch: u64::from_be_bytes(array(reader)?),
        received: u64::from_be_bytes(array(reader)?),
        duplicates: u64::from_be_bytes(array(reader)?),
        reordered: u64::from_be_bytes(array(reader)?),
        bitmap: array(reader)?,
    })
}

/// The payload that belongs to a nonce: no two nonces share one, so a packet that belongs to another exchange shows.
#[must_use]
pub fn payload(nonce: u64, length: u32) -> Vec<u8> {
    let length = usize::try_from(length).expect("usize has at least 32 bits on every platform with sockets");
    let mut random = crate::statistics::SplitMix64::new(nonce);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(random.next().to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// FNV-1a with 64 bits: it catches what a NIC's or tunnel's wrong checksum offload lets through.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// This machine's clock, in microseconds since 1970.
#[must_use]
pub fn clock_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A time of the kernel, in microseconds since 1970.
pub(crate) fn time_us(time: TimeSpec) -> u64 {
    let micros = time.tv_sec().saturating_mul(1_000_000).saturating_add(time.tv_nsec() / 1000);
    u64::try_from(micros).unwrap_or(0)
}

/// A number that no other exchange of this machine uses.
#[must_use]
pub fn fresh_nonce() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_message() -> impl Strategy<Value = Message> {
        prop_oneof![
            (0..=MAX_PAYLOAD, 0..=MAX_PAYLOAD).prop_map(|(ask, length)| Message::Exchange { ask, length }),
            (
                any::<u32>(),
                any::<u64>(),
                any::<[u8; 4]>(),
                any::<u16>(),
                0..=MAX_PAYLOAD,
                "[a-z0-9.-]{0,255}"
            )
                .prop_map(|(received, sum, ip, port, length, name)| Message::Answer {
                    received,
                    received_checksum: sum,
                    source: SocketAddr::from((ip, port)),
                    length,
                    checksum: !sum,
                    name,
                }),
            any::<u64>().prop_map(|seq| Message::Echo { seq }),
            (any::<[u64; 5]>(), any::<(bool, bool)>()).prop_map(|(f, flags)| {
                let [seq, epoch, counter, received_us, answered_us] = f;
                Message::EchoAnswer {
                    seq,
                    epoch,
                    stamp: Stamp { counter, duplicate: flags.0, reordered: flags.1 },
                    times: ServerTimes { received_us, answered_us },
                }
            }),
            any::<u64>().prop_map(|base| Message::LedgerAsk { base }),
            (any::<[u64; 5]>(), any::<u8>()).prop_map(|(f, byte)| {
                let [base, epoch, received, duplicates, reordered] = f;
                let bitmap = [byte; PAGE_BYTES];
                Message::LedgerPage(Page { base, epoch, received, duplicates, reordered, bitmap })
            }),
            Just(Message::Sink),
            any::<(u64, u64)>().prop_map(|(bytes, micros)| Message::SinkResult { bytes, micros }),
            any::<u32>().prop_map(|millis| Message::Source { millis }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(message in any_message(), nonce: u64) {
            let bytes = message.encode(nonce);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(Message::read(&mut rest).unwrap(), (message, nonce));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, kind in 0u8..12) {
            let mut message = b"CLNP\x02".to_vec();
            message.extend([kind, 0, 0]);
            message.extend(bytes);
            let _ = Message::read(&mut message.as_slice());
        }
    }

    #[test]
    fn an_exchange_has_these_bytes() {
        let bytes = Message::Exchange { ask: 0x0102, length: 3 }.encode(0x1122_3344_5566_7788);
        let expected = b"CLNP\x02\x01\0\0\x11\x22\x33\x44\x55\x66\x77\x88\0\0\x01\x02\0\0\0\x03";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_longest_udp_answer_fits_into_a_datagram() {
        let source = SocketAddr::from(([0u8; 16], 1));
        let name = "n".repeat(MAX_NAME);
        let answer =
            Message::Answer { received: 0, received_checksum: 0, source, length: 0, checksum: 0, name };
        assert!(answer.encode(0).len() + MAX_UDP_PAYLOAD as usize <= 65_507);
    }

    #[test]
    fn another_protocol_is_named() {
        let error = Message::read(&mut b"HTTP/1.1 400 Bad Request".as_slice()).unwrap_err();
        assert!(error.to_string().contains("another program"), "{error}");
    }

    #[test]
    fn a_length_beyond_the_maximum_is_refused() {
        let bytes = Message::Exchange { ask: MAX_PAYLOAD + 1, length: 0 }.encode(0);
        let error = Message::read(&mut bytes.as_slice()).unwrap_err();
        assert!(error.to_string().contains("`ask` is 16777217"), "{error}");
    }

    #[test]
    fn a_payload_depends_on_its_nonce_and_one_flipped_bit_shows() {
        let bytes = payload(7, 9001);
        assert_eq!(bytes.len(), 9001);
        assert_ne!(bytes, payload(8, 9001));
        let mut flipped = bytes.clone();
        flipped[4500] ^= 1;
        assert_ne!(checksum(&bytes), checksum(&flipped));
    }
}
