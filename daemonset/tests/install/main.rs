//! The manifests on a real kube-apiserver: it takes them, each component may do what its code does, and a stolen
//! credential may not do what it should not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod actor;
mod agents;
mod managers;
mod members;
#[path = "../support/mod.rs"]
mod support;
mod workloads;
mod world;
