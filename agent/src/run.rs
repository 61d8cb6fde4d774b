//! The tasks of a running agent and what joins them.
//!
//! ```text
//! API ──► input ──goal──► keeper ──pass──► worker (the kernel's thread)
//!                           ▲  │
//!          events (netlink, │  └─outcome──► publish ──► API
//!          nft) ────────────┘
//! ```

use std::convert::Infallible;
use std::sync::Arc;

use agent_core::{KernelError, Spec};
use api::{NodeConfig, NodeConfigSpec, NodeId};
use kube::{Api, Client};
use netlink::Event;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::events::{self, Wake};
use crate::keeper::{Goal, Keeper};
use crate::worker::Worker;
use crate::{input, publish};

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

/// Follows this node's NodeConfig in its own cluster's API. The kernel is left alone until there is one.
pub async fn run(client: Client, id: NodeId) -> Result<Infallible, RunError> {
    let worker = Worker::start()?;
    let (wakes, heard) = unbounded_channel();
    events::listen(worker.port(), wakes).map_err(RunError::Events)?;
    let configs: Api<NodeConfig> = Api::all(client.clone());
    let name = id.object_name();
    tracing::info!(name, "following the NodeConfig of this node");

    let (goal, goals) = watch::channel(Goal::Unknown);
    let (latest, config) = watch::channel(None);
    let (underlay, preferred) = watch::channel(Vec::new());
    let (outcome, outcomes) = watch::channel(None);
    let (forward, wakes) = unbounded_channel();
    let addresses = Arc::new(Notify::new());

    let mut tasks = JoinSet::new();
    tasks.spawn(split(heard, forward, Arc::clone(&addresses)));
    tasks.spawn(input::follow(configs.clone(), name, latest, goal.clone()));
    tasks.spawn(Keeper { worker: worker.clone(), goal: goals, underlay: preferred, wakes, outcome }.run());
    tasks.spawn(publish::outcomes(configs, config, outcomes, goal));
    tasks.spawn(publish::facts(client, id, worker, addresses, underlay));
    first_end(tasks).await
}

/// Keeps the kernel as a file said when the agent started, without any API.
pub async fn watch_file(config: &NodeConfigSpec) -> Result<Infallible, RunError> {
    let worker = Worker::start()?;
    let (wakes, heard) = unbounded_channel();
    events::listen(worker.port(), wakes).map_err(RunError::Events)?;
    let spec = Arc::new(Spec::validate(config));
    let (_goal, goals) = watch::channel(Goal::Present { spec, generation: None });
    let (_underlay, preferred) = watch::channel(Vec::new());
    let (outcome, _outcomes) = watch::channel(None);
    let mut tasks = JoinSet::new();
    tasks.spawn(Keeper { worker, goal: goals, underlay: preferred, wakes: heard, outcome }.run());
    first_end(tasks).await
}

async fn first_end(mut tasks: JoinSet<()>) -> Result<Infallible, RunError> {
    let reason = match tasks.join_next().await {
        Some(Err(error)) => error.to_string(),
        _ => "it has nothing left to wait for".to_owned(),
    };
    Err(RunError::Ended(reason))
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
