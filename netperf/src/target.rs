//! Whom to measure, as text: `[NAME=]ADDR[:PORT][,answer=NAME|NAME...][,source=IP|IP...][,protocols=tcp|udp|icmp]`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::PORT;

/// What carries a measurement.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Several exchanges over one connection, each more than an MTU if so asked.
    Tcp,
    /// One datagram there and one back.
    Udp,
    /// ICMP or ICMPv6 echo, answered by the kernel of the far side.
    Icmp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        })
    }
}

/// One address to measure and what is expected of it; [`FromStr`] and [`fmt::Display`] are each other's inverse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What reports call it.
    pub name: String,
    /// Where it listens; the port has no meaning for ICMP.
    pub address: SocketAddr,
    /// Names of which one must answer; empty: any may. A named target expects its own name unless told otherwise.
    #[serde(default)]
    pub answer: BTreeSet<String>,
    /// Source addresses of which the far side must see one; empty: any will do.
    #[serde(default)]
    pub source: BTreeSet<IpAddr>,
    /// Only these protocols; empty: all that the run asks for.
    #[serde(default)]
    pub protocols: BTreeSet<Protocol>,
}

impl Target {
    /// A target that must answer with its own name; [`PORT`] if `address` has no port of its own to say.
    #[must_use]
    pub fn new(name: impl Into<String>, address: impl Into<IpAddr>) -> Self {
        let name = name.into();
        Self {
            answer: BTreeSet::from([name.clone()]),
            name,
            address: SocketAddr::new(address.into(), PORT),
            source: BTreeSet::new(),
            protocols: BTreeSet::new(),
        }
    }

    /// With another port than [`PORT`].
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.address.set_port(port);
        self
    }

    /// One of these must answer; an empty list accepts any.
    #[must_use]
    pub fn answered_by<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.answer = names.into_iter().map(Into::into).collect();
        self
    }

    /// The far side must see one of these as the source; an empty list accepts any.
    #[must_use]
    pub fn seen_as(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.source = addresses.into_iter().collect();
        self
    }

    /// Only over these protocols (a service address answers no ICMP, for example).
    #[must_use]
    pub fn only(mut self, protocols: impl IntoIterator<Item = Protocol>) -> Self {
        self.protocols = protocols.into_iter().collect();
        self
    }

    /// Whether this target is to be measured over `protocol`.
    #[must_use]
    pub fn takes(&self, protocol: Protocol) -> bool {
        self.protocols.is_empty() || self.protocols.contains(&protocol)
    }
}

/// Why a text is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "target `{text}`: {problem}; write [NAME=]ADDR[:PORT][,answer=NAME|NAME][,source=IP][,protocols=tcp|udp|icmp]"
)]
pub struct TargetError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        parse(text).map_err(|problem| TargetError { text: text.to_owned(), problem })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.address)?;
        if self.answer.is_empty() {
            f.write_str(",answer=*")?;
        } else if self.answer.iter().ne([&self.name]) {
            write!(f, ",answer={}", joined(&self.answer))?;
        }
        if !self.source.is_empty() {
            write!(f, ",source={}", joined(&self.source))?;
        }
        if !self.protocols.is_empty() {
            write!(f, ",protocols={}", joined(&self.protocols))?;
        }
        Ok(())
    }
}

fn joined<T: ToString>(items: &BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")
}

fn parse(text: &str) -> Result<Target, String> {
    let mut parts = text.trim().split(',');
    let head = parts.next().unwrap_or_default();
    let (name, address) = match head.split_once('=') {
        Some(("", _)) => return Err("the name before `=` is empty".to_owned()),
        Some((name, address)) => (Some(name), parse_address(address)?),
        None => (None, parse_address(head)?),
    };
    let mut target = Target::new(name.unwrap_or(head), address.ip()).port(address.port());
    if name.is_none() {
        target.answer.clear();
    }
    for part in parts {
        apply_expectation(&mut target, part)?;
    }
    Ok(target)
}

fn apply_expectation(target: &mut Target, part: &str) -> Result<(), String> {
    let (key, values) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`"))?;
    let values = values.split('|').filter(|value| !value.is_empty());
    match key {
        "answer" => target.answer = values.filter(|value| *value != "*").map(str::to_owned).collect(),
        "source" => {
            let parsed =
                values.map(|ip| ip.parse().map_err(|_| format!("source `{ip}` is not an IP address")));
            target.source = parsed.collect::<Result<_, _>>()?;
        }
        "protocols" => {
            let parsed = values.map(|protocol| <Protocol as clap::ValueEnum>::from_str(protocol, true));
            target.protocols = parsed.collect::<Result<_, _>>()?;
        }
        _ => return Err(format!("`{key}` is not one of answer, source, protocols")),
    }
    Ok(())
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = bracketed.unwrap_or(text).parse::<IpAddr>();
    ip.map(|ip| SocketAddr::new(ip, PORT)).or_else(|_| text.parse()).map_err(|_| {
        format!("`{text}` is not an IP address, ADDR:PORT or [ADDR]:PORT (names are not resolved)")
    })
}

/// The targets of a file: one per line, blank lines and lines that start with `#` left out.
///
/// # Errors
/// The first line that is not a target.
pub fn parse_lines(text: &str) -> Result<Vec<Target>, TargetError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn ports_and_families() {
        for (text, address) in [
            ("a=10.0.0.1", "10.0.0.1:8889"),
            ("a=10.0.0.1:80", "10.0.0.1:80"),
            ("a=fd00::1", "[fd00::1]:8889"),
            ("a=[fd00::1]", "[fd00::1]:8889"),
            ("a=[fd00::1]:80", "[fd00::1]:80"),
            ("10.0.0.1", "10.0.0.1:8889"),
        ] {
            assert_eq!(parsed(text).address, address.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn a_name_is_an_expectation_unless_another_is_given() {
        assert_eq!(parsed("a=10.0.0.1").answer, BTreeSet::from(["a".to_owned()]));
        assert_eq!(parsed("10.0.0.1").answer, BTreeSet::new());
        assert_eq!(parsed("a=10.0.0.1,answer=*").answer, BTreeSet::new());
        let service = parsed("svc=10.96.0.1:80,answer=b1|b2,source=10.0.0.7|fd00::7,protocols=udp|tcp");
        assert_eq!(service.answer, BTreeSet::from(["b1".to_owned(), "b2".to_owned()]));
        assert_eq!(service.source.len(), 2);
        assert!(service.takes(Protocol::Tcp) && !service.takes(Protocol::Icmp));
    }

    #[test]
    fn errors_name_what_is_wrong_and_say_what_to_write() {
        for (text, problem) in [
            ("a=example.org", "`example.org` is not an IP address"),
            ("=10.0.0.1", "name before `=` is empty"),
            ("a=10.0.0.1,colour=red", "`colour` is not one of"),
            ("a=10.0.0.1,source=x", "source `x` is not an IP"),
            ("a=10.0.0.1,protocols=sctp", "sctp"),
            ("a=10.0.0.1,answer", "`answer` has no `=`"),
        ] {
            let message = text.parse::<Target>().unwrap_err().to_string();
            assert!(message.contains(problem) && message.contains("write [NAME=]ADDR"), "{message}");
            assert!(!message.contains('\n'));
        }
    }

    #[test]
    fn a_file_has_comments() {
        let targets = parse_lines("# pods\n\n a=10.0.0.1 \nb=10.0.0.2\n").unwrap();
        assert_eq!(targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn display_is_read_back(
            names in proptest::collection::btree_set("[a-z0-9.-]{1,9}", 0..4), ip: [u8; 16], port: u16, source: [u8; 4],
        ) {
            let target = Target::new("x/y", ip).port(port).answered_by(names).seen_as([IpAddr::from(source)]);
            let target = target.only([Protocol::Udp]);
            prop_assert_eq!(parsed(&target.to_string()), target);
        }
    }
}
