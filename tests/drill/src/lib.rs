//! Zero loss, repair and ownership under fire.
//!
//! [`scenario`] disturbs a sandbox while probes run between pods of its clusters, in gateway mode and P2P, IPv4 and IPv6 at
//! once, and captures look for packets that no tunnel carries. [`figures`] turns what they tell into rows of one table, where
//! each loss and each leak is named with what was done before it. The same scenarios are the tests of this crate (a few rounds, no clock) and the drill (all rounds, figures).

pub mod apis;
pub mod captures;
pub mod figures;
pub mod probes;
pub mod processes;
pub mod programs;
pub mod random;
pub mod repair;
pub mod scenario;
pub mod world;
