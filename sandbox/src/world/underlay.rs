//! The root namespace: a bridge that every node is attached to, and a router to the outside.

use api::Family;

use super::{Device, DeviceKind, Space, UNDERLAY_BRIDGE, link_local, router_sysctls, within};
use crate::addressing::{
    ClusterLayout, Layout, NodeLayout, OUTSIDE, ROOT, outside_link, outside_network, underlay_gateway,
    underlay_network,
};

/// The root namespace. It knows no pod and no service: what leaves a node unmasqueraded never comes back.
pub(super) fn space(layout: &Layout) -> Space {
    let mtu = layout.clusters.iter().map(|cluster| cluster.mtu).max().unwrap_or(1500);
    let mut devices = vec![bridge(mtu), to_outside(mtu)];
    devices.extend(layout.nodes().map(|(cluster, node)| port(cluster, node, mtu)));
    Space {
        place: ROOT.to_owned(),
        sysctls: router_sysctls(),
        devices,
        routes: Vec::new(),
        rulesets: Vec::new(),
    }
}

/// The bridge with the address of both families: controllers reach API servers by either.
fn bridge(mtu: u32) -> Device {
    let mut addresses: Vec<_> = Family::ALL
        .into_iter()
        .map(|family| within(underlay_gateway(family), underlay_network(family)))
        .collect();
    addresses.push(within(link_local(0, 1), underlay_network(Family::V6)));
    Device { name: UNDERLAY_BRIDGE.to_owned(), kind: DeviceKind::Bridge, mtu, bridge: None, addresses }
}

fn to_outside(mtu: u32) -> Device {
    let address = |family| within(outside_link(family)[0], outside_network(family));
    Device {
        name: OUTSIDE.to_owned(),
        kind: DeviceKind::VethTo { place: OUTSIDE.to_owned(), mtu },
        mtu,
        bridge: None,
        addresses: Family::ALL.map(address).to_vec(),
    }
}

fn port(cluster: &ClusterLayout, node: &NodeLayout, mtu: u32) -> Device {
    Device {
        name: format!("node{}-{}", cluster.index, node.number),
        kind: DeviceKind::VethTo { place: node.place.clone(), mtu: cluster.mtu },
        mtu,
        bridge: Some(UNDERLAY_BRIDGE.to_owned()),
        addresses: Vec::new(),
    }
}
