//! Makes this node's kernel equal to its NodeConfig, and keeps it so.
//!
//! The decisions are made in `agent-core`; here are the kernel itself ([`RealKernel`]), the ways in which a NodeConfig
//! comes to it, and the ways in which its state goes back.

pub mod api_server;
pub mod command;
pub mod config;
mod contention;
mod events;
mod goal;
mod input;
mod keeper;
mod kernel;
pub mod last_good;
mod linger;
pub mod look;
mod nic;
mod pace;
mod publish;
mod remember;
mod run;
mod status;
mod telemetry;
mod worker;

pub use agent_core::{Difference, Known, Report, Spec, cleanup, inspect, pass};
pub use input::FINALIZER;
pub use kernel::{PROC_SYS_NET, RealKernel};
pub use publish::FIELD_MANAGER;
pub use run::{Options, RunError, run, watch_file};
