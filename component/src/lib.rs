//! What every long-running program of ours begins with: a log, an API client, an orderly end, and Events.

mod connect;
pub mod events;
mod log;

pub use connect::{ConnectError, connect};
pub use log::{LogError, LogOptions};

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
