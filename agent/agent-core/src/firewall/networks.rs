//! Networks as disjoint ranges: what an interval set of nftables is made of.

use std::net::IpAddr;

use api::Family;
use ipnetwork::IpNetwork;

/// Sorted, disjoint, not adjacent ranges of one family: two sets of networks with equal ranges hold equal addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(IpAddr, IpAddr)>);

impl Ranges {
    /// The ranges of these networks.
    pub fn of<'a>(networks: impl IntoIterator<Item = &'a IpNetwork>) -> Self {
        Self::merge(networks.into_iter().map(|network| (network.network(), network.broadcast())).collect())
    }

    /// Any ranges, put in order.
    pub fn merge(mut ranges: Vec<(IpAddr, IpAddr)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if touches(*end, first) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        Ranges(merged)
    }

    /// The ranges, first and last address of each.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        self.0.iter().copied()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn touches(end: IpAddr, first: IpAddr) -> bool {
    end.is_ipv4() == first.is_ipv4() && (first <= end || number(end).checked_add(1) == Some(number(first)))
}

pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The networks of a family that lie in no other one of the list, in order.
pub fn disjoint(networks: &[IpNetwork], family: Family) -> Vec<IpNetwork> {
    let mut sorted: Vec<IpNetwork> =
        networks.iter().copied().filter(|network| Family::of_network(*network) == family).collect();
    sorted.sort_unstable_by_key(|network| (network.network(), network.prefix()));
    let mut kept: Vec<IpNetwork> = Vec::new();
    for network in sorted {
        if kept.last().is_none_or(|last| network.network() > last.broadcast()) {
            kept.push(network);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn equal_addresses_are_equal_ranges() {
        let halves = Ranges::of(&networks(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7/32"]));
        assert_eq!(halves, Ranges::of(&networks(&["10.0.0.0/23"])));
        assert_ne!(halves, Ranges::of(&networks(&["10.0.0.0/22"])));
        assert_eq!(Ranges::of(&networks(&["255.0.0.0/8", "::/64"])).iter().count(), 2);
    }

    #[test]
    fn what_lies_in_another_network_is_left_out() {
        let all = networks(&["10.1.2.0/24", "10.1.0.0/16", "10.2.0.0/16", "fd00::/64"]);
        assert_eq!(disjoint(&all, Family::V4), networks(&["10.1.0.0/16", "10.2.0.0/16"]));
        assert_eq!(disjoint(&all, Family::V6), networks(&["fd00::/64"]));
    }
}
