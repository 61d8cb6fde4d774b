//! The shell: one task that owns the index, takes news in, and has differences written.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use component::events;
use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::Client;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    FIELD_MANAGER,
    index::{Index, News, Object, Resource},
    notices::Notices,
    pace::Pace,
    reconcile::{Action, Target, Write, reconcile},
    watch::{self, path},
    write::{WriteError, write},
};

/// News that come together are answered together.
const COALESCE: Duration = Duration::from_millis(50);
const NEWS: usize = 4096;
/// Writes under way at once.
const WRITES: usize = 32;
/// How often is looked whether anything was forgotten.
const RESYNC: Duration = Duration::from_secs(30);

type Written = (Write, Result<Option<Object>, WriteError>);

/// Plans and writes until `shutdown` is ready. Nothing that an API server answers ends it.
pub async fn run(client: Client, shutdown: impl Future<Output = ()>) {
    let mut shell = Shell::start(client);
    tracing::info!("started");
    let work = async {
        loop {
            shell.wait().await;
            shell.step();
        }
    };
    tokio::select! {
        () = shutdown => tracing::info!("stopped"),
        () = work => {}
    }
}

struct Shell {
    client: Client,
    index: Index,
    news: mpsc::Receiver<News>,
    /// Watches, and Events on their way.
    tasks: JoinSet<()>,
    writes: JoinSet<Written>,
    in_flight: BTreeSet<Target>,
    /// What the last plan wants written and nobody has begun to write.
    queue: VecDeque<Write>,
    pace: Pace,
    notices: Notices,
    /// Whether the plan has to be made again.
    dirty: bool,
    /// When it is made again though nothing has happened.
    resync: Instant,
    wake: Instant,
}

impl Shell {
    fn start(client: Client) -> Self {
        let (sender, news) = mpsc::channel(NEWS);
        let mut tasks = JoinSet::new();
        for resource in Resource::ALL {
            tasks.spawn(watch::run(client.clone(), resource, sender.clone()));
        }
        Shell {
            client,
            index: Index::default(),
            news,
            tasks,
            writes: JoinSet::new(),
            in_flight: BTreeSet::new(),
            queue: VecDeque::new(),
            pace: Pace::default(),
            notices: Notices::default(),
            dirty: false,
            resync: Instant::now() + RESYNC,
            wake: Instant::now() + RESYNC,
        }
    }

    /// Waits for something to happen and takes in all that has.
    async fn wait(&mut self) {
        tokio::select! {
            Some(news) = self.news.recv() => {
                if self.index.take(news) {
                    self.dirty = true;
                    tokio::time::sleep(COALESCE).await;
                }
            }
            Some(written) = self.writes.join_next(), if !self.writes.is_empty() => self.settle(written),
            Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
            () = tokio::time::sleep_until(self.wake.into()) => self.dirty |= Instant::now() >= self.resync,
        }
        while let Ok(news) = self.news.try_recv() {
            self.dirty |= self.index.take(news);
        }
        while let Some(written) = self.writes.try_join_next() {
            self.settle(written);
        }
    }

    fn settle(&mut self, written: Result<Written, tokio::task::JoinError>) {
        let Ok((write, result)) = written else { return };
        let (target, now) = (write.target.clone(), Instant::now());
        self.in_flight.remove(&target);
        match result {
            Ok(object) => {
                tracing::debug!(?target, "written");
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
        self.tasks.spawn(events::publish(self.client.clone(), FIELD_MANAGER, object, conditions));
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
        let pending = self.index.pending();
        if !pending.is_empty() {
            tracing::debug!(?pending, "nothing is written before these have been listed");
            self.dirty = false;
            self.resync = Instant::now() + RESYNC;
            self.wake = self.resync;
            return;
        }
        let now = Instant::now();
        self.tell_of_lasting_trouble(now);
        if self.dirty {
            self.dirty = false;
            self.resync = now + RESYNC;
            self.queue = reconcile(&self.index, &Time(Timestamp::now())).into();
            tracing::debug!(writes = self.queue.len(), took = ?now.elapsed(), "planned");
        }
        self.begin(now);
        let due = self.pace.next(now).filter(|_| !self.queue.is_empty() || !self.in_flight.is_empty());
        self.wake = [due, self.notices.next()].into_iter().flatten().fold(self.resync, Instant::min);
    }

    fn begin(&mut self, now: Instant) {
        let mut later = VecDeque::new();
        let mut addresses_first =
            self.in_flight.iter().any(|target| target.resource == Resource::ClusterNode);
        while let Some(write) = self.queue.pop_front() {
            let target = &write.target;
            // Addresses are noted before they are used; but one node's trouble must not hold up all others.
            let addresses =
                matches!(write.action, Action::Addresses(_)) && self.pace.is_worth_waiting(&write, now);
            let held_up = addresses_first && target.resource == Resource::NodeConfig;
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
            let client = self.client.clone();
            self.writes.spawn(async move {
                let result = crate::run::write(client, &write).await;
                (write, result)
            });
        }
        later.append(&mut self.queue);
        self.queue = later;
    }
}
