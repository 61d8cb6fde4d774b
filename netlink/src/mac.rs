//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

/// A text that is not six octets in hexadecimal, separated by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an Ethernet address such as 02:00:5e:10:00:01")]
pub struct MacError(String);

impl Mac {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| MacError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Mac> {
    let mut octets = text.split(':');
    let mut mac = [0; 6];
    for octet in &mut mac {
        let digits = octets.next().filter(|digits| digits.len() == 2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *octet = u8::from_str_radix(digits, 16).ok()?;
    }
    octets.next().is_none().then_some(Mac(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_it_reads() {
        let mac = Mac([0x02, 0, 0x5e, 0x10, 0xff, 1]);
        assert_eq!(mac.to_string(), "02:00:5e:10:ff:01");
        assert_eq!("02:00:5E:10:ff:01".parse(), Ok(mac));
    }

    #[test]
    fn other_texts_are_refused_by_name() {
        for text in ["", "02:00:5e:10:ff", "02:00:5e:10:ff:01:02", "02:00:5e:10:ff:+1", "0200.5e10.ff01"] {
            let error = text.parse::<Mac>().expect_err("not six octets");
            assert!(error.to_string().contains(text));
        }
    }
}
