//! Everything against a real kernel, each test in a network namespace of its own that dies with its thread.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod addresses;
mod batches;
mod links;
mod monitor;
mod neighbours;
mod netns;
mod nexthops;
mod nft;
mod routes;
mod rules;
mod rust_netlink;
mod settings;
mod sysctl;
mod witness;
mod world;
