//! The server as a tower service (for `kube::Client::new` and for hyper), and over TLS listeners.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::auth::User;
use crate::decode;
use crate::response::{self, Response};
use crate::server::{Error, Server, Shared, closed};
use crate::status::Status;

/// One way into a server; cheap to clone.
#[derive(Clone)]
pub struct ApiService {
    shared: Arc<Shared>,
    user: Option<User>,
}

impl Server {
    /// The service for clients in this process, who are known to be `user` and need no token:
    /// `kube::Client::new(server.service_as(User::in_process()), "default")`.
    #[must_use]
    pub fn service_as(&self, user: User) -> ApiService {
        ApiService { shared: Arc::clone(&self.shared), user: Some(user) }
    }

    /// The service for clients who show a bearer token.
    #[must_use]
    pub fn service(&self) -> ApiService {
        ApiService { shared: Arc::clone(&self.shared), user: None }
    }

    /// Serves TLS on listeners that are bound already, until `shutdown` is ready or the server is closed. Watches are
    /// ended, other requests are given a second. EndpointSlice `default/kubernetes` names the first of them that others
    /// can reach.
    pub async fn serve(
        self: Arc<Self>,
        listeners: Vec<std::net::TcpListener>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        let mut addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
        if let Some(address) = addresses.find(is_reached) {
            self.shared.lock().announce(address, self.shared.now());
        }
        for listener in listeners {
            let listener = self.adopt(listener)?;
            tasks.spawn(accept(
                listener,
                TlsAcceptor::from(Arc::clone(&self.identity.config)),
                self.service(),
            ));
        }
        let mut closing = self.shared.closing.subscribe();
        tokio::select! {
            () = shutdown => self.close(),
            () = closed(&mut closing) => {}
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    fn adopt(&self, listener: std::net::TcpListener) -> Result<TcpListener, Error> {
        let name = self.shared.config.name.clone();
        let address = listener.local_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string());
        info!(%name, %address, "serving the API");
        let adopted = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
        adopted.map_err(|source| Error::Listener { name, address, source })
    }
}

/// Whether an address is one that a kube-apiserver would advertise.
fn is_reached(address: &SocketAddr) -> bool {
    !address.ip().is_loopback() && !address.ip().is_unspecified()
}

/// Accepts connections until the server closes.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, service: ApiService) {
    let mut closing = service.shared.closing.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closed(&mut closing) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    debug!(%peer, "connection");
                    connections.spawn(connection(stream, acceptor.clone(), service.clone()));
                }
                Err(error) => {
                    // Out of descriptors, most often: waiting is all that helps.
                    warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(1), drained).await.is_err() {
        debug!("connections were still open when the server closed");
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, service: ApiService) {
    const HANDSHAKE: Duration = Duration::from_secs(10);
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "TLS handshake failed"),
        Err(_) => return debug!("TLS handshake took too long"),
    };
    let mut closing = service.shared.closing.subscribe();
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let connection = builder
        .serve_connection(TokioIo::new(stream), hyper_util::service::TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended");
    }
}

impl<B> tower::Service<http::Request<B>> for ApiService
where
    B: http_body_util::BodyExt<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let response = match Limited::new(body, decode::LIMIT).collect().await {
                Ok(body) => service.shared.answer(&head, &body.to_bytes(), service.user),
                Err(error) => response::status(&unreadable(&*error)),
            };
            debug!(method = %head.method, uri = %head.uri, status = response.status().as_u16(), "request");
            Ok(response)
        })
    }
}

fn unreadable(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Status {
    if error.is::<LengthLimitError>() {
        let message = format!("Request entity too large: limit is {}", decode::LIMIT);
        return Status::new(413, "RequestEntityTooLarge", message);
    }
    Status::bad_request(format!("the request body could not be read: {error}"))
}
