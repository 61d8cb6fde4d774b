//! The commands against two real API servers: what they leave there, what they say, and what they refuse.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod coming_and_going;
mod dump;
mod faults;
mod kosmos;
mod managers;
mod refusals;
mod world;
