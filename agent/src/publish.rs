//! What the agent says of its node: the NodeConfig's status, and the facts of its ClusterNode.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Known as KnownHost;
use api::{CLUSTER_LABEL, Cluster, ClusterNode, GROUP, NodeConfig, NodeId};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::goal::{Goal, Origin};
use crate::input::{object, release};
use crate::keeper::Outcome;
use crate::last_good::Store;
use crate::nic::{self, NicError, Underlay};
use crate::remember::Memory;
use crate::status::status;
use crate::worker::{Facts, Worker};

/// The server-side-apply field manager of everything that agents write.
pub const FIELD_MANAGER: &str = "clusterlink-agent";

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

fn version() -> String {
    format!("{GROUP}/v1alpha1")
}

fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// Who says what came of goals.
pub(crate) struct Speaker {
    pub(crate) api: Api<NodeConfig>,
    pub(crate) latest: watch::Receiver<Option<NodeConfig>>,
    pub(crate) outcomes: watch::Receiver<Option<Outcome>>,
    pub(crate) memory: watch::Receiver<Memory>,
    pub(crate) goal: watch::Sender<Goal>,
    pub(crate) store: Store,
}

impl Speaker {
    /// Writes the status after every outcome that says something new, and takes the finalizer off a clean node.
    pub(crate) async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            let config = self.latest.borrow_and_update().clone();
            let outcome = self.outcomes.borrow_and_update().clone();
            let memory = self.memory.borrow_and_update().clone();
            let said = match (&config, &outcome) {
                (Some(config), Some(outcome)) => self.say(config, outcome, &memory).await,
                _ => Ok(()),
            };
            let pause = match said {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    None
                }
                Err(error) => {
                    tracing::warn!(error, "cannot write the NodeConfig, trying again");
                    retry = (retry * 2).min(LONGEST_RETRY);
                    Some(retry / 2)
                }
            };
            let changed = tokio::select! {
                changed = self.latest.changed() => changed,
                changed = self.outcomes.changed() => changed,
                changed = self.memory.changed() => changed,
                () = sleep(pause.unwrap_or(LONGEST_RETRY)), if pause.is_some() => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    async fn say(&self, config: &NodeConfig, outcome: &Outcome, memory: &Memory) -> Result<(), String> {
        let said = |error: kube::Error| error.to_string();
        let leaving = config.metadata.deletion_timestamp.is_some();
        if outcome.is_gone() {
            return if leaving && outcome.is_reached() { self.leave(config).await } else { Ok(()) };
        }
        let of_api = outcome.goal.wanted().is_some_and(|wanted| wanted.origin == Origin::Api);
        let old = config.status.clone().unwrap_or_default();
        let Some(status) = status(outcome, memory, &old).filter(|_| of_api && !leaving) else {
            return Ok(());
        };
        let patch = json!({
            "apiVersion": version(), "kind": "NodeConfig",
            "metadata": {"name": config.name_any()},
            "status": status,
        });
        self.api
            .patch_status(&config.name_any(), &apply(), &Patch::Apply(patch))
            .await
            .map(drop)
            .map_err(said)
    }

    /// The kernel is clean; the memory goes before the finalizer, so that nothing ever comes back.
    async fn leave(&self, config: &NodeConfig) -> Result<(), String> {
        self.store.forget().map_err(|error| format!("the last good NodeConfig is still there: {error}"))?;
        release(&self.api, config).await.map_err(|error| error.to_string())?;
        // The same name may come again: until then the kernel is nobody's business.
        self.goal.send_if_modified(|goal| {
            let was_gone = matches!(goal, Goal::Gone);
            if was_gone {
                *goal = Goal::Unknown;
            }
            was_gone
        });
        tracing::info!(name = config.name_any(), "everything of ours is removed");
        Ok(())
    }
}

/// What the facts are made of, as far as it is known.
#[derive(Default)]
struct Known {
    cluster: Option<Cluster>,
    node: Option<Node>,
    published: Option<ClusterNode>,
}

/// Publishes the underlay of this node whenever the policy, the Node, or an address changes.
pub(crate) async fn facts(
    client: Client,
    id: NodeId,
    worker: Worker,
    changed: Arc<Notify>,
    underlay: watch::Sender<KnownHost>,
) {
    let api: Api<ClusterNode> = Api::all(client.clone());
    let mut clusters = std::pin::pin!(object(Api::<Cluster>::all(client.clone()), &id.cluster));
    let mut nodes = std::pin::pin!(object(Api::<Node>::all(client), &id.node));
    let mut published = std::pin::pin!(object(api.clone(), &id.object_name()));
    let mut known = Known::default();
    let mut pause = None;
    let mut problem = String::new();
    loop {
        tokio::select! {
            Some(cluster) = clusters.next() => known.cluster = cluster.or(known.cluster),
            Some(node) = nodes.next() => known.node = node.or(known.node),
            Some(node) = published.next() => known.published = node,
            () = changed.notified() => {}
            () = sleep(pause.unwrap_or(LONGEST_RETRY)), if pause.is_some() => {}
            else => return,
        }
        pause = match publish(&api, &id, &worker, &known, &underlay).await {
            Ok(()) => {
                problem.clear();
                None
            }
            Err(error) => {
                // Once for each problem: an interface may be missing for hours.
                if problem != error {
                    tracing::warn!(error, "the underlay of this node is not published");
                    problem = error;
                }
                Some(LONGEST_RETRY)
            }
        };
    }
}

async fn publish(
    api: &Api<ClusterNode>,
    id: &NodeId,
    worker: &Worker,
    known: &Known,
    preferred: &watch::Sender<KnownHost>,
) -> Result<(), String> {
    let (Some(cluster), Some(node)) = (&known.cluster, &known.node) else { return Ok(()) };
    let Some(options) = &cluster.spec.cluster_link_options else { return Ok(()) };
    let said = |error: NicError| error.to_string();
    let reach = nic::address_to_reach(options, &id.node).map_err(said)?;
    let facts = worker.facts(reach).await.map_err(|error| error.to_string())?;
    let underlay =
        nic::choose(options, &id.node, &internal_ips(node), &facts.host, facts.reached_from).map_err(said)?;
    let addresses: Vec<IpAddr> = underlay.ip.into_iter().chain(underlay.ip6).collect();
    preferred.send_if_modified(|known| {
        let new = known.underlay != addresses;
        known.underlay = addresses;
        new
    });
    let (spec, status) = documents(id, &underlay, &facts);
    if known.published.as_ref().is_some_and(|node| says(node, &underlay, &facts)) {
        return Ok(());
    }
    let name = id.object_name();
    let failed = |error: kube::Error| format!("cannot write ClusterNode {name}: {error}");
    api.patch(&name, &apply(), &Patch::Apply(spec)).await.map_err(failed)?;
    api.patch_status(&name, &apply(), &Patch::Apply(status)).await.map_err(failed)?;
    tracing::info!(interface = underlay.interface, ip = ?underlay.ip, ip6 = ?underlay.ip6, "published the underlay");
    Ok(())
}

fn internal_ips(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

fn documents(id: &NodeId, underlay: &Underlay, facts: &Facts) -> (Value, Value) {
    let mut spec = json!({
        "apiVersion": version(), "kind": "ClusterNode",
        "metadata": {"name": id.object_name(), "labels": {CLUSTER_LABEL: id.cluster}},
        "spec": {"interfaceName": underlay.interface},
    });
    for (field, ip) in [("ip", underlay.ip), ("ip6", underlay.ip6)] {
        if let Some(ip) = ip {
            spec["spec"][field] = json!(ip.to_string());
        }
    }
    let status = json!({
        "apiVersion": version(), "kind": "ClusterNode",
        "metadata": {"name": id.object_name()},
        "status": {"mtu": underlay.mtu, "capabilities": facts.capabilities},
    });
    (spec, status)
}

fn says(node: &ClusterNode, underlay: &Underlay, facts: &Facts) -> bool {
    let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string());
    let status = node.status.clone().unwrap_or_default();
    node.spec.interface_name.as_deref() == Some(underlay.interface.as_str())
        && node.spec.ip == text(underlay.ip)
        && node.spec.ip6 == text(underlay.ip6)
        && status.mtu == Some(underlay.mtu)
        && status.capabilities.iter().eq(&facts.capabilities)
}
