//! Cilium: `cilium-config` says how addresses are handed out, and so which objects hold the CIDRs.
//!
//! | `ipam` | cluster | node |
//! |---|---|---|
//! | `cluster-pool` (default), `cluster-pool-v2beta` | `cluster-pool-ipv4-cidr`, `-ipv6-cidr` | CiliumNode |
//! | `kubernetes` | `Node.spec.podCIDRs` | the same |
//! | `multi-pool` | `CiliumPodIPPool` | CiliumNode |
//!
//! A CiliumNode holds its CIDRs in `spec.ipam.podCIDRs` or in `spec.ipam.pools.allocated`; both are read whatever the
//! mode is, because the operator converts the one to the other node by node while a cluster moves to `multi-pool`. A
//! CIDR that a node holds is the cluster's also where it has been taken out of its pool: its pods keep their addresses.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::{
    Facts, NODES, Observed, Problem, WatchSpec,
    cidr::aggregate,
    field::{self, Cidrs, at, name},
    node,
};

const CONFIG: WatchSpec = WatchSpec::config_map("kube-system", "cilium-config");
const CILIUM_NODES: WatchSpec =
    WatchSpec::all("cilium.io", "v2", "CiliumNode", "ciliumnodes").or_not_served();
const POOLS: WatchSpec =
    WatchSpec::all("cilium.io", "v2alpha1", "CiliumPodIPPool", "ciliumpodippools").or_not_served();

/// What it reads.
pub(crate) const WATCHES: &[WatchSpec] = &[NODES, CONFIG, CILIUM_NODES, POOLS];

const MODES: &str = "cluster-pool, kubernetes and multi-pool";

/// What shows that Cilium is here, and hands out addresses itself.
pub(crate) fn sign(observed: &Observed) -> Option<&'static str> {
    let config = observed.first(&CONFIG)?;
    let chained = !matches!(setting(config, "cni-chaining-mode"), None | Some("none" | "portmap"));
    (!chained).then_some("ConfigMap cilium-config found")
}

pub(crate) fn read(observed: &Observed) -> Facts {
    let mut problems = unreadable(observed, &CONFIG);
    let Some(config) = observed.first(&CONFIG) else {
        problems.push(Problem::Missing {
            adapter: "cilium",
            object: format!("ConfigMap {}", "kube-system/cilium-config"),
            remedy: "set spec.clusterLinkOptions.cni to the CNI in use",
        });
        return Facts { problems, ..Facts::default() };
    };
    match setting(config, "ipam").unwrap_or("cluster-pool") {
        "cluster-pool" | "cluster-pool-v2beta" => cluster_pool(observed, config, problems),
        "kubernetes" => kubernetes(observed, problems),
        "multi-pool" => multi_pool(observed, problems),
        other => {
            problems.push(Problem::Unsupported {
                object: format!("ConfigMap {}", field::key(config)),
                field: "data[ipam]".to_owned(),
                value: other.to_owned(),
                valid: MODES,
            });
            Facts { problems, ..Facts::default() }
        }
    }
}

fn setting<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    at(config, "data")?.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// Whether a family is switched on; both keys stand in every `cilium-config`, absent means on for IPv4 only.
fn enabled(config: &Value, key: &str, default: bool) -> bool {
    setting(config, key).map_or(default, |text| text == "true")
}

fn cluster_pool(observed: &Observed, config: &Value, mut problems: Vec<Problem>) -> Facts {
    let mut cidrs = Cidrs::of("ConfigMap", config, &mut problems);
    let mut keys = Vec::new();
    for (key, switch, default) in
        [("cluster-pool-ipv4-cidr", "enable-ipv4", true), ("cluster-pool-ipv6-cidr", "enable-ipv6", false)]
    {
        let Some(list) = setting(config, key).filter(|_| enabled(config, switch, default)) else { continue };
        keys.push(key);
        for item in list.split(|c: char| c.is_whitespace() || c == ',').filter(|item| !item.is_empty()) {
            cidrs.take(&format!("data[{key}]"), item);
        }
    }
    let pooled = cidrs.found();
    if pooled.is_empty() {
        problems.push(Problem::Missing {
            adapter: "cilium",
            object: format!("CIDR under cluster-pool-ipv4-cidr in ConfigMap {}", field::key(config)),
            remedy: "set clusterPoolIPv4PodCIDRList in Cilium's values",
        });
    }
    let source = format!("ConfigMap {}, {}", field::key(config), keys.join(" and "));
    handed_out(observed, pooled, source, problems)
}

fn kubernetes(observed: &Observed, mut problems: Vec<Problem>) -> Facts {
    let mut facts = node::read(observed);
    problems.append(&mut facts.problems);
    Facts { problems, ..facts }
}

fn multi_pool(observed: &Observed, mut problems: Vec<Problem>) -> Facts {
    problems.extend(unreadable(observed, &POOLS));
    let mut found = Vec::new();
    for pool in observed.of(&POOLS) {
        let mut cidrs = Cidrs::of("CiliumPodIPPool", pool, &mut problems);
        cidrs.take_list("spec.ipv4.cidrs", at(pool, "spec.ipv4.cidrs"));
        cidrs.take_list("spec.ipv6.cidrs", at(pool, "spec.ipv6.cidrs"));
        found.extend(cidrs.found());
    }
    if !observed.any(&POOLS) {
        problems.push(Problem::Missing {
            adapter: "cilium",
            object: POOLS.to_string(),
            remedy: "create a CiliumPodIPPool; the mode multi-pool hands out addresses of those only",
        });
    }
    let names: Vec<&str> = observed.of(&POOLS).map(name).collect();
    let source = format!("CiliumPodIPPool {}", names.join(", "));
    handed_out(observed, found, source, problems)
}

/// What the operator hands out of `pooled` to each node.
fn handed_out(
    observed: &Observed,
    pooled: Vec<IpNetwork>,
    source: String,
    mut problems: Vec<Problem>,
) -> Facts {
    let per_node = per_node(observed, &mut problems);
    if pooled.is_empty() {
        return Facts { adapter: String::new(), pod_cidrs: Vec::new(), per_node, source, problems };
    }
    let pod_cidrs = aggregate(pooled.into_iter().chain(per_node.values().flatten().copied()));
    Facts { adapter: String::new(), pod_cidrs, per_node, source, problems }
}

fn per_node(observed: &Observed, problems: &mut Vec<Problem>) -> BTreeMap<String, Vec<IpNetwork>> {
    problems.extend(unreadable(observed, &CILIUM_NODES));
    if !observed.any(&CILIUM_NODES) {
        problems.push(Problem::Missing {
            adapter: "cilium",
            object: "CiliumNode".to_owned(),
            remedy: "Cilium's agents make one for each node; let this controller read them",
        });
    }
    let mut per_node = BTreeMap::new();
    for node in observed.of(&CILIUM_NODES) {
        let mut cidrs = Cidrs::of("CiliumNode", node, problems);
        cidrs.take_list("spec.ipam.podCIDRs", at(node, "spec.ipam.podCIDRs"));
        let pools = at(node, "spec.ipam.pools.allocated").and_then(Value::as_array);
        for (index, pool) in pools.into_iter().flatten().enumerate() {
            let field = format!("spec.ipam.pools.allocated[{index}].cidrs");
            cidrs.take_list(&field, pool.get("cidrs"));
        }
        let found = cidrs.found();
        if !found.is_empty() {
            per_node.insert(name(node).to_owned(), aggregate(found));
        }
    }
    per_node
}

fn unreadable(observed: &Observed, watch: &WatchSpec) -> Vec<Problem> {
    let error = observed.failed(watch);
    let problem = |error: &str| Problem::Unreadable { object: watch.to_string(), error: error.to_owned() };
    error.map(problem).into_iter().collect()
}
