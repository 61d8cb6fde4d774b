//! What the schemas of the built-in kinds do not say and kube-apiserver refuses, as far as components of a cluster run into
//! it: missing containers and ports, impossible numbers and networks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::Resource;
use super::strategy::Strategy;
use crate::status::Cause;

/// Everything that is wrong with an object of a built-in kind beside its schema.
pub(crate) fn causes(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    match resource.strategy {
        Strategy::Pod => pod(&new["spec"]),
        Strategy::Service => service(&new["spec"]),
        Strategy::Node => node(&new["spec"], old.map(|old| &old["spec"])),
        Strategy::Crd => definition(&new["spec"]),
        Strategy::Plain if resource.kind == "Lease" => lease(&new["spec"]),
        _ => Vec::new(),
    }
}

fn invalid(field: &str, value: &Value, why: &str) -> Cause {
    cause("FieldValueInvalid", field, format!("Invalid value: {value}: {why}"))
}

fn required(field: &str) -> Cause {
    cause("FieldValueRequired", field, "Required value".to_owned())
}

fn unsupported(field: &str, value: &Value, supported: &[&str]) -> Cause {
    let supported: Vec<String> = supported.iter().map(|word| format!("{word:?}")).collect();
    let message = format!("Unsupported value: {value}: supported values: {}", supported.join(", "));
    cause("FieldValueNotSupported", field, message)
}

fn cause(reason: &str, field: &str, message: String) -> Cause {
    Cause { reason: reason.to_owned(), message, field: field.to_owned() }
}

fn word<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn pod(spec: &Value) -> Vec<Cause> {
    let containers = spec["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut causes = Vec::new();
    if containers.is_empty() {
        causes.push(required("spec.containers"));
    }
    let mut names = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let field = |name: &str| format!("spec.containers[{i}].{name}");
        if word(container, "name").is_empty() {
            causes.push(required(&field("name")));
        } else if !names.insert(word(container, "name")) {
            let message = format!("Duplicate value: {}", container["name"]);
            causes.push(cause("FieldValueDuplicate", &field("name"), message));
        }
        if word(container, "image").is_empty() {
            causes.push(required(&field("image")));
        }
    }
    if !matches!(word(spec, "restartPolicy"), "" | "Always" | "OnFailure" | "Never") {
        let supported = ["Always", "OnFailure", "Never"];
        causes.push(unsupported("spec.restartPolicy", &spec["restartPolicy"], &supported));
    }
    causes
}

fn service(spec: &Value) -> Vec<Cause> {
    const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    let kind = word(spec, "type");
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut causes = Vec::new();
    if kind == "ExternalName" {
        if word(spec, "externalName").is_empty() {
            causes.push(required("spec.externalName"));
        }
    } else if ports.is_empty() && word(spec, "clusterIP") != "None" {
        causes.push(required("spec.ports"));
    }
    if !kind.is_empty() && !TYPES.contains(&kind) {
        causes.push(unsupported("spec.type", &spec["type"], &TYPES));
    }
    for (i, port) in ports.iter().enumerate() {
        for field in ["port", "targetPort"].into_iter().filter(|field| port[field].is_number()) {
            if !port[field].as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
                let why = "must be between 1 and 65535, inclusive";
                causes.push(invalid(&format!("spec.ports[{i}].{field}"), &port[field], why));
            }
        }
        if ports.len() > 1 && word(port, "name").is_empty() {
            causes.push(required(&format!("spec.ports[{i}].name")));
        }
    }
    let external = matches!(kind, "NodePort" | "LoadBalancer") || spec["externalIPs"].is_array();
    if !word(spec, "externalTrafficPolicy").is_empty() && !external {
        let why = "may only be set for externally-accessible services";
        causes.push(invalid("spec.externalTrafficPolicy", &spec["externalTrafficPolicy"], why));
    }
    causes
}

fn node(spec: &Value, old: Option<&Value>) -> Vec<Cause> {
    let cidrs = spec["podCIDRs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut causes = Vec::new();
    let mut families = BTreeSet::new();
    for (i, cidr) in cidrs.iter().enumerate() {
        match family(cidr.as_str().unwrap_or_default()) {
            None => {
                let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                causes.push(invalid(&format!("spec.podCIDRs[{i}]"), cidr, why));
            }
            Some(v4) if !families.insert(v4) => {
                let why = "may specify no more than one CIDR for each IP family";
                causes.push(invalid("spec.podCIDRs", &spec["podCIDRs"], why));
            }
            Some(_) => {}
        }
    }
    let some = |cidrs: &&Value| cidrs.as_array().is_some_and(|cidrs| !cidrs.is_empty());
    let before = old.map(|old| &old["podCIDRs"]).filter(some);
    if before.is_some_and(|before| *before != spec["podCIDRs"]) {
        let why = "Forbidden: node updates may not change podCIDR except from \"\" to valid";
        causes.push(cause("FieldValueForbidden", "spec.podCIDRs", why.to_owned()));
    }
    causes
}

/// Whether it is a network of IPv4; none if it is no network.
fn family(cidr: &str) -> Option<bool> {
    let (address, length) = cidr.split_once('/')?;
    let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some(address.is_ipv4())
}

fn lease(spec: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        let why = "must be greater than 0";
        causes.push(invalid("spec.leaseDurationSeconds", &spec["leaseDurationSeconds"], why));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|times| times < 0) {
        let why = "must be greater than or equal to 0";
        causes.push(invalid("spec.leaseTransitions", &spec["leaseTransitions"], why));
    }
    causes
}

fn definition(spec: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if !matches!(word(spec, "scope"), "Cluster" | "Namespaced") {
        causes.push(unsupported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]));
    }
    if spec["preserveUnknownFields"] == true {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.push(invalid("spec.preserveUnknownFields", &spec["preserveUnknownFields"], why));
    }
    for (i, version) in spec["versions"].as_array().into_iter().flatten().enumerate() {
        let field = format!("spec.versions[{i}]");
        if !is_label(word(version, "name")) {
            causes.push(invalid(&format!("{field}.name"), &version["name"], DNS_LABEL));
        }
        if version["schema"]["openAPIV3Schema"].is_null() {
            causes.push(required(&format!("{field}.schema.openAPIV3Schema")));
        } else if version["schema"]["openAPIV3Schema"]["type"] != "object" {
            let given = &version["schema"]["openAPIV3Schema"]["type"];
            let why = "must be object at the root";
            causes.push(invalid(&format!("{field}.schema.openAPIV3Schema.type"), given, why));
        }
    }
    for name in ["plural", "singular", "kind", "listKind"] {
        if !is_label(&word(&spec["names"], name).to_lowercase()) {
            causes.push(invalid(&format!("spec.names.{name}"), &spec["names"][name], DNS_LABEL));
        }
    }
    causes
}

const DNS_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.ends_with(plain)
        && text.chars().all(|c| plain(c) || c == '-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(causes: &[Cause]) -> Vec<&str> {
        causes.iter().map(|cause| cause.field.as_str()).collect()
    }

    #[test]
    fn what_a_pod_lacks_is_named() {
        let causes = pod(&json!({"containers": [{"name": "a", "image": "i"}, {"name": "a"}]}));
        assert_eq!(fields(&causes), ["spec.containers[1].name", "spec.containers[1].image"]);
    }

    #[test]
    fn a_node_has_one_network_of_each_family() {
        assert!(node(&json!({"podCIDRs": ["10.0.0.0/24", "fd00::/64"]}), None).is_empty());
        assert_eq!(
            fields(&node(&json!({"podCIDRs": ["10.0.0.0/24", "10.1.0.0/24"]}), None)),
            ["spec.podCIDRs"]
        );
        assert_eq!(fields(&node(&json!({"podCIDRs": ["10.0.0.0/33"]}), None)), ["spec.podCIDRs[0]"]);
        let moved = node(&json!({"podCIDRs": ["10.1.0.0/24"]}), Some(&json!({"podCIDRs": ["10.0.0.0/24"]})));
        assert_eq!(moved[0].reason, "FieldValueForbidden");
        assert!(node(&json!({"podCIDRs": ["10.1.0.0/24"]}), Some(&json!({"podCIDRs": []}))).is_empty());
    }
}
