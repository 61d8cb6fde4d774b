//! Policy rules: which table a packet looks into.

use std::fmt;

use ipnetwork::IpNetwork;
use netlink_packet_core::Parseable;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction as Action, RuleAttribute, RuleFlags, RuleHeader, RuleMessage};

use crate::address::network;
use crate::attributes::{self, Malformed};
use crate::ip::Family;
use crate::op::Verb;
use crate::transport::{Frame, Request};

const HEADER: usize = 12;

const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_PROTOCOL: u16 = 21;

/// What happens to a packet that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAction {
    /// Look into this table; any number above zero.
    Lookup(u32),
    /// Drop it and tell the sender that there is no way.
    Unreachable,
    /// Drop it silently.
    Blackhole,
    /// Drop it and tell the sender that it is forbidden.
    Prohibit,
    /// Another action by its number (`FR_ACT_*`).
    Other(u8),
}

/// A policy rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The family whose packets it looks at.
    pub family: Family,
    /// Its place; lower comes first.
    pub priority: u32,
    /// Only packets to this prefix.
    pub to: Option<IpNetwork>,
    /// Only packets from this prefix.
    pub from: Option<IpNetwork>,
    /// Only packets that came in on this device; `lo` is what this host sends.
    pub input: Option<String>,
    /// Only packets of sockets that are bound to this device.
    pub output: Option<String>,
    /// Only packets with this mark, under this mask.
    pub mark: Option<(u32, u32)>,
    /// What happens to them.
    pub action: RuleAction,
    /// Who made it, the numbers of routing protocols; zero is nobody in particular.
    pub protocol: u8,
}

impl Rule {
    /// A rule for all packets of a family.
    pub fn lookup(family: Family, priority: u32, table: u32, protocol: u8) -> Self {
        let action = RuleAction::Lookup(table);
        Self {
            family,
            priority,
            to: None,
            from: None,
            input: None,
            output: None,
            mark: None,
            action,
            protocol,
        }
    }

    pub(crate) fn request(&self, verb: Verb) -> Request {
        let mut message = RuleMessage::default();
        message.header = RuleHeader {
            family: self.family.into(),
            dst_len: self.to.map_or(0, |prefix| prefix.prefix()),
            src_len: self.from.map_or(0, |prefix| prefix.prefix()),
            action: self.action.into(),
            ..RuleHeader::default()
        };
        message.attributes = self.attributes();
        let message_type = if verb == Verb::Delete { libc::RTM_DELRULE } else { libc::RTM_NEWRULE };
        // The kernel has no replacing of rules, and without NLM_F_EXCL it would keep a second, equal one.
        let verb = if verb == Verb::Replace { Verb::Add } else { verb };
        Request::new(message_type, verb.flags(), &message)
    }

    fn attributes(&self) -> Vec<RuleAttribute> {
        let mut attributes = vec![RuleAttribute::Priority(self.priority)];
        attributes.extend(self.to.map(|prefix| RuleAttribute::Destination(prefix.ip())));
        attributes.extend(self.from.map(|prefix| RuleAttribute::Source(prefix.ip())));
        attributes.extend(self.input.clone().map(RuleAttribute::Iifname));
        attributes.extend(self.output.clone().map(RuleAttribute::Oifname));
        if let Some((mark, mask)) = self.mark {
            attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
        }
        if let RuleAction::Lookup(table) = self.action {
            attributes.push(RuleAttribute::Table(table));
        }
        attributes.push(RuleAttribute::Protocol(RouteProtocol::from(self.protocol)));
        attributes
    }

    pub(crate) fn dump_request(family: Family) -> Request {
        let mut message = RuleMessage::default();
        message.header.family = family.into();
        Request::new(libc::RTM_GETRULE, 0, &message)
    }

    /// `None` for a rule that has a meaning which this type cannot express (inverted).
    pub(crate) fn decode(frame: &Frame<'_>) -> Result<Option<Self>, Malformed> {
        if frame.message_type != libc::RTM_NEWRULE {
            return Ok(None);
        }
        let header = RuleHeader::parse(frame.payload)?;
        let Some(family) = Family::from_code(header.family.into()) else { return Ok(None) };
        if header.flags.contains(RuleFlags::Invert) {
            return Ok(None);
        }
        let mut rule = Self::lookup(family, 0, header.table.into(), 0);
        let kinds = [
            FRA_DST,
            FRA_SRC,
            FRA_IIFNAME,
            FRA_PRIORITY,
            FRA_FWMARK,
            FRA_TABLE,
            FRA_FWMASK,
            FRA_OIFNAME,
            FRA_PROTOCOL,
        ];
        let mut table = header.table.into();
        for attribute in attributes::wanted(frame.payload, HEADER, &kinds, RuleAttribute::parse)? {
            match attribute {
                RuleAttribute::Destination(ip) => rule.to = Some(network(ip, header.dst_len)?),
                RuleAttribute::Source(ip) => rule.from = Some(network(ip, header.src_len)?),
                RuleAttribute::Iifname(name) => rule.input = Some(name),
                RuleAttribute::Oifname(name) => rule.output = Some(name),
                RuleAttribute::Priority(priority) => rule.priority = priority,
                RuleAttribute::FwMark(mark) => rule.mark = Some((mark, rule.mark.map_or(u32::MAX, |m| m.1))),
                RuleAttribute::FwMask(mask) => rule.mark = Some((rule.mark.map_or(0, |m| m.0), mask)),
                RuleAttribute::Table(number) => table = number,
                RuleAttribute::Protocol(number) => rule.protocol = number.into(),
                _ => {}
            }
        }
        rule.action = RuleAction::from_kernel(header.action, table);
        Ok(Some(rule))
    }
}

impl RuleAction {
    fn from_kernel(action: Action, table: u32) -> Self {
        match action {
            Action::ToTable => Self::Lookup(table),
            Action::Unreachable => Self::Unreachable,
            Action::Blackhole => Self::Blackhole,
            Action::Prohibit => Self::Prohibit,
            other => Self::Other(other.into()),
        }
    }
}

impl From<RuleAction> for Action {
    fn from(action: RuleAction) -> Self {
        match action {
            RuleAction::Lookup(_) => Self::ToTable,
            RuleAction::Unreachable => Self::Unreachable,
            RuleAction::Blackhole => Self::Blackhole,
            RuleAction::Prohibit => Self::Prohibit,
            RuleAction::Other(number) => Self::from(number),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule of priority {}", self.family, self.priority)?;
        if let Some(prefix) = self.from {
            write!(f, " from {prefix}")?;
        }
        if let Some(prefix) = self.to {
            write!(f, " to {prefix}")?;
        }
        if let Some(device) = &self.input {
            write!(f, " iif {device}")?;
        }
        match self.action {
            RuleAction::Lookup(table) => write!(f, " lookup {table}"),
            action => write!(f, " {action:?}"),
        }
    }
}
