//! What clients and controllers expect of an API server. Every case runs against the embedded server and against
//! kube-apiserver; what belongs to the embedded one alone is in `own`.

#![recursion_limit = "256"]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agreement;
mod controllers;
mod definitions;
mod fixture;
mod history;
mod lists;
mod own;
mod services;
mod watches;
mod writes;
