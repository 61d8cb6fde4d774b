//! Waiting for what others do, with a word whenever something changes.

use std::time::{Duration, Instant};

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::Pod,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
};

use crate::{
    object::{Kind, Name, said},
    steps::Steps,
    write::Writer,
};

const POLL: Duration = Duration::from_millis(500);

/// Whether to wait, and for how long.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct WaitArgs {
    /// Wait until it works.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub wait: bool,
    /// For how long at most, each time that something is waited for: 90s, 5m.
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

impl Default for WaitArgs {
    fn default() -> Self {
        WaitArgs { wait: true, timeout: Duration::from_secs(300) }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    let wrong = || "write a duration such as 90s or 5m".to_owned();
    Duration::try_from(parsed.map_err(|_| wrong())?).map_err(|_| wrong())
}

/// How far something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// There, in these words.
    Yes(String),
    /// Not yet, in these words.
    NotYet(String),
}

/// Asks again and again until it is reached; says what it waits for, and again whenever that changes.
pub async fn until<F>(
    steps: &mut Steps<'_>,
    timeout: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = Result<Reached, kube::Error>>,
{
    let start = Instant::now();
    let mut last = String::new();
    loop {
        let now = match look().await {
            Ok(Reached::Yes(text)) => return steps.note(text),
            Ok(Reached::NotYet(text)) => text,
            Err(error) => said(&error),
        };
        if start.elapsed() >= timeout {
            return Err(steps.failed(format_args!("timed out after {timeout:?}: {now}")));
        }
        if now != last {
            steps.note(format_args!("waiting: {now}"))?;
            last = now;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How long an API server may take to serve a new definition.
const SERVED: Duration = Duration::from_secs(30);

/// Waits until a definition is served; a word only where that takes long.
pub(crate) async fn served(steps: &Steps<'_>, writer: &Writer, name: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let reason = match is_served(&writer.client, name).await {
            Ok(None) => return Ok(()),
            Ok(Some(reason)) => reason,
            Err(error) => said(&error),
        };
        if start.elapsed() >= SERVED {
            let message =
                format!("customresourcedefinition.apiextensions.k8s.io/{name} is not served: {reason}");
            return Err(steps.failed(message));
        }
        tokio::time::sleep(POLL / 10).await;
    }
}

/// Nothing where it is served, else why it is not.
async fn is_served(client: &Client, name: &str) -> Result<Option<String>, kube::Error> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = definitions.get(name).await?;
    let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
    if conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
        return Ok(None);
    }
    let refused = conditions.into_iter().find(|condition| condition.status == "False");
    Ok(Some(refused.and_then(|refused| refused.message).unwrap_or_else(|| "not established yet".to_owned())))
}

/// Whether a workload's pods all run the newest template.
pub async fn rolled_out(client: &Client, object: &DynamicObject) -> Result<Reached, kube::Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let (done, wanted, current, selector) = match Kind::of(object).map(|kind| kind.kind) {
        Some("Deployment") => {
            let live = Api::<Deployment>::namespaced(client.clone(), &namespace).get(&name).await?;
            let (spec, status) = (live.spec.unwrap_or_default(), live.status.unwrap_or_default());
            let current = status.observed_generation >= live.metadata.generation;
            let ready = status.available_replicas.unwrap_or(0).min(status.updated_replicas.unwrap_or(0));
            let old = status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
            (ready, spec.replicas.unwrap_or(1), current && old <= 0, spec.selector)
        }
        Some("DaemonSet") => {
            let live = Api::<DaemonSet>::namespaced(client.clone(), &namespace).get(&name).await?;
            let (spec, status) = (live.spec.unwrap_or_default(), live.status.unwrap_or_default());
            let current = status.observed_generation >= live.metadata.generation;
            let ready =
                status.number_available.unwrap_or(0).min(status.updated_number_scheduled.unwrap_or(0));
            (ready, status.desired_number_scheduled, current, spec.selector)
        }
        _ => return Ok(Reached::Yes(format!("{} needs no waiting", Name::of(object)))),
    };
    let text = format!("{}: {done} of {wanted} pods available", Name::of(object));
    if current && done >= wanted {
        return Ok(Reached::Yes(text));
    }
    let labels = selector.match_labels.unwrap_or_default();
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let trouble = pod_trouble(client, &namespace, &labels.join(",")).await?;
    Ok(Reached::NotYet(trouble.map_or(text.clone(), |trouble| format!("{text}: {trouble}"))))
}

/// Why a pod of these does not run, where one says so.
async fn pod_trouble(client: &Client, namespace: &str, labels: &str) -> Result<Option<String>, kube::Error> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let pods = pods.list(&ListParams::default().labels(labels)).await?;
    Ok(pods
        .iter()
        .find_map(|pod| trouble_of(pod).map(|trouble| format!("pod {}: {trouble}", pod.name_any()))))
}

fn trouble_of(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let waiting = containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let stuck = waiting
        .filter(|waiting| {
            !matches!(waiting.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing"))
        })
        .map(|waiting| {
            let reason = waiting.reason.clone().unwrap_or_default();
            waiting.message.as_ref().map_or(reason.clone(), |message| format!("{reason}: {message}"))
        });
    let conditions = status.conditions.iter().flatten();
    let unschedulable = conditions
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .filter_map(|condition| condition.message.clone());
    stuck.chain(unschedulable).next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("5m").unwrap(), Duration::from_secs(300));
        for text in ["", "5", "-1m", "soon"] {
            assert_eq!(duration(text).unwrap_err(), "write a duration such as 90s or 5m", "{text}");
        }
    }

    #[test]
    fn a_pod_that_cannot_run_says_why() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "status": {
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}}))
        .unwrap();
        assert_eq!(trouble_of(&pod).unwrap(), "ImagePullBackOff: no such image");
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "status": {
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}}))
        .unwrap();
        assert_eq!(trouble_of(&pod).unwrap(), "0/1 nodes");
    }
}
