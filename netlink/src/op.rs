//! Changes as values: one [`Op`] is one message to the kernel (two for a new device with an alias).

use std::fmt;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use crate::address::Address;
use crate::fdb::FdbEntry;
use crate::link::{LinkChange, NewLink};
use crate::neighbour::Neighbour;
use crate::nexthop::Nexthop;
use crate::route::Route;
use crate::rule::Rule;
use crate::transport::{Refusal, Request};

/// One change. A list of them, of any kinds, goes out as one batch, in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Create a device; refused where its name is taken.
    CreateLink(NewLink),
    /// Change a device in place.
    ChangeLink(LinkChange),
    /// Delete the device with this index, and every route and neighbour on it.
    DeleteLink(u32),
    /// Add an object; refused where it exists.
    Add(Object),
    /// Make an object so, whether or not it exists.
    ///
    /// The kernel cannot replace a policy rule: an equal one that exists counts as done.
    Replace(Object),
    /// Delete exactly this object; refused where there is none.
    Delete(Object),
}

/// What can be added, replaced and deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// An address of a device.
    Address(Address),
    /// A static neighbour (ARP or NDP) entry.
    Neighbour(Neighbour),
    /// A forwarding entry of a VXLAN device.
    Fdb(FdbEntry),
    /// A nexthop or a group of them.
    Nexthop(Nexthop),
    /// A route.
    Route(Route),
    /// A policy rule.
    Rule(Rule),
}

/// What to do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Replace,
    Delete,
}

impl Verb {
    /// The request flags that say so.
    pub(crate) fn flags(self) -> u16 {
        match self {
            Self::Add => NLM_F_CREATE | NLM_F_EXCL,
            Self::Replace => NLM_F_CREATE | NLM_F_REPLACE,
            Self::Delete => 0,
        }
    }
}

impl Op {
    /// Add `object`.
    pub fn add(object: impl Into<Object>) -> Self {
        Self::Add(object.into())
    }

    /// Replace or add `object`.
    pub fn replace(object: impl Into<Object>) -> Self {
        Self::Replace(object.into())
    }

    /// Delete `object`.
    pub fn delete(object: impl Into<Object>) -> Self {
        Self::Delete(object.into())
    }

    pub(crate) fn request(&self) -> Request {
        match self {
            Self::CreateLink(link) => link.request(),
            Self::ChangeLink(change) => change.request(),
            Self::DeleteLink(index) => LinkChange::deletion(*index),
            Self::Add(object) => object.request(Verb::Add),
            Self::Replace(object) => object.request(Verb::Replace),
            Self::Delete(object) => object.request(Verb::Delete),
        }
    }

    /// What the kernel's answer means for this change.
    pub(crate) fn settle(&self, answer: Result<(), Refusal>) -> Result<(), Refusal> {
        match (self, answer) {
            (Self::Replace(Object::Rule(_)), Err(refusal)) if refusal.is_present() => Ok(()),
            (_, answer) => answer,
        }
    }
}

impl Object {
    fn request(&self, verb: Verb) -> Request {
        match self {
            Self::Address(address) => address.request(verb),
            Self::Neighbour(neighbour) => neighbour.request(verb),
            Self::Fdb(entry) => entry.request(verb),
            Self::Nexthop(nexthop) => nexthop.request(verb),
            Self::Route(route) => route.request(verb),
            Self::Rule(rule) => rule.request(verb),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateLink(link) => write!(f, "create {link}"),
            Self::ChangeLink(change) => write!(f, "change {change}"),
            Self::DeleteLink(index) => write!(f, "delete device {index}"),
            Self::Add(object) => write!(f, "add {object}"),
            Self::Replace(object) => write!(f, "replace {object}"),
            Self::Delete(object) => write!(f, "delete {object}"),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Neighbour(neighbour) => neighbour.fmt(f),
            Self::Fdb(entry) => entry.fmt(f),
            Self::Nexthop(nexthop) => nexthop.fmt(f),
            Self::Route(route) => route.fmt(f),
            Self::Rule(rule) => rule.fmt(f),
        }
    }
}

macro_rules! object_from {
    ($($kind:ident($type:ty)),* $(,)?) => {
        $(impl From<$type> for Object {
            fn from(object: $type) -> Self {
                Self::$kind(object)
            }
        })*
    };
}

object_from! {
    Address(Address),
    Neighbour(Neighbour),
    Fdb(FdbEntry),
    Nexthop(Nexthop),
    Route(Route),
    Rule(Rule),
}

#[cfg(test)]
mod tests;
