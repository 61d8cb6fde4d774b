//! flannel: `net-conf.json` for the cluster, `Node.spec.podCIDRs` for each node (its kube subnet manager takes its
//! leases from there). Inside k3s and RKE2 there is no ConfigMap; then the Nodes' CIDRs are the cluster's.

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::{
    Facts, NODES, Observed, Problem, WatchSpec,
    cidr::aggregate,
    field::{self, Cidrs, at, text, truth},
    node,
};

/// Since flannel 0.20 in a namespace of its own, before that in kube-system. The first that is there counts.
const CONFIGS: [WatchSpec; 2] = [
    WatchSpec::config_map("kube-flannel", "kube-flannel-cfg"),
    WatchSpec::config_map("kube-system", "kube-flannel-cfg"),
];

/// What it reads.
pub(crate) const WATCHES: &[WatchSpec] = &[NODES, CONFIGS[0], CONFIGS[1]];

/// flanneld writes it on its Node, as a module of k3s too.
const BACKEND_TYPE: &str = "flannel.alpha.coreos.com/backend-type";
const NET_CONF: &str = "net-conf.json";

/// What shows that flannel is here.
pub(crate) fn sign(observed: &Observed) -> Option<&'static str> {
    if CONFIGS.iter().any(|config| observed.any(config)) {
        return Some("ConfigMap kube-flannel-cfg found");
    }
    observed.of(&NODES).any(is_flannels).then_some("flannel's annotations found on Nodes")
}

fn is_flannels(node: &Value) -> bool {
    at(node, "metadata.annotations").and_then(|annotations| annotations.get(BACKEND_TYPE)).is_some()
}

pub(crate) fn read(observed: &Observed) -> Facts {
    let mut problems = unreadable(observed);
    let per_node = node::per_node(observed, &mut problems);
    let config = CONFIGS.iter().find_map(|watch| observed.first(watch));
    let networks = config.map(|config| networks(config, &mut problems)).unwrap_or_default();
    let (pod_cidrs, source) = match config {
        Some(config) if !networks.is_empty() => {
            (aggregate(networks), format!("ConfigMap {}, {NET_CONF}", field::key(config)))
        }
        _ => (aggregate(per_node.values().flatten().copied()), node::SOURCE.to_owned()),
    };
    if pod_cidrs.is_empty() {
        problems.push(node::missing("flannel"));
    }
    Facts { adapter: String::new(), pod_cidrs, per_node, source, problems }
}

fn unreadable(observed: &Observed) -> Vec<Problem> {
    let failing = CONFIGS.iter().filter_map(|watch| Some((watch, observed.failed(watch)?)));
    failing
        .map(|(watch, error)| Problem::Unreadable { object: watch.to_string(), error: error.to_owned() })
        .collect()
}

/// `Network` unless `EnableIPv4` is false, and `IPv6Network` where `EnableIPv6` is true, as flanneld reads them.
fn networks(config: &Value, problems: &mut Vec<Problem>) -> Vec<IpNetwork> {
    let raw = at(config, "data").and_then(|data| data.get(NET_CONF)).and_then(Value::as_str);
    let parsed = raw.and_then(|raw| serde_json::from_str::<Value>(raw).ok()).filter(Value::is_object);
    let Some(net_conf) = parsed else {
        problems.push(Problem::Unusable {
            object: format!("ConfigMap {}", field::key(config)),
            field: format!("data[{NET_CONF}]"),
            value: raw.unwrap_or_default().to_owned(),
            expected: "flannel's configuration in JSON",
        });
        return Vec::new();
    };
    let before = problems.len();
    let mut cidrs = Cidrs::of("ConfigMap", config, problems);
    if at(&net_conf, "EnableIPv4") != Some(&Value::Bool(false)) {
        cidrs.take_list(&format!("{NET_CONF} Network"), at(&net_conf, "Network"));
    }
    if truth(&net_conf, "EnableIPv6") && text(&net_conf, "IPv6Network").is_some() {
        cidrs.take_list(&format!("{NET_CONF} IPv6Network"), at(&net_conf, "IPv6Network"));
    }
    let found = cidrs.found();
    if found.is_empty() && problems.len() == before {
        problems.push(Problem::Unusable {
            object: format!("ConfigMap {}", field::key(config)),
            field: format!("{NET_CONF} Network"),
            value: String::new(),
            expected: crate::cidr::EXPECTED,
        });
    }
    found
}
