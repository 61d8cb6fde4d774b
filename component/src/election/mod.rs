//! Leader election: of several replicas one works, and the others are ready to.
//!
//! Through a Lease, by client-go's rules and with its usual times: another replica takes over at most 15 s after the
//! leader's last renewal, or at once where the leader gave the lease back. Rights that this needs in the namespace of the
//! Lease: `create` on `leases`, `get` and `update` on the one of that name (`coordination.k8s.io`).

mod elector;
mod leadership;
mod options;

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use elector::{Elector, RETRY_PERIOD, Request};
use leadership::Standing;
pub use leadership::{Leadership, Term};
pub use options::{ElectionError, ElectionOptions};

/// An answer that takes longer is none. Less than the renew deadline, so that there is time for a second attempt.
const PATIENCE: Duration = Duration::from_secs(4);

/// One replica that stands for election.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    elector: Elector,
    standing: watch::Sender<Standing>,
    /// Spreads the attempts of candidates that wait for the same lease.
    jitter: Duration,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("no answer within {PATIENCE:?}")]
    Late,
    /// Somebody else was faster: no trouble at all.
    #[error("another candidate has written it meanwhile")]
    Overtaken,
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Transport(kube::Error),
}

impl Candidate {
    /// A candidate for the Lease `name` in `namespace`, under an identity that no other replica has.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> (Self, Leadership) {
        let mut hasher = DefaultHasher::new();
        identity.hash(&mut hasher);
        let standing = Standing { term: Term(0), until: Some(Instant::now()), trouble: None };
        let (standing, leadership) = watch::channel(standing);
        let candidate = Candidate {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            elector: Elector::new(identity.to_owned()),
            standing,
            jitter: Duration::from_millis(hasher.finish() % 500),
        };
        (candidate, Leadership(leadership))
    }

    /// Stands for ever: waits for the lease, takes it, keeps it; and again where it was lost.
    pub async fn stand(&mut self) -> Infallible {
        loop {
            let led = self.term().is_some();
            let before = self.elector.holder().map(str::to_owned);
            let attempt = self.attempt().await;
            let failed = attempt.is_err();
            self.settle(attempt, led);
            if !led && self.elector.holder() != before.as_deref() {
                tracing::info!(lease = self.name, holder = self.elector.holder(), "the holder of the lease");
            }
            let wait = match (self.term(), failed) {
                // There is little time, and nobody else who could be in the way.
                (Some(_), true) => RETRY_PERIOD / 4,
                (Some(_), false) => RETRY_PERIOD,
                (None, _) => RETRY_PERIOD + self.jitter,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Gives the lease back where it is held, so that nobody has to wait for it to run out. To be called once nothing is
    /// written any more.
    pub async fn resign(mut self) {
        self.standing.send_modify(|standing| standing.until = Some(Instant::now()));
        let Some(request) = self.elector.resign(Timestamp::now()) else { return };
        match self.send(request).await {
            Ok(_) => tracing::info!(lease = self.name, "the lease was given back"),
            Err(error) => {
                tracing::warn!(lease = self.name, %error, "the lease was not given back, and has to run out");
            }
        }
    }

    fn term(&self) -> Option<Instant> {
        self.elector.leads_until().filter(|until| Instant::now() < *until)
    }

    async fn attempt(&mut self) -> Result<(), AttemptError> {
        let request = self.elector.begin(Instant::now(), Timestamp::now());
        let request = match request {
            Request::Read => {
                let live = self.send(Request::Read).await?;
                let Some(write) = self.elector.read(live, Instant::now(), Timestamp::now()) else {
                    return Ok(());
                };
                write
            }
            write => write,
        };
        let sent = Instant::now();
        if let Some(lease) = self.send(request).await? {
            self.elector.wrote(lease, sent);
        }
        Ok(())
    }

    /// Takes in how an attempt went, and tells of it.
    fn settle(&mut self, attempt: Result<(), AttemptError>, led: bool) {
        let trouble = match attempt {
            Ok(()) => None,
            Err(error) => {
                self.elector.failed();
                match error {
                    AttemptError::Overtaken => None,
                    error => Some(format!("Lease {}: {error}", self.name)),
                }
            }
        };
        if let Some(trouble) = &trouble
            && self.standing.borrow().trouble.as_ref() != Some(trouble)
        {
            tracing::warn!(trouble, "no part in the election; trying again");
        }
        let until = self.term();
        match (led, until) {
            (false, Some(_)) => tracing::info!(lease = self.name, "leads"),
            (true, None) => {
                tracing::warn!(lease = self.name, "leads no longer: the lease was not renewed in time")
            }
            _ => {}
        }
        self.standing.send_modify(|standing| {
            let now = Instant::now();
            if until.is_some() && standing.until.is_some_and(|until| until <= now) {
                standing.term.0 += 1;
            }
            standing.until = Some(until.unwrap_or(now));
            standing.trouble = trouble;
        });
    }

    async fn send(&self, request: Request) -> Result<Option<Lease>, AttemptError> {
        let parameters = PostParams::default();
        let answer = async {
            match request {
                Request::Read => self.leases.get_opt(&self.name).await,
                Request::Create(mut lease) => {
                    lease.metadata.name = Some(self.name.clone());
                    self.leases.create(&parameters, &lease).await.map(Some)
                }
                Request::Replace(lease) => {
                    self.leases.replace(&self.name, &parameters, &lease).await.map(Some)
                }
            }
        };
        timeout(PATIENCE, answer).await.map_err(|_| AttemptError::Late)?.map_err(AttemptError::from)
    }
}

impl From<kube::Error> for AttemptError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 409 => AttemptError::Overtaken,
            kube::Error::Api(status) => AttemptError::Refused(status.message.clone()),
            error => AttemptError::Transport(error),
        }
    }
}
