//! The packet filter: one nftables table of ours, and one accept in each chain of others that drops what is forwarded.
//!
//! An accept in our table does not override a drop in another base chain: the kernel asks every base chain of a
//! hook, and one drop is final. So our forward chain only *marks* what is ours, and where a chain of somebody else
//! drops, one accept of that mark stands inside that chain.

mod forward;
mod networks;
mod rules;
mod spare;
mod table;

use std::collections::BTreeMap;

pub use forward::{
    Accept, ChainState, ForwardChain, iptables_chain, iptables_position, nft_accept_rule, nft_chain,
    nft_forward_chains, nft_own_handles,
};
pub use networks::{Ranges, disjoint};
pub use rules::{Tunnel, table};
pub use spare::{Spare, spare, widen};
pub use table::{Chain, Set, Table};

/// The name of our table, of family `inet`.
pub const TABLE_NAME: &str = "clusterlink";
/// The comment by which our accept in somebody else's chain is known.
pub const COMMENT: &str = "clusterlink";

/// What was read of the packet filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActualFirewall {
    /// Our table, where there is one.
    pub table: Option<Table>,
    /// Chains of others on the forward hook.
    pub chains: BTreeMap<ForwardChain, ChainState>,
    /// What could not be read, and why: nothing is written there, and nothing is said to be right.
    pub unreadable: Vec<String>,
    /// This host has no nftables, or no program that reads them.
    pub absent: bool,
    /// Our table itself is among what could not be read.
    pub table_unreadable: bool,
}

/// What the kernel shall have of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredFirewall {
    /// Our table.
    pub table: Table,
    /// The bits that mark what may be forwarded.
    pub mark: u32,
}
