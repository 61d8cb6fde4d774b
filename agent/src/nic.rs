//! Which interface and which addresses of this node the other ones send to.

use std::net::IpAddr;

use agent_core::{Host, HostLink};
use api::{ClusterLinkOptions, Family};

/// The underlay of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Underlay {
    pub(crate) interface: String,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) ip6: Option<IpAddr>,
    pub(crate) mtu: u32,
}

/// No interface fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NicError {
    #[error(
        "{field} of the Cluster names {name:?} for this node, which has no such interface (it has {has})"
    )]
    Missing { field: &'static str, name: String, has: String },
    #[error("autodetectionMethod {value:?} is not can-reach=ADDRESS")]
    Method { value: String },
    #[error("autodetectionMethod can-reach={address}: no route leads there from an address of this host")]
    Unreached { address: IpAddr },
    #[error(
        "no interface of this host has an InternalIP of its Node ({addresses:?}); name one in defaultNICName"
    )]
    NoInternalIp { addresses: Vec<IpAddr> },
    #[error("interface {interface} has no global address")]
    NoAddress { interface: String },
}

/// The address whose route decides, where the policy asks for one.
pub(crate) fn address_to_reach(options: &ClusterLinkOptions, node: &str) -> Result<Option<IpAddr>, NicError> {
    if named(options, node).is_some() {
        return Ok(None);
    }
    let Some(method) = &options.autodetection_method else { return Ok(None) };
    let address = method.strip_prefix("can-reach=").and_then(|address| address.trim().parse().ok());
    address.map(Some).ok_or_else(|| NicError::Method { value: method.clone() })
}

/// Chooses the underlay. Names are compared whole: `eth0` is not `eth0.100`, and `node1` is not `node10`.
pub(crate) fn choose(
    options: &ClusterLinkOptions,
    node: &str,
    internal: &[IpAddr],
    host: &Host,
    reached_from: Option<IpAddr>,
) -> Result<Underlay, NicError> {
    let reach = address_to_reach(options, node)?;
    let link = match (named(options, node), reach) {
        (Some((field, name)), _) => {
            host.link(name).map(|(_, link)| link).ok_or_else(|| NicError::Missing {
                field,
                name: name.to_owned(),
                has: host.links.values().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", "),
            })?
        }
        (None, Some(address)) => {
            reached_from.and_then(|from| holder(host, from)).ok_or(NicError::Unreached { address })?
        }
        (None, None) => internal
            .iter()
            .find_map(|ip| holder(host, *ip))
            .ok_or_else(|| NicError::NoInternalIp { addresses: internal.to_vec() })?,
    };
    let preferred: Vec<IpAddr> = internal.iter().copied().chain(reached_from).collect();
    let underlay = Underlay {
        interface: link.name.clone(),
        ip: address(link, Family::V4, &preferred),
        ip6: address(link, Family::V6, &preferred),
        mtu: link.mtu,
    };
    if underlay.ip.is_none() && underlay.ip6.is_none() {
        return Err(NicError::NoAddress { interface: underlay.interface });
    }
    Ok(underlay)
}

fn named<'a>(options: &'a ClusterLinkOptions, node: &str) -> Option<(&'static str, &'a str)> {
    let own = options.nic_node_names.iter().find(|nic| nic.node_name.iter().any(|name| name == node));
    match own {
        Some(nic) => Some(("nicNodeNames", &nic.interface_name)),
        None if options.default_nic_name != "*" => Some(("defaultNICName", &options.default_nic_name)),
        None => None,
    }
}

fn holder(host: &Host, ip: IpAddr) -> Option<&HostLink> {
    host.links.values().find(|link| link.addresses.iter().any(|address| address.network.ip() == ip))
}

/// An InternalIP of the Node where the interface has it, else its first global address.
fn address(link: &HostLink, family: Family, preferred: &[IpAddr]) -> Option<IpAddr> {
    let of_family = || {
        let global = link.addresses.iter().filter(|address| address.global);
        global.map(|address| address.network.ip()).filter(|ip| Family::of(*ip) == family)
    };
    of_family().find(|ip| preferred.contains(ip)).or_else(|| of_family().next())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use agent_core::HostAddress;
    use api::cluster::NicNodeNames;

    use super::*;

    fn host() -> Host {
        let link = |name: &str, addresses: &[&str]| HostLink {
            name: name.to_owned(),
            mtu: 1500,
            addresses: addresses
                .iter()
                .map(|text| HostAddress { network: text.parse().unwrap(), global: !text.starts_with("fe80") })
                .collect(),
            ..HostLink::default()
        };
        let links = [
            (2, link("eth0", &["10.0.0.5/24", "192.0.2.5/24", "fe80::1/64", "2001:db8::5/64"])),
            (3, link("eth0.100", &["198.51.100.5/24"])),
            (4, link("empty", &["fe80::2/64"])),
        ];
        Host { links: BTreeMap::from(links), ..Host::default() }
    }

    fn options(default: &str, method: Option<&str>) -> ClusterLinkOptions {
        ClusterLinkOptions {
            default_nic_name: default.to_owned(),
            autodetection_method: method.map(str::to_owned),
            ..ClusterLinkOptions::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_internal_ip_decides_and_is_the_address() {
        let found = choose(&options("*", None), "n1", &[ip("192.0.2.5")], &host(), None).unwrap();
        assert_eq!((found.interface.as_str(), found.ip), ("eth0", Some(ip("192.0.2.5"))));
        assert_eq!(found.ip6, Some(ip("2001:db8::5")));
        let error = choose(&options("*", None), "n1", &[ip("203.0.113.1")], &host(), None).unwrap_err();
        assert!(error.to_string().contains("203.0.113.1"), "{error}");
    }

    #[test]
    fn names_are_whole() {
        let mut options = options("eth0", None);
        let nic = NicNodeNames { interface_name: "eth0.100".to_owned(), node_name: vec!["node1".to_owned()] };
        options.nic_node_names = vec![nic];
        let of = |node: &str| choose(&options, node, &[], &host(), None).unwrap().interface;
        assert_eq!(of("node1"), "eth0.100");
        assert_eq!(of("node10"), "eth0");
    }

    #[test]
    fn can_reach_takes_the_interface_of_the_source() {
        let options = options("*", Some("can-reach=203.0.113.9"));
        assert_eq!(address_to_reach(&options, "n1").unwrap(), Some(ip("203.0.113.9")));
        let found = choose(&options, "n1", &[ip("10.0.0.5")], &host(), Some(ip("198.51.100.5"))).unwrap();
        assert_eq!((found.interface.as_str(), found.ip), ("eth0.100", Some(ip("198.51.100.5"))));
        assert!(choose(&options, "n1", &[], &host(), None).is_err());
    }

    #[test]
    fn bad_policies_are_named() {
        let error = address_to_reach(&options("*", Some("first-found")), "n1").unwrap_err();
        assert!(error.to_string().contains("\"first-found\""), "{error}");
        let error = choose(&options("eth9", None), "n1", &[], &host(), None).unwrap_err();
        assert!(error.to_string().contains("\"eth9\"") && error.to_string().contains("eth0.100"), "{error}");
        let error = choose(&options("empty", None), "n1", &[], &host(), None).unwrap_err();
        assert_eq!(error, NicError::NoAddress { interface: "empty".to_owned() });
    }
}
