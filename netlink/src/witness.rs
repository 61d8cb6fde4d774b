//! What the kernel says of changes while they are made: the objects as they are then, in the words of a dump.
//!
//! A notification is made by the same code of the kernel that answers a dump, after the change, and it is queued before
//! the change is acknowledged. So what it says needs no second reading. Not every change has one: who relies on it
//! looks for the one that he expects, and reads where it did not come.

use std::time::Duration;

use crate::attributes::Malformed;
use crate::fdb::FdbEntry;
use crate::neighbour::Neighbour;
use crate::nexthop::{Nexthop, RTM_DELNEXTHOP, RTM_NEWNEXTHOP};
use crate::op::Object;
use crate::route::Route;
use crate::transport::{Error, Frame, KernelSocket, Socket, frames};

/// `RTNLGRP_*`: neighbours and forwarding entries, routes of IPv4 and IPv6, nexthops.
const GROUPS: [u32; 4] = [3, 7, 11, 32];

/// Larger than any notification.
const BUFFER: usize = 64 * 1024;

/// One change, as the kernel told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whether the object is there now.
    pub present: bool,
    /// The object: a neighbour, a forwarding entry, a nexthop or a route.
    pub object: Object,
    /// The socket that asked for it, as far as the kernel says so; zero is nobody.
    pub port: u32,
}

/// Listens while changes are made, and not in between.
#[derive(Debug)]
pub struct Witness {
    socket: KernelSocket,
    buffer: Vec<u8>,
}

impl Witness {
    /// A witness in the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: KernelSocket::open()?, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Begins to listen.
    pub fn attend(&mut self) -> Result<(), Error> {
        GROUPS.into_iter().try_for_each(|group| self.socket.join(group))
    }

    /// What was told since, by whoever's change, in order; listens no longer. An error means that something of it was lost.
    pub fn testify(&mut self) -> Result<Vec<Told>, Error> {
        for group in GROUPS {
            self.socket.leave(group)?;
        }
        let mut told = Vec::new();
        let mut lost = None;
        loop {
            match self.read(&mut told) {
                Ok(true) => {}
                Ok(false) => return lost.map_or(Ok(told), Err),
                // To the end all the same: the next testimony must not begin with this one's rest.
                Err(error @ (Error::Overrun | Error::Malformed { .. } | Error::Truncated { .. })) => {
                    lost = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads one datagram; `false` where there is none.
    fn read(&mut self, told: &mut Vec<Told>) -> Result<bool, Error> {
        self.buffer.clear();
        let length = match self.socket.receive(&mut self.buffer, Duration::ZERO) {
            Ok(length) => length,
            Err(error) => {
                return match Error::from_receive(error, Duration::ZERO) {
                    Error::Timeout { .. } => Ok(false),
                    error => Err(error),
                };
            }
        };
        if length > self.buffer.len() {
            return Err(Error::Truncated { length, buffer: self.buffer.len() });
        }
        for frame in frames(&self.buffer) {
            told.extend(decode(&frame?).map_err(|Malformed(what)| Error::malformed(what))?);
        }
        Ok(true)
    }
}

fn decode(frame: &Frame<'_>) -> Result<Option<Told>, Malformed> {
    // What has gone is described like what has come.
    let (described, present) = match frame.message_type {
        libc::RTM_DELNEIGH => (libc::RTM_NEWNEIGH, false),
        libc::RTM_DELROUTE => (libc::RTM_NEWROUTE, false),
        RTM_DELNEXTHOP => (RTM_NEWNEXTHOP, false),
        other => (other, true),
    };
    let (frame, port) = (Frame { message_type: described, ..*frame }, frame.port);
    let object = match described {
        libc::RTM_NEWNEIGH => match FdbEntry::decode(&frame)? {
            Some(entry) => Some(Object::Fdb(entry)),
            None => Neighbour::decode(&frame)?.map(Object::Neighbour),
        },
        libc::RTM_NEWROUTE => Route::decode(&frame)?.map(Object::Route),
        RTM_NEWNEXTHOP => Nexthop::decode(&frame)?.map(Object::Nexthop),
        _ => None,
    };
    Ok(object.map(|object| Told { present, object, port }))
}
