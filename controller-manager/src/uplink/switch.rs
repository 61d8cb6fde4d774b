//! A client whose credential can be replaced under it: watches that run go on, whatever is asked next uses the new one.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use kube::{Client, client::Body};
use tokio::sync::Notify;
use tower::Service;

/// What the control cluster did with what was asked of it last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing was asked yet.
    #[default]
    Untried,
    /// It answered.
    Connected,
    /// It answered that it does not know who asks.
    Rejected,
    /// It did not answer.
    Broken(String),
    /// There is no credential to ask with.
    Unusable(String),
}

/// The one place through which everything goes that is asked of the control cluster. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Switch {
    state: Arc<Mutex<State>>,
    /// Woken where the credential was rejected: a newer one may lie there.
    pub(crate) rejected: Arc<Notify>,
}

#[derive(Default)]
struct State {
    client: Option<Client>,
    line: Line,
    /// When the control cluster answered last, or did not.
    heard: Option<Instant>,
    /// Answers to requests of an earlier client say nothing of this one.
    turn: u64,
}

impl Switch {
    /// A client that always asks with the credential of the day.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    pub(crate) fn line(&self) -> Line {
        self.state().line.clone()
    }

    /// Whether nothing was asked for so long that the line may be another by now.
    pub(crate) fn is_silent(&self, limit: Duration) -> bool {
        let state = self.state();
        state.client.is_some() && state.heard.is_none_or(|heard| heard.elapsed() >= limit)
    }

    /// Whether there is anything to ask with.
    pub(crate) fn is_usable(&self) -> bool {
        self.state().client.is_some()
    }

    /// From now on asks with another credential.
    pub(crate) fn turn_to(&self, client: Client) {
        let mut state = self.state();
        (state.client, state.line, state.heard) = (Some(client), Line::Untried, None);
        state.turn += 1;
    }

    /// There is no credential, and why. One that was there before is kept: it may be good still.
    pub(crate) fn unusable(&self, why: &str) {
        let mut state = self.state();
        if state.client.is_none() {
            state.line = Line::Unusable(why.to_owned());
        }
    }

    fn answered(&self, turn: u64, line: Line) {
        let mut state = self.state();
        if state.turn != turn {
            return;
        }
        if line == Line::Rejected && state.line != Line::Rejected {
            self.rejected.notify_one();
        }
        (state.line, state.heard) = (line, Some(Instant::now()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There is nothing to ask with.
#[derive(Debug, thiserror::Error)]
#[error("there is no credential for the control cluster yet: {0}")]
struct NoCredential(String);

impl Service<Request<Body>> for Switch {
    type Response = Response<Body>;
    type Error = tower::BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, tower::BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let switch = self.clone();
        let (client, turn, line) = {
            let state = self.state();
            (state.client.clone(), state.turn, state.line.clone())
        };
        Box::pin(async move {
            let Some(client) = client else {
                let why = if let Line::Unusable(why) = line { why } else { String::new() };
                return Err(NoCredential(why).into());
            };
            let answer = client.send(request).await;
            switch.answered(
                turn,
                match &answer {
                    Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => Line::Rejected,
                    Ok(_) => Line::Connected,
                    Err(error) => Line::Broken(error.to_string()),
                },
            );
            Ok(answer?)
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;
    use kube::Api;

    use super::*;

    fn answering(code: u16) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| {
            let body =
                format!(r#"{{"kind":"Status","code":{code},"message":"","reason":"","status":"Failure"}}"#);
            let answer = Response::builder().status(code).body(Body::from(body.into_bytes()));
            std::future::ready(answer)
        });
        Client::new(service, "default")
    }

    async fn ask(client: &Client) -> Result<Namespace, String> {
        Api::<Namespace>::all(client.clone()).get("kube-system").await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn without_a_credential_the_reason_is_the_answer() {
        let switch = Switch::default();
        let client = switch.client();
        switch.unusable("kubeconfig /nowhere: No such file");
        let error = ask(&client).await.unwrap_err();
        assert!(error.contains("no credential for the control cluster yet: kubeconfig /nowhere"), "{error}");
        assert_eq!(switch.line(), Line::Unusable("kubeconfig /nowhere: No such file".to_owned()));
    }

    #[tokio::test]
    async fn whoever_asks_next_asks_with_the_new_credential() {
        let switch = Switch::default();
        let client = switch.client();
        switch.turn_to(answering(401));
        assert!(ask(&client).await.is_err());
        assert_eq!(switch.line(), Line::Rejected);
        tokio::time::timeout(Duration::from_secs(60), switch.rejected.notified()).await.unwrap();
        switch.turn_to(answering(404));
        assert_eq!(switch.line(), Line::Untried);
        assert!(ask(&client).await.is_err());
        assert_eq!(switch.line(), Line::Connected);
        switch.unusable("the file is empty");
        assert!(switch.is_usable() && switch.line() == Line::Connected, "what was good stays in use");
    }

    #[tokio::test]
    async fn an_answer_to_the_credential_of_before_says_nothing_of_this_one() {
        let switch = Switch::default();
        switch.turn_to(answering(401));
        let asked_before = switch.state().turn;
        switch.turn_to(answering(200));
        switch.answered(asked_before, Line::Rejected);
        assert_eq!(switch.line(), Line::Untried);
    }
}
