//! Makes this node's kernel equal to its NodeConfig, and keeps it so.
//!
//! The decisions are made in `agent-core`; here are the kernel itself ([`RealKernel`]), the ways in which a NodeConfig
//! comes to it, and the ways in which its state goes back.

pub mod command;
pub mod config;
mod contention;
mod events;
mod input;
mod keeper;
mod kernel;
mod nic;
mod publish;
mod run;
mod status;
mod worker;

pub use agent_core::{Difference, Known, Report, Spec, cleanup, pass};
pub use input::FINALIZER;
pub use kernel::RealKernel;
pub use publish::FIELD_MANAGER;
pub use run::{RunError, run, watch_file};
