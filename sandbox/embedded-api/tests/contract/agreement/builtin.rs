//! Kinds of Kubernetes that components of a cluster read and write.

use serde_json::{Value, json};

use super::comparison::compare;
use super::request::*;

const PODS: &str = "/api/v1/namespaces/NS/pods";

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
}

#[test]
fn pods() {
    let p = "/api/v1/namespaces/NS/pods/p";
    let status = "/api/v1/namespaces/NS/pods/p/status";
    let images = &["/spec/containers/0/image", "/spec/containers/0/imagePullPolicy", "/spec/hostNetwork"];
    let of_status = &[
        "/status/podIP",
        "/status/podIPs",
        "/status/phase",
        "/status/conditions/0/type",
        "/status/conditions/1/type",
    ];
    compare(vec![
        post(PODS, pod(json!({"containers": []}))),
        post(PODS, pod(json!({"containers": [{"name": "a"}]}))),
        post(PODS, pod(json!({"containers": [{"image": "a"}]}))),
        post(PODS, pod(json!({"containers": [{"name": "a", "image": "b"}, {"name": "a", "image": "b"}]}))),
        post(PODS, pod(json!({"containers": [{"name": "a", "image": "b"}], "restartPolicy": "Odd"}))),
        post("/api/v1/namespaces/NS/pods?dryRun=All", pod(json!({"containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80}]}], "nodeName": "n"}))).only(images),
        post(PODS, pod(json!({"containers": [{"name": "a", "image": "b:1"}], "hostNetwork": true}))).only(images),
        get("/api/v1/namespaces/NS/pods?fieldSelector=spec.nodeName%3D").only(&["/items/0/metadata/name"]),
        get("/api/v1/namespaces/NS/pods?fieldSelector=spec.hostNetwork%3Dtrue").only(&["/items/0/metadata/name"]),
        get("/api/v1/namespaces/NS/pods?fieldSelector=spec.odd%3Dtrue"),
        patch(p, STRATEGIC, json!({"spec": {"containers": [{"name": "a", "image": "b:2"}]}})).only(images),
        patch(p, STRATEGIC, json!({"metadata": {"labels": {"x": "y"}}})).only(&["/metadata/labels", "/metadata/generation"]),
        patch(status, STRATEGIC, json!({"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "phase": "Running"}})).only(of_status),
        patch(status, STRATEGIC, json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})).only(of_status),
        patch(status, STRATEGIC, json!({"status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}})).only(of_status),
        get("/api/v1/namespaces/NS/pods?fieldSelector=status.podIP%3D10.0.0.1").only(&["/items/0/metadata/name"]),
        delete("/api/v1/namespaces/NS/pods/p?gracePeriodSeconds=0").only(&["/kind", "/metadata/name"]),
        get(p),
    ]);
}

#[test]
fn nodes() {
    let n = "/api/v1/nodes/NS-n";
    let status = "/api/v1/nodes/NS-n/status";
    let node =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS-n"}, "spec": spec});
    let spec = &["/spec/podCIDR", "/spec/podCIDRs", "/spec/unschedulable"];
    let addresses = json!([{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "fd00::1"}, {"type": "Hostname", "address": "n"}]);
    compare(vec![
        post("/api/v1/nodes", node(json!({"podCIDR": "x"}))),
        post("/api/v1/nodes", node(json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "10.2.0.0/24"]}))),
        post("/api/v1/nodes", node(json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd01::/64"]}))).only(spec),
        post("/api/v1/nodes", node(json!({}))),
        patch(n, MERGE, json!({"spec": {"podCIDR": "10.9.0.0/24", "podCIDRs": ["10.9.0.0/24"]}})),
        patch(n, MERGE, json!({"spec": {"unschedulable": true}})).only(spec),
        patch(status, STRATEGIC, json!({"status": {"addresses": addresses}})).only(&["/status/addresses"]),
        patch("/api/v1/nodes/NS-n/status?fieldManager=m", APPLY, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS-n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})).only(&["/status/conditions/0/type"]),
        patch("/api/v1/nodes/NS-n/status?fieldManager=o", APPLY, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NS-n"}, "status": {"conditions": [{"type": "Other", "status": "True"}]}})).only(&["/status/conditions/0/type", "/status/conditions/1/type"]),
        get("/api/v1/nodes?fieldSelector=metadata.name%3DNS-n,spec.unschedulable%3Dtrue").only(&["/items/0/metadata/name"]),
        delete(n),
    ]);
}

#[test]
fn services() {
    let services = "/api/v1/namespaces/NS/services";
    let dry = "/api/v1/namespaces/NS/services?dryRun=All";
    let s = "/api/v1/namespaces/NS/services/s";
    let service =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec});
    let ports = json!([{"port": 80}]);
    let object = &["/kind", "/metadata/name", "/spec", "/status"];
    compare(vec![
        post(services, service(json!({"ports": []}))),
        post(services, service(json!({"ports": [{"port": 0}]}))),
        post(services, service(json!({"ports": [{"port": 80}, {"port": 81}]}))),
        post(services, service(json!({"ports": ports, "type": "Odd"}))),
        // It names the range to a dry run only.
        post(services, service(json!({"ports": ports, "clusterIP": "1.1.1.1"}))).in_other_words(),
        post(dry, service(json!({"ports": ports, "clusterIP": "10.96.77.7", "selector": {"a": "b"}})))
            .only(object),
        post(dry, service(json!({"ports": ports, "clusterIP": "None", "selector": {"a": "b"}}))).only(object),
        post(dry, service(json!({"ports": ports, "type": "NodePort", "clusterIP": "10.96.77.7"})))
            .only(&["/spec/type", "/spec/externalTrafficPolicy"]),
        post(services, service(json!({"ports": ports, "clusterIP": "10.96.77.7"}))).only(object),
        post(
            services,
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "t"}, "spec": {"ports": ports, "clusterIP": "10.96.77.7"}}),
        ),
        patch(s, MERGE, json!({"spec": {"clusterIP": "10.96.77.8"}})),
        patch(s, STRATEGIC, json!({"spec": {"ports": [{"port": 81, "name": "b"}]}})),
        patch(
            s,
            STRATEGIC,
            json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}),
        )
        .only(object),
        patch(
            s,
            STRATEGIC,
            json!({"spec": {"ports": [{"port": 82, "name": "c"}, {"port": 81, "name": "d"}]}}),
        )
        .only(object),
        patch(s, MERGE, json!({"spec": {"type": "ExternalName"}})),
        patch(s, MERGE, json!({"spec": {"externalTrafficPolicy": "Local"}})),
        delete(s).only(object),
        delete(s),
    ]);
}

#[test]
fn secrets_accounts_and_leases() {
    let secrets = "/api/v1/namespaces/NS/secrets";
    let secret = |more: Value| {
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
        secret.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        secret
    };
    let lease = |spec: Value| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": spec});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/NS/leases";
    let l = "/apis/coordination.k8s.io/v1/namespaces/NS/leases/l";
    let accounts = "/api/v1/namespaces/NS/serviceaccounts";
    compare(vec![
        post(secrets, secret(json!({"data": {"a": "x"}}))).in_other_words(),
        post(secrets, secret(json!({"data": {"a/b": "eA=="}}))),
        post(secrets, secret(json!({"stringData": {"a": "x"}, "data": {"b": "eA=="}}))),
        patch("/api/v1/namespaces/NS/secrets/s", MERGE, json!({"type": "other"})),
        patch("/api/v1/namespaces/NS/secrets/s", MERGE, json!({"stringData": {"c": "y"}})),
        get("/api/v1/namespaces/NS/secrets?fieldSelector=type%3DOpaque"),
        delete("/api/v1/namespaces/NS/secrets/s"),
        post(leases, lease(json!({"holderIdentity": "a", "leaseDurationSeconds": 0}))),
        post(
            leases,
            lease(
                json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}),
            ),
        ),
        patch(l, MERGE, json!({"spec": {"leaseTransitions": -1}})),
        patch(l, MERGE, json!({"spec": {"leaseTransitions": 1}})),
        delete(l),
        post(
            accounts,
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "automountServiceAccountToken": false}),
        ),
        delete("/api/v1/namespaces/NS/serviceaccounts/a").only(&["/kind", "/metadata/name"]),
    ]);
}
