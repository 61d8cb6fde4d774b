//! The tasks of a running agent and what joins them.
//!
//! ```text
//! disk ─► remember ─┐
//! API ──► input ────┴─goal─► keeper ──pass──► worker (the kernel's thread)
//!                             ▲  │
//!            events (netlink, │  ├─outcome──► publish ──► API
//!            nft) ────────────┘  └─outcome──► remember ─► disk
//! ```

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use agent_core::{KernelError, Known};
use api::{NodeConfig, NodeConfigSpec, NodeId};
use component::Endpoints;
use kube::{Api, Client};
use netlink::Event;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::events::{self, Wake};
use crate::goal::{Goal, Origin, Wanted};
use crate::keeper::Keeper;
use crate::last_good::Store;
use crate::publish::Speaker;
use crate::remember::{self, Keeping};
use crate::telemetry::Telemetry;
use crate::worker::Worker;
use crate::{api_server, input, publish};

/// The agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel cannot be reached at all.
    #[error("cannot talk to the kernel ({0}); this needs CAP_NET_ADMIN")]
    Kernel(#[from] KernelError),
    /// No thread for the kernel's notifications.
    #[error("cannot listen to the kernel: {0}")]
    Events(std::io::Error),
    /// A task that never ends has ended.
    #[error("a part of the agent ended: {0}")]
    Ended(String),
}

/// How an agent runs on its host.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the last good NodeConfig is kept.
    pub state_directory: PathBuf,
    /// Where liveness, readiness and metrics are served; nowhere without it.
    pub listen: Option<SocketAddr>,
    /// Where the settings of network devices are: `/proc/sys/net`, or the same mounted elsewhere.
    pub proc_sys_net: PathBuf,
    /// Name or address of this cluster's API server, which no route of ours may cover.
    pub api_server: Option<String>,
}

/// Follows this node's NodeConfig in its own cluster's API. Until that answers, the last good one on disk is good enough
/// to add what is missing; without one the kernel is left alone.
pub async fn run(client: Client, id: NodeId, options: Options) -> Result<Infallible, RunError> {
    let store = Store::new(&options.state_directory);
    let beginning = remember::begin(&store, &id);
    let api_servers = api_server::literal(options.api_server.as_deref());
    let of_host = Known { api_servers, ..beginning.of_host() };
    let worker = Worker::start(&options.proc_sys_net)?;
    let (wakes, heard) = unbounded_channel();
    events::listen(worker.port(), worker.doubts(), wakes).map_err(RunError::Events)?;
    let configs: Api<NodeConfig> = Api::all(client.clone());
    let name = id.object_name();
    tracing::info!(name, "following the NodeConfig of this node");

    let (goal, goals) = watch::channel(beginning.goal);
    let (latest, config) = watch::channel(None);
    let (known, of_host) = watch::channel(of_host);
    let (answered, told) = watch::channel(false);
    let (outcome, outcomes) = watch::channel(None);
    let (memory, memories) = watch::channel(beginning.memory);
    let (forward, wakes) = unbounded_channel();
    let addresses = Arc::new(Notify::new());
    let telemetry = Telemetry::default();
    let readiness = telemetry.readiness.clone();
    let keeping = Keeping { store: store.clone(), id: id.clone(), known: beginning.known };
    let speaker = Speaker {
        api: configs.clone(),
        latest: config,
        outcomes: outcomes.clone(),
        memory: memories,
        goal: goal.clone(),
        store,
    };

    let mut tasks = JoinSet::new();
    tasks.spawn(split(heard, forward, Arc::clone(&addresses)));
    tasks.spawn(serve(options.listen, telemetry.clone()));
    tasks.spawn(keeping.run(outcomes, of_host.clone(), memory));
    tasks.spawn(
        Keeper { worker: worker.clone(), goal: goals, known: of_host, wakes, outcome, telemetry }.run(),
    );
    tasks.spawn(once(told, input::follow(configs, name, latest, goal, readiness)));
    tasks.spawn(api_server::follow(options.api_server, known.clone()));
    tasks.spawn(api_server::follow_endpoints(client.clone(), known.clone(), answered));
    tasks.spawn(speaker.run());
    tasks.spawn(publish::facts(client, id, worker, addresses, known));
    first_end(tasks).await
}

/// Keeps the kernel as a file said when the agent started, without any API.
pub async fn watch_file(config: NodeConfigSpec, options: Options) -> Result<Infallible, RunError> {
    let worker = Worker::start(&options.proc_sys_net)?;
    let (wakes, heard) = unbounded_channel();
    events::listen(worker.port(), worker.doubts(), wakes).map_err(RunError::Events)?;
    let wanted = Wanted::new(Arc::new(config), None, Origin::File);
    let (_goal, goals) = watch::channel(Goal::Present(wanted));
    let (_known, of_host) = watch::channel(Known::default());
    let (outcome, _outcomes) = watch::channel(None);
    let telemetry = Telemetry::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(options.listen, telemetry.clone()));
    tasks.spawn(Keeper { worker, goal: goals, known: of_host, wakes: heard, outcome, telemetry }.run());
    first_end(tasks).await
}

/// An address that somebody else holds costs the answers, and nothing of the data plane.
async fn serve(listen: Option<SocketAddr>, telemetry: Telemetry) {
    let Some(listen) = listen else { return std::future::pending().await };
    let endpoints = Endpoints::obtain(listen).await;
    match endpoints.serve(telemetry.registry(), telemetry.liveness.clone(), telemetry.readiness.clone()).await {}
}

async fn first_end(mut tasks: JoinSet<()>) -> Result<Infallible, RunError> {
    let reason = match tasks.join_next().await {
        Some(Err(error)) => error.to_string(),
        _ => "it has nothing left to wait for".to_owned(),
    };
    Err(RunError::Ended(reason))
}

/// The API's word counts once it has been asked where its servers are: a route to them could be its last word.
async fn once(mut told: watch::Receiver<bool>, then: impl Future<Output = ()>) {
    // An error means that nobody asks any more, which ends the agent.
    let _ = told.wait_for(|told| *told).await;
    then.await;
}

/// Everything to the keeper, and a nudge to who publishes addresses.
async fn split(mut heard: UnboundedReceiver<Wake>, forward: UnboundedSender<Wake>, addresses: Arc<Notify>) {
    while let Some(wake) = heard.recv().await {
        if matches!(&wake, Wake::Netlink(Event::Address { .. } | Event::Link { .. } | Event::Overrun)) {
            addresses.notify_one();
        }
        if forward.send(wake).is_err() {
            return;
        }
    }
}
