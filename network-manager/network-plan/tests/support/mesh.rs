//! Random meshes: modes, families, underlays with holes, public addresses, overlaps.

use std::net::IpAddr;

use api::{
    Cluster, ClusterLinkOptions, ClusterNode, ClusterNodeSpec, ClusterSpec, IpFamily, NetworkType,
    cluster::{ClusterLinkStatus, ClusterStatus},
    cluster_node::ClusterNodeStatus,
};
use proptest::prelude::*;

use super::Input;

/// A node in few numbers.
#[derive(Clone, Debug)]
struct NodeDraw {
    v4: bool,
    v6: bool,
    gateway: bool,
    blocks: u8,
    mtu: Option<u32>,
}

/// A cluster in few numbers.
#[derive(Clone, Debug)]
struct ClusterDraw {
    gateway: bool,
    family: IpFamily,
    /// Which ranges its pods and services come from: few, so that they often overlap.
    pods: u8,
    services: u8,
    wide: bool,
    /// Behind 1:1 NAT, with the same private addresses as every other cluster that is.
    nat: bool,
    nodes: Vec<NodeDraw>,
}

fn node() -> impl Strategy<Value = NodeDraw> {
    let mtu = prop_oneof![Just(None), Just(Some(1500)), Just(Some(9000)), Just(Some(1400))];
    (any::<bool>(), any::<bool>(), any::<bool>(), 0u8..3, mtu)
        .prop_map(|(v4, v6, gateway, blocks, mtu)| NodeDraw { v4, v6, gateway, blocks, mtu })
}

fn cluster() -> impl Strategy<Value = ClusterDraw> {
    let family = prop_oneof![3 => Just(IpFamily::All), 1 => Just(IpFamily::Ipv4), 1 => Just(IpFamily::Ipv6)];
    let nodes = proptest::collection::vec(node(), 1..5);
    (
        any::<bool>(),
        family,
        0u8..8,
        0u8..6,
        proptest::bool::weighted(0.15),
        proptest::bool::weighted(0.3),
        nodes,
    )
        .prop_map(|(gateway, family, pods, services, wide, nat, nodes)| ClusterDraw {
            gateway,
            family,
            pods,
            services,
            wide,
            nat,
            nodes,
        })
}

/// Any valid mesh of two to four clusters.
pub fn mesh() -> impl Strategy<Value = Input> {
    proptest::collection::vec(cluster(), 2..5).prop_map(|draws| {
        let mut input = Input::default();
        for (number, draw) in draws.iter().enumerate() {
            add(&mut input, number, draw);
        }
        input
    })
}

fn add(input: &mut Input, number: usize, draw: &ClusterDraw) {
    let name = format!("c{number}");
    let mut object = Cluster::new(&name, ClusterSpec::default());
    object.spec.cluster_link_options = Some(ClusterLinkOptions {
        network_type: if draw.gateway { NetworkType::Gateway } else { NetworkType::P2p },
        ip_family: draw.family,
        ..ClusterLinkOptions::default()
    });
    // The wide range overlaps four of the others, and with one's own nodes' blocks only in part.
    let (pods, width) = if draw.wide { (draw.pods & 4, 14) } else { (draw.pods, 16) };
    let status = ClusterLinkStatus {
        pod_cidrs: vec![format!("10.{pods}.0.0/{width}"), format!("fd10:{pods}::/32")],
        service_cidrs: vec![format!("10.9{}.0.0/16", draw.services), format!("fd90:{}::/108", draw.services)],
        ..ClusterLinkStatus::default()
    };
    object.status = Some(ClusterStatus { cluster_link_status: Some(status), ..ClusterStatus::default() });
    input.clusters.push(object);
    for (at, node) in draw.nodes.iter().enumerate() {
        input.nodes.push(node_object(&name, (number, at), draw, node, pods));
    }
}

fn node_object(
    cluster: &str,
    (number, at): (usize, usize),
    draw: &ClusterDraw,
    node: &NodeDraw,
    pods: u8,
) -> ClusterNode {
    // A gateway-mode cluster's own underlay has one family that all of its nodes have.
    let base_v6 = draw.pods & 1 == 1;
    let v4 = node.v4 || (draw.gateway && !base_v6) || !node.v6;
    let v6 = node.v6 || (draw.gateway && base_v6);
    let site = if draw.nat { 0 } else { number + 1 };
    let blocks = (0..node.blocks).flat_map(|block| {
        let third = at * 4 + usize::from(block);
        [format!("10.{pods}.{third}.0/24"), format!("fd10:{pods}:{third}::/64")]
    });
    let spec = ClusterNodeSpec {
        cluster_name: Some(cluster.to_owned()),
        node_name: Some(format!("n{at}")),
        pod_cidrs: blocks.collect(),
        ip: v4.then(|| format!("172.16.{site}.{}", at + 1)),
        ip6: v6.then(|| format!("fc00:{}::{}", number + 1, at + 1)),
        interface_name: Some("eth0".to_owned()),
        roles: if node.gateway || at == 0 { vec!["gateway".to_owned()] } else { Vec::new() },
        public_ip: (draw.nat && v4).then(|| format!("198.51.{}.{}", number + 1, at + 1)),
    };
    let mut object = ClusterNode::new(&format!("{cluster}-n{at}"), spec);
    object.status = Some(ClusterNodeStatus { mtu: node.mtu, ..ClusterNodeStatus::default() });
    object
}

/// An address of a pod in a block or of a service in a range.
pub fn inside(net: ipnetwork::IpNetwork) -> IpAddr {
    match net {
        ipnetwork::IpNetwork::V4(net) => IpAddr::V4((u32::from(net.network()) + 7).into()),
        ipnetwork::IpNetwork::V6(net) => IpAddr::V6((u128::from(net.network()) + 7).into()),
    }
}
