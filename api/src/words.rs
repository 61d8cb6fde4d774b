//! The words of the overlay: validated once, at the edge, and never checked again.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text that is not the word it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct ParseError {
    /// The text as it was given.
    pub value: String,
    /// What stands there in a valid object, with its article: "a MAC address such as …".
    pub expected: &'static str,
}

/// An address family. Inner (what pods speak) and outer (what the underlay carries) are two different choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4, `AF_INET`.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6, `AF_INET6`.
    #[serde(rename = "ipv6")]
    V6,
}

impl Family {
    /// Both, in the order in which everything is computed and printed.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The family of a network.
    pub fn of_network(network: ipnetwork::IpNetwork) -> Self {
        Self::of(network.ip())
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }

    /// Bits of an address: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// An Ethernet address (EUI-48), printed as `02:54:f1:1f:02:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error =
            || ParseError { value: text.to_owned(), expected: "a MAC address such as 02:54:f1:1f:02:01" };
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part =
                parts.next().filter(|part| part.len() == 2 && !part.starts_with('+')).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Mac(bytes)) }
    }
}

/// A VXLAN network identifier: 24 bits (RFC 7348, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Vni {
    type Error = ParseError;

    fn try_from(number: i64) -> Result<Self, ParseError> {
        match u32::try_from(number) {
            Ok(vni) if (1..1 << 24).contains(&vni) => Ok(Vni(vni)),
            _ => Err(ParseError { value: number.to_string(), expected: "a VNI from 1 to 16777215" }),
        }
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which node: its cluster and its name there. `a-b`/`c` and `a`/`b-c` differ, though their objects' names do not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Name of the Cluster object.
    pub cluster: String,
    /// Name of the Node object in that cluster.
    pub node: String,
}

impl NodeId {
    /// A node's identity from its two names.
    pub fn new(cluster: impl Into<String>, node: impl Into<String>) -> Self {
        NodeId { cluster: cluster.into(), node: node.into() }
    }

    /// The name that its ClusterNode and NodeConfig bear, as in Kosmos: `<cluster>-<node>`.
    pub fn object_name(&self) -> String {
        format!("{}-{}", self.cluster, self.node)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_what_it_prints() {
        let mac: Mac = "02:54:F1:1f:02:01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:54:f1:1f:02:01");
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
    }

    #[test]
    fn what_is_not_a_mac_is_refused_with_its_text() {
        for text in [
            "",
            "02:54:f1:1f:02",
            "02:54:f1:1f:02:01:00",
            "2:54:f1:1f:02:01",
            "02:54:f1:1f:02:0g",
            "+2:54:f1:1f:02:01",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text:?} was taken for a MAC");
        }
        assert_eq!(
            "x".parse::<Mac>().unwrap_err().to_string(),
            "\"x\" is not a MAC address such as 02:54:f1:1f:02:01"
        );
    }

    #[test]
    fn a_vni_has_24_bits() {
        assert_eq!(Vni::try_from(54).unwrap().get(), 54);
        assert_eq!(Vni::try_from((1 << 24) - 1).unwrap().get(), 16_777_215);
        for number in [0, -1, 1 << 24] {
            assert!(Vni::try_from(number).is_err(), "{number} was taken for a VNI");
        }
    }
}
