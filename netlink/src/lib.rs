//! Typed, serialised, batched, retrying access to the kernel's networking.
//!
//! [`Netlink`] owns one blocking socket of one network namespace: it applies mixed lists of [`Op`]s in
//! batches and dumps every kind of object back in the same plain types. [`Monitor`] tells that something
//! changed, [`Witness`] what became of changes that are being made, [`nft::Nft`] speaks to nftables, [`sysctl::Sysctl`] to `/proc/sys/net`, and
//! [`netns::Namespace`] says where all of that happens. No message type of the netlink crates appears
//! in this interface, and no word of the domain that uses it.
//!
//! Silence is never success: a closed socket, an overrun buffer, a time-out, an answer out of sequence,
//! a failed or interrupted dump are errors, and every message of a batch has its own result.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use netlink::{Family, Hop, Netlink, Nexthop, Op, Route, Via};
//!
//! let mut netlink = Netlink::open()?;
//! let device = netlink.link("vx-bridge")?.ok_or("no such device")?.index;
//! let gateway = Hop::onlink(device, "241.0.0.2".parse()?);
//! let ops = [
//!     Op::replace(Nexthop::hop(21, 158, gateway)),
//!     Op::replace(Route::unicast("10.1.0.0/16".parse()?, 100, 158, Via::Nexthop(21))),
//! ];
//! for (op, result) in ops.iter().zip(netlink.apply(&ops)?) {
//!     if let Err(refusal) = result {
//!         eprintln!("{op}: {refusal}");
//!     }
//! }
//! assert_eq!(netlink.routes(Family::V4, Some(100))?.len(), 1);
//! # Ok(())
//! # }
//! ```

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
mod settings;
mod subscription;
pub mod sysctl;
mod transport;
mod witness;

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
pub use settings::{Changed, SettingsMonitor};
pub use transport::{Error, Refusal};
pub use witness::{Told, Witness};
