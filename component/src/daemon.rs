//! The life of a daemon of ours: it works, answers for itself, stands for election, and ends in good order.

use std::{convert::Infallible, net::SocketAddr};

use crate::{Endpoints, Liveness, Readiness, Registry, election::Candidate};

/// What stands around a daemon's work.
pub struct Daemon {
    /// Where liveness, readiness and metrics are served.
    pub listen: SocketAddr,
    /// The metrics.
    pub registry: Registry,
    /// Whether the work's loop turns.
    pub liveness: Liveness,
    /// Whether the work can be done.
    pub readiness: Readiness,
    /// Whoever stands for election, where there are rivals.
    pub candidate: Option<Candidate>,
}

impl Daemon {
    /// Lives until `end` is ready. Nothing is written any more when the lease is given back.
    pub async fn live(mut self, work: impl Future<Output = Infallible>, end: impl Future<Output = ()>) {
        let stand = async {
            match &mut self.candidate {
                Some(candidate) => candidate.stand().await,
                None => std::future::pending().await,
            }
        };
        let serve = async {
            let endpoints = Endpoints::obtain(self.listen).await;
            endpoints.serve(self.registry, self.liveness, self.readiness).await
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
        tokio::select! {
            never = work => match never {},
            never = stand => match never {},
            never = serve => match never {},
            () = end => {}
        }
        if let Some(candidate) = self.candidate {
            candidate.resign().await;
        }
        tracing::info!("stopped");
    }
}
