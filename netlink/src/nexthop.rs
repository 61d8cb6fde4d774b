//! Nexthop objects and groups of them.
//!
//! Many routes point at one object, so that one message moves them all. The message crates have no type for
//! these messages: the bytes are laid out here as `include/uapi/linux/nexthop.h` says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NlaBuffer};

use crate::attributes::{self, Malformed};
use crate::ip::{self, Family};
use crate::op::Verb;
use crate::route::Hop;
use crate::transport::{Frame, Request};

pub(crate) const RTM_NEWNEXTHOP: u16 = 104;
pub(crate) const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;

/// `struct nhmsg`.
pub(crate) const HEADER: usize = 8;

pub(crate) const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_RES_GROUP: u16 = 12;

const NHA_RES_GROUP_BUCKETS: u16 = 1;
const NHA_RES_GROUP_IDLE_TIMER: u16 = 2;
const NHA_RES_GROUP_UNBALANCED_TIMER: u16 = 3;

const NEXTHOP_GRP_TYPE_RES: u16 = 1;

/// `struct nexthop_grp`: id, weight - 1 as a low and a high byte, two reserved bytes.
const GROUP_ENTRY: usize = 8;

const RTNH_F_ONLINK: u32 = 4;

/// The kernel counts these timers in hundredths of a second (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What a nexthop object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NexthopKind {
    /// One way out. The family matters where there is no gateway to tell it.
    Hop(Family, Hop),
    /// Drops what comes.
    Blackhole(Family),
    /// Several objects, by id, each with its weight (1 to 256); resilient groups keep living flows in place.
    Group(BTreeMap<u32, u16>, Option<Resilience>),
}

/// How a resilient group keeps flows where they are while its members change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resilience {
    /// The size of the hash table; fixed for the life of the group.
    pub buckets: u16,
    /// A bucket without traffic for so long may move to another member. Steps of 10 ms.
    pub idle_timer: Duration,
    /// After so long without balance, busy buckets move too; zero is never. Steps of 10 ms.
    pub unbalanced_timer: Duration,
}

/// A nexthop object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nexthop {
    /// Its number, unique in the namespace.
    pub id: u32,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
    /// What it is.
    pub kind: NexthopKind,
}

impl Nexthop {
    /// One way through a gateway.
    pub fn hop(id: u32, protocol: u8, hop: Hop) -> Self {
        let family = hop.gateway.map_or(Family::V4, Family::of);
        Self { id, protocol, kind: NexthopKind::Hop(family, hop) }
    }

    /// A group whose members have equal weights.
    pub fn group(
        id: u32,
        protocol: u8,
        members: impl IntoIterator<Item = u32>,
        resilience: Option<Resilience>,
    ) -> Self {
        let members = members.into_iter().map(|member| (member, 1)).collect();
        Self { id, protocol, kind: NexthopKind::Group(members, resilience) }
    }

    pub(crate) fn request(&self, verb: Verb) -> Request {
        if verb == Verb::Delete {
            return Self::deletion(self.id);
        }
        let (family, flags) = match &self.kind {
            NexthopKind::Hop(family, hop) => (family.code(), if hop.onlink { RTNH_F_ONLINK } else { 0 }),
            NexthopKind::Blackhole(family) => (family.code(), 0),
            NexthopKind::Group(..) => (libc::AF_UNSPEC as u8, 0),
        };
        let mut attributes = vec![number(NHA_ID, self.id)];
        attributes.extend(self.kind.attributes());
        Request {
            message_type: RTM_NEWNEXTHOP,
            flags: verb.flags(),
            body: body(family, self.protocol, flags, &attributes),
        }
    }

    /// Deletion goes by id, every other field must be zero.
    fn deletion(id: u32) -> Request {
        Request {
            message_type: RTM_DELNEXTHOP,
            flags: Verb::Delete.flags(),
            body: body(libc::AF_UNSPEC as u8, 0, 0, &[number(NHA_ID, id)]),
        }
    }

    pub(crate) fn dump_request() -> Request {
        Request { message_type: RTM_GETNEXTHOP, flags: 0, body: body(libc::AF_UNSPEC as u8, 0, 0, &[]) }
    }

    /// `None` for an object that this type cannot express (an FDB nexthop).
    pub(crate) fn decode(frame: &Frame<'_>) -> Result<Option<Self>, Malformed> {
        if frame.message_type != RTM_NEWNEXTHOP {
            return Ok(None);
        }
        let [family, _scope, protocol, _reserved, flags @ ..] = header(frame.payload)?;
        let mut raw = Raw::default();
        for attribute in attributes::after(frame.payload, HEADER)? {
            raw.read(&attribute?)?;
        }
        let onlink = u32::from_ne_bytes(flags) & RTNH_F_ONLINK != 0;
        let kind = raw.kind(Family::from_code(family), onlink);
        Ok(raw.id.zip(kind).map(|(id, kind)| Self { id, protocol, kind }))
    }
}

impl NexthopKind {
    fn attributes(&self) -> Vec<DefaultNla> {
        match self {
            Self::Hop(_, hop) => {
                let gateway =
                    hop.gateway.map(|gateway| DefaultNla::new(NHA_GATEWAY, ip::address_bytes(gateway)));
                std::iter::once(number(NHA_OIF, hop.device)).chain(gateway).collect()
            }
            Self::Blackhole(_) => vec![DefaultNla::new(NHA_BLACKHOLE, Vec::new())],
            Self::Group(members, resilience) => {
                let mut attributes = vec![DefaultNla::new(NHA_GROUP, group_entries(members))];
                if let Some(resilience) = resilience {
                    let kind = NEXTHOP_GRP_TYPE_RES.to_ne_bytes().to_vec();
                    attributes.push(DefaultNla::new(NHA_GROUP_TYPE, kind));
                    attributes.push(resilience.attribute());
                }
                attributes
            }
        }
    }
}

impl Resilience {
    fn attribute(&self) -> DefaultNla {
        let nested = [
            DefaultNla::new(NHA_RES_GROUP_BUCKETS, self.buckets.to_ne_bytes().to_vec()),
            number(NHA_RES_GROUP_IDLE_TIMER, ticks(self.idle_timer)),
            number(NHA_RES_GROUP_UNBALANCED_TIMER, ticks(self.unbalanced_timer)),
        ];
        DefaultNla::new(NLA_F_NESTED | NHA_RES_GROUP, emit(&nested))
    }
}

/// The attributes of one message, before their meaning together is known.
#[derive(Default)]
struct Raw {
    id: Option<u32>,
    device: Option<u32>,
    gateway: Option<std::net::IpAddr>,
    blackhole: bool,
    members: Option<BTreeMap<u32, u16>>,
    resilience: Option<Resilience>,
}

impl Raw {
    fn read(&mut self, attribute: &NlaBuffer<&[u8]>) -> Result<(), Malformed> {
        let value = attribute.value();
        match attribute.kind() {
            NHA_ID => self.id = Some(read_u32(value)?),
            NHA_OIF => self.device = Some(read_u32(value)?),
            NHA_GATEWAY => self.gateway = ip::address_from_bytes(value),
            NHA_BLACKHOLE => self.blackhole = true,
            NHA_GROUP => self.members = Some(members(value)?),
            NHA_RES_GROUP => self.resilience = Some(resilience(value)?),
            _ => {}
        }
        Ok(())
    }

    fn kind(&self, family: Option<Family>, onlink: bool) -> Option<NexthopKind> {
        if let Some(members) = &self.members {
            return Some(NexthopKind::Group(members.clone(), self.resilience));
        }
        if self.blackhole {
            return family.map(NexthopKind::Blackhole);
        }
        let hop = Hop { device: self.device?, gateway: self.gateway, onlink };
        family.map(|family| NexthopKind::Hop(family, hop))
    }
}

fn group_entries(members: &BTreeMap<u32, u16>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(members.len() * GROUP_ENTRY);
    for (id, weight) in members {
        let [low, high] = weight.saturating_sub(1).to_le_bytes();
        bytes.extend_from_slice(&id.to_ne_bytes());
        bytes.extend_from_slice(&[low, high, 0, 0]);
    }
    bytes
}

fn members(value: &[u8]) -> Result<BTreeMap<u32, u16>, Malformed> {
    let (entries, rest) = value.as_chunks::<GROUP_ENTRY>();
    if !rest.is_empty() {
        return Err(Malformed(format!("a nexthop group of {} bytes", value.len())));
    }
    let member = |&[a, b, c, d, low, high, ..]: &[u8; GROUP_ENTRY]| {
        (u32::from_ne_bytes([a, b, c, d]), u16::from_le_bytes([low, high]).saturating_add(1))
    };
    Ok(entries.iter().map(member).collect())
}

fn resilience(value: &[u8]) -> Result<Resilience, Malformed> {
    let mut found = Resilience { buckets: 0, idle_timer: Duration::ZERO, unbalanced_timer: Duration::ZERO };
    for attribute in attributes::nested(value) {
        let attribute = attribute?;
        match attribute.kind() {
            NHA_RES_GROUP_BUCKETS => found.buckets = read_u16(attribute.value())?,
            NHA_RES_GROUP_IDLE_TIMER => found.idle_timer = TICK * read_u32(attribute.value())?,
            NHA_RES_GROUP_UNBALANCED_TIMER => found.unbalanced_timer = TICK * read_u32(attribute.value())?,
            _ => {}
        }
    }
    Ok(found)
}

fn ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}

fn body(family: u8, protocol: u8, flags: u32, attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![family, 0, protocol, 0];
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend(emit(attributes));
    bytes
}

fn emit(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

fn header(payload: &[u8]) -> Result<[u8; HEADER], Malformed> {
    let bytes = payload.get(..HEADER).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Malformed(format!("a nexthop of {} bytes", payload.len())))
}

pub(crate) fn read_u32(value: &[u8]) -> Result<u32, Malformed> {
    value
        .try_into()
        .map(u32::from_ne_bytes)
        .map_err(|_| Malformed(format!("{value:?} is not a 32-bit number")))
}

fn read_u16(value: &[u8]) -> Result<u16, Malformed> {
    value
        .try_into()
        .map(u16::from_ne_bytes)
        .map_err(|_| Malformed(format!("{value:?} is not a 16-bit number")))
}

impl fmt::Display for Nexthop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            NexthopKind::Hop(_, hop) => write!(f, "nexthop {} via {hop}", self.id),
            NexthopKind::Blackhole(family) => write!(f, "{family} blackhole nexthop {}", self.id),
            NexthopKind::Group(members, resilience) => {
                let kind = if resilience.is_some() { "resilient nexthop group" } else { "nexthop group" };
                write!(f, "{kind} {} of {:?}", self.id, members.keys().collect::<Vec<_>>())
            }
        }
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use crate::transport::frames;

    fn body_of(nexthop: &Nexthop) -> Vec<u8> {
        let request = nexthop.request(Verb::Replace);
        assert_eq!(request.message_type, 104);
        assert_eq!(request.flags, 0x500, "NLM_F_CREATE | NLM_F_REPLACE");
        request.body
    }

    fn decoded(body: &[u8]) -> Option<Nexthop> {
        let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend(RTM_NEWNEXTHOP.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(body);
        let frame = frames(&message).next().expect("one message").expect("whole");
        Nexthop::decode(&frame).expect("well formed")
    }

    #[test]
    fn one_way_out() {
        let nexthop = Nexthop::hop(21, 158, Hop::onlink(9, "241.31.2.1".parse().unwrap()));
        #[rustfmt::skip]
        let golden = [
            2, 0, 158, 0,   4, 0, 0, 0,             // AF_INET, scope, protocol, reserved, RTNH_F_ONLINK
            8, 0, 1, 0,     21, 0, 0, 0,            // NHA_ID
            8, 0, 5, 0,     9, 0, 0, 0,             // NHA_OIF
            8, 0, 6, 0,     241, 31, 2, 1,          // NHA_GATEWAY
        ];
        assert_eq!(body_of(&nexthop), golden);
        assert_eq!(decoded(&golden), Some(nexthop));
    }

    #[test]
    fn a_gateway_of_ipv6() {
        let nexthop = Nexthop::hop(1, 158, Hop::onlink(9, "fd11::2".parse().unwrap()));
        #[rustfmt::skip]
        let golden = [
            10, 0, 158, 0,  4, 0, 0, 0,
            8, 0, 1, 0,     1, 0, 0, 0,
            8, 0, 5, 0,     9, 0, 0, 0,
            20, 0, 6, 0,    0xfd, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        ];
        assert_eq!(body_of(&nexthop), golden);
        assert_eq!(decoded(&golden), Some(nexthop));
    }

    #[test]
    fn a_black_hole() {
        let nexthop = Nexthop { id: 3, protocol: 158, kind: NexthopKind::Blackhole(Family::V4) };
        let golden = [2, 0, 158, 0, 0, 0, 0, 0, 8, 0, 1, 0, 3, 0, 0, 0, 4, 0, 4, 0];
        assert_eq!(body_of(&nexthop), golden);
        assert_eq!(decoded(&golden), Some(nexthop));
    }

    #[test]
    fn a_resilient_group() {
        let resilience = Resilience {
            buckets: 64,
            idle_timer: Duration::from_secs(120),
            unbalanced_timer: Duration::from_millis(50),
        };
        let nexthop = Nexthop::group(2000, 158, [22, 21], Some(resilience));
        #[rustfmt::skip]
        let golden = [
            0, 0, 158, 0,   0, 0, 0, 0,             // AF_UNSPEC
            8, 0, 1, 0,     0xd0, 7, 0, 0,
            20, 0, 2, 0,                            // NHA_GROUP
                21, 0, 0, 0,  0, 0, 0, 0,           // id, weight - 1
                22, 0, 0, 0,  0, 0, 0, 0,
            6, 0, 3, 0,     1, 0, 0, 0,             // NHA_GROUP_TYPE: NEXTHOP_GRP_TYPE_RES, padding
            28, 0, 12, 128,                         // NLA_F_NESTED | NHA_RES_GROUP
                6, 0, 1, 0,   64, 0, 0, 0,          // buckets, padding
                8, 0, 2, 0,   0xe0, 0x2e, 0, 0,     // idle timer: 12,000 hundredths
                8, 0, 3, 0,   5, 0, 0, 0,           // unbalanced timer
        ];
        assert_eq!(body_of(&nexthop), golden);
        assert_eq!(decoded(&golden), Some(nexthop));
    }

    #[test]
    fn a_weight_of_two_bytes() {
        let kind = NexthopKind::Group(BTreeMap::from([(7, 300)]), None);
        let body = body_of(&Nexthop { id: 5, protocol: 158, kind: kind.clone() });
        assert_eq!(&body[16..], [12, 0, 2, 0, 7, 0, 0, 0, 43, 1, 0, 0]);
        assert_eq!(decoded(&body).map(|nexthop| nexthop.kind), Some(kind));
    }

    #[test]
    fn a_deletion_names_the_id_alone() {
        let nexthop = Nexthop::hop(21, 158, Hop::onlink(9, "241.31.2.1".parse().unwrap()));
        let request = nexthop.request(Verb::Delete);
        assert_eq!((request.message_type, request.flags), (105, 0));
        assert_eq!(request.body, [0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 1, 0, 21, 0, 0, 0]);
    }
}
