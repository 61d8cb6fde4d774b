//! kube-apiserver's columns for the built-in kinds.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, age};

type Cell = fn(&Value, Timestamp) -> Value;

const fn text(name: &'static str, cell: Cell) -> Column {
    Column { name, format: "", kind: "string", priority: 0, cell }
}

const fn wide(name: &'static str, cell: Cell) -> Column {
    Column { name, format: "", kind: "string", priority: 1, cell }
}

const NAME: Column = Column { name: "Name", format: "name", kind: "string", priority: 0, cell: name };
const AGE: Column = text("Age", created);

pub(crate) const DEFAULT: &[Column] = &[NAME, AGE];
// The cells of `Data` are numbers, whatever kube-apiserver says of the column.
pub(crate) const CONFIG_MAP: &[Column] =
    &[NAME, text("Data", |o, _| json!(entries(&o["data"]) + entries(&o["binaryData"]))), AGE];
pub(crate) const SECRET: &[Column] =
    &[NAME, text("Type", |o, _| or_none(&o["type"])), text("Data", |o, _| json!(entries(&o["data"]))), AGE];
pub(crate) const NAMESPACE: &[Column] = &[NAME, text("Status", |o, _| o["status"]["phase"].clone()), AGE];
pub(crate) const LEASE: &[Column] =
    &[NAME, text("Holder", |o, _| json!(string(&o["spec"]["holderIdentity"]))), AGE];
pub(crate) const CRD: &[Column] =
    &[NAME, Column { kind: "date", ..text("Created At", |o, _| o["metadata"]["creationTimestamp"].clone()) }];
pub(crate) const SERVICE_CIDR: &[Column] =
    &[NAME, text("CIDRs", |o, _| json!(joined(&o["spec"]["cidrs"]))), AGE];
pub(crate) const ENDPOINTS: &[Column] = &[NAME, text("Endpoints", |o, _| json!(endpoints(o))), AGE];
pub(crate) const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    text("AddressType", |o, _| o["addressType"].clone()),
    text("Ports", |o, _| json!(slice_ports(o))),
    text("Endpoints", |o, _| json!(slice_endpoints(o))),
    AGE,
];
pub(crate) const NODE: &[Column] = &[
    NAME,
    text("Status", |o, _| json!(node_status(o))),
    text("Roles", |o, _| json!(node_roles(o))),
    AGE,
    text("Version", |o, _| json!(string(&o["status"]["nodeInfo"]["kubeletVersion"]))),
    wide("Internal-IP", |o, _| json!(node_address(o, "InternalIP"))),
    wide("External-IP", |o, _| json!(node_address(o, "ExternalIP"))),
    wide("OS-Image", |o, _| json!(or_unknown(&o["status"]["nodeInfo"]["osImage"]))),
    wide("Kernel-Version", |o, _| json!(or_unknown(&o["status"]["nodeInfo"]["kernelVersion"]))),
    wide("Container-Runtime", |o, _| json!(or_unknown(&o["status"]["nodeInfo"]["containerRuntimeVersion"]))),
];
pub(crate) const POD: &[Column] = &[
    NAME,
    text("Ready", |o, _| json!(pod_ready(o))),
    text("Status", |o, _| json!(pod_status(o))),
    text("Restarts", |o, _| json!(pod_restarts(o).to_string())),
    AGE,
    wide("IP", |o, _| or_none(&o["status"]["podIP"])),
    wide("Node", |o, _| or_none(&o["spec"]["nodeName"])),
    wide("Nominated Node", |o, _| or_none(&o["status"]["nominatedNodeName"])),
    wide("Readiness Gates", |o, _| json!(readiness_gates(o))),
];
pub(crate) const SERVICE: &[Column] = &[
    NAME,
    text("Type", |o, _| o["spec"]["type"].clone()),
    text("Cluster-IP", |o, _| or_none(&o["spec"]["clusterIP"])),
    text("External-IP", |o, _| json!(service_external(o))),
    text("Port(s)", |o, _| json!(service_ports(o))),
    AGE,
    wide("Selector", |o, _| json!(pairs(&o["spec"]["selector"]))),
];
pub(crate) const EVENT: &[Column] = &[
    text("Last Seen", |o, now| {
        json!(age(event_time(o, &["lastTimestamp", "eventTime", "firstTimestamp"]), now))
    }),
    text("Type", |o, _| o["type"].clone()),
    text("Reason", |o, _| o["reason"].clone()),
    text("Object", |o, _| json!(involved(o))),
    wide("Subobject", |o, _| json!(string(&o["involvedObject"]["fieldPath"]))),
    wide("Source", |o, _| json!(source(o))),
    text("Message", |o, _| json!(string(&o["message"]).trim())),
    wide("First Seen", |o, now| json!(age(event_time(o, &["firstTimestamp", "eventTime"]), now))),
    wide("Count", |o, _| json!(o["count"].as_i64().unwrap_or(1).to_string())),
    Column { name: "Name", format: "name", kind: "string", priority: 1, cell: name },
];

fn name(object: &Value, _: Timestamp) -> Value {
    object["metadata"]["name"].clone()
}

fn created(object: &Value, now: Timestamp) -> Value {
    json!(age(object["metadata"]["creationTimestamp"].as_str(), now))
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn or_none(value: &Value) -> Value {
    match string(value) {
        "" => json!("<none>"),
        text => json!(text),
    }
}

fn or_unknown(value: &Value) -> &str {
    match string(value) {
        "" => "<unknown>",
        text => text,
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn entries(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

fn joined(value: &Value) -> String {
    items(value).map(string).collect::<Vec<_>>().join(",")
}

fn pairs(value: &Value) -> String {
    let pairs: Vec<String> =
        value.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", string(v))).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// At most three, and how many more.
fn shortened(list: &[String]) -> String {
    match list {
        [] => "<none>".to_owned(),
        [a, b, c, more @ ..] if !more.is_empty() => format!("{a},{b},{c} + {} more...", more.len()),
        few => few.join(","),
    }
}

fn node_status(node: &Value) -> String {
    let ready = items(&node["status"]["conditions"]).find(|c| c["type"] == "Ready");
    let mut words = vec![match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node["spec"]["unschedulable"] == true {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn node_roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let roles: std::collections::BTreeSet<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" => value.as_str().filter(|v| !v.is_empty()),
            _ => None,
        })
        .collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn node_address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let found = items(&node["status"]["addresses"]).find(|a| a["type"] == kind);
    found.map_or("<none>", |a| string(&a["address"]))
}

fn pod_ready(pod: &Value) -> String {
    let ready = items(&pod["status"]["containerStatuses"]).filter(|c| c["ready"] == true).count();
    format!("{ready}/{}", items(&pod["spec"]["containers"]).count())
}

/// The reason that says most: a waiting or ended container's, else the pod's own, else its phase.
fn pod_status(pod: &Value) -> String {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating".to_owned();
    }
    let of_container = |state: &str| {
        let statuses = items(&pod["status"]["containerStatuses"]);
        statuses.map(|c| string(&c["state"][state]["reason"])).find(|r| !r.is_empty())
    };
    let own = Some(string(&pod["status"]["reason"])).filter(|r| !r.is_empty());
    let reason = of_container("waiting").or_else(|| of_container("terminated")).or(own);
    reason.unwrap_or_else(|| or_unknown(&pod["status"]["phase"])).to_owned()
}

fn pod_restarts(pod: &Value) -> i64 {
    items(&pod["status"]["containerStatuses"]).filter_map(|c| c["restartCount"].as_i64()).sum()
}

fn readiness_gates(pod: &Value) -> String {
    let gates: Vec<&str> =
        items(&pod["spec"]["readinessGates"]).map(|g| string(&g["conditionType"])).collect();
    let met = |gate: &&&str| {
        items(&pod["status"]["conditions"]).any(|c| c["type"] == ***gate && c["status"] == "True")
    };
    if gates.is_empty() {
        "<none>".to_owned()
    } else {
        format!("{}/{}", gates.iter().filter(met).count(), gates.len())
    }
}

fn service_external(service: &Value) -> String {
    let own: Vec<&str> = items(&service["spec"]["externalIPs"]).map(string).collect();
    let ingress = items(&service["status"]["loadBalancer"]["ingress"]);
    let balancer: Vec<&str> =
        ingress.map(|i| i["ip"].as_str().unwrap_or_else(|| string(&i["hostname"]))).collect();
    match string(&service["spec"]["type"]) {
        "ExternalName" => string(&service["spec"]["externalName"]).to_owned(),
        "LoadBalancer" if balancer.is_empty() && own.is_empty() => "<pending>".to_owned(),
        "LoadBalancer" => [balancer, own].concat().join(","),
        _ if own.is_empty() => "<none>".to_owned(),
        _ => own.join(","),
    }
}

fn service_ports(service: &Value) -> String {
    let port = |p: &Value| {
        let protocol = p["protocol"].as_str().unwrap_or("TCP");
        match p["nodePort"].as_i64() {
            Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", p["port"]),
            _ => format!("{}/{protocol}", p["port"]),
        }
    };
    let ports: Vec<String> = items(&service["spec"]["ports"]).map(port).collect();
    if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }
}

fn endpoints(object: &Value) -> String {
    let mut list = Vec::new();
    for subset in items(&object["subsets"]) {
        let ports: Vec<&Value> = items(&subset["ports"]).map(|p| &p["port"]).collect();
        for address in items(&subset["addresses"]) {
            let ip = string(&address["ip"]);
            if ports.is_empty() {
                list.push(ip.to_owned());
            }
            list.extend(ports.iter().map(|port| {
                if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
            }));
        }
    }
    shortened(&list)
}

fn slice_ports(slice: &Value) -> String {
    let ports: Vec<String> = items(&slice["ports"])
        .map(|p| p["port"].as_i64().map_or_else(|| "*".to_owned(), |n| n.to_string()))
        .collect();
    if ports.is_empty() { "<unset>".to_owned() } else { shortened(&ports) }
}

fn slice_endpoints(slice: &Value) -> String {
    let addresses: Vec<String> = items(&slice["endpoints"])
        .flat_map(|e| items(&e["addresses"]).map(|a| string(a).to_owned()))
        .collect();
    if addresses.is_empty() { "<unset>".to_owned() } else { shortened(&addresses) }
}

fn event_time<'a>(event: &'a Value, fields: &[&str]) -> Option<&'a str> {
    fields.iter().find_map(|f| event[*f].as_str())
}

fn involved(event: &Value) -> String {
    let object = &event["involvedObject"];
    let kind = string(&object["kind"]).to_lowercase();
    match string(&object["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let component =
        event["source"]["component"].as_str().or(event["reportingComponent"].as_str()).unwrap_or("");
    match string(&event["source"]["host"]) {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(columns: &[Column], object: &Value) -> Vec<String> {
        let now = "2026-01-01T00:00:09Z".parse().unwrap();
        columns
            .iter()
            .map(|c| (c.cell)(object, now))
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect()
    }

    #[test]
    fn a_node_shows_roles_addresses_and_version() {
        let node = json!({"metadata": {"name": "n1", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.33.0"},
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
        assert_eq!(
            cells(NODE, &node)[..7],
            ["n1", "Ready,SchedulingDisabled", "control-plane", "9s", "v1.33.0", "10.0.0.1", "<none>"]
        );
    }

    #[test]
    fn a_pod_shows_the_reason_that_says_most() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{}, {}]}, "status": {"phase": "Running",
            "containerStatuses": [{"ready": true, "restartCount": 2}, {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 1}]}});
        assert_eq!(cells(POD, &pod)[..5], ["p", "1/2", "CrashLoopBackOff", "3", "<unknown>"]);
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(cells(POD, &pod)[2], "Terminating");
    }

    #[test]
    fn a_service_shows_its_addresses_and_ports() {
        let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIP": "10.96.0.9",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}], "selector": {"app": "x"}}});
        assert_eq!(
            cells(SERVICE, &service),
            ["s", "NodePort", "10.96.0.9", "<none>", "80:30080/TCP,53/UDP", "<unknown>", "app=x"]
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["1", "2"]}, {"addresses": ["3"]}, {"addresses": ["4"]}]});
        assert_eq!(cells(ENDPOINT_SLICE, &slice)[3], "1,2,3 + 1 more...");
    }
}
