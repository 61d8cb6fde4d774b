//! Whole clusters out of network namespaces on one machine.
//!
//! A [`Scenario`] becomes an [`addressing::Layout`], and that the namespaces ([`world`]), the Kubernetes objects
//! ([`objects`]) and the reach [`matrix`]. [`Sandbox`] is a running one; [`supervisor`] is the process behind it.

pub mod addressing;
pub mod apis;
pub mod applied;
pub mod client;
pub mod components;
pub mod isolate;
pub mod machines;
pub mod matrix;
pub mod objects;
pub mod paths;
pub mod processes;
mod progress;
pub mod scenario;
pub mod state;
pub mod supervisor;
pub mod world;

pub use client::{Error, Sandbox, UpOptions};
pub use scenario::Scenario;
