//! The shell: one task that owns the index, takes news in, and has differences written.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    time::{Duration, Instant},
};

use component::{
    Liveness, Readiness,
    election::{Leadership, Term},
    events,
};
use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::Client;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use crate::{
    FIELD_MANAGER,
    index::{Index, Object, Resource},
    metrics::Metrics,
    notices::Notices,
    pace::Pace,
    reconcile::{Action, Reconciled, Target, Write, reconcile},
    watch::{Report, Round, Watch, path},
    waves::Waves,
    write::{WriteError, write_within},
};

/// News that come together are answered together.
const COALESCE: Duration = Duration::from_millis(50);
const NEWS: usize = 4096;
/// Writes under way at once.
const WRITES: usize = 32;
/// How often is looked whether anything was forgotten.
const RESYNC: Duration = Duration::from_secs(30);

/// The loop comes round at least each `RESYNC`, and no plan takes anywhere near as long.
pub const TURNS_WITHIN: Duration = Duration::from_secs(120);

type Written = (Write, Result<Option<Object>, WriteError>);

/// What a network-manager needs.
#[derive(Clone)]
pub struct Config {
    /// A client for the control cluster's API.
    pub client: Client,
    /// Whether this replica writes.
    pub leadership: Leadership,
    /// What it counts.
    pub metrics: Metrics,
    /// Beaten each time the loop comes round.
    pub liveness: Liveness,
    /// Ready once everything was listed, whether it leads or not.
    pub readiness: Readiness,
}

impl Config {
    /// One that has no rivals, and whose figures nobody reads.
    pub fn alone(client: Client) -> Self {
        Config {
            client,
            leadership: Leadership::unrivalled(),
            metrics: Metrics::default(),
            liveness: Liveness::within(TURNS_WITHIN),
            readiness: Readiness::waiting_for("its first turn"),
        }
    }
}

/// Plans, and writes while it leads. Nothing that an API server answers ends it.
pub async fn run(config: Config) -> Infallible {
    let mut shell = Shell::start(config);
    loop {
        shell.wait().await;
        shell.step();
    }
}

struct Shell {
    config: Config,
    index: Index,
    reports: mpsc::Receiver<Report>,
    sender: mpsc::Sender<Report>,
    /// The watch of each resource; news of one that was ended before are passed over.
    watches: BTreeMap<Resource, (Round, AbortHandle)>,
    /// Watches, and Events on their way.
    tasks: JoinSet<()>,
    /// The term in which this replica leads.
    term: Option<Term>,
    writes: JoinSet<Written>,
    in_flight: BTreeSet<Target>,
    /// What the last plan wants written and nobody has begun to write.
    queue: VecDeque<Write>,
    pace: Pace,
    waves: Waves,
    notices: Notices,
    /// Whether the plan has to be made again.
    dirty: bool,
    /// When it is made again though nothing has happened.
    resync: Instant,
    wake: Instant,
}

impl Shell {
    fn start(config: Config) -> Self {
        let (sender, reports) = mpsc::channel(NEWS);
        let term = config.leadership.term();
        let mut shell = Shell {
            config,
            index: Index::default(),
            reports,
            sender,
            watches: BTreeMap::new(),
            tasks: JoinSet::new(),
            term,
            writes: JoinSet::new(),
            in_flight: BTreeSet::new(),
            queue: VecDeque::new(),
            pace: Pace::default(),
            waves: Waves::default(),
            notices: Notices::default(),
            dirty: false,
            resync: Instant::now() + RESYNC,
            wake: Instant::now() + RESYNC,
        };
        Resource::ALL.into_iter().for_each(|resource| shell.watch(resource));
        shell
    }

    /// Begins to watch a resource, or begins anew.
    fn watch(&mut self, resource: Resource) {
        let mut round = Round::default();
        if let Some((before, watch)) = self.watches.get(&resource) {
            watch.abort();
            round = Round(before.0 + 1);
        }
        self.index.expect_list(resource);
        let (client, metrics) = (self.config.client.clone(), self.config.metrics.clone());
        let watch = Watch { client, resource, round, reports: self.sender.clone(), metrics };
        self.watches.insert(resource, (round, self.tasks.spawn(watch.run())));
    }

    /// A term has ended, or another one has begun.
    ///
    /// What was begun in a term is given up with it. A new leader looks at every ClusterNode once more before it writes:
    /// the one before may have given out addresses that our watch has not told of yet. The rest is computed.
    fn turn(&mut self) {
        self.term = self.config.leadership.term();
        self.writes = JoinSet::new();
        self.in_flight.clear();
        self.queue.clear();
        (self.pace, self.waves, self.notices) = (Pace::default(), Waves::default(), Notices::default());
        self.dirty = true;
        match self.term {
            Some(_) => {
                tracing::info!("leads, and writes");
                self.watch(Resource::ClusterNode);
            }
            None => tracing::info!("another replica may lead; writes nothing, and follows"),
        }
    }

    /// Takes a report in. Whether it matters.
    fn take(&mut self, (round, news): Report) -> bool {
        let resource = news.resource();
        let is_current = self.watches.get(&resource).is_some_and(|(current, _)| *current == round);
        is_current && self.index.take(news)
    }

    /// Waits for something to happen and takes in all that has.
    async fn wait(&mut self) {
        tokio::select! {
            () = self.config.leadership.turns(self.term) => self.turn(),
            Some(report) = self.reports.recv() => {
                if self.take(report) {
                    self.dirty = true;
                    tokio::time::sleep(COALESCE).await;
                }
            }
            Some(written) = self.writes.join_next(), if !self.writes.is_empty() => self.settle(written),
            Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
            () = tokio::time::sleep_until(self.wake.into()) => self.dirty |= Instant::now() >= self.resync,
        }
        while let Ok(report) = self.reports.try_recv() {
            self.dirty |= self.take(report);
        }
        while let Some(written) = self.writes.try_join_next() {
            self.settle(written);
        }
    }

    fn settle(&mut self, written: Result<Written, tokio::task::JoinError>) {
        let Ok((write, result)) = written else { return };
        let (target, now) = (write.target.clone(), Instant::now());
        self.in_flight.remove(&target);
        self.waves.written(&write, result.as_ref().ok().and_then(Option::as_ref), now);
        match result {
            Err(WriteError::NotLeading) => {}
            Ok(object) => {
                tracing::debug!(?target, "written");
                self.config.metrics.wrote(target.resource, "ok");
                if let Some(object) = object {
                    // The watch will say the same; until then nothing is written twice. What differs all the same was
                    // changed by somebody else meanwhile.
                    self.index.refresh(object);
                }
                self.pace.succeeded(&write, now);
                let at_once = self.notices.take(&target, write.notices, now);
                self.tell(target, at_once);
            }
            Err(error) => {
                tracing::warn!(?target, %error, "not written; trying again");
                self.config.metrics.wrote(target.resource, error.result());
                self.pace.failed(&write, now);
                self.dirty = true;
            }
        }
    }

    fn tell(&mut self, target: Target, conditions: Vec<Condition>) {
        if conditions.is_empty() {
            return;
        }
        let name = &target.name;
        for condition in &conditions {
            let (kind, status, reason) = (&condition.type_, &condition.status, &condition.reason);
            tracing::info!(name, kind, status, reason, message = condition.message, "condition");
        }
        let resource = path(target.resource);
        let object = ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            name: Some(name.to_owned()),
            uid: self.index.uid(target.resource, name),
            ..ObjectReference::default()
        };
        self.tasks.spawn(events::publish(self.config.client.clone(), FIELD_MANAGER, object, conditions));
    }

    fn tell_of_lasting_trouble(&mut self, now: Instant) {
        let index = &self.index;
        let said = |condition: &Condition| {
            (condition.type_.clone(), condition.reason.clone(), condition.message.clone())
        };
        let stands = |target: &Target, condition: &Condition| {
            let conditions = index.conditions(target.resource, &target.name);
            conditions.iter().any(|current| said(current) == said(condition))
        };
        for (target, condition) in self.notices.lasting(now, stands) {
            self.tell(target, vec![condition]);
        }
    }

    /// Plans anew where that is needed, and begins as many writes as may be under way.
    fn step(&mut self) {
        self.config.liveness.beat();
        let pending = self.index.pending();
        let waits =
            (!pending.is_empty()).then(|| format!("waits for the first complete list of {pending:?}"));
        self.config.readiness.set(waits.or_else(|| self.config.leadership.trouble()));
        let Some(term) = self.term.filter(|_| pending.is_empty()) else {
            tracing::debug!(?pending, term = ?self.term, "nothing is written now");
            self.resync = Instant::now() + RESYNC;
            self.wake = self.resync;
            return;
        };
        let now = Instant::now();
        self.tell_of_lasting_trouble(now);
        if self.dirty {
            self.dirty = false;
            self.resync = now + RESYNC;
            let Reconciled { writes, rejected } = reconcile(&self.index, &Time(Timestamp::now()));
            self.queue = writes.into();
            self.config.metrics.planned(now.elapsed(), &rejected);
            tracing::debug!(writes = self.queue.len(), took = ?now.elapsed(), "planned");
        }
        self.begin(now, term);
        let due = self.pace.next(now).filter(|_| !self.queue.is_empty() || !self.in_flight.is_empty());
        self.wake = [due, self.waves.next(), self.notices.next()]
            .into_iter()
            .flatten()
            .fold(self.resync, Instant::min);
    }

    fn begin(&mut self, now: Instant, term: Term) {
        let mut later = VecDeque::new();
        let mut waits = false;
        self.waves.settle(&self.index, now);
        let mut addresses_first =
            self.in_flight.iter().any(|target| target.resource == Resource::ClusterNode);
        while let Some(write) = self.queue.pop_front() {
            let target = &write.target;
            // Addresses are noted before they are used; but one node's trouble must not hold up all others.
            let addresses =
                matches!(write.action, Action::Addresses(_)) && self.pace.is_worth_waiting(&write, now);
            let wave_before = self.waves.holds(&write, now);
            waits |= wave_before;
            let held_up = wave_before || addresses_first && target.resource == Resource::NodeConfig;
            addresses_first |= addresses;
            let full = self.writes.len() >= WRITES;
            if full || held_up || self.in_flight.contains(target) || !self.pace.is_due(&write, now) {
                later.push_back(write);
                if full {
                    break;
                }
                continue;
            }
            self.in_flight.insert(target.clone());
            self.waves.begun(&write, now);
            let (client, leads) = (self.config.client.clone(), (self.config.leadership.clone(), term));
            self.writes.spawn(async move {
                let result = write_within(leads, client, &write).await;
                (write, result)
            });
        }
        if !waits {
            self.waves.released();
        }
        later.append(&mut self.queue);
        self.queue = later;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{index::News, waves::Wave};

    fn write(name: &str, wave: Wave) -> Write {
        let target = Target { resource: Resource::NodeConfig, name: name.to_owned() };
        Write { target, action: Action::Apply(json!({"spec": {}}), wave), notices: Vec::new() }
    }

    fn config(name: &str, observed: i64) -> Object {
        let object = json!({
            "apiVersion": "kosmos.io/v1alpha1",
            "kind": "NodeConfig",
            "metadata": {"name": name, "generation": 2},
            "spec": {},
            "status": {"observedGeneration": observed},
        });
        Object::parse(Resource::NodeConfig, serde_json::from_value(object).unwrap())
    }

    #[tokio::test]
    async fn a_wave_begins_when_the_agents_of_the_one_before_have_followed() {
        let silent = tower::service_fn(async |_: http::Request<kube::client::Body>| {
            std::future::pending::<std::io::Result<http::Response<kube::client::Body>>>().await
        });
        let mut shell = Shell::start(Config::alone(Client::new(silent, "default")));
        let (term, now) = (shell.term.unwrap(), Instant::now());
        let told = [("a-n2", Wave::Receivers), ("a-n1", Wave::Siblings), ("b-n1", Wave::Others)];
        shell.queue = told.iter().map(|(name, wave)| write(name, *wave)).collect();
        for (name, wave) in told {
            shell.begin(now, term);
            let begun: Vec<&str> = shell.in_flight.iter().map(|target| target.name.as_str()).collect();
            assert_eq!(begun, [name]);
            shell.settle(Ok((write(name, wave), Ok(Some(config(name, 1))))));
            shell.begin(now, term);
            assert!(
                shell.in_flight.is_empty(),
                "{name} was told, and has not followed: {:?}",
                shell.in_flight
            );
            shell.index.take(News::Put(config(name, 2)));
        }
        assert!(shell.queue.is_empty());
    }
}
