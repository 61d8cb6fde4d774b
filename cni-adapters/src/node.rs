//! `Node.spec.podCIDRs`: what kube-controller-manager hands out, and what host-gw, kindnet, flannel, Cilium in
//! `kubernetes` mode and the sandbox's CNI use.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::{
    Facts, NODES, Observed, Problem, WatchSpec,
    cidr::aggregate,
    field::{self, Cidrs, at},
};

/// What it reads.
pub(crate) const WATCHES: &[WatchSpec] = &[NODES];

/// Where per-node CIDRs come from, for messages.
pub(crate) const SOURCE: &str = "spec.podCIDRs of every Node";

pub(crate) fn read(observed: &Observed) -> Facts {
    let mut problems = Vec::new();
    let per_node = per_node(observed, &mut problems);
    let pod_cidrs = aggregate(per_node.values().flatten().copied());
    if pod_cidrs.is_empty() {
        problems.push(missing("node"));
    }
    Facts { adapter: String::new(), pod_cidrs, per_node, source: SOURCE.to_owned(), problems }
}

/// The problem of a cluster whose Nodes have no podCIDRs at all.
pub(crate) fn missing(adapter: &'static str) -> Problem {
    Problem::Missing {
        adapter,
        object: "Node with spec.podCIDRs".to_owned(),
        remedy: "start kube-controller-manager with --allocate-node-cidrs, or set spec.clusterLinkOptions.cni to the CNI in use",
    }
}

/// The podCIDRs of every Node that has any.
pub(crate) fn per_node(observed: &Observed, problems: &mut Vec<Problem>) -> BTreeMap<String, Vec<IpNetwork>> {
    if let Some(error) = observed.failed(&NODES) {
        problems.push(Problem::Unreadable { object: NODES.to_string(), error: error.to_owned() });
    }
    let nodes = observed.of(&NODES).map(|node| (field::name(node).to_owned(), of(node, problems)));
    nodes.filter(|(_, cidrs)| !cidrs.is_empty()).collect()
}

/// `spec.podCIDRs`; `spec.podCIDR`, its older form, where that is all there is.
fn of(node: &Value, problems: &mut Vec<Problem>) -> Vec<IpNetwork> {
    let mut cidrs = Cidrs::of("Node", node, problems);
    match (at(node, "spec.podCIDRs"), at(node, "spec.podCIDR")) {
        (None | Some(Value::Null), Some(one)) => cidrs.take_value("spec.podCIDR", one),
        (list, _) => cidrs.take_list("spec.podCIDRs", list),
    }
    aggregate(cidrs.found())
}
