//! The kernel as it is, as JSON: what is ours, and what of the host our decisions depend on.

use std::net::IpAddr;

use agent_core::firewall::{Accept, ActualFirewall};
use agent_core::{Actual, ActualNexthop, Host, Kernel, KernelError, Nexthop, Reading, Route};
use serde_json::{Value, json};

/// Reads the kernel and writes nothing.
pub fn dump(kernel: &mut impl Kernel) -> Result<Value, KernelError> {
    kernel.read(Reading::Whole)?;
    let actual = kernel.actual();
    Ok(json!({
        "devices": devices(actual),
        "sysctls": actual.sysctls.iter().map(|(key, value)| {
            let (family, file) = key.setting.path();
            json!({"key": format!("net.{family}.conf.{}.{file}", key.device.name()), "value": value})
        }).collect::<Vec<_>>(),
        "addresses": actual.addresses.iter()
            .map(|(device, address)| json!({"device": device.name(), "address": address}))
            .collect::<Vec<_>>(),
        "neighbours": actual.neighbours.iter().map(|((device, address), mac)| {
            json!({"device": device.name(), "address": address, "mac": mac.map(|mac| mac.to_string())})
        }).collect::<Vec<_>>(),
        "fdb": actual.fdb.iter().map(|(device, mac, to)| {
            json!({"device": device.name(), "mac": mac.to_string(), "to": to})
        }).collect::<Vec<_>>(),
        "nexthops": nexthops(actual),
        "routes": routes(actual),
        "rules": actual.rules.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "firewall": firewall(&actual.firewall),
        "host": host(&actual.host),
    }))
}

fn devices(actual: &Actual) -> Vec<Value> {
    let device = |(vtep, device): (&api::Vtep, &agent_core::ActualDevice)| {
        json!({
            "name": vtep.name(), "index": device.index, "owner": format!("{:?}", device.owner),
            "vni": device.vni, "port": device.port, "local": device.local, "parent": device.parent,
            "mac": device.mac.map(|mac| mac.to_string()), "mtu": device.mtu, "up": device.up,
            "learning": device.learning,
        })
    };
    actual.devices.iter().map(device).collect()
}

fn nexthops(actual: &Actual) -> Vec<Value> {
    let nexthop = |(id, nexthop): (&u32, &ActualNexthop)| match nexthop {
        ActualNexthop::Ours(Nexthop::Single { device, gateway }) => {
            json!({"id": id, "device": device.name(), "gateway": gateway})
        }
        ActualNexthop::Ours(Nexthop::Group { members, resilience }) => {
            json!({"id": id, "members": members, "buckets": resilience.map(|resilience| resilience.buckets)})
        }
        ActualNexthop::Odd => json!({"id": id, "odd": true}),
        ActualNexthop::Foreign => json!({"id": id, "foreign": true}),
    };
    actual.nexthops.iter().map(nexthop).collect()
}

fn routes(actual: &Actual) -> Vec<Value> {
    let what = |route: &Option<Route>| match route {
        Some(Route::Via { nexthop, source, mtu }) => {
            json!({"nexthop": nexthop, "source": source, "mtu": mtu})
        }
        Some(Route::Unreachable) => json!({"unreachable": true}),
        None => json!({"odd": true}),
    };
    let route = |(key, to): (&agent_core::RouteKey, &Option<Route>)| {
        let mut value = what(to);
        value["table"] = json!(key.table);
        value["destination"] = json!(key.destination);
        value["metric"] = json!(key.metric);
        value
    };
    actual.routes.iter().map(route).collect()
}

fn firewall(firewall: &ActualFirewall) -> Value {
    let accept = |accept: Accept| match accept {
        Accept::InPlace(mark) => format!("in place, of mark {mark:#x}"),
        Accept::Absent => "absent".to_owned(),
        other => format!("{other:?}"),
    };
    let chains: Vec<Value> = firewall
        .chains
        .iter()
        .map(|(chain, state)| {
            json!({"chain": chain.to_string(), "drops": state.drops, "accept": accept(state.accept)})
        })
        .collect();
    json!({
        "table": firewall.table.as_ref().map(agent_core::firewall::Table::replacement),
        "forwardChains": chains,
        "unreadable": firewall.unreadable,
    })
}

fn host(host: &Host) -> Value {
    let links: Vec<Value> = host
        .links
        .iter()
        .map(|(index, link)| {
            let addresses: Vec<_> = link.addresses.iter().map(|address| address.network).collect();
            json!({
                "index": index, "name": link.name, "mtu": link.mtu, "bridge": link.bridge,
                "vxlan": link.vxlan.map(|(vni, port)| json!({"vni": vni, "port": port})),
                "addresses": addresses,
            })
        })
        .collect();
    let routes: Vec<String> = host.routes.iter().map(ToString::to_string).collect();
    let routers: Vec<&IpAddr> = host.routers.iter().collect();
    let forwarding: Vec<Value> =
        host.forwarding.iter().map(|(family, on)| json!({"family": family.to_string(), "on": on})).collect();
    json!({
        "links": links, "routes": routes, "routers": routers, "forwarding": forwarding,
        "resilientGroups": host.resilient_groups,
    })
}
