//! CIDRs: canonical, aggregated, ordered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::Family;
use ipnetwork::IpNetwork;

/// What [`parse`] takes, for messages.
pub const EXPECTED: &str = "a CIDR such as 10.244.0.0/16 or fd00:10:244::/56";

/// A CIDR from its text, with its host bits cleared. An address without a length is none, nor is a whole family.
pub fn parse(text: &str) -> Option<IpNetwork> {
    let text = text.trim();
    let network: IpNetwork = text.contains('/').then(|| text.parse().ok())??;
    (network.prefix() > 0).then(|| canonical(network))
}

/// The same network with its host bits cleared.
fn canonical(network: IpNetwork) -> IpNetwork {
    Block::of(network).network()
}

/// Whether the first network holds all of the second.
pub(crate) fn contains(outer: &IpNetwork, inner: &IpNetwork) -> bool {
    Block::of(*outer).contains(&Block::of(*inner))
}

/// The fewest CIDRs that cover exactly these, IPv4 first, by address.
pub fn aggregate(networks: impl IntoIterator<Item = IpNetwork>) -> Vec<IpNetwork> {
    let mut blocks: Vec<Block> = networks.into_iter().map(Block::of).collect();
    blocks.sort();
    let mut merged: Vec<Block> = Vec::new();
    for block in blocks {
        if merged.last().is_some_and(|last| last.contains(&block)) {
            continue;
        }
        merged.push(block);
        while let Some(parent) = last_two(&merged).and_then(|(a, b)| a.joined(b)) {
            merged.truncate(merged.len() - 2);
            merged.push(parent);
        }
    }
    merged.into_iter().map(Block::network).collect()
}

fn last_two(blocks: &[Block]) -> Option<(&Block, &Block)> {
    match blocks {
        [.., a, b] => Some((a, b)),
        _ => None,
    }
}

/// A network as a number: its first address, left-aligned in 128 bits, so that both families shift alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    family: Family,
    first: u128,
    prefix: u8,
}

impl Block {
    fn of(network: IpNetwork) -> Self {
        let prefix = network.prefix();
        let (family, address) = match network.ip() {
            IpAddr::V4(ip) => (Family::V4, u128::from(ip.to_bits()) << 96),
            IpAddr::V6(ip) => (Family::V6, ip.to_bits()),
        };
        Block { family, first: address & mask(prefix), prefix }
    }

    fn contains(&self, other: &Block) -> bool {
        self.family == other.family
            && self.prefix <= other.prefix
            && other.first & mask(self.prefix) == self.first
    }

    /// The network of which these are the two halves.
    fn joined(&self, other: &Block) -> Option<Block> {
        let prefix = self.prefix.checked_sub(1)?;
        let halves = self.family == other.family
            && self.prefix == other.prefix
            && self.first != other.first
            && (self.first ^ other.first) & mask(prefix) == 0
            && prefix > 0;
        halves.then(|| Block { family: self.family, first: self.first & mask(prefix), prefix })
    }

    fn network(self) -> IpNetwork {
        let address = match self.family {
            Family::V4 => {
                let bits = u32::try_from(self.first >> 96).expect("32 of 128 bits are left");
                IpAddr::V4(Ipv4Addr::from_bits(bits))
            }
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(self.first)),
        };
        IpNetwork::new(address, self.prefix).expect("the length came from a network of this family")
    }
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Vec<String> {
        aggregate(texts.iter().map(|text| parse(text).unwrap())).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn host_bits_are_cleared_and_halves_are_joined() {
        assert_eq!(of(&["10.1.2.3/16"]), ["10.1.0.0/16"]);
        assert_eq!(
            of(&["10.244.3.0/24", "10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]),
            ["10.244.0.0/22"]
        );
        assert_eq!(of(&["10.244.1.0/24", "10.244.2.0/24"]), ["10.244.1.0/24", "10.244.2.0/24"]);
    }

    #[test]
    fn what_is_covered_is_dropped_and_ipv4_comes_first() {
        assert_eq!(
            of(&["fd00::/48", "10.0.0.0/8", "10.1.0.0/16", "fd00:0:0:1::/64"]),
            ["10.0.0.0/8", "fd00::/48"]
        );
        assert_eq!(of(&["10.0.0.0/9", "10.128.0.0/9", "10.0.0.0/9"]), ["10.0.0.0/8"]);
        assert_eq!(of(&["fd00::/65", "fd00::8000:0:0:0/65"]), ["fd00::/64"]);
    }

    #[test]
    fn two_halves_of_a_family_stay_two() {
        assert_eq!(of(&["0.0.0.0/1", "128.0.0.0/1"]), ["0.0.0.0/1", "128.0.0.0/1"]);
    }

    #[test]
    fn what_is_no_cidr_is_refused() {
        for text in ["", "10.0.0.1", "10.0.0.0/33", "fd00::/129", "0.0.0.0/0", "::/0", "10.0.0/8", "pods"] {
            assert_eq!(parse(text), None, "{text:?} was taken for a CIDR");
        }
    }
}
