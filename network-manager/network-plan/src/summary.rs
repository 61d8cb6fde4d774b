//! The fewest prefixes that cover some overlay addresses and touch nothing else that matters.
//!
//! Each of them is as wide as it can be within the pool, so that a node that joins a cluster usually falls into
//! a prefix that every other node has a route for already. What lies in no prefix stays unreachable.

use ipnetwork::IpNetwork;

use crate::span::Span;

/// Covers each of `wanted` (sorted, of one family) by networks inside `pool` that touch none of `others` (sorted by
/// their first address, disjoint). An address that lies in one of the others is left out.
pub(crate) fn summarise(pool: Span, wanted: &[u128], others: &[Span]) -> Vec<IpNetwork> {
    let mut prefixes = Vec::new();
    let wanted =
        &wanted[wanted.partition_point(|w| *w < pool.first)..wanted.partition_point(|w| *w <= pool.last)];
    cover(pool, wanted, others, &mut prefixes);
    prefixes
}

fn cover(span: Span, wanted: &[u128], others: &[Span], prefixes: &mut Vec<IpNetwork>) {
    if wanted.is_empty() {
        return;
    }
    let from = others.partition_point(|other| other.last < span.first);
    let to = others.partition_point(|other| other.first <= span.last);
    let others = &others[from..to.max(from)];
    if others.is_empty() {
        prefixes.push(span.network());
        return;
    }
    if span.first == span.last {
        return;
    }
    let middle = span.first + (span.last - span.first) / 2;
    let split = wanted.partition_point(|address| *address <= middle);
    cover(Span { last: middle, ..span }, &wanted[..split], others, prefixes);
    cover(Span { first: middle + 1, ..span }, &wanted[split..], others, prefixes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::number;

    fn run(pool: &str, wanted: &[&str], others: &[&str]) -> Vec<String> {
        let mut wanted: Vec<u128> = wanted.iter().map(|text| number(text.parse().unwrap())).collect();
        let mut others: Vec<Span> =
            others.iter().map(|text| Span::of(text.parse::<IpNetwork>().unwrap())).collect();
        wanted.sort_unstable();
        others.sort_unstable();
        let pool = Span::of(pool.parse::<IpNetwork>().unwrap());
        summarise(pool, &wanted, &others).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn alone_in_a_pool_a_cluster_is_the_pool() {
        assert_eq!(run("242.0.0.0/8", &["242.1.0.1", "242.9.0.1"], &[]), ["242.0.0.0/8"]);
        assert_eq!(run("fd42::/32", &["fd42::1"], &[]), ["fd42::/32"]);
        assert_eq!(run("242.0.0.0/8", &[], &["242.1.0.1"]), Vec::<String>::new());
    }

    #[test]
    fn a_prefix_stops_where_somebody_else_begins() {
        assert_eq!(run("242.0.0.0/8", &["242.1.0.1", "242.1.0.2"], &["242.2.0.1"]), ["242.0.0.0/15"]);
        assert_eq!(
            run("242.0.0.0/24", &["242.0.0.1", "242.0.0.3"], &["242.0.0.2"]),
            ["242.0.0.0/31", "242.0.0.3/32"]
        );
        assert_eq!(run("242.0.0.0/8", &["242.1.0.1"], &["242.0.0.0/8"]), Vec::<String>::new());
    }
}
