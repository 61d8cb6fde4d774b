//! What the two managers can do in the cluster that they run in, and what they cannot.

use serde_json::{Value, json};

use crate::actor::{Try, in_namespace, named, ours, with};
use crate::world::{account, cluster, node_config, plane};

fn lease(name: &str) -> Value {
    in_namespace("clusterlink-system", named("coordination.k8s.io/v1", "Lease", name))
}

fn service() -> Value {
    let spec = json!({"spec": {"clusterIP": "192.0.2.1", "ports": [{"port": 443}]}});
    with(in_namespace("default", named("v1", "Service", "clusterlink-probe")), spec)
}

#[tokio::test]
async fn the_network_manager_does_what_its_code_does() {
    let Some(plane) = plane() else { return };
    let manager = account(plane, "clusterlink-system", "clusterlink-network-manager").await;
    for kind in ["Cluster", "ClusterNode", "NodeConfig"] {
        manager.may(Try::List(ours(kind, ""))).await;
    }
    let condition = json!({"type": "Planned", "status": "True", "reason": "Planned", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let said = json!({"status": {"conditions": [condition]}});
    manager.may(Try::ApplyStatus(with(ours("Cluster", "a-b"), said.clone()))).await;
    manager
        .may(Try::ApplyStatus(with(
            ours("ClusterNode", "a-b-c"),
            with(said, json!({"status": {"overlay": {"bridge": "241.0.0.3"}}})),
        )))
        .await;
    let config = node_config("a-b-d", "a-b");
    manager.may(Try::Apply(config.clone())).await;
    manager.may(Try::Delete(config)).await;
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a-b-c.77", "namespace": "default"},
        "involvedObject": {"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode", "name": "a-b-c"}});
    manager.may(Try::Apply(event.clone())).await;
    manager.may(Try::Get(event)).await;
    election(&manager, "clusterlink-network-manager").await;
}

async fn election(manager: &crate::actor::Actor, name: &str) {
    manager.may(Try::Create(lease(name))).await;
    manager.may(Try::Get(lease(name))).await;
    let admin = plane().unwrap().client().await.unwrap();
    let leases: kube::Api<k8s_openapi::api::coordination::v1::Lease> =
        kube::Api::namespaced(admin, "clusterlink-system");
    let version = leases.get(name).await.unwrap().metadata.resource_version;
    let held = json!({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": "one"}});
    manager.may(Try::Replace(with(lease(name), held))).await;
}

#[tokio::test]
async fn the_network_manager_does_nothing_else() {
    let Some(plane) = plane() else { return };
    let manager = account(plane, "clusterlink-system", "clusterlink-network-manager").await;
    manager
        .has_no_right_to(Try::Merge(with(ours("Cluster", "a"), json!({"spec": {"namespace": "x"}}))))
        .await;
    manager.has_no_right_to(Try::Delete(ours("Cluster", "a"))).await;
    manager
        .has_no_right_to(Try::Merge(with(ours("ClusterNode", "a-n1"), json!({"spec": {"roles": []}}))))
        .await;
    manager.has_no_right_to(Try::Delete(ours("ClusterNode", "a-n1"))).await;
    manager.has_no_right_to(Try::ApplyStatus(with(ours("NodeConfig", "a-n1"), json!({"status": {}})))).await;
    manager.has_no_right_to(Try::List(named("v1", "Secret", ""))).await;
    manager.has_no_right_to(Try::List(in_namespace("clusterlink-system", named("v1", "Secret", "")))).await;
    let member = in_namespace("clusterlink-members", named("v1", "ServiceAccount", "a"));
    manager.has_no_right_to(Try::Token(member, 3600)).await;
    manager.has_no_right_to(Try::Get(lease("clusterlink-controller-manager"))).await;
}

#[tokio::test]
async fn the_controller_manager_does_what_its_code_does_in_its_member() {
    let Some(plane) = plane() else { return };
    let manager = account(plane, "clusterlink-system", "clusterlink-controller-manager").await;
    manager.may(Try::Get(named("v1", "Namespace", "kube-system"))).await;
    manager.may(Try::List(named("v1", "Node", ""))).await;
    manager.may(Try::List(named("networking.k8s.io/v1", "ServiceCIDR", ""))).await;
    manager.may(Try::List(in_namespace("kube-system", named("v1", "Pod", "")))).await;
    let maps = [
        ("kube-system", "cilium-config"),
        ("kube-system", "kube-flannel-cfg"),
        ("kube-flannel", "kube-flannel-cfg"),
    ];
    for (namespace, name) in maps.into_iter().chain([("kube-system", "calico-config")]) {
        manager.may(Try::ListNamed(in_namespace(namespace, named("v1", "ConfigMap", name)))).await;
    }
    manager.may(Try::ListNamed(ours("Cluster", "a"))).await;
    for kind in ["ClusterNode", "NodeConfig"] {
        manager.may(Try::List(ours(kind, ""))).await;
    }
    for object in [cluster("mirrored"), node_config("mirrored-n1", "mirrored")] {
        manager.may(Try::Apply(object.clone())).await;
        manager.may(Try::Delete(object)).await;
    }
    // Of its member's own copy it says whether the control cluster answers.
    let answers = json!({"status": {"conditions": [{"type": "ControlClusterReachable", "status": "False", "reason": "Unreachable",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    manager.may(Try::ApplyStatus(with(ours("Cluster", "a"), answers))).await;
    let control = in_namespace("clusterlink-system", named("v1", "Secret", "clusterlink-control"));
    let admin = crate::actor::Actor { client: plane.client().await.unwrap() };
    admin.may(Try::Apply(control.clone())).await;
    manager.may(Try::Get(control.clone())).await;
    manager.may(Try::Apply(with(control, json!({"stringData": {"kubeconfig": "renewed"}})))).await;
    election(&manager, "clusterlink-controller-manager").await;
}

#[tokio::test]
async fn the_controller_manager_asks_for_the_service_range_in_dry_runs_only() {
    let Some(plane) = plane() else { return };
    let manager = account(plane, "clusterlink-system", "clusterlink-controller-manager").await;
    // What is tried in a dry run is let through to the refusal that names the range.
    manager.answers_in_a_dry_run(Try::Create(service()), "The range of valid IPs is 10.96.0.0/16").await;
    let real = with(service(), json!({"spec": {"clusterIP": null}}));
    manager.is_refused(Try::Create(real), "dry runs only").await;
}

#[tokio::test]
async fn the_controller_manager_does_nothing_else_in_its_member() {
    let Some(plane) = plane() else { return };
    let manager = account(plane, "clusterlink-system", "clusterlink-controller-manager").await;
    manager.has_no_right_to(Try::List(in_namespace("clusterlink-system", named("v1", "Secret", "")))).await;
    manager
        .has_no_right_to(Try::Get(in_namespace("clusterlink-system", named("v1", "Secret", "other"))))
        .await;
    manager
        .has_no_right_to(Try::Get(in_namespace("kube-system", named("v1", "Secret", "clusterlink-control"))))
        .await;
    manager.has_no_right_to(Try::List(in_namespace("kube-system", named("v1", "ConfigMap", "")))).await;
    manager.has_no_right_to(Try::List(named("v1", "Pod", ""))).await;
    manager.has_no_right_to(Try::ApplyStatus(with(ours("NodeConfig", "a-n1"), json!({"status": {}})))).await;
    manager.has_no_right_to(Try::Apply(with(ours("ClusterNode", "a-n1"), json!({"spec": {}})))).await;
    let agent = in_namespace("clusterlink-system", named("v1", "ServiceAccount", "clusterlink-agent"));
    manager.has_no_right_to(Try::Token(agent, 3600)).await;
    manager.has_no_right_to(Try::Delete(lease("clusterlink-controller-manager"))).await;
}
