//! The rest of the world: one host that knows the way to the nodes, and to nothing behind them.

use api::Family;

use super::{Device, DeviceKind, Route, Space, UPLINK, base_sysctls, within};
use crate::addressing::{Layout, OUTSIDE, outside_link, outside_network, underlay_network};

pub(super) fn space(layout: &Layout) -> Space {
    let mtu = layout.clusters.iter().map(|cluster| cluster.mtu).max().unwrap_or(1500);
    let address = |family| within(outside_link(family)[1], outside_network(family));
    let route = |family| Route {
        to: underlay_network(family),
        via: Some(outside_link(family)[0]),
        device: UPLINK.to_owned(),
    };
    Space {
        place: OUTSIDE.to_owned(),
        sysctls: base_sysctls(),
        devices: vec![Device {
            name: UPLINK.to_owned(),
            kind: DeviceKind::VethEnd,
            mtu,
            bridge: None,
            addresses: Family::ALL.map(address).to_vec(),
        }],
        routes: Family::ALL.map(route).to_vec(),
        rulesets: Vec::new(),
    }
}
