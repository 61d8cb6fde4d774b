//! Typed, serialised, batched, retrying access to the kernel's networking.
//!
//! [`Netlink`] owns one blocking socket of one network namespace: it applies mixed lists of [`Op`]s in
//! batches and dumps every kind of object back in the same plain types. [`Monitor`] tells that something
//! changed, [`nft::Nft`] speaks to nftables, [`sysctl::Sysctl`] to `/proc/sys/net`, and
//! [`netns::Namespace`] says where all of that happens. No message type of the netlink crates appears
//! in this interface, and no word of the domain that uses it.
//!
//! Silence is never success: a closed socket, an overrun buffer, a time-out, an answer out of sequence,
//! a failed or interrupted dump are errors, and every message of a batch has its own result.

mod address;
mod attributes;
mod fdb;
mod ip;
mod link;
mod mac;
pub mod monitor;
mod neighbour;
pub mod netns;
mod nexthop;
pub mod nft;
mod op;
mod route;
mod rtnetlink;
mod rule;
pub mod sysctl;
mod transport;

pub use address::{Address, Scope};
pub use fdb::FdbEntry;
pub use ip::Family;
pub use link::{Link, LinkChange, LinkKind, NewLink, NewLinkKind, VethPeer, Vxlan};
pub use mac::{Mac, MacError};
pub use monitor::{Event, Monitor};
pub use neighbour::{Neighbour, NeighbourState};
pub use netns::Namespace;
pub use nexthop::{Nexthop, NexthopKind, Resilience};
pub use op::{Object, Op};
pub use route::{Hop, Route, RouteKind, Via};
pub use rtnetlink::{Netlink, OpResult};
pub use rule::{Rule, RuleAction};
pub use transport::{Error, Refusal};
