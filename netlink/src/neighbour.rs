//! Neighbours: which Ethernet address an IP address of the overlay or the link has (ARP, NDP).

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::ParseableParametrized;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourHeader, NeighbourMessage, NeighbourState as State,
};
use netlink_packet_route::route::{RouteProtocol, RouteType};

use crate::attributes::{self, Malformed};
use crate::ip::Family;
use crate::mac::Mac;
use crate::op::Verb;
use crate::transport::{Frame, Request};

pub(crate) const HEADER: usize = 12;

const NDA_PROTOCOL: u16 = 12;

/// How the kernel treats a neighbour entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NeighbourState {
    /// Set by somebody, never asked for and never forgotten.
    Permanent,
    /// No resolution is needed on this device.
    NoArp,
    /// Learned, in whatever stage (`NUD_*` of `rtnetlink(7)`).
    Learned(u16),
}

/// A neighbour entry of one device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// The device.
    pub device: u32,
    /// The neighbour's IP address.
    pub address: IpAddr,
    /// Its Ethernet address, unknown while it is being resolved.
    pub mac: Option<Mac>,
    /// How the kernel treats the entry.
    pub state: NeighbourState,
    /// Who made it (`NDA_PROTOCOL`, the numbers of routing protocols); zero is nobody in particular.
    pub protocol: u8,
}

impl Neighbour {
    /// A static entry.
    pub fn permanent(device: u32, address: IpAddr, mac: Mac, protocol: u8) -> Self {
        Self { device, address, mac: Some(mac), state: NeighbourState::Permanent, protocol }
    }

    pub(crate) fn request(&self, verb: Verb) -> Request {
        let mut message = NeighbourMessage::default();
        message.header = NeighbourHeader {
            family: Family::of(self.address).into(),
            ifindex: self.device,
            state: self.state.into(),
            kind: RouteType::Unspec,
            ..NeighbourHeader::default()
        };
        message.attributes.push(NeighbourAttribute::Destination(self.address.into()));
        if verb != Verb::Delete {
            message
                .attributes
                .extend(self.mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())));
            if self.protocol != 0 {
                message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(self.protocol)));
            }
        }
        Request::new(message_type(verb), verb.flags(), &message)
    }

    pub(crate) fn decode(frame: &Frame<'_>) -> Result<Option<Self>, Malformed> {
        if frame.message_type != libc::RTM_NEWNEIGH {
            return Ok(None);
        }
        let header = NeighbourHeader::parse(frame.payload)?;
        if Family::from_code(header.family.into()).is_none() {
            return Ok(None);
        }
        let mut address = None;
        let mut mac = None;
        let mut protocol = 0;
        for attribute in entry_attributes(frame, header.family)? {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(ip.into()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(ip.into()),
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::from_bytes(&bytes),
                NeighbourAttribute::Protocol(number) => protocol = number.into(),
                _ => {}
            }
        }
        let state = header.state.into();
        Ok(address.map(|address| Self { device: header.ifindex, address, mac, state, protocol }))
    }
}

/// The message type of a change of a neighbour or forwarding entry.
pub(crate) fn message_type(verb: Verb) -> u16 {
    if verb == Verb::Delete { libc::RTM_DELNEIGH } else { libc::RTM_NEWNEIGH }
}

/// The attributes that describe an entry of the neighbour or the forwarding table.
pub(crate) fn entry_attributes(
    frame: &Frame<'_>,
    family: AddressFamily,
) -> Result<Vec<NeighbourAttribute>, Malformed> {
    let kinds = [libc::NDA_DST, libc::NDA_LLADDR, NDA_PROTOCOL];
    attributes::wanted(frame.payload, HEADER, &kinds, |nla| NeighbourAttribute::parse_with_param(nla, family))
}

/// Asks for the entries of one device, by attribute: strict dumps of neighbours refuse it in the header.
pub(crate) fn dump_request(family: AddressFamily, device: u32) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.attributes.push(NeighbourAttribute::IfIndex(device));
    Request::new(libc::RTM_GETNEIGH, 0, &message)
}

impl From<NeighbourState> for State {
    fn from(state: NeighbourState) -> Self {
        match state {
            NeighbourState::Permanent => Self::Permanent,
            NeighbourState::NoArp => Self::Noarp,
            NeighbourState::Learned(number) => Self::from(number),
        }
    }
}

impl From<State> for NeighbourState {
    fn from(state: State) -> Self {
        match state {
            State::Permanent => Self::Permanent,
            State::Noarp => Self::NoArp,
            other => Self::Learned(other.into()),
        }
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "neighbour {} on device {}", self.address, self.device)?;
        self.mac.map_or(Ok(()), |mac| write!(f, " at {mac}"))
    }
}
