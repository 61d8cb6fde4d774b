//! What the tests share: objects from YAML, plans as NodeConfigs, and the walker.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "tests: each binary uses its own part of this"
)]

pub mod mesh;
pub mod model;
pub mod walker;

use std::{collections::BTreeMap, path::Path};

use api::{Cluster, ClusterNode, NodeConfig, NodeConfigSpec};
use network_plan::{Rejection, Snapshot};
use serde_json::Value;

/// Clusters and ClusterNodes of one mesh.
#[derive(Clone, Debug, Default)]
pub struct Input {
    pub clusters: Vec<Cluster>,
    pub nodes: Vec<ClusterNode>,
}

/// NodeConfig specs by name.
pub type Configs = BTreeMap<String, NodeConfigSpec>;

impl Input {
    pub fn from_yaml(text: &str) -> Self {
        let mut input = Input::default();
        for document in serde_saphyr::from_multiple::<Value>(text).unwrap() {
            match document["kind"].as_str() {
                Some("Cluster") => input.clusters.push(serde_json::from_value(document).unwrap()),
                Some("ClusterNode") => input.nodes.push(serde_json::from_value(document).unwrap()),
                kind => panic!("a document of kind {kind:?}"),
            }
        }
        input
    }

    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::new(&self.clusters, &self.nodes)
    }

    pub fn plan(&self) -> (Configs, Vec<Rejection>) {
        let (topology, rejections) = network_plan::topology(&self.snapshot());
        let plan = network_plan::plan(&topology);
        let render = |(id, plan): (&api::NodeId, _)| (id.object_name(), network_plan::render(plan));
        (plan.iter().map(render).collect(), rejections)
    }

    /// The same objects after a network-manager has written the addresses that it allocated.
    pub fn with_overlays(mut self) -> Self {
        let (topology, _) = network_plan::topology(&self.snapshot());
        let overlays: BTreeMap<String, _> =
            topology.nodes.iter().map(|node| (node.id.object_name(), node.overlay_status())).collect();
        for node in &mut self.nodes {
            if let Some(overlay) = overlays.get(node.metadata.name.as_deref().unwrap_or_default()) {
                node.status.get_or_insert_default().overlay = Some(overlay.clone());
            }
        }
        self
    }
}

/// NodeConfigs as a YAML stream, as `kosmosctl plan` prints them.
pub fn to_yaml(configs: &Configs) -> String {
    let documents: Vec<NodeConfig> =
        configs.iter().map(|(name, spec)| NodeConfig::new(name, spec.clone())).collect();
    serde_saphyr::to_string_multiple(&documents).unwrap()
}

pub fn configs_from_yaml(text: &str) -> Configs {
    let named = |config: NodeConfig| (config.metadata.name.unwrap(), config.spec);
    serde_saphyr::from_multiple::<NodeConfig>(text).unwrap().into_iter().map(named).collect()
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
