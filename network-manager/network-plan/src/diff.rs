//! What a new plan would change, entry by entry, as data.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    NodeConfigSpec,
    node_config::{Device, Firewall, Route},
};

/// One entry of a NodeConfig that comes, goes or changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The NodeConfig's name.
    pub node: String,
    /// The field that the entry stands in.
    pub field: &'static str,
    /// What tells the entry from its neighbours, such as a route's CIDR.
    pub key: String,
    /// The entry's value now, if it is there.
    pub from: Option<String>,
    /// The entry's value then, if it will be there.
    pub to: Option<String>,
}

/// NodeConfigs by name.
pub type Configs = BTreeMap<String, NodeConfigSpec>;

/// Everything that differs, in order. What differs in order only does not.
pub fn diff(desired: &Configs, actual: &Configs) -> Vec<Change> {
    let nothing = NodeConfigSpec::default();
    let names: BTreeSet<&String> = desired.keys().chain(actual.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let from = entries(actual.get(name).unwrap_or(&nothing));
        let to = entries(desired.get(name).unwrap_or(&nothing));
        let keys: BTreeSet<&Key> = from.keys().chain(to.keys()).collect();
        for key in keys.into_iter().filter(|key| from.get(*key) != to.get(*key)) {
            changes.push(Change {
                node: name.clone(),
                field: key.0,
                key: key.1.clone(),
                from: from.get(key).cloned(),
                to: to.get(key).cloned(),
            });
        }
    }
    changes
}

type Key = (&'static str, String);

fn entries(spec: &NodeConfigSpec) -> BTreeMap<Key, String> {
    let mut entries = BTreeMap::new();
    let mut add = |field, key: String, value: String| {
        entries.insert((field, key), value);
    };
    for device in &spec.devices {
        add("devices", device.name.clone(), device_text(device));
    }
    for (field, routes) in [("routes", &spec.routes), ("inboundRoutes", &spec.inbound_routes)] {
        for route in routes {
            add(field, route.cidr.clone(), route_text(route));
        }
    }
    for cidr in &spec.unreachable {
        add("unreachable", cidr.clone(), String::new());
    }
    for fdb in &spec.fdbs {
        add("fdbs", format!("{} dev {}", fdb.mac, fdb.dev), fdb.ip.clone());
    }
    for arp in &spec.arps {
        add("arps", format!("{} dev {}", arp.ip, arp.dev), arp.mac.clone());
    }
    for rule in &spec.iptables {
        add("iptables", format!("{} {} {}", rule.table, rule.chain, rule.rule), String::new());
    }
    if let Some(priority) = spec.rule_priority {
        add("rulePriority", String::new(), priority.to_string());
    }
    for (field, key) in spec.firewall.iter().flat_map(firewall_entries) {
        add(field, key, String::new());
    }
    entries
}

fn device_text(device: &Device) -> String {
    let extra: String = device.extra_addrs.iter().map(|address| format!(" {address}")).collect();
    let mtu = device.mtu.map_or(String::new(), |mtu| format!(" mtu {mtu}"));
    let Device { kind, addr, mac, bind_dev, id, port, .. } = device;
    format!("{kind} {addr}{extra} mac {mac} over {bind_dev} vni {id} port {port}{mtu}")
}

fn route_text(route: &Route) -> String {
    let gateways: Vec<&str> = route.gateways().collect();
    let mtu = route.mtu.map_or(String::new(), |mtu| format!(" mtu {mtu}"));
    format!("via {} dev {}{mtu}", gateways.join(" "), route.dev)
}

fn firewall_entries(firewall: &Firewall) -> Vec<Key> {
    let sets = [
        ("firewall.podCIDRs", &firewall.pod_cidrs),
        ("firewall.nodePodCIDRs", &firewall.node_pod_cidrs),
        ("firewall.serviceCIDRs", &firewall.service_cidrs),
        ("firewall.overlayCIDRs", &firewall.overlay_cidrs),
        ("firewall.remoteCIDRs", &firewall.remote_cidrs),
    ];
    let mut entries: Vec<Key> = sets
        .into_iter()
        .flat_map(|(field, cidrs)| cidrs.iter().map(move |cidr| (field, cidr.clone())))
        .collect();
    let refused = firewall.refused.iter();
    entries.extend(refused.map(|pair| ("firewall.refused", format!("{} to {}", pair.from, pair.to))));
    if firewall.transit {
        entries.push(("firewall.transit", "true".to_owned()));
    }
    entries.extend(firewall.mark.map(|mark| ("firewall.mark", format!("{mark:#x}"))));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(cidrs: &[&str]) -> Configs {
        let route = |cidr: &&str| Route {
            cidr: (*cidr).to_owned(),
            gw: "241.0.0.1".to_owned(),
            dev: "vx-bridge".to_owned(),
            ..Route::default()
        };
        let spec = NodeConfigSpec { routes: cidrs.iter().map(route).collect(), ..NodeConfigSpec::default() };
        Configs::from([("a-n1".to_owned(), spec)])
    }

    #[test]
    fn equal_configs_do_not_differ_whatever_their_order() {
        let (one, two) = (config(&["10.1.0.0/16", "10.2.0.0/16"]), config(&["10.2.0.0/16", "10.1.0.0/16"]));
        assert_eq!(diff(&one, &one), []);
        assert_eq!(diff(&one, &two), []);
    }

    #[test]
    fn what_comes_goes_and_changes_is_named() {
        let old = config(&["10.1.0.0/16", "10.2.0.0/16"]);
        let mut new = config(&["10.2.0.0/16", "10.3.0.0/16"]);
        new.get_mut("a-n1").unwrap().routes[0].mtu = Some(1400);
        let lines: Vec<String> = diff(&new, &old)
            .into_iter()
            .map(|c| format!("{} {} {:?} {:?}", c.field, c.key, c.from, c.to))
            .collect();
        assert_eq!(
            lines,
            [
                r#"routes 10.1.0.0/16 Some("via 241.0.0.1 dev vx-bridge") None"#,
                r#"routes 10.2.0.0/16 Some("via 241.0.0.1 dev vx-bridge") Some("via 241.0.0.1 dev vx-bridge mtu 1400")"#,
                r#"routes 10.3.0.0/16 None Some("via 241.0.0.1 dev vx-bridge")"#,
            ]
        );
        assert_eq!(diff(&Configs::new(), &new).len(), 2);
    }
}
