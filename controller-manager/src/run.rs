//! The shell: one task that owns the index, takes reports in, and has differences written.

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
use jiff::Timestamp;
use kube::{Client, Resource};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use crate::{
    FIELD_MANAGER, Metrics,
    build::build,
    diff::{Change, diff},
    index::{Index, Kind, News, Side, Source, Target},
    pace::Pace,
    probe,
    watch::{Report, Watch},
    write::{Failure, write_within},
};

mod identity;
mod said;
mod term;

use identity::is_same_server;
use said::{SAY_AGAIN, Said};

/// Reports that come together are answered together.
const COALESCE: Duration = Duration::from_millis(20);
const REPORTS: usize = 1024;
/// Writes under way at once.
const WRITES: usize = 32;

/// The loop comes round at least each `SAY_AGAIN`, and nothing in it takes anywhere near as long.
pub const TURNS_WITHIN: Duration = Duration::from_secs(120);

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

/// What stands around the work.
#[derive(Clone)]
pub struct Surroundings {
    /// Whether this replica writes.
    pub leadership: Leadership,
    /// What it counts.
    pub metrics: Metrics,
    /// Beaten each time the loop comes round.
    pub liveness: Liveness,
    /// Ready once everything was listed, whether it leads or not.
    pub readiness: Readiness,
}

impl Surroundings {
    /// Of one that has no rivals, and whose figures nobody reads.
    pub fn alone() -> Self {
        Surroundings {
            leadership: Leadership::unrivalled(),
            metrics: Metrics::default(),
            liveness: Liveness::within(TURNS_WITHIN),
            readiness: Readiness::waiting_for("its first turn"),
        }
    }
}

/// Publishes, chooses and mirrors, alone, until `shutdown` is ready.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) {
    tokio::select! {
        () = shutdown => {}
        never = run_among(config, Surroundings::alone()) => match never {},
    }
}

/// Publishes, chooses and mirrors while it leads. Failures are retried for ever: nothing that an API server says ends it.
pub async fn run_among(config: Config, around: Surroundings) -> Infallible {
    let identity = is_same_server(&config, &around.readiness);
    tokio::pin!(identity);
    // Until both have said who they are they are taken for two, and nothing is written.
    let mut shell = Shell::start(config.clone(), around.clone(), false);
    let same_server = loop {
        tokio::select! {
            same_server = &mut identity => break same_server,
            () = shell.wait() => {}
        }
        shell.follow();
    };
    tracing::info!(cluster = config.cluster, same_server, "both API servers are known");
    if same_server {
        shell = Shell::start(config.clone(), around.clone(), true);
    }
    loop {
        // What has come meanwhile is there already.
        shell.step();
        shell.wait().await;
    }
}

struct Shell {
    config: Config,
    around: Surroundings,
    /// The term in which this replica leads.
    term: Option<Term>,
    index: Index,
    reports: mpsc::Receiver<Report>,
    sender: mpsc::Sender<Report>,
    watches: BTreeMap<Source, AbortHandle>,
    /// One of them that was told to end.
    ending: Option<AbortHandle>,
    /// Those whose list has come, and may come again.
    listed: BTreeSet<Source>,
    /// Those whose list has to come once more before anything is written.
    awaited: BTreeSet<Source>,
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
    said: Said,
    /// The gateways as they were chosen last, for the log alone.
    gateways: BTreeSet<String>,
}

impl Shell {
    fn start(config: Config, around: Surroundings, same_server: bool) -> Self {
        let term = around.leadership.term();
        let index = Index::new(&config.cluster, same_server);
        let (sender, reports) = mpsc::channel(REPORTS);
        let mut shell = Shell {
            config,
            around,
            term,
            index,
            reports,
            sender,
            watches: BTreeMap::new(),
            ending: None,
            listed: BTreeSet::new(),
            awaited: BTreeSet::new(),
            tasks: JoinSet::new(),
            writes: JoinSet::new(),
            in_flight: BTreeSet::new(),
            outdated: BTreeSet::new(),
            queue: VecDeque::new(),
            pace: Pace::default(),
            wake: None,
            probing: false,
            said: Said::default(),
            gateways: BTreeSet::new(),
        };
        shell.index.sources().into_iter().for_each(|source| shell.watch(source));
        shell
    }

    fn watch(&mut self, source: Source) {
        let (client, reports) = (self.client(source.side()), self.sender.clone());
        if let Some(watch) = Watch::of(source, client, &self.config.cluster, reports) {
            self.watches.insert(source, self.tasks.spawn(watch.run()));
        }
    }

    fn take(&mut self, (source, news): Report) {
        if let News::Listed(_) = news {
            self.awaited.remove(&source);
            if !self.listed.insert(source) {
                self.around.metrics.listed_again(source.side());
            }
        }
        self.index.take(source, news);
    }

    fn take_all(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.take(report);
        }
    }

    fn client(&self, side: Side) -> Client {
        match side {
            Side::Member => self.config.member.clone(),
            Side::Control => self.config.control.clone(),
        }
    }

    /// Waits until there is a reason to look at everything again, and goes on writing meanwhile.
    async fn wait(&mut self) {
        self.finish_turn().await;
        let wake = tokio::time::Instant::from_std(self.wake.unwrap_or_else(|| Instant::now() + SAY_AGAIN));
        loop {
            tokio::select! {
                () = self.around.leadership.turns(self.term) => {
                    self.turn();
                    self.finish_turn().await;
                    break;
                }
                Some(report) = self.reports.recv() => {
                    self.take(report);
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
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Some(error) = ended.err().filter(|error| !error.is_cancelled()) {
                        tracing::error!(%error, "a task has ended that never should");
                    }
                }
                () = tokio::time::sleep_until(wake) => break,
            }
        }
        self.take_all();
    }

    /// Takes in how a write went, and says whether there is nothing to look at because of it.
    fn settle(&mut self, written: Result<(Change, Result<(), Failure>), tokio::task::JoinError>) -> bool {
        let Ok((change, result)) = written else { return false };
        let target = change.target.clone();
        self.in_flight.remove(&target);
        let outdated = self.outdated.remove(&target);
        match result {
            Err(Failure::NotLeading) => false,
            Ok(()) => {
                tracing::debug!(?target, "written");
                self.around.metrics.wrote(&target, "ok");
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
        let refused = matches!(failure, Failure::Lasting(_));
        self.around.metrics.wrote(&target, if refused { "refused" } else { "failed" });
        match failure {
            Failure::NotLeading => {}
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

    /// One that does not know yet whom it talks to only takes in what comes.
    fn follow(&mut self) {
        self.around.liveness.beat();
        self.wake = None;
    }

    /// Builds, compares, and has what differs written.
    fn step(&mut self) {
        self.around.liveness.beat();
        self.wake = None;
        let mut pending = self.index.pending();
        pending.extend(&self.awaited);
        let names: Vec<String> = pending.iter().map(ToString::to_string).collect();
        let waits = (!names.is_empty())
            .then(|| format!("nothing is written before these have been read: {}", names.join(", ")));
        self.around.readiness.set(waits.clone().or_else(|| self.around.leadership.trouble()));
        if self.index.wants_refusals() && !self.probing {
            self.probing = true;
            self.tasks.spawn(probe::run(self.client(Side::Member), self.sender.clone()));
        }
        if let Some(waits) = waits {
            self.wake = self.said.awaits(waits, Instant::now());
            return;
        }
        self.said.awaits_nothing();
        if self.term.is_none() {
            return;
        }
        if self.index.own().is_none() {
            let name = &self.config.cluster;
            let unreadable = self.index.control.unreadable.get(&(Kind::Cluster, name.clone()));
            let problem = match unreadable {
                Some(error) => format!("Cluster {name} does not fit our types, and is left alone: {error}"),
                None => format!(
                    "Cluster {name} does not exist in the control cluster: create it (kosmosctl join) to publish this member"
                ),
            };
            self.said.warn(problem, Instant::now());
        }
        self.reconcile();
    }

    fn reconcile(&mut self) {
        let (wall, now) = (Timestamp::now(), Instant::now());
        let desired = build(&self.index, wall);
        let again = desired.again_in.map(|wait| now + wait);
        let changes = diff(&self.index, &desired);
        self.around.metrics.built(now.elapsed(), &self.index);
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
        let Some(term) = self.term else { return };
        while self.writes.len() < WRITES
            && let Some(change) = self.queue.pop_front()
        {
            self.begin(term, change);
        }
    }

    fn begin(&mut self, term: Term, change: Change) {
        self.in_flight.insert(change.target.clone());
        let (client, cluster) = (self.client(change.target.side), self.config.cluster.clone());
        let leads = (self.around.leadership.clone(), term);
        self.writes.spawn(async move {
            let result = write_within(leads, client, cluster, &change).await;
            (change, result)
        });
    }
}
