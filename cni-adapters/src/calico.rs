//! Calico: IPPools for the cluster, BlockAffinities for each node.
//!
//! Both live in `crd.projectcalico.org/v1`; where only `projectcalico.org/v3` is served (Calico's own API server,
//! or its v3 CRDs), there. A node may borrow single addresses out of another node's block: those packets reach the
//! block's node, and Calico's own host routes take them on from there.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::{
    Facts, Observed, Problem, WatchSpec,
    cidr::aggregate,
    field::{Cidrs, at, name, text, truth},
};

const CRD_GROUP: &str = "crd.projectcalico.org";
const API_GROUP: &str = "projectcalico.org";

/// In the order in which they are asked: the first that has any object counts.
const POOLS: [WatchSpec; 2] = [
    WatchSpec::all(CRD_GROUP, "v1", "IPPool", "ippools").or_not_served(),
    WatchSpec::all(API_GROUP, "v3", "IPPool", "ippools").or_not_served(),
];
const BLOCKS: [WatchSpec; 2] = [
    WatchSpec::all(CRD_GROUP, "v1", "BlockAffinity", "blockaffinities").or_not_served(),
    WatchSpec::all(API_GROUP, "v3", "BlockAffinity", "blockaffinities").or_not_served(),
];
/// What the Tigera operator installs by; it is there before the first pool is.
const INSTALLATIONS: WatchSpec =
    WatchSpec::all("operator.tigera.io", "v1", "Installation", "installations").or_not_served();

/// What it reads.
pub(crate) const WATCHES: &[WatchSpec] = &[POOLS[0], POOLS[1], BLOCKS[0], BLOCKS[1], INSTALLATIONS];

/// Pools that Kosmos makes for other clusters' CIDRs.
const FOREIGN_POOL: &str = "clusterlink-";

/// What shows that Calico is here.
pub(crate) fn sign(observed: &Observed) -> Option<&'static str> {
    let (watch, pools) = pools(observed);
    if !pools.is_empty() {
        return Some(if watch.group == API_GROUP {
            "IPPools of projectcalico.org/v3 found"
        } else if observed.any(&INSTALLATIONS) {
            "IPPools found, installed by the Tigera operator"
        } else {
            "IPPools found"
        });
    }
    let by_operator = observed.of(&INSTALLATIONS).any(networks_with_calico);
    by_operator.then_some("the Tigera operator's Installation found")
}

/// The operator also installs Calico for policy only, beside another CNI.
fn networks_with_calico(installation: &Value) -> bool {
    matches!(text(installation, "spec.cni.type"), None | Some("Calico"))
}

pub(crate) fn read(observed: &Observed) -> Facts {
    let (pool_watch, pools) = pools(observed);
    let (block_watch, blocks) = first_served(observed, &BLOCKS);
    let mut problems = unreadable(observed, [pool_watch, block_watch]);
    let mut found = Vec::new();
    for pool in &pools {
        let mut cidrs = Cidrs::of("IPPool", pool, &mut problems);
        cidrs.take_value("spec.cidr", at(pool, "spec.cidr").unwrap_or(&Value::Null));
        found.extend(cidrs.found());
    }
    let names: Vec<&str> = pools.iter().map(|pool| name(pool)).collect();
    let source = format!("IPPool {} ({})", names.join(", "), pool_watch.api_version());
    if pools.is_empty() {
        problems.push(Problem::Missing {
            adapter: "calico",
            object: format!("enabled IPPool of {CRD_GROUP}/v1 or {API_GROUP}/v3"),
            remedy: "create one, or set spec.clusterLinkOptions.cni to the CNI in use",
        });
    }
    let per_node = per_node(&blocks, &mut problems);
    Facts { adapter: String::new(), pod_cidrs: aggregate(found), per_node, source, problems }
}

/// The pools that pods get addresses from.
fn pools(observed: &Observed) -> (&'static WatchSpec, Vec<&Value>) {
    let (watch, pools) = first_served(observed, &POOLS);
    (watch, pools.into_iter().filter(|pool| serves_pods(pool)).collect())
}

fn serves_pods(pool: &Value) -> bool {
    !truth(pool, "spec.disabled") && !name(pool).starts_with(FOREIGN_POOL) && is_for_workloads(pool)
}

/// `allowedUses` defaults to workloads and tunnels; a pool for tunnels or load balancers alone holds no pod.
fn is_for_workloads(pool: &Value) -> bool {
    match at(pool, "spec.allowedUses").and_then(Value::as_array) {
        Some(uses) if !uses.is_empty() => uses.iter().any(|one| one == "Workload"),
        _ => true,
    }
}

fn first_served<'a>(
    observed: &'a Observed,
    watches: &'static [WatchSpec; 2],
) -> (&'static WatchSpec, Vec<&'a Value>) {
    let watch = watches.iter().find(|watch| observed.any(watch)).unwrap_or(&watches[0]);
    (watch, observed.of(watch).collect())
}

fn unreadable(observed: &Observed, watches: [&WatchSpec; 2]) -> Vec<Problem> {
    let failing = watches.into_iter().filter_map(|watch| Some((watch, observed.failed(watch)?)));
    failing
        .map(|(watch, error)| Problem::Unreadable { object: watch.to_string(), error: error.to_owned() })
        .collect()
}

/// The blocks that each node holds: neither those it is about to get nor those it gives back.
fn per_node(blocks: &[&Value], problems: &mut Vec<Problem>) -> BTreeMap<String, Vec<IpNetwork>> {
    let mut per_node: BTreeMap<String, Vec<IpNetwork>> = BTreeMap::new();
    for block in blocks.iter().filter(|block| is_held(block)) {
        let mut cidrs = Cidrs::of("BlockAffinity", block, problems);
        cidrs.take_value("spec.cidr", at(block, "spec.cidr").unwrap_or(&Value::Null));
        let found = cidrs.found();
        match text(block, "spec.node") {
            Some(node) if !found.is_empty() => per_node.entry(node.to_owned()).or_default().extend(found),
            Some(_) => {}
            None => problems.push(Problem::Invalid {
                object: format!("BlockAffinity {}", name(block)),
                field: "spec.node".to_owned(),
                value: at(block, "spec.node").map(Value::to_string).unwrap_or_default(),
                expected: "the name of a Node",
            }),
        }
    }
    per_node.into_iter().map(|(node, cidrs)| (node, aggregate(cidrs))).collect()
}

/// Since v3.30 a block may be held by something that is no host (`spec.type: virtual`).
fn is_held(block: &Value) -> bool {
    text(block, "spec.state") == Some("confirmed")
        && !truth(block, "spec.deleted")
        && matches!(text(block, "spec.type"), None | Some("host"))
}
