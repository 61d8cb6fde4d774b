//! What kube-rs clients and controllers expect of an API server, in process and over TLS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod controllers;
mod definitions;
mod fixture;
mod lists;
mod services;
mod watches;
mod writes;
