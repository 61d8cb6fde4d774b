//! What every long-running program of ours begins with: a log, an API client, endpoints for probes and metrics, leader
//! election, an orderly end, and Events.

mod connect;
mod daemon;
pub mod election;
mod endpoints;
pub mod events;
mod health;
mod log;

pub use connect::{ConnectError, connect, connect_with_token};
pub use daemon::Daemon;
pub use endpoints::{Endpoints, EndpointsError};
pub use health::{Liveness, Readiness};
pub use log::{LogError, LogOptions};
/// Where metrics are registered, with the component's prefix, to be served by [`Endpoints`].
pub use prometheus_client::registry::Registry;

use tokio::signal::unix::{SignalKind, signal};

/// Ready at SIGTERM or SIGINT. An error is one of installing the handlers.
pub fn asked_to_end() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
