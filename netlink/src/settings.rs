//! What changes in the settings of devices (`/proc/sys/net/*/conf/DEVICE/`), as it happens.
//!
//! The kernel tells of `forwarding` and `rp_filter`, not of every file. It does not say who wrote.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::attributes::{self, Malformed};
use crate::nexthop::read_u32;
use crate::transport::{Error, KernelSocket, Socket, frames};

/// `RTNLGRP_IPV4_NETCONF`, `RTNLGRP_IPV6_NETCONF`.
const GROUPS: [u32; 2] = [24, 25];

/// `struct netconfmsg`, padded.
const HEADER: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;

/// Larger than any notification.
const BUFFER: usize = 64 * 1024;

/// Settings changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changed {
    /// Of this device.
    Device(u32),
    /// Notifications were lost: any may have changed.
    Overrun,
}

/// A subscription to the changes of settings in one namespace.
#[derive(Debug)]
pub struct SettingsMonitor {
    socket: KernelSocket,
    pending: VecDeque<Changed>,
    buffer: Vec<u8>,
}

impl SettingsMonitor {
    /// Subscribes to the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        let mut socket = KernelSocket::open()?;
        for group in GROUPS {
            socket.join(group)?;
        }
        Ok(Self { socket, pending: VecDeque::new(), buffer: Vec::with_capacity(BUFFER) })
    }

    /// The next change, or `None` when the time is over; zero asks without waiting.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Changed>, Error> {
        let until = Instant::now() + timeout;
        while self.pending.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if !self.read(left)? {
                return Ok(None);
            }
        }
        Ok(self.pending.pop_front())
    }

    /// Reads one datagram; `false` is none in time.
    fn read(&mut self, timeout: Duration) -> Result<bool, Error> {
        self.buffer.clear();
        match self.socket.receive(&mut self.buffer, timeout) {
            Ok(length) if length > self.buffer.len() => self.pending.push_back(Changed::Overrun),
            Ok(0) => return Err(Error::Closed),
            Ok(_) => self.pending.extend(changes(&self.buffer)),
            Err(error) => match Error::from_receive(error, timeout) {
                Error::Overrun => self.pending.push_back(Changed::Overrun),
                Error::Timeout { .. } => return Ok(false),
                error => return Err(error),
            },
        }
        Ok(true)
    }
}

/// What cannot be decoded counts as lost.
fn changes(datagram: &[u8]) -> Vec<Changed> {
    let mut changes = Vec::new();
    for frame in frames(datagram) {
        match frame {
            Ok(frame) if frame.message_type == libc::RTM_NEWNETCONF => match device(frame.payload) {
                Ok(device) => changes.extend(device.map(Changed::Device)),
                Err(Malformed(_)) => changes.push(Changed::Overrun),
            },
            Ok(_) => {}
            Err(_) => changes.push(Changed::Overrun),
        }
    }
    changes
}

/// Those of all devices and of new ones have negative numbers (`NETCONFA_IFINDEX_ALL`, `_DEFAULT`).
fn device(payload: &[u8]) -> Result<Option<u32>, Malformed> {
    for attribute in attributes::after(payload, HEADER)? {
        let attribute = attribute?;
        if attribute.kind() == NETCONFA_IFINDEX {
            return read_u32(attribute.value()).map(|index| i32::try_from(index).is_ok().then_some(index));
        }
    }
    Ok(None)
}
