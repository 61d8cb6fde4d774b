//! What changes in a namespace, as it happens.
//!
//! Events say where to look, not what is there now: read the kernel again to know. Some changes have no
//! event at all (IPv4 routes that go away with their device or nexthop), so a periodic reading remains.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressHeader;
use netlink_packet_route::link::LinkHeader;
use netlink_packet_route::neighbour::NeighbourHeader;
use netlink_packet_route::route::RouteHeader;
use netlink_packet_route::rule::RuleHeader;

use crate::attributes::{self, Malformed};
use crate::fdb::FdbEntry;
use crate::ip::Family;
use crate::neighbour::Neighbour;
use crate::nexthop::{self, NHA_ID, RTM_DELNEXTHOP, RTM_NEWNEXTHOP};
use crate::subscription::Subscription;
use crate::transport::{Error, Frame};

/// `RTNLGRP_*`: link, neighbour, then address, route and rule of IPv4 and IPv6, and nexthop.
const GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 32];

const RTA_TABLE: u16 = 15;
const FRA_PRIORITY: u16 = 6;
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;
const IFLA_IFNAME: u16 = 3;

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// A device came, went or changed.
    Link {
        /// Its number.
        index: u32,
        /// Its name, after the change.
        name: String,
    },
    /// An address of a device.
    Address {
        /// The device.
        device: u32,
    },
    /// A route.
    Route {
        /// Its family.
        family: Family,
        /// Its table.
        table: u32,
        /// Who made it.
        protocol: u8,
    },
    /// A policy rule.
    Rule {
        /// Its family.
        family: Family,
        /// Its priority.
        priority: u32,
    },
    /// A neighbour.
    Neighbour {
        /// The device.
        device: u32,
        /// The entry, where it is one of IPv4 or IPv6.
        entry: Option<Neighbour>,
        /// Whether it is there now.
        present: bool,
    },
    /// A forwarding entry.
    Fdb {
        /// The device.
        device: u32,
        /// The entry, where it is one of the device's own table.
        entry: Option<FdbEntry>,
        /// Whether it is there now.
        present: bool,
    },
    /// A nexthop object.
    Nexthop {
        /// Its number.
        id: u32,
    },
    /// Events were lost: anything may have changed.
    Overrun,
}

/// A subscription to the changes of one namespace.
///
/// When its descriptor is readable, [`Monitor::next`] has something, possibly events to ignore.
#[derive(Debug)]
pub struct Monitor {
    subscription: Subscription<Event>,
    ignored: BTreeSet<u32>,
}

impl Monitor {
    /// Subscribes to the calling thread's namespace. Subscribe first, then read the state.
    pub fn open() -> Result<Self, Error> {
        // What cannot be decoded counts as lost: the reader then looks at everything.
        Ok(Self { subscription: Subscription::open(&GROUPS, Event::Overrun)?, ignored: BTreeSet::new() })
    }

    /// Leaves out the events that the changes of this connection cause (see [`crate::Netlink::port`]).
    pub fn ignore(&mut self, port: u32) {
        self.ignored.insert(port);
    }

    /// The next event, or `None` when the time is over; zero asks without waiting.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        let ignored = |frame: &Frame<'_>| frame.port != 0 && self.ignored.contains(&frame.port);
        self.subscription.next(timeout, |frame| if ignored(frame) { Ok(None) } else { event(frame) })
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.subscription.as_fd()
    }
}

fn event(frame: &Frame<'_>) -> Result<Option<Event>, Malformed> {
    let payload = frame.payload;
    Ok(match frame.message_type {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => link(payload)?,
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            Some(Event::Address { device: AddressHeader::parse(payload)?.index })
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => route(payload)?,
        libc::RTM_NEWRULE | libc::RTM_DELRULE => rule(payload)?,
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => Some(neighbour(frame)?),
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => {
            number(payload, nexthop::HEADER, NHA_ID)?.map(|id| Event::Nexthop { id })
        }
        _ => None,
    })
}

fn link(payload: &[u8]) -> Result<Option<Event>, Malformed> {
    let header = LinkHeader::parse(payload)?;
    // Bridges tell about their ports in messages of their own family.
    if header.interface_family != AddressFamily::Unspec {
        return Ok(None);
    }
    let mut name = String::new();
    for attribute in attributes::after(payload, LINK_HEADER)? {
        let attribute = attribute?;
        if attribute.kind() == IFLA_IFNAME {
            name = String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned();
        }
    }
    Ok(Some(Event::Link { index: header.index, name }))
}

fn neighbour(frame: &Frame<'_>) -> Result<Event, Malformed> {
    let NeighbourHeader { family, ifindex: device, .. } = NeighbourHeader::parse(frame.payload)?;
    let present = frame.message_type == libc::RTM_NEWNEIGH;
    // What has gone is described like what has come.
    let frame = Frame { message_type: libc::RTM_NEWNEIGH, ..*frame };
    Ok(match family {
        AddressFamily::Bridge => Event::Fdb { device, entry: FdbEntry::decode(&frame)?, present },
        _ => Event::Neighbour { device, entry: Neighbour::decode(&frame)?, present },
    })
}

fn route(payload: &[u8]) -> Result<Option<Event>, Malformed> {
    let header = RouteHeader::parse(payload)?;
    let table = number(payload, ROUTE_HEADER, RTA_TABLE)?.unwrap_or(header.table.into());
    let family = Family::from_code(header.address_family.into());
    Ok(family.map(|family| Event::Route { family, table, protocol: header.protocol.into() }))
}

fn rule(payload: &[u8]) -> Result<Option<Event>, Malformed> {
    let header = RuleHeader::parse(payload)?;
    let priority = number(payload, ROUTE_HEADER, FRA_PRIORITY)?.unwrap_or(0);
    Ok(Family::from_code(header.family.into()).map(|family| Event::Rule { family, priority }))
}

fn number(payload: &[u8], header: usize, kind: u16) -> Result<Option<u32>, Malformed> {
    for attribute in attributes::after(payload, header)? {
        let attribute = attribute?;
        if attribute.kind() == kind {
            return nexthop::read_u32(attribute.value()).map(Some);
        }
    }
    Ok(None)
}
