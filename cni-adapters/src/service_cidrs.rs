//! The CIDRs that a cluster's services get their addresses from.
//!
//! Three ways, in the order in which they are to be believed: ServiceCIDR objects (Kubernetes 1.33, beta since 1.31),
//! the API server's refusal of an address outside of its range, the command line of a kube-apiserver pod.

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::{
    Problem, WatchSpec,
    cidr::{self, aggregate},
    field::{self, Cidrs, at},
};

/// ServiceCIDR objects, by either version.
pub const SERVICE_CIDRS: [WatchSpec; 2] = [
    WatchSpec::all("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs").or_not_served(),
    WatchSpec::all("networking.k8s.io", "v1beta1", "ServiceCIDR", "servicecidrs").or_not_served(),
];

/// The pods that run the API server, where they can be seen (kubeadm, RKE2, kind).
pub const API_SERVER_PODS: WatchSpec = WatchSpec {
    namespace: Some("kube-system"),
    labels: Some("component=kube-apiserver"),
    ..WatchSpec::all("", "v1", "Pod", "pods")
};

/// Addresses for documentation (RFC 5737, RFC 3849, RFC 9637), of which no service has one, two for each family:
/// where somebody's range holds the first it does not hold the second.
pub const IMPOSSIBLE: [[&str; 2]; 2] = [["192.0.2.1", "198.51.100.1"], ["2001:db8::1", "3fff::1"]];

/// A service range: canonical, aggregated, ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    /// The CIDRs.
    pub cidrs: Vec<IpNetwork>,
    /// What they were read from.
    pub source: String,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// From ServiceCIDR objects. A range that is being removed still counts: services may still have its addresses.
pub fn from_objects<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Option<ServiceFacts> {
    let mut problems = Vec::new();
    let (mut names, mut found) = (Vec::new(), Vec::new());
    for object in objects {
        let mut cidrs = Cidrs::of("ServiceCIDR", object, &mut problems);
        cidrs.take_list("spec.cidrs", at(object, "spec.cidrs"));
        names.push(field::name(object));
        found.extend(cidrs.found());
    }
    let source = format!("ServiceCIDR {}", names.join(", "));
    (!names.is_empty()).then(|| ServiceFacts { cidrs: aggregate(found), source, problems })
}

/// From the API server's refusals of addresses outside of its range, one for each family that it serves:
/// `… provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/12`.
pub fn from_refusals<'a>(refusals: impl IntoIterator<Item = &'a str>) -> Option<ServiceFacts> {
    let found: Vec<IpNetwork> = refusals.into_iter().flat_map(ranges_in).collect();
    let source = "the API server's refusal of a Service outside of its range".to_owned();
    (!found.is_empty()).then(|| ServiceFacts { cidrs: aggregate(found), source, problems: Vec::new() })
}

fn ranges_in(refusal: &str) -> Vec<IpNetwork> {
    const SENTENCE: &str = "range of valid IPs is ";
    let starts = refusal.match_indices(SENTENCE).map(|(at, sentence)| at + sentence.len());
    let words = starts.filter_map(|start| refusal[start..].split([' ', ';', '"', '\n', ']', ')']).next());
    words.flat_map(|list| list.trim_end_matches('.').split(',')).filter_map(cidr::parse).collect()
}

/// From the command line of kube-apiserver pods: `--service-cluster-ip-range=a,b` or as two arguments, in `command`
/// or in `args`.
pub fn from_pods<'a>(pods: impl IntoIterator<Item = &'a Value>) -> Option<ServiceFacts> {
    let mut problems = Vec::new();
    for pod in pods {
        let Some(range) = range_of(pod) else { continue };
        let mut cidrs = Cidrs::of("Pod", pod, &mut problems);
        for item in range.split(',').filter(|item| !item.trim().is_empty()) {
            cidrs.take(FLAG, item);
        }
        let found = cidrs.found();
        if !found.is_empty() {
            let source = format!("Pod {}, {FLAG}", field::key(pod));
            return Some(ServiceFacts { cidrs: aggregate(found), source, problems });
        }
    }
    (!problems.is_empty()).then(|| ServiceFacts { problems, ..ServiceFacts::default() })
}

const FLAG: &str = "--service-cluster-ip-range";

fn range_of(pod: &Value) -> Option<&str> {
    let containers = at(pod, "spec.containers")?.as_array()?;
    containers.iter().find_map(|container| {
        let lists = ["command", "args"].into_iter().filter_map(|key| container.get(key)?.as_array());
        let words: Vec<&str> = lists.flatten().filter_map(Value::as_str).collect();
        words.iter().enumerate().find_map(|(index, word)| match word.strip_prefix(FLAG)? {
            "" => words.get(index + 1).copied(),
            rest => rest.strip_prefix('='),
        })
    })
}
