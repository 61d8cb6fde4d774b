//! A small CNI in the manner of flannel's host-gw: a bridge, a veth for each pod, routes to the other nodes, and
//! flannel's whole masquerade.

use api::Family;
use ipnetwork::IpNetwork;

use super::node::next_hop;
use super::{CNI_BRIDGE, Device, DeviceKind, Route, UPLINK, within};
use crate::addressing::{ClusterLayout, NodeLayout};
use crate::scenario::Masquerade as Kind;

pub(super) fn devices(cluster: &ClusterLayout, node: &NodeLayout) -> Vec<Device> {
    let addresses = node.bridge.iter().zip(&node.pod_cidrs).map(|(&address, &cidr)| within(address, cidr));
    let bridge = Device {
        name: CNI_BRIDGE.to_owned(),
        kind: DeviceKind::Bridge,
        mtu: cluster.mtu,
        bridge: None,
        addresses: addresses.collect(),
    };
    let port = |(number, pod): (usize, &crate::addressing::PodLayout)| Device {
        name: format!("veth{number}"),
        kind: DeviceKind::VethTo { place: pod.place.clone(), mtu: cluster.mtu },
        mtu: cluster.mtu,
        bridge: Some(CNI_BRIDGE.to_owned()),
        addresses: Vec::new(),
    };
    std::iter::once(bridge).chain((1..).zip(&node.pods).map(port)).collect()
}

/// To every other node's pods by way of that node.
pub(super) fn routes(cluster: &ClusterLayout, node: &NodeLayout) -> Vec<Route> {
    let others = cluster.nodes.iter().filter(|other| other.number != node.number);
    let to = |other: &NodeLayout, cidr: IpNetwork| Route {
        to: cidr,
        via: Some(next_hop(cluster, other, Family::of_network(cidr))),
        device: UPLINK.to_owned(),
    };
    others.flat_map(|other| other.pod_cidrs.iter().map(move |&cidr| to(other, cidr))).collect()
}

/// What the CNI's rules of one family speak of.
pub(super) struct Masquerade {
    /// The cluster's pods.
    pub(super) cluster: IpNetwork,
    /// This node's pods.
    pub(super) node: IpNetwork,
    /// Whose rules.
    pub(super) kind: Kind,
}

impl Masquerade {
    /// Lines of the table `nat` for iptables-restore: flannel's chain as flannel v0.22 and later write it.
    pub(super) fn iptables(&self) -> Vec<String> {
        let Masquerade { cluster, node, kind } = self;
        let multicast = multicast(*cluster);
        let comment = "-m comment --comment \"flanneld masq\"";
        let mut lines = vec![
            ":FLANNEL-POSTRTG -".to_owned(),
            format!("-A POSTROUTING {comment} -j FLANNEL-POSTRTG"),
            format!("-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {comment} -j RETURN"),
            format!("-A FLANNEL-POSTRTG -s {node} -d {cluster} {comment} -j RETURN"),
            format!("-A FLANNEL-POSTRTG -s {cluster} -d {node} {comment} -j RETURN"),
            format!("-A FLANNEL-POSTRTG ! -s {cluster} -d {node} {comment} -j RETURN"),
            format!(
                "-A FLANNEL-POSTRTG -s {cluster} ! -d {multicast} {comment} -j MASQUERADE --random-fully"
            ),
        ];
        if *kind == Kind::Flannel {
            lines.push(format!(
                "-A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} {comment} -j MASQUERADE --random-fully"
            ));
        }
        lines
    }

    /// The same as a native table.
    pub(super) fn nft(&self) -> String {
        let Masquerade { cluster, node, kind } = self;
        let (table, ip, multicast) = match Family::of_network(*cluster) {
            Family::V4 => ("flannel-ipv4", "ip", multicast(*cluster)),
            Family::V6 => ("flannel-ipv6", "ip6", multicast(*cluster)),
        };
        let entering = match kind {
            Kind::Flannel => {
                format!("    {ip} saddr != {cluster} {ip} daddr {cluster} masquerade fully-random\n")
            }
            Kind::Outgoing => String::new(),
        };
        format!(
            "table {ip} {table} {{
  chain postrtg {{
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & 0x4000 == 0x4000 return
    {ip} saddr {node} {ip} daddr {cluster} return
    {ip} saddr {cluster} {ip} daddr {node} return
    {ip} saddr != {cluster} {ip} daddr {node} return
    {ip} saddr {cluster} {ip} daddr != {multicast} masquerade fully-random
{entering}  }}
}}
"
        )
    }
}

fn multicast(cidr: IpNetwork) -> &'static str {
    match Family::of_network(cidr) {
        Family::V4 => "224.0.0.0/4",
        Family::V6 => "ff00::/8",
    }
}
