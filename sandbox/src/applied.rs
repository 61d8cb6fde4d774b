//! Whether the agents are done: what the control cluster knows of every NodeConfig.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use api::{Cluster, ClusterNode, NodeConfig, NodeConfigSpec, NodeId, condition};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::addressing::Layout;
use crate::client::{Error, Sandbox};
use crate::scenario::CONTROL;

/// How often the control cluster is asked.
const INTERVAL: Duration = Duration::from_millis(100);
/// So many restarts, a second apart, and a process is not expected to come up any more.
const CRASH_LOOP: u32 = 5;
/// How long nothing may change: a fact that arrives makes another plan.
const SETTLED: Duration = Duration::from_millis(400);

impl Sandbox {
    /// Every NodeConfig of the control cluster, by name, with `applied` or what keeps it from being so.
    pub fn node_configs(&self) -> Result<BTreeMap<String, String>, Error> {
        let configs = self.mesh()?.configs;
        Ok(configs.iter().map(|config| (name_of(config), state_of(config))).collect())
    }

    fn mesh(&self) -> Result<Mesh, Error> {
        self.ask_control(|client| async move {
            let all = ListParams::default();
            Ok(Mesh {
                clusters: Api::<Cluster>::all(client.clone()).list(&all).await?.items,
                nodes: Api::<ClusterNode>::all(client.clone()).list(&all).await?.items,
                configs: Api::<NodeConfig>::all(client).list(&all).await?.items,
            })
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

    /// Waits until the kernel of every node equals its NodeConfig, that one is the plan, and no other has come for a while; an
    /// error says which do not, and which process crashed.
    pub fn wait_applied(&self, timeout: Duration) -> Result<(), Error> {
        let (start, until) = (Instant::now(), Instant::now() + timeout);
        let mut settled: Option<(Instant, BTreeMap<String, i64>)> = None;
        loop {
            let mesh = self.mesh()?;
            let problems = mesh.problems(self.layout());
            let now = Instant::now();
            if problems.is_empty() {
                let generations = mesh.generations();
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

/// What a control cluster holds.
pub struct Mesh {
    /// Its Clusters.
    pub clusters: Vec<Cluster>,
    /// Its ClusterNodes.
    pub nodes: Vec<ClusterNode>,
    /// Its NodeConfigs.
    pub configs: Vec<NodeConfig>,
}

impl Mesh {
    /// Every node of a layout of which something is still to come, with what that is.
    pub fn problems(&self, layout: &Layout) -> Vec<String> {
        let planned = self.planned();
        let names =
            layout.nodes().map(|(cluster, node)| NodeId::new(&cluster.name, &node.name).object_name());
        let problem =
            |name: String| self.problem(&name, &planned).map(|problem| format!("{name}: {problem}"));
        names.filter_map(problem).collect()
    }

    fn problem(&self, name: &str, planned: &BTreeMap<String, NodeConfigSpec>) -> Option<String> {
        let node = self.nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name));
        if node.and_then(|node| node.status.as_ref()?.mtu).is_none() {
            return Some("its agent has not told what its underlay carries".to_owned());
        }
        let Some(config) = self.configs.iter().find(|config| name_of(config) == name) else {
            return Some("there is no NodeConfig".to_owned());
        };
        match state_of(config) {
            state if state != APPLIED => Some(state),
            _ if planned.get(name).is_some_and(|spec| *spec != config.spec) => {
                Some("its NodeConfig is not the plan yet".to_owned())
            }
            _ => None,
        }
    }

    /// What the network-manager writes of these Clusters and ClusterNodes: it tells some nodes later than others.
    fn planned(&self) -> BTreeMap<String, NodeConfigSpec> {
        let snapshot = network_plan::Snapshot::new(&self.clusters, &self.nodes);
        let (topology, _) = network_plan::topology(&snapshot);
        let plan = network_plan::plan(&topology);
        plan.iter().map(|(id, node)| (id.object_name(), network_plan::render(node))).collect()
    }

    /// Which plan each node has.
    pub fn generations(&self) -> BTreeMap<String, i64> {
        let generation = |config: &NodeConfig| config.metadata.generation.unwrap_or_default();
        self.configs.iter().map(|config| (name_of(config), generation(config))).collect()
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
    use crate::scenario::Scenario;

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
    fn a_node_is_done_when_its_kernel_is_as_the_plan_says() {
        let scenario = Scenario { clusters: vec!["a:p2p:1".parse().unwrap()], ..Scenario::default() };
        let layout = scenario.layout().unwrap();
        let name = layout.clusters[0].name.clone();
        let cluster =
            json!({"metadata": {"name": name}, "spec": {"clusterLinkOptions": {"networkType": "p2p"}}});
        let node = json!({"metadata": {"name": "a-node1"},
            "spec": {"clusterName": name, "nodeName": "node1", "ip": "172.31.1.1", "interfaceName": "eth0",
                "podCIDRs": ["10.1.1.0/24"]}});
        let mut mesh = Mesh {
            clusters: vec![serde_json::from_value(cluster).unwrap()],
            nodes: vec![serde_json::from_value(node).unwrap()],
            configs: vec![config("True", 2)],
        };
        let says =
            |mesh: &Mesh, problem: &str| assert_eq!(mesh.problems(&layout), [format!("a-node1: {problem}")]);
        says(&mesh, "its agent has not told what its underlay carries");
        mesh.nodes[0].status = Some(serde_json::from_value(json!({"mtu": 1500})).unwrap());
        says(&mesh, "its NodeConfig is not the plan yet");
        mesh.configs[0].spec = mesh.planned().remove("a-node1").unwrap();
        assert_eq!(mesh.problems(&layout), Vec::<String>::new());
        mesh.configs[0].metadata.generation = Some(3);
        says(&mesh, "its newest generation is not applied yet");
        mesh.configs.clear();
        says(&mesh, "there is no NodeConfig");
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
