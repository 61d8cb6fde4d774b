//! The way up: the one credential for the control cluster, kept fresh.
//!
//! ```text
//! Secret clusterlink-control ─ mounted ─► file ─ read again when it changes ─► Switch ─► control cluster
//!        ▲                                                                        ▲
//!        └──────── kept ──────── new token ◄── TokenRequest at half its life ─────┘ used at once
//! ```
//!
//! The leader renews; a standby reads what the leader has kept. Nothing that happens here touches what stands in the
//! member: while there is no way up, everything there stays as it is. A control cluster that was away for longer than a
//! token lives is the one case that needs a person, and one command: `kosmosctl join`, with the same arguments as before.
//!
//! Rights that this needs. In the control cluster: `create` on `serviceaccounts/token` of its own account. In the member's
//! namespace of ours: `get` and `patch` on that one Secret; and `patch` on the status of the member's Cluster, where the
//! condition `ControlClusterReachable` tells of all this.

mod notice;
mod renewal;
mod switch;
mod token;

use std::{convert::Infallible, path::PathBuf, time::Duration};

use component::{connect, connect_with_token, election::Leadership};
use jiff::Timestamp;
use kube::Client;
use tokio::time::{Instant, timeout};

use crate::Metrics;
use notice::Notice;
use renewal::{Store, is_accepted, request};
use switch::{Line, Switch};
use token::{Token, document, token};

/// How often is looked whether the file has changed, or a token is due.
const LOOK: Duration = Duration::from_secs(5);
/// After so long without a request one is made, to see whether the control cluster is there.
const SILENCE: Duration = Duration::from_secs(30);
/// After an attempt to renew or to keep a token that failed.
const RETRY: Duration = Duration::from_secs(60);

/// Where the credential lies.
pub struct Options {
    /// The file, mounted from the Secret.
    pub kubeconfig: PathBuf,
    /// A client for the member's API.
    pub member: Client,
    /// Name of the member's Cluster.
    pub cluster: String,
    /// The Secret's namespace.
    pub namespace: String,
    /// Its name.
    pub secret: String,
    /// The wall clock, which says whether a token that is found has lived for half of its life.
    pub now: fn() -> Timestamp,
}

/// Keeps the credential fresh.
pub struct Uplink {
    kubeconfig: PathBuf,
    store: Store,
    notice: Notice,
    leadership: Leadership,
    metrics: Metrics,
    switch: Switch,
    /// The file as it was taken in last.
    file: Option<String>,
    /// The token in use, where it is one that runs out.
    token: Option<Token>,
    /// When it is renewed.
    due: Instant,
    now: fn() -> Timestamp,
    /// A token that was renewed and does not stand in the Secret yet, and the one that it was renewed with.
    unkept: Option<(Token, Token)>,
    /// No attempt to renew or to keep before this.
    again: Instant,
    /// What was said last of the file and of the renewal, and of which state of the line.
    said: [Option<String>; 3],
}

/// What is spoken of.
#[derive(Clone, Copy)]
enum Topic {
    File,
    Renewal,
    Line,
}

impl Uplink {
    /// The uplink, and a client for the control cluster. One that cannot be used yet answers nothing until it can.
    pub async fn open(options: Options, leadership: Leadership, metrics: Metrics) -> (Self, Client) {
        let switch = Switch::default();
        let client = switch.client();
        let Options { kubeconfig, member, cluster, namespace, secret, now } = options;
        let mut uplink = Uplink {
            kubeconfig,
            notice: Notice::new(member.clone(), cluster),
            store: Store { member, namespace, name: secret },
            leadership,
            metrics,
            switch,
            file: None,
            token: None,
            due: Instant::now(),
            now,
            unkept: None,
            again: Instant::now(),
            said: Default::default(),
        };
        uplink.look().await;
        (uplink, client)
    }

    /// As [`Uplink::keep`]; where the member is the control cluster there is nothing to keep.
    pub async fn keep_if_any(uplink: Option<Uplink>) -> Infallible {
        match uplink {
            Some(uplink) => uplink.keep().await,
            None => std::future::pending().await,
        }
    }

    /// For ever.
    pub async fn keep(mut self) -> Infallible {
        let rejected = self.switch.rejected.clone();
        loop {
            self.look().await;
            if self.leadership.term().is_some() && Instant::now() >= self.again {
                self.renew().await;
                self.store().await;
            }
            if self.switch.is_silent(SILENCE) {
                // What comes of it stands in the switch.
                let _ = is_accepted(&self.switch.client()).await;
            }
            self.report();
            if self.leadership.term().is_some() {
                self.notice.tell(&self.switch.line()).await;
            }
            // Early or late, the next round is the same.
            let _ = timeout(LOOK, rejected.notified()).await;
        }
    }

    /// Takes the file in where it has changed.
    async fn look(&mut self) {
        let text = match tokio::fs::read_to_string(&self.kubeconfig).await {
            Ok(text) if self.file.as_ref() == Some(&text) => return,
            Ok(text) => text,
            Err(error) => return self.no_file(&error.to_string()),
        };
        let of_file = match document(&text) {
            Ok(document) => token(&document).and_then(Token::read),
            Err(error) => return self.no_file(&error),
        };
        let client = match self.newer_than(of_file.as_ref()) {
            Some(ours) => connect_with_token(&self.kubeconfig, &ours.text).await,
            None => connect(Some(&self.kubeconfig)).await,
        };
        match client {
            Err(error) => self.complain(&error.to_string()),
            Ok(client) => {
                tracing::info!(kubeconfig = %self.kubeconfig.display(), token = ?of_file, "the way to the control cluster was read");
                if self.newer_than(of_file.as_ref()).is_none() && self.token != of_file {
                    self.unkept = None;
                    self.due = Instant::now()
                        + of_file.as_ref().map_or(Duration::ZERO, |token| token.fresh_for((self.now)()));
                    self.token = of_file;
                }
                self.again = Instant::now();
                (self.file, self.said) = (Some(text), Default::default());
                self.switch.turn_to(client);
            }
        }
    }

    /// The token in use, where it is a later one than the file's: the Secret is on its way, or could not be written.
    fn newer_than(&self, of_file: Option<&Token>) -> Option<&Token> {
        self.token.as_ref().filter(|ours| of_file.is_some_and(|of_file| ours.replaces(of_file)))
    }

    fn no_file(&mut self, error: &str) {
        let file = self.kubeconfig.display();
        self.complain(&format!("kubeconfig {file}: {error}"));
    }

    fn complain(&mut self, error: &str) {
        self.switch.unusable(error);
        let what = if self.switch.is_usable() { "the credential of before stays in use" } else { JOIN };
        self.say(
            Topic::File,
            &format!("there is no way to the control cluster in what lies there now: {error}; {what}"),
        );
    }

    /// A new token, once half of the old one's life is over. It is used from when the control cluster accepts it.
    async fn renew(&mut self) {
        let Some(old) = self.token.clone().filter(|_| Instant::now() >= self.due) else { return };
        let renewed = async {
            let new = request(self.switch.client(), &old).await.map_err(|error| error.to_string())?;
            let client = connect_with_token(&self.kubeconfig, &new.text).await;
            let client = client.map_err(|error| error.to_string())?;
            is_accepted(&client).await.map_err(|error| format!("the new token is not accepted: {error}"))?;
            Ok::<_, String>((new, client))
        };
        match renewed.await {
            Ok((new, client)) => {
                tracing::info!(token = ?new, "renewed");
                self.metrics.renewed("ok");
                self.switch.turn_to(client);
                self.said[Topic::Renewal as usize] = None;
                // Whatever the clock says, this one is new.
                self.due = Instant::now() + new.half_life();
                self.token = Some(new.clone());
                self.unkept = Some((new, old));
            }
            Err(error) => {
                self.metrics.renewed("failed");
                self.again = Instant::now() + RETRY;
                let until = old.expires;
                self.say(Topic::Renewal, &format!("the credential for the control cluster, good until {until}, is not renewed: {error}; trying again"));
            }
        }
    }

    async fn store(&mut self) {
        let Some((new, old)) = &self.unkept else { return };
        match self.store.keep(new, old).await {
            Ok(()) => self.unkept = None,
            Err(error) => {
                self.metrics.renewed("unkept");
                self.again = Instant::now() + RETRY;
                let (store, until) = (&self.store, old.expires);
                let problem = format!(
                    "{store}: the renewed credential for the control cluster is in use here and could not be kept: {error}; trying again. A replica that starts after {until} would find the old one, which has run out by then"
                );
                self.say(Topic::Renewal, &problem);
            }
        }
    }

    fn report(&mut self) {
        let line = self.switch.line();
        let expires = self.token.as_ref().map(|token| token.expires);
        self.metrics.uplink(line == Line::Connected, expires);
        match line {
            Line::Connected => {
                if self.said[Topic::Line as usize].take().is_some() {
                    tracing::info!("the control cluster answers again");
                }
            }
            Line::Rejected => {
                let ended = expires.filter(|expires| *expires <= (self.now)());
                let why = ended.map_or_else(
                    || "it may have been revoked".to_owned(),
                    |at| format!("it ran out at {at}"),
                );
                let text = format!(
                    "the control cluster does not accept this member's credential: {why}. {STAYS}; {JOIN}"
                );
                self.say_as(Topic::Line, "rejected", &text);
            }
            Line::Broken(error) => {
                let text =
                    format!("the control cluster does not answer: {error}. {STAYS}; this ends by itself");
                self.say_as(Topic::Line, "broken", &text);
            }
            Line::Untried | Line::Unusable(_) => {}
        }
    }

    /// Each text once.
    fn say(&mut self, topic: Topic, text: &str) {
        self.say_as(topic, text, text);
    }

    /// Each kind of thing once, in whatever words.
    fn say_as(&mut self, topic: Topic, kind: &str, text: &str) {
        let last = &mut self.said[topic as usize];
        if last.as_deref() != Some(kind) {
            tracing::warn!("{text}");
            *last = Some(kind.to_owned());
        }
    }
}

const STAYS: &str = "What stands in this member stays as it is";
const JOIN: &str = "kosmosctl join, with the same arguments as before, gives it another";
