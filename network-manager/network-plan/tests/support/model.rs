//! Who should reach whom, said the long way: every rule as it reads, over all pairs, without sweeps, classes or summaries.

use std::net::IpAddr;

use api::{Family, NetworkType};
use ipnetwork::IpNetwork;

use super::Input;

/// A cluster's own CIDRs and what others may route of them.
pub struct ClusterModel {
    pub name: String,
    pub gateway: bool,
    pub families: [bool; 2],
    pub own: Vec<IpNetwork>,
    pub services: Vec<IpNetwork>,
    pub pods: Vec<IpNetwork>,
    pub nodes: Vec<NodeModel>,
}

pub struct NodeModel {
    pub name: String,
    pub gateway: bool,
    pub underlay: Vec<IpAddr>,
    pub blocks: Vec<IpNetwork>,
}

pub fn family(net: IpNetwork) -> Family {
    Family::of_network(net)
}

fn overlap(one: IpNetwork, two: IpNetwork) -> bool {
    one.is_ipv4() == two.is_ipv4() && (one.contains(two.network()) || two.contains(one.network()))
}

impl NodeModel {
    fn has(&self, family: Family) -> bool {
        self.underlay.iter().any(|address| Family::of(*address) == family)
    }

    pub fn linked(&self, other: &NodeModel) -> bool {
        Family::ALL.into_iter().any(|family| self.has(family) && other.has(family))
    }
}

impl ClusterModel {
    fn units(&self) -> Vec<IpNetwork> {
        let pods = if self.gateway {
            self.pods.clone()
        } else {
            self.nodes.iter().flat_map(|n| n.blocks.clone()).collect()
        };
        let parts = pods.into_iter().chain(self.services.iter().copied());
        parts.filter(|net| self.families[family(*net) as usize]).collect()
    }

    /// Nodes that others' tunnels end at.
    pub fn ends(&self) -> impl Iterator<Item = &NodeModel> {
        self.nodes.iter().filter(|node| !self.gateway || node.gateway)
    }

    /// Nodes that a node's packets leave the cluster from.
    pub fn exits<'a>(&'a self, node: &'a NodeModel) -> Vec<&'a NodeModel> {
        if self.gateway { self.ends().collect() } else { vec![node] }
    }
}

pub fn model(input: &Input) -> Vec<ClusterModel> {
    let nets = |texts: &[String]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNetwork>>();
    input
        .clusters
        .iter()
        .map(|cluster| {
            let name = cluster.metadata.name.clone().unwrap();
            let options = cluster.spec.cluster_link_options.clone().unwrap();
            let status = cluster.status.clone().unwrap().cluster_link_status.unwrap();
            let families = Family::ALL.map(|family| options.ip_family.includes(family));
            let nodes = input.nodes.iter().filter(|node| node.spec.cluster_name.as_ref() == Some(&name));
            let nodes = nodes.map(|node| NodeModel {
                name: node.metadata.name.clone().unwrap(),
                gateway: node.spec.is_gateway(),
                underlay: [&node.spec.ip, &node.spec.ip6]
                    .into_iter()
                    .flatten()
                    .map(|a| a.parse().unwrap())
                    .collect(),
                blocks: nets(&node.spec.pod_cidrs)
                    .into_iter()
                    .filter(|net| families[family(*net) as usize])
                    .collect(),
            });
            let (pods, services) = (nets(&status.pod_cidrs), nets(&status.service_cidrs));
            ClusterModel {
                gateway: options.network_type == NetworkType::Gateway,
                own: pods.iter().chain(&services).copied().collect(),
                nodes: nodes.collect(),
                name,
                families,
                services,
                pods,
            }
        })
        .collect()
}

/// Whether `x` of cluster `of` clears everything at `at` but third clusters.
fn clears(clusters: &[ClusterModel], at: usize, of: usize, x: IpNetwork) -> bool {
    at != of && !clusters[at].own.iter().any(|own| overlap(*own, x))
}

/// The rule of DESIGN 3: routable unless it overlaps the cluster's own CIDRs, or another cluster's that would be routable, too.
pub fn routable(clusters: &[ClusterModel], at: usize, of: usize, x: IpNetwork) -> bool {
    let rival = |other: usize| {
        other != of
            && clusters[other].units().into_iter().any(|y| overlap(x, y) && clears(clusters, at, other, y))
    };
    clusters[of].units().contains(&x) && clears(clusters, at, of, x) && !(0..clusters.len()).any(rival)
}

/// Whether some exit of `node` in `from` has a link to what a packet for `to` needs in cluster `of`: the node itself, or any end.
pub fn linked(from: &ClusterModel, node: &NodeModel, of: &ClusterModel, to: Option<&NodeModel>) -> bool {
    let exits = from.exits(node);
    let ends: Vec<&NodeModel> = match to {
        Some(to) if !of.gateway || to.gateway => vec![to],
        _ => of.ends().collect(),
    };
    exits.iter().any(|exit| ends.iter().any(|end| exit.linked(end)))
}
