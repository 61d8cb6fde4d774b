//! What a member's credential for the control cluster can do, and what a stolen one cannot.

use serde_json::{Value, json};

use crate::actor::{Try, in_namespace, named, ours, with};
use crate::world::{account, cluster_node, member, plane};

const DAY: i64 = 86_400;

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "Tested", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn event(cluster: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("{cluster}.0123"), "namespace": "default"},
        "involvedObject": {"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster", "name": cluster}, "reason": "Tested"})
}

fn own_account(cluster: &str) -> Value {
    in_namespace("clusterlink-members", named("v1", "ServiceAccount", cluster))
}

#[tokio::test]
async fn a_member_does_what_its_controller_manager_does() {
    let Some(plane) = plane() else { return };
    let a = member(plane, "a").await;
    a.may(Try::Get(named("v1", "Namespace", "kube-system"))).await;
    a.may(Try::ListNamed(ours("Cluster", "a"))).await;
    a.may(Try::List(ours("ClusterNode", ""))).await;
    a.may(Try::List(ours("NodeConfig", ""))).await;
    let status = json!({"status": {"clusterLinkStatus": {"podCIDRs": ["10.1.0.0/16"], "serviceCIDRs": []},
        "conditions": [condition("CIDRsKnown"), condition("Published")]}});
    a.may(Try::ApplyStatus(with(ours("Cluster", "a"), status))).await;
    // As it claims a node's name, writes the node, relays what its agent measures, and removes it.
    let node = cluster_node("a-new", "a", "new");
    a.may(Try::Create(node.clone())).await;
    a.may(Try::Get(node.clone())).await;
    let more = json!({"spec": {"podCIDRs": ["10.1.7.0/24"], "roles": ["gateway"], "ip": "192.168.0.7"}});
    a.may(Try::Apply(with(node.clone(), more))).await;
    let measured = json!({"status": {"mtu": 1500, "capabilities": ["nftables"]}});
    a.may(Try::ApplyStatus(with(ours("ClusterNode", "a-new"), measured))).await;
    a.may(Try::Delete(node)).await;
    let relayed = json!({"status": {"observedGeneration": 1, "conditions": [condition("Applied")]}});
    a.may(Try::ApplyStatus(with(ours("NodeConfig", "a-n1"), relayed))).await;
    a.may(Try::Apply(event("a"))).await;
    a.may(Try::Get(event("a"))).await;
    a.may(Try::Token(own_account("a"), DAY)).await;
}

#[tokio::test]
async fn a_node_that_its_agent_has_named_first_is_claimed_by_its_own_member_only() {
    let Some(plane) = plane() else { return };
    let stub = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode",
        "metadata": {"name": "a-b-stub", "labels": {"kosmos.io/cluster": "a"}}, "spec": {"ip": "192.168.0.8"}});
    plane_admin(plane).await.may(Try::Apply(stub)).await;
    let other = member(plane, "a-b").await;
    other.may_not(Try::Apply(cluster_node("a-b-stub", "a-b", "stub")), "belongs to another cluster").await;
    member(plane, "a").await.may(Try::Apply(cluster_node("a-b-stub", "a", "b-stub"))).await;
}

async fn plane_admin(plane: &kubernetes::ControlPlane) -> crate::actor::Actor {
    crate::actor::Actor { client: plane.client().await.unwrap() }
}

#[tokio::test]
async fn a_stolen_credential_does_not_write_another_clusters_objects() {
    let Some(plane) = plane() else { return };
    let a = member(plane, "a").await;
    let cidrs = json!({"status": {"clusterLinkStatus": {"podCIDRs": ["10.2.0.0/16"], "serviceCIDRs": []}}});
    a.may_not(Try::ApplyStatus(with(ours("Cluster", "a-b"), cidrs)), "is not that of member a").await;
    let foreign = "belongs to another cluster than a";
    let theirs = cluster_node("a-b-c", "a-b", "c");
    a.may_not(Try::Apply(theirs.clone()), foreign).await;
    // Claiming it for oneself, by every name that there is.
    a.may_not(Try::Apply(cluster_node("a-b-c", "a", "b-c")), foreign).await;
    a.may_not(Try::Merge(with(ours("ClusterNode", "a-b-c"), json!({"spec": {"clusterName": "a"}}))), foreign)
        .await;
    let relabelled = json!({"metadata": {"labels": {"kosmos.io/cluster": "a"}}});
    a.may_not(Try::Merge(with(ours("ClusterNode", "a-b-c"), relabelled)), foreign).await;
    a.may_not(
        Try::ApplyStatus(with(ours("ClusterNode", "a-b-c"), json!({"status": {"mtu": 1280}}))),
        foreign,
    )
    .await;
    a.may_not(Try::Delete(theirs), foreign).await;
    let status = with(ours("NodeConfig", "a-b-c"), json!({"status": {"observedGeneration": 9}}));
    a.may_not(Try::ApplyStatus(status), foreign).await;
}

#[tokio::test]
async fn a_stolen_credential_makes_no_nodes_in_another_name() {
    let Some(plane) = plane() else { return };
    let a = member(plane, "a").await;
    let of_another = "spec.clusterName of a ClusterNode of member a must be a";
    a.may_not(Try::Create(cluster_node("a-b-x", "a-b", "x")), of_another).await;
    a.may_not(Try::Apply(cluster_node("a-b-x", "a-b", "x")), of_another).await;
    a.may_not(Try::Create(cluster_node("z-x", "a", "x")), "must be named a-").await;
    let labelled =
        with(cluster_node("a-x", "a", "x"), json!({"metadata": {"labels": {"kosmos.io/cluster": "a-b"}}}));
    a.may_not(Try::Create(labelled), "label kosmos.io/cluster").await;
    // An own node that is given away, or whose name would not fit it any more.
    let away = json!({"spec": {"clusterName": "a-b"}});
    a.may_not(Try::Merge(with(ours("ClusterNode", "a-n2"), away)), of_another).await;
    let renamed = json!({"spec": {"nodeName": "n3"}});
    a.may_not(Try::Merge(with(ours("ClusterNode", "a-n2"), renamed)), "must be named a-").await;
    let none = json!({"spec": {"clusterName": null}});
    a.may_not(Try::Merge(with(ours("ClusterNode", "a-n2"), none)), of_another).await;
}

#[tokio::test]
async fn a_stolen_credential_does_not_speak_for_the_network_manager() {
    let Some(plane) = plane() else { return };
    let a = member(plane, "a").await;
    for kind in ["Planned", "CIDRsUnique", "OptionsSupported"] {
        let said = json!({"status": {"conditions": [condition(kind)]}});
        a.may_not(Try::ApplyStatus(with(ours("Cluster", "a"), said.clone())), "are the network-manager's")
            .await;
        a.may_not(Try::ApplyStatus(with(ours("ClusterNode", "a-n2"), said)), "are the network-manager's")
            .await;
    }
    let moved = json!({"status": {"overlay": {"bridge": "241.0.0.1"}}});
    a.may_not(Try::ApplyStatus(with(ours("ClusterNode", "a-n2"), moved)), "status.overlay").await;
    let held = json!({"metadata": {"finalizers": ["example.org/held"]}});
    a.may_not(Try::Merge(with(ours("ClusterNode", "a-n2"), held)), "finalizers").await;
    let owner = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "Node", "name": "n2", "uid": "11111111-1111-1111-1111-111111111111"}]}});
    a.may_not(Try::Merge(with(ours("ClusterNode", "a-n2"), owner)), "owner references").await;
    for (what, part) in [
        (Try::Apply as fn(Value) -> Try, json!({"spec": {"routes": []}})),
        (Try::Merge, json!({"metadata": {"labels": {"kosmos.io/cluster": "a"}}})),
        (Try::Replace, json!({"metadata": {"resourceVersion": "1"}, "spec": {}})),
        (Try::Delete, json!({})),
        (Try::Create, json!({"spec": {}})),
    ] {
        a.has_no_right_to(what(with(ours("NodeConfig", "a-n1"), part))).await;
    }
    a.has_no_right_to(Try::Merge(with(ours("Cluster", "a"), json!({"spec": {"namespace": "x"}})))).await;
    a.has_no_right_to(Try::Delete(ours("Cluster", "a"))).await;
}

#[tokio::test]
async fn a_stolen_credential_reads_no_secrets_and_no_other_cluster() {
    let Some(plane) = plane() else { return };
    let a = member(plane, "a").await;
    a.has_no_right_to(Try::List(named("v1", "Secret", ""))).await;
    for namespace in ["clusterlink-system", "clusterlink-members", "kube-system", "default"] {
        a.has_no_right_to(Try::List(in_namespace(namespace, named("v1", "Secret", "")))).await;
        a.has_no_right_to(Try::Get(in_namespace(namespace, named("v1", "ConfigMap", "clusterlink")))).await;
        a.has_no_right_to(Try::List(in_namespace(namespace, named("v1", "ServiceAccount", "")))).await;
        a.has_no_right_to(Try::List(in_namespace(namespace, named("v1", "Event", "")))).await;
        a.has_no_right_to(Try::List(in_namespace(namespace, named("coordination.k8s.io/v1", "Lease", ""))))
            .await;
    }
    // Objects of a Kosmos user may still hold a kubeconfig.
    a.has_no_right_to(Try::Get(ours("Cluster", "a-b"))).await;
    a.has_no_right_to(Try::ListNamed(ours("Cluster", "a-b"))).await;
    a.has_no_right_to(Try::List(ours("Cluster", ""))).await;
    a.has_no_right_to(Try::List(named("v1", "Node", ""))).await;
    a.has_no_right_to(Try::DeleteAll(ours("ClusterNode", ""))).await;
}

#[tokio::test]
async fn a_stolen_credential_gives_itself_no_more_and_no_longer() {
    let Some(plane) = plane() else { return };
    let a = member(plane, "a").await;
    a.has_no_right_to(Try::Token(own_account("a-b"), DAY)).await;
    let manager =
        in_namespace("clusterlink-system", named("v1", "ServiceAccount", "clusterlink-network-manager"));
    a.has_no_right_to(Try::Token(manager, DAY)).await;
    a.may_not(Try::Token(own_account("a"), DAY + 1), "24 hours").await;
    a.has_no_right_to(Try::Create(with(own_account("mine"), json!({})))).await;
    let pod = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = with(in_namespace("clusterlink-members", named("v1", "Pod", "p")), pod);
    a.has_no_right_to(Try::Create(pod)).await;
    let role = named("rbac.authorization.k8s.io/v1", "ClusterRole", "mine");
    a.has_no_right_to(Try::Create(with(role, json!({"rules": []})))).await;
    let policy = named(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "clusterlink-member-clusters",
    );
    a.has_no_right_to(Try::Delete(policy)).await;
}

#[tokio::test]
async fn a_stolen_credential_tells_of_its_own_cluster_only() {
    let Some(plane) = plane() else { return };
    let (a, other) = (member(plane, "a").await, member(plane, "a-b").await);
    other.may(Try::Apply(event("a-b"))).await;
    let only = "tells of Cluster a only";
    a.may_not(Try::Create(with(event("a-b"), json!({"metadata": {"name": "a-b.77"}}))), only).await;
    let painted = json!({"involvedObject": {"name": "a"}, "message": "all is well"});
    a.may_not(Try::Merge(with(in_namespace("default", named("v1", "Event", "a-b.0123")), painted)), only)
        .await;
    a.has_no_right_to(Try::Delete(event("a-b"))).await;
}

#[tokio::test]
async fn no_pod_runs_where_members_have_their_accounts() {
    let Some(plane) = plane() else { return };
    let admin = plane_admin(plane).await;
    let security = json!({"runAsNonRoot": true, "runAsUser": 1, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
    let pod = json!({"spec": {"serviceAccountName": "a", "containers": [
        {"name": "c", "image": "i", "securityContext": security}]}});
    let pod = with(in_namespace("clusterlink-members", named("v1", "Pod", "p")), pod);
    // The quota counts once a controller has looked at it.
    plane.start_controller_manager(&["--controllers=resourcequota-controller"]).unwrap();
    admin.is_refused(Try::Create(pod), "exceeded quota: no-pods").await;
}

#[tokio::test]
async fn an_account_without_a_membership_reads_no_cluster() {
    let Some(plane) = plane() else { return };
    let admin = plane_admin(plane).await;
    admin.may(Try::Apply(own_account("stranger"))).await;
    let stranger = account(plane, "clusterlink-members", "stranger").await;
    stranger.has_no_right_to(Try::Get(ours("Cluster", "a"))).await;
    stranger.has_no_right_to(Try::Token(own_account("stranger"), DAY)).await;
    stranger.may_not(Try::Apply(cluster_node("a-n1", "a", "n1")), "belongs to another cluster").await;
}
