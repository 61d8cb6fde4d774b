//! What a table holds for an older NodeConfig alone, and may keep for a while: it serves packets of nodes which still
//! follow that one. What refuses, clamps and translates never does.

use std::fmt;
use std::net::IpAddr;

use super::networks::Ranges;
use super::rules::{TRANSIT, untracked};
use super::table::{Set, Table};

/// One thing that a table has to spare. Each stays for its own time, so each has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spare {
    /// Addresses of a set, the first and the last one.
    Addresses(String, IpAddr, IpAddr),
    /// Transit is not tracked.
    Untracked,
}

impl fmt::Display for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spare::Addresses(set, first, last) => write!(f, "{first}-{last} in nftables set {set}"),
            Spare::Untracked => write!(f, "nftables chain {TRANSIT}"),
        }
    }
}

/// What of a table that is there could stay beside one that is wanted.
pub fn spare(wanted: &Table, present: &Table) -> Vec<Spare> {
    let mut spare = Vec::new();
    for (name, set) in &wanted.sets {
        if let (Set::Addresses(family, ranges), Some(Set::Addresses(of, there))) =
            (set, present.sets.get(name))
            && family == of
        {
            let more = there.without(ranges);
            spare.extend(more.iter().map(|(first, last)| Spare::Addresses(name.clone(), first, last)));
        }
    }
    if !wanted.chains.contains_key(TRANSIT) && present.chains.get(TRANSIT) == Some(&untracked()) {
        spare.push(Spare::Untracked);
    }
    spare
}

/// Gives a table what another one had to spare.
pub fn widen(table: &mut Table, spare: &[Spare]) {
    for (name, set) in &mut table.sets {
        let more = spare.iter().filter_map(|spare| match spare {
            Spare::Addresses(of, first, last) if of == name => Some((*first, *last)),
            _ => None,
        });
        if let Set::Addresses(_, ranges) = set {
            *ranges = Ranges::merge(ranges.iter().chain(more).collect());
        }
    }
    if spare.contains(&Spare::Untracked) {
        table.chains.insert(TRANSIT.to_owned(), untracked());
    }
}
