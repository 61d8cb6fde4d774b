//! The Kubernetes objects that tell the truth of the world: what kubelets, kube-controller-manager and a person would
//! have written. Pure.

use std::net::IpAddr;

use api::{Family, GATEWAY_LABEL, IpFamily, NetworkType};
use serde_json::{Value, json};

use crate::addressing::{
    ClusterLayout, Layout, NodeLayout, PodLayout, SERVICE_PORT, ServiceLayout, underlay_gateway,
};

/// What the world's own pods are labelled with.
const POD_APP: &str = "netperf";
const HOST_APP: &str = "netperf-host";
/// The namespace of everything that has one.
const NAMESPACE: &str = "default";

/// Everything in a member cluster's API.
pub fn member(cluster: &ClusterLayout) -> Vec<Value> {
    let mut objects = definitions();
    objects.extend(cluster.nodes.iter().map(node));
    for node in &cluster.nodes {
        objects.push(host_pod(node));
        objects.extend(node.pods.iter().map(|p| pod(cluster, node, p)));
    }
    for each in &cluster.services {
        objects.push(service(each));
        objects.extend(each.addresses.iter().map(|&address| slice(cluster, each, Family::of(address))));
    }
    objects
}

/// Everything in the control cluster's API.
pub fn control(layout: &Layout) -> Vec<Value> {
    [definitions(), clusters(layout)].concat()
}

/// What a person says of the members.
pub(crate) fn clusters(layout: &Layout) -> Vec<Value> {
    layout.clusters.iter().map(cluster).collect()
}

/// Nodes as their kubelets would register them, and services, whose EndpointSlices are left to their controller.
pub(crate) fn nodes_and_services(cluster: &ClusterLayout) -> Vec<Value> {
    let schedulable = cluster.nodes.iter().map(|node| with_room(self::node(node)));
    schedulable.chain(cluster.services.iter().map(service)).collect()
}

/// The pods that answer: one on each node's own network, and the layout's.
pub(crate) fn pods(cluster: &ClusterLayout) -> Vec<Value> {
    let of_node = |node: &NodeLayout| {
        let pods = node.pods.iter().map(|p| pod(cluster, node, p));
        std::iter::once(host_pod(node)).chain(pods).collect::<Vec<_>>()
    };
    cluster.nodes.iter().flat_map(of_node).collect()
}

/// Name of the one node of the control cluster, which is the root namespace.
pub(crate) const CONTROL_NODE: &str = "node1";

/// The one node of the control cluster.
pub(crate) fn control_node() -> Value {
    let address = underlay_gateway(Family::V4);
    with_room(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": CONTROL_NODE,
            "labels": {"kubernetes.io/hostname": CONTROL_NODE, "kubernetes.io/os": "linux"},
        },
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [ready()],
            "nodeInfo": node_info(),
        },
    }))
}

/// A node with what the scheduler asks for.
fn with_room(mut node: Value) -> Value {
    let room = json!({"cpu": "64", "memory": "256Gi", "pods": "200"});
    node["status"]["capacity"] = room.clone();
    node["status"]["allocatable"] = room;
    node["status"]["nodeInfo"]["kubeletVersion"] = kubernetes::VERSION.into();
    node
}

/// The definitions of our kinds.
fn definitions() -> Vec<Value> {
    let value = |crd| serde_json::to_value(crd).expect("a definition is plain data");
    api::crd::all().into_iter().map(value).collect()
}

fn cluster(cluster: &ClusterLayout) -> Value {
    let family = match cluster.families.as_slice() {
        [Family::V4] => IpFamily::Ipv4,
        [Family::V6] => IpFamily::Ipv6,
        _ => IpFamily::All,
    };
    let mut options = json!({"enable": true, "networkType": cluster.mode, "ipFamily": family});
    if cluster.mode == NetworkType::Gateway {
        options["gateways"] = cluster.gateways.into();
    }
    json!({
        "apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": cluster.name},
        "spec": {"clusterLinkOptions": options},
    })
}

fn node(node: &NodeLayout) -> Value {
    let mut labels = json!({"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux"});
    if node.gateway {
        labels[GATEWAY_LABEL] = "true".into();
    }
    let internal = node.underlay.iter().map(|ip| json!({"type": "InternalIP", "address": ip}));
    let addresses: Vec<Value> = internal.chain([json!({"type": "Hostname", "address": node.name})]).collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node.name, "labels": labels},
        "spec": {"podCIDR": node.pod_cidrs[0], "podCIDRs": node.pod_cidrs},
        "status": {
            "addresses": addresses,
            "conditions": [ready()],
            "nodeInfo": node_info(),
        },
    })
}

fn ready() -> Value {
    json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the namespace is up"})
}

/// All strings are required by the schema; `kubectl get nodes -o wide` shows some.
fn node_info() -> Value {
    let mut info =
        json!({"operatingSystem": "linux", "osImage": "network namespace", "kubeletVersion": "v1.33.0"});
    let empty = ["architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion"];
    for field in empty.into_iter().chain(["machineID", "systemUUID"]) {
        info[field] = "".into();
    }
    info
}

fn pod(cluster: &ClusterLayout, node: &NodeLayout, pod: &PodLayout) -> Value {
    let behind = cluster.services.iter().filter(|service| service.backend == *pod);
    let mut labels = json!({"app": POD_APP});
    for service in behind {
        labels[service_label(service)] = "true".into();
    }
    pod_object(node, &pod.place, &labels, &pod.addresses, false)
}

/// Whether it is one of the world's own pods, whose processes are the supervisor's.
pub(crate) fn is_of_the_world(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let app = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app"));
    app.is_some_and(|app| app == POD_APP || app == HOST_APP)
}

/// The hostNetwork pod that answers at the node's own addresses.
fn host_pod(node: &NodeLayout) -> Value {
    pod_object(node, &format!("{}-host", node.place), &json!({"app": HOST_APP}), &node.underlay, true)
}

fn pod_object(node: &NodeLayout, name: &str, labels: &Value, addresses: &[IpAddr], host: bool) -> Value {
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let ready = ["Ready", "ContainersReady", "Initialized", "PodScheduled"];
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "nodeName": node.name, "hostNetwork": host,
            "containers": [{
                "name": "netperf", "image": "clusterlink-netperf",
                "ports": [{"containerPort": SERVICE_PORT, "protocol": "TCP"}, {"containerPort": SERVICE_PORT, "protocol": "UDP"}],
            }],
        },
        "status": {
            "phase": "Running", "podIP": addresses[0], "podIPs": ips,
            "hostIP": node.underlay[0],
            "conditions": ready.map(|kind| json!({"type": kind, "status": "True"})),
            "containerStatuses": [{
                "name": "netperf", "image": "clusterlink-netperf", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }],
        },
    })
}

fn service_label(service: &ServiceLayout) -> String {
    format!("service/{}", service.name)
}

fn service(service: &ServiceLayout) -> Value {
    let families: Vec<&str> = service.addresses.iter().map(|&ip| family_word(Family::of(ip))).collect();
    let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    let ports = ["TCP", "UDP"].map(|protocol| {
        json!({
            "name": protocol.to_lowercase(), "protocol": protocol,
            "port": SERVICE_PORT, "targetPort": SERVICE_PORT,
        })
    });
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": service.name, "namespace": NAMESPACE},
        "spec": {
            "type": "ClusterIP", "clusterIP": service.addresses[0], "clusterIPs": service.addresses,
            "ipFamilies": families, "ipFamilyPolicy": policy,
            "selector": {service_label(service): "true"}, "ports": ports,
        },
    })
}

fn slice(cluster: &ClusterLayout, service: &ServiceLayout, family: Family) -> Value {
    let addresses: Vec<&IpAddr> =
        service.backend.addresses.iter().filter(|&&ip| Family::of(ip) == family).collect();
    let node = cluster.nodes.iter().find(|node| node.number == service.node).map(|node| &node.name);
    let port =
        |protocol: &str| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": SERVICE_PORT});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-{}", service.name, family_word(family).to_lowercase()), "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": service.name},
        },
        "addressType": family_word(family),
        "endpoints": [{
            "addresses": addresses, "nodeName": node,
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": service.backend.place},
        }],
        "ports": [port("TCP"), port("UDP")],
    })
}

/// As Kubernetes writes it.
fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, Pod, Service};
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::scenario::Scenario;

    fn typed<T: DeserializeOwned>(objects: &[Value], kind: &str) -> Vec<T> {
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind.map(|object| serde_json::from_value(object.clone()).unwrap()).collect()
    }

    #[test]
    fn the_objects_are_what_their_kinds_are() {
        let layout = Scenario::default().layout().unwrap();
        let objects = member(&layout.clusters[0]);
        let nodes: Vec<Node> = typed(&objects, "Node");
        let gateways =
            nodes.iter().filter(|n| n.metadata.labels.as_ref().unwrap().contains_key(GATEWAY_LABEL));
        assert_eq!((nodes.len(), gateways.count()), (3, 2));
        assert_eq!(nodes[2].spec.as_ref().unwrap().pod_cidrs.as_ref().unwrap()[1], "fd00:10:1:3::/64");
        assert_eq!(typed::<Pod>(&objects, "Pod").len(), 6);
        let services: Vec<Service> = typed(&objects, "Service");
        assert_eq!(
            services[1].spec.as_ref().unwrap().cluster_ips.as_ref().unwrap(),
            &["10.101.0.11", "fd00:96:1::b"]
        );
        let slices: Vec<EndpointSlice> = typed(&objects, "EndpointSlice");
        assert_eq!(slices.len(), 4);
        assert_eq!(slices[3].endpoints[0].addresses, ["fd00:10:1:3::2"]);
    }

    #[test]
    fn the_control_cluster_knows_what_each_member_wants() {
        let mut scenario = Scenario::default();
        scenario.clusters[2].families = Some(vec![Family::V6]);
        let clusters: Vec<api::Cluster> = typed(&control(&scenario.layout().unwrap()), "Cluster");
        let options = |n: usize| clusters[n].spec.cluster_link_options.clone().unwrap();
        assert_eq!((options(1).network_type, options(1).gateways), (NetworkType::Gateway, 1));
        assert_eq!((options(2).network_type, options(2).ip_family), (NetworkType::P2p, IpFamily::Ipv6));
    }

    #[test]
    fn a_service_selects_the_pod_that_its_slices_name() {
        let layout = Scenario::default().layout().unwrap();
        let objects = member(&layout.clusters[1]);
        for service in typed::<Service>(&objects, "Service") {
            let selector = service.spec.unwrap().selector.unwrap();
            let pods = typed::<Pod>(&objects, "Pod").into_iter().filter(|pod| {
                let labels = pod.metadata.labels.clone().unwrap();
                selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            });
            let names: Vec<String> = pods.map(|pod| pod.metadata.name.unwrap()).collect();
            assert_eq!(names.len(), 1);
            let slice = typed::<EndpointSlice>(&objects, "EndpointSlice").into_iter().find(|slice| {
                slice.metadata.name.as_ref().unwrap().starts_with(service.metadata.name.as_ref().unwrap())
            });
            let target = slice.unwrap().endpoints[0].target_ref.clone().unwrap();
            assert_eq!(target.name.unwrap(), names[0]);
        }
    }
}
