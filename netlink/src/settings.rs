//! What changes in the settings of devices (`/proc/sys/net/*/conf/DEVICE/`), as it happens.
//!
//! The kernel tells of `forwarding` and `rp_filter`, not of every file. It does not say who wrote.

use std::time::Duration;

use crate::attributes::{self, Malformed};
use crate::nexthop::read_u32;
use crate::subscription::Subscription;
use crate::transport::Error;

/// `RTNLGRP_IPV4_NETCONF`, `RTNLGRP_IPV6_NETCONF`.
const GROUPS: [u32; 2] = [24, 25];

/// `struct netconfmsg`, padded.
const HEADER: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;

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
pub struct SettingsMonitor(Subscription<Changed>);

impl SettingsMonitor {
    /// Subscribes to the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self(Subscription::open(&GROUPS, Changed::Overrun)?))
    }

    /// The next change, or `None` when the time is over; zero asks without waiting.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Changed>, Error> {
        self.0.next(timeout, |frame| match frame.message_type {
            libc::RTM_NEWNETCONF => Ok(device(frame.payload)?.map(Changed::Device)),
            _ => Ok(None),
        })
    }
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
