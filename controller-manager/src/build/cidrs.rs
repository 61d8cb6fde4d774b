//! The CIDRs of the own cluster: found now, or kept from before where they cannot be found now.

use std::collections::BTreeMap;

use api::{
    Cluster,
    cluster::ClusterLinkStatus,
    condition::{CIDRS_KNOWN, State},
};
use cni_adapters::{
    Asked, Facts, Problem,
    service_cidrs::{self, API_SERVER_PODS, SERVICE_CIDRS, ServiceFacts},
};
use ipnetwork::IpNetwork;

use crate::index::Index;

/// A condition's message names this many problems, and says how many there are.
const NAMED: usize = 5;

/// What is to be published of the own cluster's CIDRs.
pub(crate) struct Cidrs {
    pub(crate) found: ClusterLinkStatus,
    /// Of each Node.
    pub(crate) per_node: BTreeMap<String, Vec<IpNetwork>>,
    /// Whether what is known of the Nodes' CIDRs may be out of date: then an older one outlives none.
    pub(crate) stale: bool,
    pub(crate) state: State,
}

pub(crate) fn find(index: &Index, cluster: &Cluster) -> Cidrs {
    let before =
        cluster.status.as_ref().and_then(|status| status.cluster_link_status.clone()).unwrap_or_default();
    let Some(options) = &cluster.spec.cluster_link_options else {
        return Cidrs { found: before, per_node: BTreeMap::new(), stale: true, state: no_options(index) };
    };
    let asked = Asked { cluster: &index.cluster, cni: &options.cni, before: before.adapter.as_deref() };
    let pods = cni_adapters::facts(&asked, &index.observed);
    let services = services(index);
    let (found, kept) = merge(before, &pods, &services);
    let state = state(&pods, &services, &kept);
    Cidrs { found, stale: pods.stale().is_some(), per_node: pods.per_node, state }
}

fn no_options(index: &Index) -> State {
    State {
        kind: CIDRS_KNOWN,
        status: false,
        reason: "NoOptions".to_owned(),
        message: format!(
            "Cluster {}: spec.clusterLinkOptions is absent, so the cluster takes no part; set it, {{}} is enough",
            index.cluster
        ),
    }
}

/// By ServiceCIDR objects, else by the API server's refusal, else by its command line. Of several ranges a refusal names
/// any one, and the command line the first: where ServiceCIDRs are served and cannot be read, both may fall short.
fn services(index: &Index) -> ServiceFacts {
    let observed = &index.observed;
    let read = SERVICE_CIDRS.iter().find(|watch| observed.any(watch) || observed.failed(watch).is_some());
    let objects: Vec<_> = read.into_iter().flat_map(|watch| observed.of(watch)).collect();
    let mut facts = service_cidrs::from_objects(objects)
        .or_else(|| service_cidrs::from_refusals(index.refusals.iter().map(String::as_str)))
        .or_else(|| service_cidrs::from_pods(observed.of(&API_SERVER_PODS)))
        .unwrap_or_default();
    if let Some((watch, error)) = read.and_then(|watch| Some((watch, observed.failed(watch)?))) {
        let object = watch.to_string();
        facts.problems.push(Problem::Unreadable { object, error: error.to_owned() });
    }
    if facts.cidrs.is_empty() && facts.problems.is_empty() {
        facts.problems.push(Problem::Missing {
            adapter: "service CIDRs",
            object: "ServiceCIDR, range in the API server's refusal of an impossible clusterIP, or kube-apiserver pod with --service-cluster-ip-range".to_owned(),
            remedy: "let this controller list ServiceCIDRs, or create Services in a dry run in the namespace default",
        });
    }
    facts
}

/// What is found replaces what was known; what cannot be found now does not. Returns also what was kept.
fn merge(
    before: ClusterLinkStatus,
    pods: &Facts,
    services: &ServiceFacts,
) -> (ClusterLinkStatus, Vec<&'static str>) {
    let mut kept = Vec::new();
    let mut found = before;
    if pods.stale().is_some_and(|_| !found.pod_cidrs.is_empty()) || pods.pod_cidrs.is_empty() {
        if !found.pod_cidrs.is_empty() {
            kept.push("podCIDRs");
        }
    } else {
        found.pod_cidrs = texts(&pods.pod_cidrs);
        found.pod_cidr_source = Some(pods.source.clone());
        found.adapter = Some(pods.adapter.clone());
    }
    let unsure = services.problems.iter().any(Problem::is_about_the_source);
    if services.cidrs.is_empty() || (unsure && !found.service_cidrs.is_empty()) {
        if !found.service_cidrs.is_empty() {
            kept.push("serviceCIDRs");
        }
    } else {
        found.service_cidrs = texts(&services.cidrs);
        found.service_cidr_source = Some(services.source.clone());
    }
    (found, kept)
}

/// CIDRs as they stand in resources.
pub(crate) fn texts(cidrs: &[IpNetwork]) -> Vec<String> {
    cidrs.iter().map(ToString::to_string).collect()
}

fn state(pods: &Facts, services: &ServiceFacts, kept: &[&str]) -> State {
    let problems: Vec<&Problem> = pods.problems.iter().chain(&services.problems).collect();
    let Some(first) = problems.first() else {
        return State {
            kind: CIDRS_KNOWN,
            status: true,
            reason: "Found".to_owned(),
            message: format!("pods: {}, by {}; services: {}", pods.source, pods.adapter, services.source),
        };
    };
    let mut message = named(problems.iter().map(ToString::to_string));
    if !kept.is_empty() {
        message.push_str(&format!(". Kept as they were: {}", kept.join(" and ")));
    }
    let reason = if kept.is_empty() { first.reason() } else { "Stale" };
    State { kind: CIDRS_KNOWN, status: false, reason: reason.to_owned(), message }
}

/// The first few of some sentences, and how many there are beside them.
pub(crate) fn named(sentences: impl ExactSizeIterator<Item = String>) -> String {
    let more = sentences.len().saturating_sub(NAMED);
    let mut message = sentences.take(NAMED).collect::<Vec<_>>().join(". ");
    if more > 0 {
        message.push_str(&format!(". And {more} more"));
    }
    message
}
