//! Addresses of devices.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::Parseable;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope,
};

use crate::attributes::{self, Malformed};
use crate::ip::Family;
use crate::op::Verb;
use crate::transport::{Frame, Request};

const HEADER: usize = 8;

/// Where an address is valid (`rtnetlink(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Scope {
    /// Everywhere.
    #[default]
    Universe,
    /// On this link.
    Link,
    /// On this host.
    Host,
    /// Another scope by its number.
    Other(u8),
}

/// An address on a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The device.
    pub device: u32,
    /// The address and the length of its prefix, host bits kept.
    pub address: IpNetwork,
    /// IPv6 computes it from the address and ignores what is asked.
    pub scope: Scope,
    /// The kernel adds no route to the prefix by itself (`IFA_F_NOPREFIXROUTE`).
    pub no_prefix_route: bool,
    /// Usable at once, without duplicate address detection (`IFA_F_NODAD`). Never so for IPv4: the kernel
    /// drops the flag, as there is no such detection.
    pub no_dad: bool,
}

impl Address {
    /// An address that brings neither a route nor duplicate address detection with it.
    pub fn plain(device: u32, address: IpNetwork) -> Self {
        Self { device, address, scope: Scope::Universe, no_prefix_route: true, no_dad: address.is_ipv6() }
    }

    pub(crate) fn request(&self, verb: Verb) -> Request {
        let ip = self.address.ip();
        let mut message = AddressMessage::default();
        message.header = AddressHeader {
            family: Family::of(ip).into(),
            prefix_len: self.address.prefix(),
            flags: AddressHeaderFlags::empty(),
            scope: self.scope.into(),
            index: self.device,
        };
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        if verb != Verb::Delete {
            message.attributes.push(AddressAttribute::Flags(self.flags()));
        }
        let message_type = if verb == Verb::Delete { libc::RTM_DELADDR } else { libc::RTM_NEWADDR };
        Request::new(message_type, verb.flags(), &message)
    }

    fn flags(&self) -> AddressFlags {
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Noprefixroute, self.no_prefix_route);
        flags.set(AddressFlags::Nodad, self.no_dad);
        flags
    }

    pub(crate) fn decode(frame: &Frame<'_>) -> Result<Option<Self>, Malformed> {
        if frame.message_type != libc::RTM_NEWADDR {
            return Ok(None);
        }
        let header = AddressHeader::parse(frame.payload)?;
        let kinds = [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_FLAGS];
        let mut local = None;
        let mut prefix_address = None;
        let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
        for attribute in attributes::wanted(frame.payload, HEADER, &kinds, AddressAttribute::parse)? {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(ip),
                AddressAttribute::Address(ip) => prefix_address = Some(ip),
                AddressAttribute::Flags(all) => flags = all,
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the peer.
        let Some(ip) = local.or(prefix_address) else { return Ok(None) };
        Ok(Some(Self {
            device: header.index,
            address: network(ip, header.prefix_len)?,
            scope: header.scope.into(),
            no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
            no_dad: flags.contains(AddressFlags::Nodad),
        }))
    }
}

/// A prefix from an address and a length that the kernel gave.
pub(crate) fn network(ip: IpAddr, prefix: u8) -> Result<IpNetwork, Malformed> {
    IpNetwork::new(ip, prefix).map_err(|error| Malformed(format!("{ip}/{prefix}: {error}")))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {} on device {}", self.address, self.device)
    }
}

impl From<Scope> for AddressScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Universe => Self::Universe,
            Scope::Link => Self::Link,
            Scope::Host => Self::Host,
            Scope::Other(number) => Self::from(number),
        }
    }
}

impl From<AddressScope> for Scope {
    fn from(scope: AddressScope) -> Self {
        match scope {
            AddressScope::Universe => Self::Universe,
            AddressScope::Link => Self::Link,
            AddressScope::Host => Self::Host,
            other => Self::Other(other.into()),
        }
    }
}
