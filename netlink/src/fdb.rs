//! Forwarding entries of a VXLAN device: which underlay address an Ethernet address is behind.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage, NeighbourState,
};

use crate::attributes::Malformed;
use crate::ip;
use crate::mac::Mac;
use crate::neighbour::{entry_attributes, message_type};
use crate::op::Verb;
use crate::transport::{Frame, Request};

/// An entry of a device's own forwarding table (`bridge fdb ... self`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbEntry {
    /// The device.
    pub device: u32,
    /// The Ethernet address inside the tunnel.
    pub mac: Mac,
    /// The underlay address of the tunnel's other end.
    pub destination: Option<IpAddr>,
    /// `NUD_*` bits; [`FdbEntry::PERMANENT`] is what `bridge fdb add ... permanent` sets.
    pub state: u16,
}

impl FdbEntry {
    /// Neither aged nor resolved: `NUD_PERMANENT | NUD_NOARP`.
    pub const PERMANENT: u16 = libc::NUD_PERMANENT | libc::NUD_NOARP;

    /// A static entry.
    pub fn permanent(device: u32, mac: Mac, destination: IpAddr) -> Self {
        Self { device, mac, destination: Some(destination), state: Self::PERMANENT }
    }

    pub(crate) fn request(&self, verb: Verb) -> Request {
        let mut message = NeighbourMessage::default();
        message.header = NeighbourHeader {
            family: AddressFamily::Bridge,
            ifindex: self.device,
            // 0xc0 is two bits, which the enum of the message crate has no name for.
            state: NeighbourState::Other(self.state),
            flags: NeighbourFlags::Own,
            ..NeighbourHeader::default()
        };
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(self.mac.0.to_vec()));
        message.attributes.extend(self.destination.map(|ip| NeighbourAttribute::Destination(ip.into())));
        Request::new(message_type(verb), verb.flags(), &message)
    }

    pub(crate) fn decode(frame: &Frame<'_>) -> Result<Option<Self>, Malformed> {
        if frame.message_type != libc::RTM_NEWNEIGH {
            return Ok(None);
        }
        let header = NeighbourHeader::parse(frame.payload)?;
        if header.family != AddressFamily::Bridge || !header.flags.contains(NeighbourFlags::Own) {
            return Ok(None);
        }
        let mut mac = None;
        let mut destination = None;
        for attribute in entry_attributes(frame, header.family)? {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::from_bytes(&bytes),
                NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                    destination = ip::address_from_bytes(&bytes);
                }
                _ => {}
            }
        }
        let state = header.state.into();
        Ok(mac.map(|mac| Self { device: header.ifindex, mac, destination, state }))
    }
}

impl fmt::Display for FdbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FDB entry {} on device {}", self.mac, self.device)?;
        self.destination.map_or(Ok(()), |ip| write!(f, " to {ip}"))
    }
}
