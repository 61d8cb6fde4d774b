//! A client whose connection is lost at its nth write: before the API server gets it, or after it was carried out.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, Layer, Service};

/// Counts writes down over every client that it is given to.
#[derive(Clone)]
pub(crate) struct Fault {
    left: Arc<AtomicUsize>,
    carried_out: bool,
}

impl Fault {
    /// At write `number`, counted from one; `carried_out` says whether the API server gets it.
    pub(crate) fn at(number: usize, carried_out: bool) -> Self {
        Fault { left: Arc::new(AtomicUsize::new(number)), carried_out }
    }

    /// Whether it has not happened yet.
    pub(crate) fn is_ahead(&self) -> bool {
        self.left.load(Ordering::SeqCst) > 0
    }

    pub(crate) async fn client(&self, kubeconfig: &std::path::Path) -> Client {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        ClientBuilder::try_from(config).unwrap().with_layer(self).build()
    }

    fn strikes(&self, request: &Request<Body>) -> bool {
        let path = request.uri().path();
        let keeps_nothing = path.contains("selfsubjectaccessreviews")
            || request.uri().query().is_some_and(|query| query.contains("dryRun"));
        if request.method() == Method::GET || keeps_nothing || !self.is_ahead() {
            return false;
        }
        self.left.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

impl<S> Layer<S> for Fault {
    type Service = Lossy<S>;

    fn layer(&self, inner: S) -> Lossy<S> {
        Lossy { fault: self.clone(), inner }
    }
}

#[derive(Clone)]
pub(crate) struct Lossy<S> {
    fault: Fault,
    inner: S,
}

impl<S, B> Service<Request<Body>> for Lossy<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Send,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let lost = || BoxError::from("the connection was lost");
        if !self.fault.strikes(&request) {
            let answer = self.inner.call(request);
            return Box::pin(async move { answer.await.map_err(Into::into) });
        }
        if !self.fault.carried_out {
            return Box::pin(async move { Err(lost()) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            answer.await.map_err(Into::into)?;
            Err(lost())
        })
    }
}
