//! Which pairs of pods show what a way costs: within a cluster, across clusters node to node, and by way of gateways.
//! Pure.

use std::net::IpAddr;

use api::{Family, NetworkType};
use serde::{Deserialize, Serialize};

use crate::addressing::{ClusterLayout, Layout, NodeLayout};

/// The ways that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From node to node by the CNI's own route.
    Within,
    /// From node to node through one tunnel, both ways.
    Direct,
    /// From an internal node by two gateways to an internal node.
    Gateways,
}

/// A pod that asks, and two that take turns to answer: one of its own cluster, then one of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Over which family.
    pub family: Family,
    /// Who asks.
    pub from: String,
    /// Who answers within the cluster.
    pub within: (String, IpAddr),
    /// Who answers in another cluster.
    pub across: (String, IpAddr),
    /// By which way.
    pub way: Way,
}

/// A comparison for each family and each way that the layout has.
pub fn comparisons(layout: &Layout) -> Vec<Comparison> {
    let ways = [Way::Direct, Way::Gateways];
    Family::ALL
        .iter()
        .flat_map(|&family| ways.iter().filter_map(move |&way| comparison(layout, family, way)))
        .collect()
}

fn comparison(layout: &Layout, family: Family, way: Way) -> Option<Comparison> {
    let askers = layout.clusters.iter().filter_map(|cluster| Some((cluster, asker(cluster, way)?)));
    askers.into_iter().find_map(|(cluster, node)| {
        let (from, _) = pod(node, family)?;
        let others = layout.clusters.iter().filter(|other| other.name != cluster.name);
        Some(Comparison {
            family,
            from,
            within: cluster
                .nodes
                .iter()
                .filter(|other| other.number != node.number)
                .find_map(|n| pod(n, family))?,
            across: others.filter_map(|other| answerer(other, way)).find_map(|n| pod(n, family))?,
            way,
        })
    })
}

/// A node whose packets for other clusters go that way.
fn asker(cluster: &ClusterLayout, way: Way) -> Option<&NodeLayout> {
    match (way, cluster.mode) {
        (Way::Direct, NetworkType::P2p) => cluster.nodes.first(),
        (Way::Gateways, NetworkType::Gateway) => cluster.nodes.iter().rev().find(|node| !node.gateway),
        _ => None,
    }
}

/// A node that such packets reach by that way, and that answers by it: with several gateways, either might be chosen.
fn answerer(cluster: &ClusterLayout, way: Way) -> Option<&NodeLayout> {
    match (way, cluster.mode) {
        (Way::Direct, NetworkType::P2p) => cluster.nodes.first(),
        (Way::Direct, NetworkType::Gateway) => cluster.nodes.first().filter(|_| cluster.gateways == 1),
        (Way::Gateways, NetworkType::Gateway) => cluster.nodes.iter().rev().find(|node| !node.gateway),
        _ => None,
    }
}

fn pod(node: &NodeLayout, family: Family) -> Option<(String, IpAddr)> {
    let pod = node.pods.first()?;
    let address = pod.addresses.iter().copied().find(|&address| Family::of(address) == family)?;
    Some((pod.place.clone(), address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn named(clusters: &[&str]) -> Vec<(Way, String, String, String)> {
        let clusters = clusters.iter().map(|text| text.parse().unwrap()).collect();
        let scenario = Scenario { clusters, families: vec![Family::V4], ..Scenario::default() };
        let comparisons = comparisons(&scenario.layout().unwrap());
        comparisons.into_iter().map(|c| (c.way, c.from, c.within.0, c.across.0)).collect()
    }

    fn row(way: Way, from: &str, within: &str, across: &str) -> (Way, String, String, String) {
        (way, from.to_owned(), within.to_owned(), across.to_owned())
    }

    #[test]
    fn the_default_sandbox_has_both_ways_in_both_families() {
        let all = comparisons(&Scenario::default().layout().unwrap());
        assert_eq!(all.len(), 4);
        assert_eq!(
            named(&["a:gateway:3:2", "b:gateway:3:1", "c:p2p:2"]),
            [
                // b's one gateway is where its tunnels end: from node to node, as in P2P.
                row(Way::Direct, "c1-pod1", "c2-pod1", "b1-pod1"),
                row(Way::Gateways, "a3-pod1", "a1-pod1", "b3-pod1"),
            ]
        );
    }

    #[test]
    fn a_way_that_the_layout_lacks_is_left_out() {
        assert_eq!(named(&["c:p2p:2", "d:p2p:1"]), [row(Way::Direct, "c1-pod1", "c2-pod1", "d1-pod1")]);
        assert_eq!(named(&["a:gateway:3:2", "c:p2p:2"]), []);
        assert_eq!(named(&["c:p2p:1", "d:p2p:1"]), []);
    }
}
