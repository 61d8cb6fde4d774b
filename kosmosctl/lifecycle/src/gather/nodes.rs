//! What each node's kernel holds of ours, as its agent dumps it when it is asked inside its container.

use std::time::Duration;

use futures::future::OptionFuture;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::{
    Api, ResourceExt,
    api::{AttachParams, ListParams},
};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{archive::Bundle, redact};
use crate::{connect::Connection, object::said};

/// A node may take so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is asked of each agent, and the file that its answer goes into.
const QUESTIONS: [(&[&str], &str); 2] = [
    (&["clusterlink-agent", "dump"], "kernel.json"),
    (&["clusterlink-agent", "status", "--output", "json"], "status.json"),
];

pub(super) async fn dump(
    at: &Connection,
    pods: &Api<Pod>,
    list: &[Pod],
    folder: &str,
    bundle: &mut Bundle,
) -> anyhow::Result<()> {
    let agents: Vec<(&Pod, String)> = list.iter().filter(|pod| is_agent(pod)).filter_map(with_node).collect();
    for (pod, node) in &agents {
        for (question, file) in QUESTIONS {
            let path = format!("{folder}/nodes/{node}/{file}");
            match ask(pods, &pod.name_any(), question).await {
                Ok(answer) => bundle.add(&path, &redact::text(&answer))?,
                Err(why) => bundle.missed(&path, &format!("pod {}: {why}", pod.name_any())),
            }
        }
    }
    if folder == "control" && agents.is_empty() {
        return Ok(());
    }
    let nodes = match Api::<Node>::all(at.client.clone()).list(&ListParams::default()).await {
        Ok(nodes) => nodes.items,
        Err(error) => {
            bundle.missed(&format!("{folder}/nodes"), &said(&error));
            return Ok(());
        }
    };
    for node in nodes.iter().map(ResourceExt::name_any) {
        if agents.iter().all(|(_, of)| *of != node) {
            let advice = "no agent runs there; on the host, `clusterlink-agent dump` prints it";
            bundle.missed(&format!("{folder}/nodes/{node}/kernel.json"), &advice);
        }
    }
    Ok(())
}

fn is_agent(pod: &Pod) -> bool {
    pod.labels().get("app.kubernetes.io/name").is_some_and(|name| name == "clusterlink-agent")
}

fn with_node(pod: &Pod) -> Option<(&Pod, String)> {
    Some((pod, pod.spec.as_ref()?.node_name.clone()?))
}

/// Runs a program in the agent's container.
async fn ask(pods: &Api<Pod>, pod: &str, question: &[&str]) -> Result<String, String> {
    let params = AttachParams::default().container("agent").stdin(false).stdout(true).stderr(true);
    let answered = async {
        let mut process =
            pods.exec(pod, question.iter().copied(), &params).await.map_err(|error| said(&error))?;
        let (mut out, mut complaints) = (String::new(), String::new());
        let status = process.take_status();
        if let (Some(mut stdout), Some(mut stderr)) = (process.stdout(), process.stderr()) {
            let read = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut complaints));
            read.0.and(read.1).map_err(|error| error.to_string())?;
        }
        // What the API server says where it cannot reach the kubelet, or the program does not end well.
        let status = OptionFuture::from(status).await.flatten();
        process.join().await.map_err(|error| error.to_string())?;
        if !out.is_empty() {
            return Ok(out);
        }
        let complaints = complaints.trim().to_owned();
        Err(if complaints.is_empty() { without_words(status) } else { complaints })
    };
    timeout(PATIENCE, answered).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}

fn without_words(status: Option<Status>) -> String {
    let message = status.and_then(|status| status.message).filter(|message| !message.is_empty());
    message.unwrap_or_else(|| "it printed nothing".to_owned())
}
