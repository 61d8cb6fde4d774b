//! A pod: one interface, whose only neighbour is the node.

use api::Family;

use super::{Device, DeviceKind, Route, Space, UPLINK, base_sysctls, host_prefix};
use crate::addressing::{ClusterLayout, NodeLayout, PodLayout};

/// A pod that a CNI plugin is going to wire.
pub(super) fn unwired(pod: &PodLayout) -> Space {
    Space {
        place: pod.place.clone(),
        sysctls: base_sysctls(),
        devices: Vec::new(),
        routes: Vec::new(),
        rulesets: Vec::new(),
    }
}

pub(super) fn space(cluster: &ClusterLayout, node: &NodeLayout, pod: &PodLayout) -> Space {
    let mut routes = Vec::new();
    for &gateway in &node.bridge {
        routes.push(Route { to: host_prefix(gateway), via: None, device: UPLINK.to_owned() });
        routes.push(Route::default_via(gateway, Family::of(gateway)));
    }
    Space {
        place: pod.place.clone(),
        sysctls: base_sysctls(),
        devices: vec![Device {
            name: UPLINK.to_owned(),
            kind: DeviceKind::VethEnd,
            mtu: cluster.mtu,
            bridge: None,
            addresses: pod.addresses.iter().map(|&address| host_prefix(address)).collect(),
        }],
        routes,
        rulesets: Vec::new(),
    }
}
