//! Texts and numbers to words, with every failure written down.

use std::collections::BTreeSet;
use std::fmt::{Arguments, Display};
use std::net::IpAddr;
use std::str::FromStr;

use api::{Family, Mac, Vtep};
use ipnetwork::IpNetwork;

use super::{InvalidEntry, List};

/// Collects what is wrong, so that nothing stops at the first failure.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) invalid: Vec<InvalidEntry>,
    /// Names of devices that are invalid: said once, of the device, and not of everything on it.
    pub(super) invalid_devices: BTreeSet<String>,
}

/// One entry of a list while it is being read.
pub(super) struct Entry<'a> {
    checker: &'a mut Checker,
    list: List,
    /// Its name, put into words only where something is wrong with it.
    object: Arguments<'a>,
}

impl Checker {
    pub(super) fn entry<'a>(&'a mut self, list: List, object: Arguments<'a>) -> Entry<'a> {
        Entry { checker: self, list, object }
    }
}

impl Entry<'_> {
    /// Writes a failure down; `None`, so that the caller can leave the entry out.
    pub(super) fn refuse<T>(
        &mut self,
        field: &'static str,
        value: impl Display,
        expected: impl Into<String>,
    ) -> Option<T> {
        self.checker.invalid.push(InvalidEntry {
            list: self.list,
            object: self.object.to_string(),
            field,
            value: value.to_string(),
            expected: expected.into(),
        });
        None
    }

    /// One of the valid devices.
    pub(super) fn device(&mut self, name: &str, known: &BTreeSet<Vtep>) -> Option<Vtep> {
        match Vtep::named(name).filter(|vtep| known.contains(vtep)) {
            Some(vtep) => Some(vtep),
            None if self.checker.invalid_devices.contains(name) => None,
            None => self.refuse("dev", name, "is not among the devices of this NodeConfig"),
        }
    }

    pub(super) fn ip(&mut self, field: &'static str, text: &str) -> Option<IpAddr> {
        match IpAddr::from_str(text) {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                self.refuse(field, text, "is not the address of one host")
            }
            Ok(ip) => Some(ip),
            Err(_) => self.refuse(field, text, "is not an IP address such as 241.31.2.1"),
        }
    }

    /// A network, without host bits and not everything.
    pub(super) fn network(&mut self, field: &'static str, text: &str) -> Option<IpNetwork> {
        let network = self.interface(field, text)?;
        if network.prefix() == 0 {
            return self.refuse(field, text, "would take all traffic of the host; name the remote CIDRs");
        }
        if network.ip() != network.network() {
            let right = format!("{}/{}", network.network(), network.prefix());
            return self.refuse(field, text, format!("has bits set behind its prefix; write {right}"));
        }
        Some(network)
    }

    /// An address with the length of its prefix.
    pub(super) fn interface(&mut self, field: &'static str, text: &str) -> Option<IpNetwork> {
        // Without a slash it would be read as a host's address: too easily a mistake.
        match IpNetwork::from_str(text) {
            Ok(network) if text.contains('/') => Some(network),
            _ => self.refuse(field, text, "is not a CIDR such as 10.1.0.0/16"),
        }
    }

    pub(super) fn mac(&mut self, field: &'static str, text: &str) -> Option<Mac> {
        match Mac::from_str(text) {
            Ok(mac) if mac.0[0] & 1 == 1 => self.refuse(field, text, "is a multicast address"),
            Ok(mac) if mac.0 == [0; 6] => self.refuse(field, text, "is all zero"),
            Ok(mac) => Some(mac),
            Err(error) => self.refuse(field, text, format!("is not {}", error.expected)),
        }
    }

    pub(super) fn same_family(
        &mut self,
        field: &'static str,
        ip: IpAddr,
        family: Family,
        of: &str,
    ) -> Option<IpAddr> {
        if Family::of(ip) == family {
            return Some(ip);
        }
        self.refuse(field, ip, format!("is not of {family}, the family of {of}"))
    }

    pub(super) fn mtu(&mut self, mtu: Option<u32>, least: u32) -> Option<Option<u32>> {
        match mtu {
            Some(value) if !(least..=65535).contains(&value) => {
                self.refuse("mtu", value, format!("is not from {least} to 65535"))
            }
            mtu => Some(mtu),
        }
    }
}
