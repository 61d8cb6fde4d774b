//! Step 5: a node's plan as the text of its NodeConfig, in one order and without repetition.

use api::{
    NodeConfigSpec,
    node_config::{Arp, CidrPair, Device, Fdb, Firewall, Route},
};
use ipnetwork::IpNetwork;

use crate::{
    node_plan::{self, NodePlan},
    span::Span,
};

/// The NodeConfig that says what this plan says.
pub fn render(plan: &NodePlan) -> NodeConfigSpec {
    let parts = [plan.shared.as_ref(), &plan.own];
    let mut arps: Vec<Arp> = parts.iter().flat_map(|part| &part.neighbours).map(arp).collect();
    let mut fdbs: Vec<Fdb> = parts.iter().flat_map(|part| &part.forwards).map(fdb).collect();
    // Sorted as text: no meaning, but the same everywhere and easy to search.
    arps.sort_unstable();
    arps.dedup();
    fdbs.sort_unstable();
    fdbs.dedup();
    NodeConfigSpec {
        devices: plan.devices.iter().map(device).collect(),
        routes: routes(parts.iter().flat_map(|part| &part.routes).collect()),
        inbound_routes: routes(plan.inbound.iter().collect()),
        unreachable: texts(&plan.unreachable),
        fdbs,
        arps,
        firewall: Some(firewall(&plan.firewall)),
        rule_priority: plan.rule_priority,
        iptables: Vec::new(),
    }
}

fn device(device: &node_plan::Device) -> Device {
    let host = |address| crate::span::host(address).to_string();
    Device {
        kind: "vxlan".to_owned(),
        name: device.vtep.name().to_owned(),
        addr: host(device.address),
        mac: device.mac.to_string(),
        bind_dev: device.interface.clone(),
        id: device.vtep.vni() as i32,
        port: i32::from(device.port),
        extra_addrs: device.extra.into_iter().map(host).collect(),
        mtu: device.mtu,
    }
}

fn routes(mut routes: Vec<&node_plan::Route>) -> Vec<Route> {
    routes.sort_by_key(|route| Span::of(route.net));
    routes.into_iter().map(route).collect()
}

fn route(route: &node_plan::Route) -> Route {
    let gws: Vec<String> = route.vias.iter().map(ToString::to_string).collect();
    Route {
        cidr: route.net.to_string(),
        gw: gws.first().cloned().unwrap_or_default(),
        dev: route.device.name().to_owned(),
        gws: if gws.len() > 1 { gws } else { Vec::new() },
        mtu: route.mtu,
    }
}

fn arp(neighbour: &node_plan::Neighbour) -> Arp {
    let node_plan::Neighbour { address, mac, device } = neighbour;
    Arp { ip: address.to_string(), mac: mac.to_string(), dev: device.name().to_owned() }
}

fn fdb(forward: &node_plan::Forward) -> Fdb {
    let node_plan::Forward { endpoint, mac, device } = forward;
    Fdb { ip: endpoint.to_string(), mac: mac.to_string(), dev: device.name().to_owned() }
}

fn firewall(firewall: &node_plan::Firewall) -> Firewall {
    let sets = &firewall.cluster;
    let pair = |(from, to): &(IpNetwork, IpNetwork)| CidrPair { from: from.to_string(), to: to.to_string() };
    Firewall {
        pod_cidrs: texts(&sets.pods),
        node_pod_cidrs: texts(&firewall.node_pods),
        service_cidrs: texts(&sets.services),
        overlay_cidrs: texts(&sets.overlay),
        remote_cidrs: texts(&sets.remote),
        transit: firewall.transit,
        refused: firewall.refused.iter().map(pair).collect(),
        mark: None,
    }
}

fn texts(networks: &[IpNetwork]) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}
