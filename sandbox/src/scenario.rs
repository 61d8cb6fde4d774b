//! What a person asks for: how many clusters, of which mode, families, CIDRs and MTU. Text as it was typed;
//! [`crate::addressing`] turns a scenario into addresses or says which field is wrong.

use std::str::FromStr;

use api::{Family, NetworkType};
use serde::{Deserialize, Serialize};

/// Name of the cluster whose API server holds the custom resources of the whole mesh.
pub const CONTROL: &str = "control";

/// A scenario that cannot be built: which field, its value, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scenario: {field}: {value:?}: {problem}")]
pub struct ScenarioError {
    /// Path of the field, such as `clusters[a].nodes`.
    pub field: String,
    /// Its value as it was given.
    pub value: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl ScenarioError {
    pub(crate) fn new(field: impl Into<String>, value: impl ToString, problem: impl Into<String>) -> Self {
        ScenarioError { field: field.into(), value: value.to_string(), problem: problem.into() }
    }
}

/// Which packet filter the nodes' CNI and kube-proxy speak to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Firewall {
    /// Rules of `iptables` and `ip6tables`.
    #[default]
    Iptables,
    /// Native nftables tables.
    Nft,
}

/// Whose API servers a sandbox has, and with them whose kubelet, kube-proxy and CNI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ControlPlane {
    /// The embedded API, and rules in the manner of kube-proxy and flannel: up in half a second.
    #[default]
    Embedded,
    /// Kubernetes itself for each cluster (etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy), and
    /// flannel: half a gigabyte and some seconds for each.
    Kubernetes,
}

/// How kube-proxy translates service addresses, where it is a real one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    /// `--proxy-mode=iptables`.
    #[default]
    Iptables,
    /// `--proxy-mode=nftables`.
    Nftables,
}

/// What the embedded world's CNI masquerades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Masquerade {
    /// As flannel: what leaves the cluster's pods, and what enters for pods of other nodes too.
    #[default]
    Flannel,
    /// As most others: what leaves the cluster's pods.
    Outgoing,
}

/// Whole clusters, and what they have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Families of pods, services and the underlay, where a cluster does not say otherwise.
    #[serde(default = "both_families")]
    pub families: Vec<Family>,
    /// Packet filter of the nodes.
    #[serde(default)]
    pub firewall: Firewall,
    /// Whose API servers.
    #[serde(default)]
    pub control_plane: ControlPlane,
    /// Mode of a real kube-proxy.
    #[serde(default)]
    pub proxy: Proxy,
    /// Whether kube-proxy knows the pods' CIDR, and so masquerades what comes to a service from elsewhere.
    #[serde(default = "yes", rename = "proxyClusterCIDR")]
    pub proxy_cluster_cidr: bool,
    /// What the embedded world's CNI masquerades.
    #[serde(default)]
    pub masquerade: Masquerade,
    /// MTU of the underlay in bytes, where a cluster does not say otherwise.
    #[serde(default = "ethernet_mtu")]
    pub mtu: u32,
    /// Pods on each node.
    #[serde(default = "one")]
    pub pods_per_node: u16,
    /// The member clusters; the control cluster is made beside them.
    pub clusters: Vec<ClusterScenario>,
}

/// A member cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterScenario {
    /// Its name.
    pub name: String,
    /// `gateway` or `p2p`.
    #[serde(default)]
    pub mode: NetworkType,
    /// How many nodes.
    #[serde(default = "two")]
    pub nodes: u16,
    /// How many of them are gateways, in gateway mode: the first ones; default 2, or 1 where there is one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<u16>,
    /// Families of its pods and services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub families: Option<Vec<Family>>,
    /// Families of its nodes' underlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay: Option<Vec<Family>>,
    /// MTU of its nodes' underlay interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// One for each family; default `10.<c>.0.0/16` and `fd00:10:<c>::/48` for the c-th cluster.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
    /// One for each family; default `10.<100+c>.0.0/16` and `fd00:96:<c>::/112`.
    #[serde(default, rename = "serviceCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub service_cidrs: Vec<String>,
}

fn both_families() -> Vec<Family> {
    Family::ALL.to_vec()
}

fn yes() -> bool {
    true
}

fn ethernet_mtu() -> u32 {
    1500
}

fn one() -> u16 {
    1
}

fn two() -> u16 {
    2
}

impl Default for Scenario {
    /// Two clusters in gateway mode, with two gateways and with one, and one in P2P mode.
    fn default() -> Self {
        let cluster = |text: &str| text.parse().expect("the default clusters are written as they must be");
        Scenario {
            families: both_families(),
            firewall: Firewall::default(),
            control_plane: ControlPlane::default(),
            proxy: Proxy::default(),
            proxy_cluster_cidr: yes(),
            masquerade: Masquerade::default(),
            mtu: ethernet_mtu(),
            pods_per_node: one(),
            clusters: ["a:gateway:3:2", "b:gateway:3:1", "c:p2p:2"].map(cluster).to_vec(),
        }
    }
}

impl Scenario {
    /// A scenario from a YAML (or JSON) document; what it leaves out has the defaults of the flags.
    pub fn from_yaml(text: &str) -> Result<Self, ScenarioError> {
        serde_saphyr::from_str(text)
            .map_err(|error| ScenarioError::new("file", "", format!("not a scenario: {error}")))
    }

    /// The cluster of this name, to be changed by what a flag says of it.
    pub fn cluster_mut(&mut self, name: &str, flag: &str) -> Result<&mut ClusterScenario, ScenarioError> {
        let known = self.clusters.iter().map(|cluster| cluster.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.clusters.iter_mut().find(|cluster| cluster.name == name);
        found.ok_or_else(|| {
            ScenarioError::new(flag, name, format!("no cluster of this name; there are {known}"))
        })
    }
}

impl FromStr for ClusterScenario {
    type Err = ScenarioError;

    /// `NAME[:MODE[:NODES[:GATEWAYS]]]`, for instance `a:gateway:3:1`.
    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let wrong = |problem: &str| {
            ScenarioError::new(
                "clusters",
                text,
                format!("{problem}; write NAME[:gateway|p2p[:NODES[:GATEWAYS]]]"),
            )
        };
        let number = |part: &str| {
            part.parse::<u16>().map_err(|_| wrong(&format!("{part:?} is not a number of nodes")))
        };
        let parts: Vec<&str> = text.split(':').collect();
        if parts.len() > 4 {
            return Err(wrong("more than four parts"));
        }
        let mode = match parts.get(1) {
            None | Some(&"p2p") => NetworkType::P2p,
            Some(&"gateway") => NetworkType::Gateway,
            Some(other) => return Err(wrong(&format!("{other:?} is not a mode"))),
        };
        Ok(ClusterScenario {
            name: parts[0].to_owned(),
            mode,
            nodes: parts.get(2).map_or(Ok(two()), |part| number(part))?,
            gateways: parts.get(3).map(|part| number(part)).transpose()?,
            ..ClusterScenario::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_written_in_one_word() {
        let cluster: ClusterScenario = "east:gateway:3:1".parse().unwrap();
        assert_eq!(
            (cluster.name.as_str(), cluster.mode, cluster.nodes, cluster.gateways),
            ("east", NetworkType::Gateway, 3, Some(1))
        );
        let cluster: ClusterScenario = "c".parse().unwrap();
        assert_eq!((cluster.mode, cluster.nodes, cluster.gateways), (NetworkType::P2p, 2, None));
    }

    #[test]
    fn a_wrong_word_is_named_with_what_to_write() {
        for (text, part) in
            [("a:mesh:3", "\"mesh\""), ("a:p2p:x", "\"x\""), ("a:gateway:3:1:9", "more than four")]
        {
            let message = text.parse::<ClusterScenario>().unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("write NAME["), "{message}");
        }
    }

    #[test]
    fn a_file_says_what_differs_from_the_defaults() {
        let scenario = Scenario::from_yaml(
            "families: [ipv6]\nclusters:\n- name: a\n  mode: gateway\n  podCIDRs: [\"fd01::/48\"]\n- name: b\n",
        )
        .unwrap();
        assert_eq!(scenario.families, [Family::V6]);
        assert_eq!((scenario.mtu, scenario.pods_per_node), (1500, 1));
        assert_eq!(scenario.clusters[0].pod_cidrs, ["fd01::/48"]);
        assert_eq!(scenario.clusters[1].nodes, 2);
    }

    #[test]
    fn an_unknown_field_of_a_file_is_refused_by_name() {
        let message = Scenario::from_yaml("clusters:\n- name: a\n  colour: red\n").unwrap_err().to_string();
        assert!(message.contains("colour"), "{message}");
    }

    #[test]
    fn a_scenario_survives_its_own_text() {
        let scenario = Scenario::default();
        let text = serde_json::to_string(&scenario).unwrap();
        assert_eq!(Scenario::from_yaml(&text).unwrap(), scenario);
    }

    #[test]
    fn a_flag_for_an_unknown_cluster_names_the_known_ones() {
        let message = Scenario::default().cluster_mut("z", "--pod-cidr").unwrap_err().to_string();
        assert!(message.contains("--pod-cidr") && message.contains("a, b, c"), "{message}");
    }
}
