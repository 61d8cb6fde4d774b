//! The shell: one task that owns the index, takes reports in, and has differences written.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    time::{Duration, Instant},
};

use component::events;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    FIELD_MANAGER,
    build::build,
    diff::{Change, diff},
    index::{Index, Kind, Side, Source, Target},
    pace::Pace,
    probe,
    watch::{Report, Watch},
    write::{Failure, write},
};

/// Reports that come together are answered together.
const COALESCE: Duration = Duration::from_millis(20);
const REPORTS: usize = 1024;
/// Writes under way at once.
const WRITES: usize = 32;
/// How long to wait before asking again who an API server is.
const RETRY: Duration = Duration::from_secs(2);
/// How often is said what is still waited for.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// What a controller-manager needs.
#[derive(Clone)]
pub struct Config {
    /// Name of the own Cluster.
    pub cluster: String,
    /// A client for the member's API.
    pub member: Client,
    /// A client for the control cluster's API.
    pub control: Client,
}

/// Publishes, chooses and mirrors until `shutdown` is ready. Failures are retried for ever: nothing that an API server
/// says ends it.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) {
    let cluster = config.cluster.clone();
    tokio::select! {
        () = shutdown => tracing::info!(cluster, "stopped"),
        never = keep(config) => match never {},
    }
}

async fn keep(config: Config) -> Infallible {
    let same_server = is_same_server(&config).await;
    tracing::info!(cluster = config.cluster, same_server, "started");
    let mut shell = Shell::start(config, same_server);
    loop {
        shell.wait().await;
        shell.step();
    }
}

/// Whether the member is the control cluster: their kube-system namespaces are one.
async fn is_same_server(config: &Config) -> bool {
    loop {
        match tokio::try_join!(identity(&config.member, "member"), identity(&config.control, "control")) {
            Ok((member, control)) => return member == control,
            Err(error) => tracing::warn!(error, "trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn identity(client: &Client, whose: &str) -> Result<String, String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let answer = namespaces.get("kube-system").await;
    let failed = |why: String| {
        format!("the {whose} cluster's API server cannot be asked who it is (Namespace kube-system): {why}")
    };
    match answer {
        Ok(namespace) => namespace.metadata.uid.ok_or_else(|| failed("it has no uid".to_owned())),
        Err(kube::Error::Api(status)) => Err(failed(status.message.clone())),
        Err(error) => Err(failed(error.to_string())),
    }
}

struct Shell {
    config: Config,
    index: Index,
    reports: mpsc::Receiver<Report>,
    sender: mpsc::Sender<Report>,
    /// Watches, the probe, Events on their way.
    tasks: JoinSet<()>,
    writes: JoinSet<(Change, Result<(), Failure>)>,
    in_flight: BTreeSet<Target>,
    /// Those of them that still differ from what should be there: once they end, everything is looked at again.
    outdated: BTreeSet<Target>,
    /// What is due and waits for room; made anew whenever anything else changes.
    queue: VecDeque<Change>,
    pace: Pace,
    wake: Option<Instant>,
    probing: bool,
    said: Option<(String, Instant)>,
    /// The gateways as they were chosen last, for the log alone.
    gateways: BTreeSet<String>,
}

impl Shell {
    fn start(config: Config, same_server: bool) -> Self {
        let index = Index::new(&config.cluster, same_server);
        let (sender, reports) = mpsc::channel(REPORTS);
        let mut shell = Shell {
            config,
            index,
            reports,
            sender,
            tasks: JoinSet::new(),
            writes: JoinSet::new(),
            in_flight: BTreeSet::new(),
            outdated: BTreeSet::new(),
            queue: VecDeque::new(),
            pace: Pace::default(),
            wake: None,
            probing: false,
            said: None,
            gateways: BTreeSet::new(),
        };
        for source in shell.index.sources() {
            let side = if let Source::Resource(side, _) = source { side } else { Side::Member };
            let (client, reports) = (shell.client(side), shell.sender.clone());
            if let Some(watch) = Watch::of(source, client, &shell.config.cluster, reports) {
                shell.tasks.spawn(watch.run());
            }
        }
        shell
    }

    fn client(&self, side: Side) -> Client {
        match side {
            Side::Member => self.config.member.clone(),
            Side::Control => self.config.control.clone(),
        }
    }

    /// Waits until there is a reason to look at everything again, and goes on writing meanwhile.
    async fn wait(&mut self) {
        let wake = tokio::time::Instant::from_std(self.wake.unwrap_or_else(|| Instant::now() + SAY_AGAIN));
        loop {
            tokio::select! {
                Some((source, news)) = self.reports.recv() => {
                    self.index.take(source, news);
                    tokio::time::sleep(COALESCE).await;
                    break;
                }
                Some(written) = self.writes.join_next(), if !self.writes.is_empty() => {
                    let went_well = self.settle(written);
                    self.fill();
                    if !went_well {
                        break;
                    }
                }
                Some(Err(error)) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    tracing::error!(%error, "a task has ended that never should");
                }
                () = tokio::time::sleep_until(wake) => break,
            }
        }
        while let Ok((source, news)) = self.reports.try_recv() {
            self.index.take(source, news);
        }
    }

    /// Takes in how a write went, and says whether there is nothing to look at because of it.
    fn settle(&mut self, written: Result<(Change, Result<(), Failure>), tokio::task::JoinError>) -> bool {
        let Ok((change, result)) = written else { return false };
        let target = change.target.clone();
        self.in_flight.remove(&target);
        let outdated = self.outdated.remove(&target);
        match result {
            Ok(()) => {
                tracing::debug!(?target, "written");
                self.pace.succeeded(&change, Instant::now());
                let was_trouble = self.index.troubles.remove(&target).is_some();
                self.tell(change);
                !was_trouble && !outdated
            }
            Err(failure) => {
                self.pace.failed(&change, Instant::now());
                self.note(target, failure);
                false
            }
        }
    }

    fn note(&mut self, target: Target, failure: Failure) {
        match failure {
            Failure::Passing(error) => tracing::warn!(?target, error, "not written; trying again"),
            Failure::Lasting(trouble) if self.index.troubles.get(&target) == Some(&trouble) => {}
            Failure::Lasting(trouble) => {
                tracing::warn!(?target, ?trouble, "refused; trying again");
                self.index.troubles.insert(target, trouble);
            }
        }
    }

    fn tell(&mut self, change: Change) {
        if let Some(own) = self.index.own()
            && !change.notices.is_empty()
        {
            for condition in &change.notices {
                let (kind, status) = (&condition.type_, &condition.status);
                tracing::info!(
                    kind,
                    status,
                    reason = condition.reason,
                    message = condition.message,
                    "condition"
                );
            }
            let (client, object) = (self.client(Side::Control), own.object_ref(&()));
            self.tasks.spawn(events::publish(client, FIELD_MANAGER, object, change.notices));
        }
    }

    /// Builds, compares, and has what differs written.
    fn step(&mut self) {
        self.wake = None;
        let pending = self.index.pending();
        if self.index.wants_refusals() && !self.probing {
            self.probing = true;
            self.tasks.spawn(probe::run(self.client(Side::Member), self.sender.clone()));
        }
        if !pending.is_empty() {
            let names: Vec<String> = pending.iter().map(ToString::to_string).collect();
            return self.say(format!("nothing is written before these have been read: {}", names.join(", ")));
        }
        if self.index.own().is_none() {
            let name = &self.config.cluster;
            let unreadable = self.index.control.unreadable.get(&(Kind::Cluster, name.clone()));
            self.say(match unreadable {
                Some(error) => format!("Cluster {name} does not fit our types, and is left alone: {error}"),
                None => format!(
                    "Cluster {name} does not exist in the control cluster: create it (kosmosctl join) to publish this member"
                ),
            });
        }
        self.reconcile();
    }

    fn reconcile(&mut self) {
        let (wall, now) = (Timestamp::now(), Instant::now());
        let desired = build(&self.index, wall);
        let again = desired.again_in.map(|wait| now + wait);
        let changes = diff(&self.index, &desired);
        let gateways = desired.gateways();
        if gateways != self.gateways {
            tracing::info!(?gateways, before = ?self.gateways, "the gateways are others now");
            self.gateways = gateways;
        }
        let wanted: BTreeSet<&Target> = changes.iter().map(|change| &change.target).collect();
        let due = self.pace.next(&wanted, now);
        let before = self.index.troubles.len();
        self.index.troubles.retain(|target, _| wanted.contains(target));
        let cleared = (self.index.troubles.len() != before).then_some(now);
        self.wake = [again, due, cleared].into_iter().flatten().min();
        let (in_flight, due): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| self.in_flight.contains(&change.target));
        self.outdated = in_flight.into_iter().map(|change| change.target).collect();
        self.queue = due.into_iter().filter(|change| self.pace.is_due(change, now)).collect();
        self.fill();
    }

    /// Begins what is due, as far as there is room.
    fn fill(&mut self) {
        while self.writes.len() < WRITES
            && let Some(change) = self.queue.pop_front()
        {
            self.begin(change);
        }
    }

    fn begin(&mut self, change: Change) {
        self.in_flight.insert(change.target.clone());
        let (client, cluster) = (self.client(change.target.side), self.config.cluster.clone());
        self.writes.spawn(async move {
            let result = write(client, cluster, &change).await;
            (change, result)
        });
    }

    /// Says the same thing only now and then.
    fn say(&mut self, text: String) {
        let said = self.said.as_ref().is_some_and(|(last, at)| *last == text && at.elapsed() < SAY_AGAIN);
        if !said {
            tracing::warn!("{text}");
            self.said = Some((text, Instant::now()));
        }
    }
}
