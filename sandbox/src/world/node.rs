//! A node: `eth0` on the underlay, what the CNI and kube-proxy make of it, and a default route to the outside.

use std::net::IpAddr;

use api::Family;

use super::{
    Device, DeviceKind, Route, Space, UPLINK, cni, everything, firewall, link_local, router_sysctls, within,
};
use crate::addressing::{ClusterLayout, Layout, NodeLayout, underlay_gateway, underlay_network};
use crate::scenario::ControlPlane;

pub(super) fn space(layout: &Layout, cluster: &ClusterLayout, node: &NodeLayout) -> Space {
    let mut devices = vec![uplink(cluster, node)];
    let mut routes: Vec<Route> = default_routes(cluster, node).collect();
    let mut sysctls = router_sysctls();
    match layout.control_plane {
        ControlPlane::Embedded => {
            devices.extend(cni::devices(cluster, node));
            routes.extend(cni::routes(cluster, node));
        }
        // What kubeadm asks of every node, and flannel looks for.
        ControlPlane::Kubernetes => {
            let tables = ["iptables", "ip6tables"];
            sysctls.extend(tables.map(|tables| (format!("bridge/bridge-nf-call-{tables}"), "1".to_owned())));
        }
    }
    let rulesets = firewall::rulesets(layout, cluster, node);
    Space { place: node.place.clone(), sysctls, devices, routes, rulesets }
}

fn uplink(cluster: &ClusterLayout, node: &NodeLayout) -> Device {
    let underlay =
        node.underlay.iter().map(|&address| within(address, underlay_network(Family::of(address))));
    let local = within(link_local(cluster.index, node.number), underlay_network(Family::V6));
    Device {
        name: UPLINK.to_owned(),
        kind: DeviceKind::VethEnd,
        mtu: cluster.mtu,
        bridge: None,
        addresses: underlay.chain([local]).collect(),
    }
}

/// A default route for each family that the node's hosts or pods speak.
fn default_routes(cluster: &ClusterLayout, node: &NodeLayout) -> impl Iterator<Item = Route> {
    Family::ALL.into_iter().filter_map(|family| {
        let own = node.underlay.iter().any(|&address| Family::of(address) == family);
        let spoken = own || cluster.families.contains(&family);
        let via = if own { underlay_gateway(family) } else { link_local(0, 1) };
        spoken.then(|| Route { to: everything(family), via: Some(via), device: UPLINK.to_owned() })
    })
}

/// Where another node of the cluster is, for packets of this family: its underlay address of that family, else its
/// link-local one, which carries both (RFC 8950's next hops).
pub(super) fn next_hop(cluster: &ClusterLayout, node: &NodeLayout, family: Family) -> IpAddr {
    let own = node.underlay.iter().copied().find(|&address| Family::of(address) == family);
    own.unwrap_or_else(|| link_local(cluster.index, node.number))
}
