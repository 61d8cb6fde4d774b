//! What kube-rs clients and controllers expect of an API server, in process and over TLS.

mod controllers;
mod fixture;
mod lists;
mod services;
mod watches;
mod writes;
