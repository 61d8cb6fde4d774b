//! The commands against two real API servers: what they leave there, what they say, and what they refuse.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod coming_and_going;
mod dump;
mod faults;
mod kosmos;
mod managers;
mod refusals;
mod world;
