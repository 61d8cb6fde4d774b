//! Networks as disjoint ranges: what an interval set of nftables is made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

    /// What of these lies in none of the others.
    pub fn without(&self, others: &Ranges) -> Self {
        let (mut left, mut others) = (Vec::new(), others.0.as_slice());
        for (first, last) in self.iter() {
            let passed = others.iter().take_while(|other| other.1 < first).count();
            others = &others[passed..];
            let mut from = Some(first);
            for other in others.iter().take_while(|other| other.0 <= last) {
                let begun = from.filter(|from| *from < other.0);
                left.extend(begun.and_then(|from| Some((from, before(other.0)?))));
                from = behind(other.1).filter(|next| *next <= last);
            }
            left.extend(from.map(|from| (from, last)));
        }
        Ranges(left)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn touches(end: IpAddr, first: IpAddr) -> bool {
    end.is_ipv4() == first.is_ipv4() && (first <= end || number(end).checked_add(1) == Some(number(first)))
}

/// The address before this one.
fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(ip) => ip.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(ip) => ip.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// The address behind this one.
fn behind(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(ip) => ip.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(ip) => ip.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
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
    fn what_is_left_without_others_touches_none_of_them() {
        let of = |texts: &[&str]| Ranges::of(&networks(texts));
        let all = of(&["10.0.0.0/8", "fd00::/16"]);
        let middle = all.without(&of(&["10.128.0.0/16", "fd00::/16"]));
        let ranges: Vec<(String, String)> =
            middle.iter().map(|(first, last)| (first.to_string(), last.to_string())).collect();
        let expected = [("10.0.0.0", "10.127.255.255"), ("10.129.0.0", "10.255.255.255")];
        assert_eq!(ranges, expected.map(|(first, last)| (first.to_owned(), last.to_owned())));
        let ends = ["0.0.0.0/1", "128.0.0.0/1", "::/0"];
        assert!(of(&ends).without(&of(&ends)).is_empty());
        assert_eq!(all.without(&of(&["11.0.0.0/8", "::/16"])), all);
        let put_back =
            Ranges::merge(middle.iter().chain(of(&["10.128.0.0/16", "fd00::/16"]).iter()).collect());
        assert_eq!(put_back, all);
    }

    #[test]
    fn what_lies_in_another_network_is_left_out() {
        let all = networks(&["10.1.2.0/24", "10.1.0.0/16", "10.2.0.0/16", "fd00::/64"]);
        assert_eq!(disjoint(&all, Family::V4), networks(&["10.1.0.0/16", "10.2.0.0/16"]));
        assert_eq!(disjoint(&all, Family::V6), networks(&["fd00::/64"]));
    }
}
