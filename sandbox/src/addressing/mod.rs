//! A valid scenario with every address in it: which node, pod and service has which. Pure; the namespaces, the API
//! objects and the matrix are all made of a [`Layout`], so they cannot disagree.

mod assign;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::{Family, NetworkType};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::scenario::{ControlPlane, Firewall, Masquerade, Proxy};

/// The port of every service, and of the answering process behind it.
pub const SERVICE_PORT: u16 = netperf::PORT;

/// All clusters with their addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Packet filter of the nodes.
    pub firewall: Firewall,
    /// Whose API servers, kube-proxy and CNI.
    pub control_plane: ControlPlane,
    /// Mode of a real kube-proxy.
    pub proxy: Proxy,
    /// Whether kube-proxy knows the pods' CIDR.
    pub proxy_cluster_cidr: bool,
    /// What the embedded world's CNI masquerades.
    pub masquerade: Masquerade,
    /// In the order of the scenario.
    pub clusters: Vec<ClusterLayout>,
}

/// A cluster with its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLayout {
    /// Its name.
    pub name: String,
    /// From 1.
    pub index: u16,
    /// `gateway` or `p2p`.
    pub mode: NetworkType,
    /// How many gateways; 0 in P2P mode.
    pub gateways: u16,
    /// Families of its pods and services.
    pub families: Vec<Family>,
    /// MTU of the underlay interface and of the pods.
    pub mtu: u32,
    /// One for each family.
    pub pod_cidrs: Vec<IpNetwork>,
    /// One for each family.
    pub service_cidrs: Vec<IpNetwork>,
    /// Its nodes.
    pub nodes: Vec<NodeLayout>,
    /// Its services.
    pub services: Vec<ServiceLayout>,
}

/// A node with its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLayout {
    /// Its name among all places of the sandbox: `a1`.
    pub place: String,
    /// Name of its Node object: `node1`.
    pub name: String,
    /// From 1.
    pub number: u16,
    /// Whether it is a gateway of its cluster.
    pub gateway: bool,
    /// Underlay addresses, one for each family of the underlay.
    pub underlay: Vec<IpAddr>,
    /// One for each family of the cluster.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Addresses of its CNI bridge, within `pod_cidrs`.
    pub bridge: Vec<IpAddr>,
    /// Its pods.
    pub pods: Vec<PodLayout>,
}

impl NodeLayout {
    /// The node's addresses among its pods': its bridge's, and where flannel is a real one, its tunnels' too.
    pub fn cni_addresses(&self, control_plane: ControlPlane) -> impl Iterator<Item = IpAddr> {
        let tunnels = (control_plane == ControlPlane::Kubernetes).then_some(&self.pod_cidrs);
        self.bridge.iter().copied().chain(tunnels.into_iter().flatten().map(IpNetwork::network))
    }
}

/// A pod with its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLayout {
    /// Its name among all places, and of its Pod object: `a1-pod1`.
    pub place: String,
    /// One for each family of the cluster.
    pub addresses: Vec<IpAddr>,
}

/// A service with its one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLayout {
    /// Name of its Service object.
    pub name: String,
    /// One for each family of the cluster.
    pub addresses: Vec<IpAddr>,
    /// Number of the node on which the backend is.
    pub node: u16,
    /// The pod behind it.
    pub backend: PodLayout,
}

impl Layout {
    /// Every node, cluster by cluster.
    pub fn nodes(&self) -> impl Iterator<Item = (&ClusterLayout, &NodeLayout)> {
        self.clusters.iter().flat_map(|cluster| cluster.nodes.iter().map(move |node| (cluster, node)))
    }

    /// The families that any node's underlay has.
    pub fn underlay_families(&self) -> BTreeSet<Family> {
        self.nodes().flat_map(|(_, node)| node.underlay.iter().copied().map(Family::of)).collect()
    }

    /// The namespace that a person means: `a1`, `a/node1`, `a/1`, `a1-pod1`, `a/a1-pod1`, `root`, `outside`.
    pub fn place(&self, text: &str) -> Option<String> {
        if matches!(text, ROOT | OUTSIDE) {
            return Some(text.to_owned());
        }
        let pods = |node: &NodeLayout| node.pods.iter().map(|pod| pod.place.clone()).collect::<Vec<_>>();
        self.nodes().find_map(|(cluster, node)| {
            let short = text.strip_prefix(&cluster.name).and_then(|rest| rest.strip_prefix('/'));
            if text == node.place || short.is_some_and(|s| s == node.name || s == node.number.to_string()) {
                return Some(node.place.clone());
            }
            pods(node).into_iter().find(|pod| pod == text || short == Some(pod))
        })
    }
}

/// The place that holds the underlay bridge, the API servers and the controllers.
pub const ROOT: &str = "root";
/// The place that stands for the rest of the world.
pub const OUTSIDE: &str = "outside";

/// The address of the underlay bridge: the nodes' default gateway, where the API servers listen too.
pub fn underlay_gateway(family: Family) -> IpAddr {
    underlay_address(family, 0, 1)
}

/// The network of all nodes.
pub fn underlay_network(family: Family) -> IpNetwork {
    let prefix = match family {
        Family::V4 => 16,
        Family::V6 => 64,
    };
    network(underlay_address(family, 0, 0), prefix)
}

/// The two ends of the link between the root namespace and the outside: RFC 5737 and RFC 3849 addresses.
pub fn outside_link(family: Family) -> [IpAddr; 2] {
    match family {
        Family::V4 => [1, 2].map(|host| Ipv4Addr::new(192, 0, 2, host).into()),
        Family::V6 => [1, 2].map(|host| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).into()),
    }
}

/// The prefix of that link.
pub fn outside_network(family: Family) -> IpNetwork {
    let prefix = match family {
        Family::V4 => 24,
        Family::V6 => 64,
    };
    network(outside_link(family)[0], prefix)
}

fn underlay_address(family: Family, cluster: u16, node: u16) -> IpAddr {
    match family {
        // Both fit: `assign` takes less than 256 of either.
        Family::V4 => Ipv4Addr::new(172, 31, cluster.to_be_bytes()[1], node.to_be_bytes()[1]).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0xac1f, 0, 0, 0, 0, cluster, node).into(),
    }
}

/// The network of this prefix length that the address is in.
fn network(address: IpAddr, prefix: u8) -> IpNetwork {
    let whole = IpNetwork::new(address, prefix).expect("a prefix length of this module fits its family");
    IpNetwork::new(whole.network(), prefix).expect("as above")
}

/// The `index`-th address of a network.
fn host(network: IpNetwork, index: u32) -> IpAddr {
    match network.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits().wrapping_add(index)).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits().wrapping_add(index.into())).into(),
    }
}

/// The `index`-th network of this prefix length inside of another.
fn subnet(whole: IpNetwork, prefix: u8, index: u16) -> IpNetwork {
    let address = match whole.network() {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() + (u32::from(index) << (32 - prefix))).into(),
        IpAddr::V6(base) => {
            Ipv6Addr::from_bits(base.to_bits() + (u128::from(index) << (128 - prefix))).into()
        }
    };
    network(address, prefix)
}

fn default_pod_cidr(family: Family, cluster: u16) -> IpNetwork {
    match family {
        Family::V4 => network(Ipv4Addr::new(10, cluster.to_be_bytes()[1], 0, 0).into(), 16),
        Family::V6 => network(Ipv6Addr::new(0xfd00, 0x10, cluster, 0, 0, 0, 0, 0).into(), 48),
    }
}

fn default_service_cidr(family: Family, cluster: u16) -> IpNetwork {
    match family {
        Family::V4 => network(Ipv4Addr::new(10, 100 + cluster.to_be_bytes()[1], 0, 0).into(), 16),
        Family::V6 => network(Ipv6Addr::new(0xfd00, 0x96, cluster, 0, 0, 0, 0, 0).into(), 112),
    }
}

pub(crate) fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    match (a, b) {
        (IpNetwork::V4(a), IpNetwork::V4(b)) => a.overlaps(b),
        (IpNetwork::V6(a), IpNetwork::V6(b)) => a.overlaps(b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn scenario(clusters: &[&str]) -> Scenario {
        let clusters = clusters.iter().map(|text| text.parse().unwrap()).collect();
        Scenario { clusters, ..Scenario::default() }
    }

    fn texts<T: ToString>(items: &[T]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_read_like_names() {
        let layout = Scenario::default().layout().unwrap();
        let b3 = &layout.clusters[1].nodes[2];
        assert_eq!((b3.place.as_str(), b3.name.as_str(), b3.gateway), ("b3", "node3", false));
        assert_eq!(texts(&b3.underlay), ["172.31.2.3", "fd00:ac1f::2:3"]);
        assert_eq!(texts(&b3.pod_cidrs), ["10.2.3.0/24", "fd00:10:2:3::/64"]);
        assert_eq!(texts(&b3.bridge), ["10.2.3.1", "fd00:10:2:3::1"]);
        assert_eq!(texts(&b3.pods[0].addresses), ["10.2.3.2", "fd00:10:2:3::2"]);
        let last = &layout.clusters[1].services[1];
        assert_eq!((last.name.as_str(), last.backend.place.as_str()), ("last", "b3-pod1"));
        assert_eq!(texts(&last.addresses), ["10.102.0.11", "fd00:96:2::b"]);
    }

    #[test]
    fn gateways_are_the_first_nodes_of_a_gateway_cluster() {
        let layout = scenario(&["a:gateway:3", "b:gateway:1", "c:p2p:2"]).layout().unwrap();
        let gateways: Vec<&str> =
            layout.nodes().filter(|(_, node)| node.gateway).map(|(_, node)| node.place.as_str()).collect();
        assert_eq!(gateways, ["a1", "a2", "b1"]);
    }

    #[test]
    fn no_address_is_given_twice() {
        let mut scenario = scenario(&["a:gateway:40", "b:p2p:40"]);
        scenario.pods_per_node = 3;
        let layout = scenario.layout().unwrap();
        let mut seen = BTreeSet::new();
        for (_, node) in layout.nodes() {
            let pods = node.pods.iter().flat_map(|pod| &pod.addresses);
            for address in node.underlay.iter().chain(&node.bridge).chain(pods) {
                assert!(seen.insert(*address), "{address} twice");
            }
        }
    }

    #[test]
    fn every_address_is_in_its_cidr() {
        for (cluster, node) in Scenario::default().layout().unwrap().nodes() {
            for (index, pods) in node.pod_cidrs.iter().enumerate() {
                assert!(cluster.pod_cidrs[index].contains(pods.ip()), "{pods}");
                assert!(pods.contains(node.bridge[index]) && pods.contains(node.pods[0].addresses[index]));
            }
            for service in &cluster.services {
                assert!(cluster.service_cidrs.iter().zip(&service.addresses).all(|(c, a)| c.contains(*a)));
            }
        }
    }

    #[test]
    fn clusters_may_overlap_each_other() {
        let mut scenario = scenario(&["a:p2p:2", "b:p2p:2"]);
        for cluster in &mut scenario.clusters {
            cluster.pod_cidrs = vec!["10.9.0.0/16".to_owned()];
        }
        let layout = scenario.layout().unwrap();
        assert_eq!(layout.clusters[0].pod_cidrs[0], layout.clusters[1].pod_cidrs[0]);
        assert_ne!(layout.clusters[0].pod_cidrs[1], layout.clusters[1].pod_cidrs[1]);
    }

    #[test]
    fn a_tight_cidr_is_used_from_its_start() {
        let mut scenario = scenario(&["a:p2p:2"]);
        scenario.clusters[0].pod_cidrs = vec!["10.9.2.0/23".to_owned()];
        let layout = scenario.layout().unwrap();
        assert_eq!(layout.clusters[0].nodes[0].pod_cidrs[0].to_string(), "10.9.2.0/24");
        assert_eq!(layout.clusters[0].nodes[1].pod_cidrs[0].to_string(), "10.9.3.0/24");
    }

    #[test]
    fn families_of_pods_and_underlay_are_two_choices() {
        let mut scenario = scenario(&["a:p2p:1"]);
        scenario.clusters[0].families = Some(vec![Family::V6]);
        scenario.clusters[0].underlay = Some(vec![Family::V4]);
        let layout = scenario.layout().unwrap();
        let node = &layout.clusters[0].nodes[0];
        assert_eq!(texts(&node.underlay), ["172.31.1.1"]);
        assert_eq!(texts(&node.bridge), ["fd00:10:1:1::1"]);
        assert_eq!(layout.underlay_families(), BTreeSet::from([Family::V4]));
    }

    #[test]
    fn a_place_has_several_spellings() {
        let layout = scenario(&["a:p2p:2", "az1:p2p:1"]).layout().unwrap();
        for (text, place) in [
            ("a1", Some("a1")),
            ("a/node2", Some("a2")),
            ("a/2", Some("a2")),
            ("a1-pod1", Some("a1-pod1")),
            ("a/a2-pod1", Some("a2-pod1")),
            ("az1/node1", Some("az1-1")),
            ("root", Some("root")),
            ("outside", Some("outside")),
            ("a3", None),
            ("b/node1", None),
        ] {
            assert_eq!(layout.place(text).as_deref(), place, "{text}");
        }
    }

    /// Each wrong scenario with the field and the words that its message must have.
    #[test]
    fn what_cannot_be_built_is_refused_with_field_and_value() {
        type Change = fn(&mut Scenario);
        let cases: &[(Change, &[&str])] = &[
            (|s| s.clusters.clear(), &["clusters", "from 1 to 99"]),
            (|s| s.clusters[0].name = "A_".into(), &["name", "\"A_\"", "lower-case"]),
            (|s| s.clusters[0].name = "control".into(), &["\"control\""]),
            (|s| s.clusters[0].name = "b".into(), &["clusters[b].name", "another cluster"]),
            (|s| s.clusters[0].nodes = 0, &["clusters[a].nodes", "\"0\"", "from 1 to 250"]),
            (|s| s.clusters[0].gateways = Some(4), &["clusters[a].gateways", "\"4\"", "from 1 to 3"]),
            (|s| s.clusters[2].gateways = Some(1), &["clusters[c].gateways", "P2P"]),
            (|s| s.mtu = 1000, &["mtu", "\"1000\"", "1280"]),
            (|s| s.pods_per_node = 0, &["podsPerNode", "\"0\""]),
            (|s| s.families.clear(), &["families", "write ipv4"]),
            (|s| s.families = vec![Family::V4, Family::V4], &["families", "IPv4,IPv4", "each once"]),
            (|s| s.clusters[0].pod_cidrs = vec!["10.1/16".into()], &["clusters[a].podCIDRs", "10.1/16"]),
            (|s| s.clusters[0].pod_cidrs = vec!["10.1.2.3/16".into()], &["host bits", "write 10.1.0.0/16"]),
            (|s| s.clusters[0].pod_cidrs = vec!["10.1.0.0/23".into()], &["10.1.0.0/23", "3 nodes"]),
            (|s| s.clusters[0].pod_cidrs = vec!["172.16.0.0/12".into()], &["172.31.0.0/16", "itself uses"]),
            (
                |s| s.clusters[0].pod_cidrs = vec!["10.1.0.0/16".into(), "10.3.0.0/16".into()],
                &["10.3.0.0/16", "second IPv4"],
            ),
            (|s| s.clusters[0].service_cidrs = vec!["10.1.8.0/24".into()], &["own pod CIDR 10.1.0.0/16"]),
            (|s| s.clusters[0].service_cidrs = vec!["10.8.0.0/30".into()], &["10.8.0.0/30", "too small"]),
            (
                |s| {
                    s.families = vec![Family::V4];
                    s.clusters[0].pod_cidrs = vec!["fd01::/48".into()];
                },
                &["fd01::/48", "no IPv6"],
            ),
            (
                |s| {
                    s.control_plane = ControlPlane::Kubernetes;
                    s.families = vec![Family::V6];
                },
                &["clusters[a].families", "add ipv4"],
            ),
            (
                |s| {
                    s.control_plane = ControlPlane::Kubernetes;
                    s.clusters[1].underlay = Some(vec![Family::V4]);
                },
                &["clusters[b].underlay", "flannel"],
            ),
        ];
        for (change, words) in cases {
            let mut scenario = Scenario::default();
            change(&mut scenario);
            let message = scenario.layout().unwrap_err().to_string();
            for word in *words {
                assert!(message.contains(word), "{message:?} lacks {word:?}");
            }
        }
    }
}
