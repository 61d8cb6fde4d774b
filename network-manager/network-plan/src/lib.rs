//! Computes every node's network from the whole topology; pure.

pub mod election;
