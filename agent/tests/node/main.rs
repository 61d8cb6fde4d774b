//! The agent on a real kernel, each test in a network namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api_endpoints;
mod api_mode;
mod apply;
mod bad_input;
mod change;
mod cold_boot;
mod endpoints;
mod faults;
mod forward;
mod gateways_v6;
mod kosmos;
mod observed;
mod packets;
mod repair;
mod strangers;
mod world;
