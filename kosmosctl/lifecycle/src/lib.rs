//! What kosmosctl does to API servers: `install`, `join`, `unjoin`, `uninstall`, `upgrade`, `check`, `get`, `status` and
//! `gather`.
//!
//! Each command has a module with its arguments, `run`, which connects, and a function over connections, which tests call.
//! Writing goes one way: [`manifest`] renders what daemonset/ holds, [`preflight`] looks before anything is written,
//! [`steps`] says each write as it goes, [`mod@write`] makes each of them idempotent. So a rerun completes what was interrupted.

pub mod check;
pub mod connect;
pub mod credential;
pub mod gather;
pub mod get;
pub mod install;
pub mod join;
pub mod manifest;
pub mod membership;
pub mod object;
pub mod options;
pub mod preflight;
pub mod print;
mod removal;
pub mod say;
pub mod status;
pub mod steps;
mod told;
pub mod uninstall;
pub mod unjoin;
pub mod upgrade;
pub mod version;
pub mod wait;
pub mod write;
