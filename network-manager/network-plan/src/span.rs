//! Networks as ranges of numbers, for everything that sorts and sweeps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::Family;
use ipnetwork::IpNetwork;

/// A network as the range of its addresses. The order is: family, first address, widest first; so a network
/// stands right before everything inside it, and of two networks one contains the other or they are disjoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    pub(crate) family: Family,
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Span {
    pub(crate) fn of(network: IpNetwork) -> Self {
        let family = Family::of_network(network);
        let host_bits = u32::from(family.bits() - network.prefix());
        let hosts = if host_bits == 128 { u128::MAX } else { (1u128 << host_bits) - 1 };
        let first = number(network.ip()) & !hosts;
        Span { family, first, last: first | hosts }
    }

    pub(crate) fn of_address(address: IpAddr) -> Self {
        let number = number(address);
        Span { family: Family::of(address), first: number, last: number }
    }

    pub(crate) fn contains(self, other: Span) -> bool {
        self.family == other.family && self.first <= other.first && other.last <= self.last
    }

    pub(crate) fn overlaps(self, other: Span) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// The network that has exactly these addresses.
    pub(crate) fn network(self) -> IpNetwork {
        let host_bits = (self.last - self.first).count_ones() as u8;
        network(address(self.family, self.first), self.family.bits() - host_bits)
    }
}

impl Ord for Span {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.family, self.first, std::cmp::Reverse(self.last)).cmp(&(
            other.family,
            other.first,
            std::cmp::Reverse(other.last),
        ))
    }
}

impl PartialOrd for Span {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// An address as a number of its family's width.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// A number of the family's width as an address.
pub(crate) fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(number as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// A network whose prefix length is known to fit its family.
pub(crate) fn network(address: IpAddr, prefix: u8) -> IpNetwork {
    IpNetwork::new(address, prefix).expect("a prefix length within its family's bits")
}

/// The network of one address.
pub(crate) fn host(address: IpAddr) -> IpNetwork {
    network(address, Family::of(address).bits())
}

/// Reads a CIDR and takes its host bits away; a bare address is not a CIDR.
pub(crate) fn parse_cidr(text: &str) -> Option<IpNetwork> {
    let parsed: IpNetwork = text.contains('/').then(|| text.trim().parse().ok()).flatten()?;
    Some(network(parsed.network(), parsed.prefix()))
}

/// Sorted, without those that lie inside another one.
pub(crate) fn collapse(networks: impl IntoIterator<Item = IpNetwork>) -> Vec<IpNetwork> {
    let mut spans: Vec<Span> = networks.into_iter().map(Span::of).collect();
    spans.sort_unstable();
    let mut kept: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        if !kept.last().is_some_and(|last| last.contains(span)) {
            kept.push(span);
        }
    }
    kept.into_iter().map(Span::network).collect()
}

/// Disjoint ranges, to be asked many times whether something overlaps them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpanSet(Vec<Span>);

impl SpanSet {
    pub(crate) fn new(mut spans: Vec<Span>) -> Self {
        spans.sort_unstable();
        let mut kept: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            if !kept.last().is_some_and(|last| last.contains(span)) {
                kept.push(span);
            }
        }
        SpanSet(kept)
    }

    /// The ranges, sorted and disjoint.
    pub(crate) fn into_spans(self) -> Vec<Span> {
        self.0
    }

    /// Whether one range in the set has all addresses of this one.
    pub(crate) fn contains(&self, span: Span) -> bool {
        let next = self.0.partition_point(|own| (own.family, own.last) < (span.family, span.first));
        self.0.get(next).is_some_and(|own| own.contains(span))
    }

    /// The ranges that lie in this one, or around it.
    pub(crate) fn within(&self, span: Span) -> &[Span] {
        let from = self.0.partition_point(|own| (own.family, own.last) < (span.family, span.first));
        let to = self.0.partition_point(|own| (own.family, own.first) <= (span.family, span.last));
        &self.0[from..to.max(from)]
    }

    /// Whether any range in the set has an address in common with this one.
    pub(crate) fn overlaps(&self, span: Span) -> bool {
        // The ranges are disjoint, so their ends are sorted like their starts.
        let next = self.0.partition_point(|own| (own.family, own.last) < (span.family, span.first));
        self.0.get(next).is_some_and(|own| own.overlaps(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_survives_the_way_to_a_range_and_back() {
        for text in ["0.0.0.0/0", "10.1.2.0/24", "10.1.2.3/32", "::/0", "fd00::/64", "fd00::1/128"] {
            let network: IpNetwork = text.parse().unwrap();
            assert_eq!(Span::of(network).network(), network);
        }
    }

    #[test]
    fn a_cidr_loses_its_host_bits_and_an_address_is_none() {
        assert_eq!(parse_cidr("fd11::40/122").unwrap().to_string(), "fd11::40/122");
        assert_eq!(parse_cidr("10.1.2.3/16").unwrap().to_string(), "10.1.0.0/16");
        for text in ["10.1.2.3", "10.1.2.3/33", "", "/8", "ten/8"] {
            assert_eq!(parse_cidr(text), None, "{text:?}");
        }
    }

    #[test]
    fn collapse_keeps_the_widest() {
        let of = |text: &str| text.parse::<IpNetwork>().unwrap();
        let collapsed = collapse(["10.2.0.0/16", "10.0.0.0/8", "11.0.0.0/8", "10.0.0.0/8"].map(of));
        assert_eq!(collapsed, ["10.0.0.0/8", "11.0.0.0/8"].map(of));
    }

    #[test]
    fn a_set_finds_overlaps_from_inside_and_from_outside() {
        let of = |text: &str| Span::of(text.parse().unwrap());
        let set = SpanSet::new(vec![of("10.1.0.0/16"), of("10.3.0.0/16"), of("fd00::/64")]);
        for hit in ["10.1.2.0/24", "10.0.0.0/8", "10.3.255.255/32", "fd00::/16", "0.0.0.0/0"] {
            assert!(set.overlaps(of(hit)), "{hit}");
        }
        for miss in ["10.2.0.0/16", "10.4.0.0/16", "9.0.0.0/8", "fd01::/64"] {
            assert!(!set.overlaps(of(miss)), "{miss}");
        }
    }
}
