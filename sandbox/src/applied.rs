//! Whether the agents are done: what the control cluster knows of every NodeConfig.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use api::{ClusterNode, NodeConfig, NodeId, condition};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::client::{Error, Sandbox};
use crate::scenario::CONTROL;

/// How often the control cluster is asked.
const INTERVAL: Duration = Duration::from_millis(100);
/// So many restarts, a second apart, and a process is not expected to come up any more.
const CRASH_LOOP: u32 = 5;
/// How long nothing may change: facts arrive one after another while the controllers start, and each makes a plan.
const SETTLED: Duration = Duration::from_millis(400);

impl Sandbox {
    /// Every NodeConfig of the control cluster, by name, with `applied` or what keeps it from being so.
    pub fn node_configs(&self) -> Result<BTreeMap<String, String>, Error> {
        let configs = self.generations_and_states()?;
        Ok(configs.into_iter().map(|(name, (_, state))| (name, state)).collect())
    }

    fn generations_and_states(&self) -> Result<BTreeMap<String, (i64, String)>, Error> {
        self.ask_control(|client| async move {
            let list = Api::<NodeConfig>::all(client).list(&ListParams::default()).await?;
            let pair =
                |config: &NodeConfig| (config.metadata.generation.unwrap_or_default(), state_of(config));
            Ok(list.items.iter().map(|config| (name_of(config), pair(config))).collect())
        })
    }

    /// Every ClusterNode of the control cluster, by name.
    pub fn cluster_nodes(&self) -> Result<BTreeMap<String, ClusterNode>, Error> {
        self.ask_control(|client| async move {
            let list = Api::<ClusterNode>::all(client).list(&ListParams::default()).await?;
            Ok(list
                .items
                .into_iter()
                .map(|node| (node.metadata.name.clone().unwrap_or_default(), node))
                .collect())
        })
    }

    /// Waits until the kernel of every node equals its NodeConfig, and no plan has come for a while; an error says which do
    /// not, and which process crashed.
    pub fn wait_applied(&self, timeout: Duration) -> Result<(), Error> {
        let (start, until) = (Instant::now(), Instant::now() + timeout);
        let mut settled: Option<(Instant, BTreeMap<String, i64>)> = None;
        loop {
            let configs = self.generations_and_states()?;
            let problems = self.problems(&configs);
            let now = Instant::now();
            if problems.is_empty() {
                let generations =
                    configs.into_iter().map(|(name, (generation, _))| (name, generation)).collect();
                match &settled {
                    Some((since, before)) if *before == generations => {
                        if now.duration_since(*since) >= SETTLED {
                            return Ok(());
                        }
                    }
                    _ => settled = Some((now, generations)),
                }
            } else {
                settled = None;
            }
            if now > until || (!problems.is_empty() && self.a_process_keeps_crashing()) {
                return Err(self.not_applied(start.elapsed(), problems));
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Waiting longer would not help.
    fn a_process_keeps_crashing(&self) -> bool {
        let processes = self.status().map(|status| status.processes).unwrap_or_default();
        processes.iter().any(|process| process.restarts >= CRASH_LOOP)
    }

    /// Every node without an applied NodeConfig, with the reason.
    fn problems(&self, configs: &BTreeMap<String, (i64, String)>) -> Vec<String> {
        let problem = |name: String| match configs.get(&name) {
            Some((_, state)) if state == APPLIED => None,
            Some((_, state)) => Some(format!("{name}: {state}")),
            None => Some(format!("{name}: there is no NodeConfig")),
        };
        let names =
            self.layout().nodes().map(|(cluster, node)| NodeId::new(&cluster.name, &node.name).object_name());
        names.filter_map(problem).collect()
    }

    fn not_applied(&self, waited: Duration, mut problems: Vec<String>) -> Error {
        let crashed = self.status().map(|status| status.processes).unwrap_or_default();
        problems.extend(crashed.into_iter().filter_map(|p| Some(format!("{}: {}", p.name, p.last_exit?))));
        Error::NotApplied { name: self.state().name().to_owned(), waited, problems: problems.join("\n  ") }
    }

    fn ask_control<T, F: Future<Output = Result<T, kube::Error>>>(
        &self,
        ask: impl FnOnce(Client) -> F,
    ) -> Result<T, Error> {
        let wrong = |problem: String| Error::Control { name: self.state().name().to_owned(), problem };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| wrong(error.to_string()))?;
        runtime.block_on(async {
            let client = client(&self.kubeconfig(CONTROL)).await.map_err(wrong)?;
            ask(client).await.map_err(|error| wrong(error.to_string()))
        })
    }
}

async fn client(kubeconfig: &std::path::Path) -> Result<Client, String> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).map_err(|error| error.to_string())?;
    let options = KubeConfigOptions::default();
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| error.to_string())?;
    Client::try_from(config).map_err(|error| error.to_string())
}

const APPLIED: &str = "applied";

fn name_of(config: &NodeConfig) -> String {
    config.metadata.name.clone().unwrap_or_default()
}

fn state_of(config: &NodeConfig) -> String {
    let Some(status) = &config.status else { return "no agent has seen it".to_owned() };
    let Some(applied) = status.conditions.iter().find(|c| c.type_ == condition::APPLIED) else {
        return "no agent has applied it".to_owned();
    };
    let current = status.observed_generation == config.metadata.generation
        || status.observed_generation.is_some_and(|seen| Some(seen) > config.metadata.generation);
    match (applied.status.as_str(), current) {
        ("True", true) => APPLIED.to_owned(),
        ("True", false) => "its newest generation is not applied yet".to_owned(),
        _ => format!("{}: {}", applied.reason, applied.message),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use serde_json::json;

    use super::*;

    fn config(status: &str, observed: i64) -> NodeConfig {
        let condition: Condition = serde_json::from_value(json!({
            "type": "Applied", "status": status, "reason": "KernelRefused", "message": "route 10.2.0.0/16",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        let mut config = NodeConfig::new("a-node1", api::NodeConfigSpec::default());
        config.metadata.generation = Some(2);
        config.status = Some(api::NodeConfigStatus {
            observed_generation: Some(observed),
            conditions: vec![condition],
            ..Default::default()
        });
        config
    }

    #[test]
    fn applied_is_only_what_was_observed_at_its_newest() {
        assert_eq!(state_of(&config("True", 2)), "applied");
        assert_eq!(state_of(&config("True", 1)), "its newest generation is not applied yet");
        assert_eq!(state_of(&config("False", 2)), "KernelRefused: route 10.2.0.0/16");
        let unseen = NodeConfig::new("a-node1", api::NodeConfigSpec::default());
        assert_eq!(state_of(&unseen), "no agent has seen it");
    }
}
