//! Network devices.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use netlink_packet_core::ParseableParametrized;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkHeader, LinkInfo, LinkMessage,
};

use crate::attributes::{self, Malformed};
use crate::mac::Mac;
use crate::netns::Namespace;
use crate::op::Verb;
use crate::transport::{Frame, Request};

const HEADER: usize = 16;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;

/// A device as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Its number, unique in the namespace and kept when it is renamed.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, where it has one.
    pub mac: Option<Mac>,
    /// The largest packet that it carries.
    pub mtu: u32,
    /// Whether it was set up (`IFF_UP`).
    pub up: bool,
    /// Whether a packet can leave (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// A free text (`IFLA_IFALIAS`).
    pub alias: Option<String>,
    /// What it is.
    pub kind: LinkKind,
    /// The bridge or bond that it belongs to.
    pub master: Option<u32>,
    /// The device below it, or the other end of a veth pair, possibly in another namespace.
    pub parent: Option<u32>,
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkKind {
    /// A VXLAN tunnel end (RFC 7348).
    Vxlan(Vxlan),
    /// One end of a virtual cable.
    Veth,
    /// A bridge.
    Bridge,
    /// Anything else by the kernel's name of it; empty for hardware and loopback.
    Other(String),
}

/// The settings of a VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vxlan {
    /// The network identifier.
    pub vni: u32,
    /// The UDP port, ours and the other end's.
    pub port: u16,
    /// The underlay address that packets come from; its family is the underlay's family.
    pub local: Option<IpAddr>,
    /// The underlay device.
    pub parent: Option<u32>,
    /// Whether it learns forwarding entries from what it receives.
    pub learning: bool,
}

/// A device to create, with everything that must be right from its first moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewLink {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// What it is.
    pub kind: NewLinkKind,
    /// Given here rather than later: udev and others then keep their hands off (`NET_ADDR_SET`).
    pub mac: Option<Mac>,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// A free text, set by a second message right after the creation.
    pub alias: Option<String>,
    /// Set it up at once.
    pub up: bool,
}

/// What to create.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NewLinkKind {
    /// A VXLAN device.
    Vxlan(Vxlan),
    /// A virtual cable to this other end.
    Veth(VethPeer),
    /// A bridge.
    Bridge,
    /// A kind without settings, by the kernel's name of it (`dummy`, `vcan`, ...).
    Plain(String),
}

/// The other end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VethPeer {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its largest packet.
    pub mtu: Option<u32>,
    /// The namespace that it is born in.
    pub namespace: Option<Namespace>,
}

/// Changes of a device in place; what is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LinkChange {
    /// The device.
    pub index: u32,
    /// A new name; older kernels want the device down for that.
    pub name: Option<String>,
    /// A new Ethernet address.
    pub mac: Option<Mac>,
    /// A new MTU.
    pub mtu: Option<u32>,
    /// Up or down.
    pub up: Option<bool>,
    /// A new alias; empty removes it.
    pub alias: Option<String>,
    /// A new bridge or bond; zero takes it out of the old one.
    pub master: Option<u32>,
    /// The namespace to move to; the index may change there.
    pub namespace: Option<Namespace>,
    /// A new underlay address of a VXLAN device.
    pub vxlan_local: Option<IpAddr>,
}

impl Link {
    /// The settings, if it is a VXLAN device.
    pub fn vxlan(&self) -> Option<&Vxlan> {
        match &self.kind {
            LinkKind::Vxlan(vxlan) => Some(vxlan),
            _ => None,
        }
    }

    pub(crate) fn dump_request() -> Request {
        Request::new(libc::RTM_GETLINK, 0, &LinkMessage::default())
    }

    pub(crate) fn get_request(name: &str) -> Request {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        Request::new(libc::RTM_GETLINK, 0, &message)
    }

    pub(crate) fn decode(frame: &Frame<'_>) -> Result<Option<Self>, Malformed> {
        if frame.message_type != libc::RTM_NEWLINK {
            return Ok(None);
        }
        let header = LinkHeader::parse(frame.payload)?;
        let mut link = Self {
            index: header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: header.flags.contains(LinkFlags::Up),
            carrier: header.flags.contains(LinkFlags::LowerUp),
            alias: None,
            kind: LinkKind::Other(String::new()),
            master: None,
            parent: None,
        };
        let kinds =
            [IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS];
        let decode = |nla: &_| Ok(LinkAttribute::parse_with_param(nla, AddressFamily::Unspec).ok());
        // What the message crate cannot decode of a stranger's device must not hide all the others.
        for attribute in attributes::wanted(frame.payload, HEADER, &kinds, decode)?.into_iter().flatten() {
            link.read(attribute);
        }
        Ok(Some(link))
    }

    fn read(&mut self, attribute: LinkAttribute) {
        match attribute {
            LinkAttribute::Address(bytes) => self.mac = Mac::from_bytes(&bytes),
            LinkAttribute::IfName(name) => self.name = name,
            LinkAttribute::Mtu(mtu) => self.mtu = mtu,
            LinkAttribute::Link(index) => self.parent = Some(index),
            LinkAttribute::Controller(index) => self.master = Some(index),
            LinkAttribute::IfAlias(alias) => self.alias = Some(alias),
            LinkAttribute::LinkInfo(info) => self.kind = kind_of(&info),
            _ => {}
        }
    }
}

fn kind_of(info: &[LinkInfo]) -> LinkKind {
    let mut kind = LinkKind::Other(String::new());
    for part in info {
        match part {
            LinkInfo::Kind(InfoKind::Veth) => kind = LinkKind::Veth,
            LinkInfo::Kind(InfoKind::Bridge) => kind = LinkKind::Bridge,
            LinkInfo::Kind(other) => kind = LinkKind::Other(other.to_string()),
            LinkInfo::Data(InfoData::Vxlan(data)) => kind = LinkKind::Vxlan(vxlan_of(data)),
            _ => {}
        }
    }
    kind
}

fn vxlan_of(data: &[InfoVxlan]) -> Vxlan {
    let mut vxlan = Vxlan { vni: 0, port: 0, local: None, parent: None, learning: false };
    for setting in data {
        match setting {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Local(ip) => vxlan.local = Some((*ip).into()),
            InfoVxlan::Local6(ip) => vxlan.local = Some((*ip).into()),
            InfoVxlan::Link(index) => vxlan.parent = Some(*index),
            InfoVxlan::Learning(learning) => vxlan.learning = *learning,
            _ => {}
        }
    }
    vxlan
}

impl NewLink {
    /// A device that is down and has no other settings than its kind.
    pub fn new(name: impl Into<String>, kind: NewLinkKind) -> Self {
        Self { name: name.into(), kind, mac: None, mtu: None, alias: None, up: false }
    }

    pub(crate) fn request(&self) -> Request {
        let mut message = LinkMessage::default();
        set_up(&mut message.header, self.up.then_some(true));
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.clone()));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.push(LinkAttribute::LinkInfo(self.kind.info()));
        Request::new(libc::RTM_NEWLINK, Verb::Add.flags(), &message)
    }

    /// The kernel reads an alias in changes only, not at creation (`rtnl_create_link`).
    ///
    /// It goes by name, so it may only follow a creation that succeeded: the device may be a stranger's.
    pub(crate) fn alias_request(&self) -> Option<Request> {
        let alias = self.alias.clone()?;
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(self.name.clone()), LinkAttribute::IfAlias(alias)];
        Some(Request::new(libc::RTM_NEWLINK, 0, &message))
    }
}

impl NewLinkKind {
    fn info(&self) -> Vec<LinkInfo> {
        match self {
            Self::Vxlan(vxlan) => {
                vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(vxlan.settings()))]
            }
            Self::Veth(peer) => vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer.message()))),
            ],
            Self::Bridge => vec![LinkInfo::Kind(InfoKind::Bridge)],
            Self::Plain(kind) => vec![LinkInfo::Kind(InfoKind::Other(kind.clone()))],
        }
    }
}

impl Vxlan {
    fn settings(&self) -> Vec<InfoVxlan> {
        let mut settings = vec![InfoVxlan::Id(self.vni), InfoVxlan::Port(self.port)];
        settings.push(InfoVxlan::Learning(self.learning));
        settings.extend(self.local.map(vxlan_local));
        settings.extend(self.parent.map(InfoVxlan::Link));
        settings
    }
}

fn vxlan_local(local: IpAddr) -> InfoVxlan {
    match local {
        IpAddr::V4(ip) => InfoVxlan::Local(ip),
        IpAddr::V6(ip) => InfoVxlan::Local6(ip),
    }
}

impl VethPeer {
    /// An end in the same namespace.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), mac: None, mtu: None, namespace: None }
    }

    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.clone()));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.namespace.as_ref().map(into_namespace));
        message
    }
}

impl LinkChange {
    /// No change yet.
    pub fn of(index: u32) -> Self {
        Self { index, ..Self::default() }
    }

    pub(crate) fn deletion(index: u32) -> Request {
        let mut message = LinkMessage::default();
        message.header.index = index;
        Request::new(libc::RTM_DELLINK, Verb::Delete.flags(), &message)
    }

    pub(crate) fn request(&self) -> Request {
        let mut message = LinkMessage::default();
        message.header.index = self.index;
        set_up(&mut message.header, self.up);
        let attributes = &mut message.attributes;
        attributes.extend(self.name.clone().map(LinkAttribute::IfName));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.alias.clone().map(LinkAttribute::IfAlias));
        attributes.extend(self.master.map(LinkAttribute::Controller));
        attributes.extend(self.namespace.as_ref().map(into_namespace));
        if let Some(local) = self.vxlan_local {
            let data = LinkInfo::Data(InfoData::Vxlan(vec![vxlan_local(local)]));
            attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), data]));
        }
        // RTM_NEWLINK without NLM_F_CREATE changes a device, its kind's settings too (RTM_SETLINK does not).
        Request::new(libc::RTM_NEWLINK, 0, &message)
    }
}

fn set_up(header: &mut LinkHeader, up: Option<bool>) {
    if let Some(up) = up {
        header.change_mask = LinkFlags::Up;
        header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    }
}

fn into_namespace(namespace: &Namespace) -> LinkAttribute {
    LinkAttribute::NetNsFd(namespace.as_raw_fd())
}

impl fmt::Display for NewLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            NewLinkKind::Vxlan(vxlan) => &format!("VXLAN (VNI {}, port {})", vxlan.vni, vxlan.port),
            NewLinkKind::Veth(_) => "veth",
            NewLinkKind::Bridge => "bridge",
            NewLinkKind::Plain(kind) => kind.as_str(),
        };
        write!(f, "{kind} device {}", self.name)
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {}", self.index)
    }
}
