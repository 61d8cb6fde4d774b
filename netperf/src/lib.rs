//! Reachability, RTT, throughput and outage measurement between pods and nodes.
//!
//! One process per network namespace answers ([`serve`]); the others ask: [`reach`] proves who answers and which source
//! address the far side saw, [`rtt`] compares round-trip times within one run, [`throughput`] measures TCP bulk [`outage`]
//! tells lost, late, duplicated and re-ordered packets apart, by direction, and [`stream`] tells whether connections survive.
//!
//! Everything blocks and runs on plain threads, which inherit the network namespace of the thread that calls: a caller
//! that has entered a namespace measures from there. [`statistics`], [`ledger`] and [`outage::account`] are pure.

mod affinity;
pub mod cli;
pub mod failure;
pub mod icmp;
pub mod ledger;
pub mod outage;
pub mod reach;
pub mod rtt;
pub mod serve;
mod session;
pub mod statistics;
pub mod stream;
mod table;
pub mod target;
pub mod throughput;
pub mod wire;

/// The port on which [`serve`] answers, TCP and UDP, unless told otherwise.
pub const PORT: u16 = 8889;
