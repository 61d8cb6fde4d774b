//! An in-process Kubernetes API server for the kinds the controllers use.
//!
//! Real `kubectl` (1.29 and later) and kube-rs controllers talk to it as to any cluster, over TLS ([`Server::serve`])
//! or without a socket ([`Server::service_as`]). It keeps its objects in memory. What Kubernetes has and this server
//! has not is answered with 501 and a `Status` that says so.
//!
//! Where it differs from a cluster on purpose: there is no kubelet, so a Pod that is deleted is gone at once; garbage
//! collection and the emptying of namespaces happen within the request that causes them; a value of the wrong type is
//! refused by the schema (422) and not by a decoder (400); `/openapi/v2` is not
//! served, and protobuf is only read (for `kubectl create` of a few kinds), never written.
//!
//! A watch from a revision that was never given out here gets 410 as one that is too old does, so that the clients of a
//! server that was replaced list again. Names and addresses of every URL that clients use belong into
//! [`Config::subject_names`].
//!
//! ```no_run
//! # async fn example() -> Result<(), embedded_api::Error> {
//! use std::sync::Arc;
//! use embedded_api::{Config, MASTERS, Server, Token};
//!
//! let token = Token { token: "secret".into(), user: "admin".into(), groups: vec![MASTERS.into()] };
//! let server = Arc::new(Server::new(Config { tokens: vec![token], ..Config::named("east") })?);
//! let listener = std::net::TcpListener::bind("127.0.0.1:6443").expect("the port is free");
//! let kubeconfig = server.kubeconfig("https://127.0.0.1:6443", "secret");
//! Arc::clone(&server).serve(vec![listener], std::future::pending()).await
//! # }
//! ```
//!
//! The way of a write: `request` (what is asked) → `verbs` (create, update, patch) → `verbs::admission` (prune, fill in,
//! validate, note the owner) → `state` (store, and serve or allocate what follows) → `store` (revision, event) → `gc`.

mod auth;
mod config;
mod decode;
mod discovery;
mod gc;
mod kinds;
mod negotiate;
mod openapi;
mod paths;
mod protobuf;
mod request;
mod response;
mod selector;
mod server;
mod service;
mod services;
mod state;
mod status;
mod store;
mod table;
mod tls;
mod verbs;

pub use auth::{Authorizer, MASTERS, Token, User, allow_by_default};
pub use config::{Clock, Config};
pub use request::{RequestInfo, Verb};
pub use response::Response;
pub use server::{Error, Server};
pub use service::ApiService;
pub use services::BadServiceCidr;
pub use tls::TlsError;
