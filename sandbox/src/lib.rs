//! Whole clusters out of network namespaces on one machine.

pub mod addressing;
pub mod scenario;
pub mod world;
