//! What every daemon serves over HTTP: `/livez`, `/readyz` and `/metrics`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;

use crate::{Liveness, Readiness};

/// What Prometheus calls the text that the registry is encoded as.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How long to wait after a listener that cannot be served, or an address that cannot be had.
const RETRY: Duration = Duration::from_secs(5);

/// An address at which nothing can be served. Whether that is the end of a program or a line in its log is the
/// caller's to say.
#[derive(Debug, thiserror::Error)]
#[error(
    "--listen {address}: liveness, readiness and metrics cannot be served there: {source}; choose another address, or end the program that holds this one"
)]
pub struct EndpointsError {
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    pub source: std::io::Error,
}

/// An address that is held, and not served yet.
#[derive(Debug)]
pub struct Endpoints {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Endpoints {
    /// Takes the address of `--listen`; port 0 takes any that is free.
    pub fn bind(address: SocketAddr) -> Result<Self, EndpointsError> {
        let bound = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(Endpoints { address: listener.local_addr()?, listener })
        });
        bound.map_err(|source| EndpointsError { address, source })
    }

    /// As [`Endpoints::bind`], for programs whose work matters more than their endpoints: says once why the address cannot
    /// be had, and goes on trying.
    pub async fn obtain(address: SocketAddr) -> Self {
        let mut said = None;
        loop {
            match Endpoints::bind(address) {
                Ok(endpoints) => {
                    tracing::info!(address = %endpoints.address, "serves /livez, /readyz and /metrics");
                    return endpoints;
                }
                Err(error) => {
                    let error = error.to_string();
                    if said.as_ref() != Some(&error) {
                        tracing::warn!("{error}");
                    }
                    said = Some(error);
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The address that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for ever:
    ///
    /// | path | 200 | 503 |
    /// |---|---|---|
    /// | `/livez` | `ok`: the loop turns | for how long it has not |
    /// | `/readyz` | `ok`: ready | what is waited for |
    /// | `/metrics` | the registry, as OpenMetrics text | |
    ///
    /// Runs within a tokio runtime with IO and time.
    pub async fn serve(self, registry: Registry, liveness: Liveness, readiness: Readiness) -> Infallible {
        let router = router(registry, liveness, readiness);
        loop {
            let listener = self.listener.try_clone().and_then(TcpListener::from_std);
            let served = match listener {
                Ok(listener) => axum::serve(listener, router.clone()).await,
                Err(error) => Err(error),
            };
            tracing::warn!(address = %self.address, ?served, "the endpoints were not served; trying again");
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn router(registry: Registry, liveness: Liveness, readiness: Readiness) -> Router {
    let alive = async |State(liveness): State<Liveness>| {
        verdict(liveness.stuck_for().map(|silent| format!("the loop has not turned for {silent:.0?}")))
    };
    let ready = async |State(readiness): State<Readiness>| verdict(readiness.not_ready());
    Router::new()
        .merge(Router::new().route("/livez", get(alive)).with_state(liveness))
        .merge(Router::new().route("/readyz", get(ready)).with_state(readiness))
        .merge(Router::new().route("/metrics", get(metrics)).with_state(Arc::new(registry)))
}

fn verdict(problem: Option<String>) -> Response {
    match problem {
        None => "ok\n".into_response(),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem + "\n").into_response(),
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            let problem = format!("the metrics cannot be written as text: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, problem).into_response()
        }
    }
}
