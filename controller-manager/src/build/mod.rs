//! What should stand in both APIs, from what is known; pure.

mod cidrs;
mod gateways;
mod mirror;
mod nodes;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::{
    ClusterNodeSpec, ClusterSpec, NodeConfig, NodeConfigStatus, cluster::ClusterLinkStatus, condition::State,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub(crate) use nodes::foreign_owner;

use crate::index::{Index, Seen};

/// What should stand in both APIs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired<'a> {
    /// Status of the own Cluster, in the control cluster; none while there is no such Cluster.
    pub status: Option<OwnStatus>,
    /// ClusterNodes, in the control cluster, by name.
    pub cluster_nodes: BTreeMap<String, DesiredNode>,
    /// The own Cluster's spec, in the member.
    pub cluster: Option<ClusterSpec>,
    /// NodeConfigs, in the member, by name.
    pub node_configs: BTreeMap<&'a str, &'a Seen<NodeConfig>>,
    /// Status of NodeConfigs, in the control cluster, by name.
    pub relayed: BTreeMap<&'a str, NodeConfigStatus>,
    /// When to build again though nothing happens.
    pub again_in: Option<Duration>,
}

impl Desired<'_> {
    /// Names of the Nodes that are gateways.
    pub fn gateways(&self) -> BTreeSet<String> {
        let gateways = self.cluster_nodes.values().filter(|node| node.spec.is_gateway());
        gateways.filter_map(|node| node.spec.node_name.clone()).collect()
    }
}

/// What this controller-manager says of its Cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnStatus {
    /// What was found.
    pub found: ClusterLinkStatus,
    /// The conditions that are this controller-manager's.
    pub conditions: Vec<Condition>,
}

/// A ClusterNode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DesiredNode {
    /// Its spec. Where both APIs are one, without the fields that the agent writes itself.
    pub spec: ClusterNodeSpec,
    /// MTU of its underlay interface, relayed.
    pub mtu: Option<u32>,
    /// What its kernel can do, relayed.
    pub capabilities: Vec<String>,
}

/// What should stand in both APIs now.
pub fn build(index: &Index, now: Timestamp) -> Desired<'_> {
    let mut desired = Desired::default();
    mirror::down(index, &mut desired);
    mirror::up(index, &mut desired);
    let Some(cluster) = index.own() else { return desired };
    let cidrs = cidrs::find(index, cluster);
    let members = nodes::members(index);
    let gateways = gateways::choose(index, cluster, &members, now);
    let mut states: Vec<State> = vec![cidrs.state.clone()];
    let (cluster_nodes, obstacles) = nodes::build(index, &members, &cidrs, &gateways.chosen);
    desired.cluster_nodes = cluster_nodes;
    states.push(status::published(index, obstacles));
    desired.status = Some(status::own(cluster, cidrs.found, states, now));
    desired.again_in = gateways.again_in;
    desired
}
