//! The NodeConfig of this node, from its own cluster's API, as a goal for the keeper.

use std::sync::Arc;

use api::{NodeConfig, NodeConfigSpec};
use component::Readiness;
use futures::{Stream, StreamExt};
use kube::api::{Patch, PatchParams};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, watch_object};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use crate::goal::{Goal, Origin, Wanted};

/// Holds a NodeConfig back until its node's kernel is clean.
pub const FINALIZER: &str = "kosmos.io/clusterlink-agent";

/// The object of this name, again whenever it changes; failures are said and waited out.
pub(crate) fn object<K>(api: Api<K>, name: &str) -> impl Stream<Item = Option<K>> + Send + use<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    let watched = name.to_owned();
    let said = move |event: Result<Option<K>, watcher::Error>| {
        let result =
            event.map_err(|error| tracing::warn!(kind, name = watched, %error, "cannot watch, trying again"));
        futures::future::ready(result.ok())
    };
    StreamBackoff::new(watch_object(api, name), DefaultBackoff::default()).filter_map(said)
}

/// Turns what the API says into goals, until the process ends.
pub(crate) async fn follow(
    api: Api<NodeConfig>,
    name: String,
    latest: watch::Sender<Option<NodeConfig>>,
    goal: watch::Sender<Goal>,
    readiness: Readiness,
) {
    let mut changes = std::pin::pin!(object(api.clone(), &name));
    while let Some(mut found) = changes.next().await {
        // The spec goes one way and the rest another: it may be large.
        let spec = found.as_mut().map(|config| {
            config.metadata.managed_fields = None;
            std::mem::take(&mut config.spec)
        });
        match &found {
            Some(config) if config.metadata.deletion_timestamp.is_some() => {
                // Without our finalizer the deletion is not meant for us: somebody cleans up an API, not a node.
                if has_finalizer(config) {
                    goal.send_replace(Goal::Gone);
                }
            }
            Some(config) => {
                hold(&api, config).await;
                set(&goal, spec.unwrap_or_default(), config.metadata.generation);
            }
            // An API that has lost its objects is no reason to tear a network down.
            None if latest.borrow().is_some() => {
                tracing::warn!(name, "the NodeConfig is not there any more: the data plane is kept as it is");
            }
            None if goal.borrow().wanted().is_some() => {
                tracing::warn!(name, "the API has no NodeConfig for this node: the last good one is kept");
            }
            None => {
                tracing::info!(name, "there is no NodeConfig for this node yet: the kernel is left alone");
                // Nothing is asked: a node that takes no part holds up no update of the others.
                readiness.set(None);
            }
        }
        latest.send_replace(found);
    }
}

/// A change of the status alone is no new goal.
fn set(goal: &watch::Sender<Goal>, config: NodeConfigSpec, generation: Option<i64>) {
    goal.send_if_modified(|goal| {
        let known = goal.wanted().filter(|wanted| wanted.origin == Origin::Api);
        if known.is_some_and(|wanted| wanted.generation == generation && *wanted.config == config) {
            return false;
        }
        *goal = Goal::Present(Wanted::new(Arc::new(config), generation, Origin::Api));
        true
    });
}

fn has_finalizer(config: &NodeConfig) -> bool {
    config.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Puts our finalizer on. A conflict brings the next event, and that the next attempt.
async fn hold(api: &Api<NodeConfig>, config: &NodeConfig) {
    if has_finalizer(config) {
        return;
    }
    let finalizers: Vec<&str> =
        config.finalizers().iter().map(String::as_str).chain(std::iter::once(FINALIZER)).collect();
    if let Err(error) = set_finalizers(api, config, &finalizers).await {
        tracing::warn!(name = config.name_any(), %error, "cannot put the finalizer on, trying again with the next change");
    }
}

/// Takes our finalizer off: the kernel is clean.
pub(crate) async fn release(api: &Api<NodeConfig>, config: &NodeConfig) -> Result<(), kube::Error> {
    let finalizers: Vec<&str> =
        config.finalizers().iter().map(String::as_str).filter(|finalizer| *finalizer != FINALIZER).collect();
    set_finalizers(api, config, &finalizers).await
}

async fn set_finalizers(
    api: &Api<NodeConfig>,
    config: &NodeConfig,
    finalizers: &[&str],
) -> Result<(), kube::Error> {
    // With the version that was read: finalizers of others that came meanwhile are not lost.
    let version = config.metadata.resource_version.as_deref();
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
    api.patch(&config.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}
