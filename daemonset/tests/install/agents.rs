//! What an agent's token can do, and what a stolen one cannot. The agents here are those of member `a`, in a cluster that is
//! its own control cluster: that is where names could meet.

use serde_json::{Value, json};

use crate::actor::{Try, in_namespace, named, ours, with};
use crate::world::{account, agent, node_config, plane};

const FINALIZER: &str = "kosmos.io/clusterlink-agent";

/// What the agent publishes of its underlay.
fn facts(name: &str) -> Value {
    with(
        ours("ClusterNode", name),
        json!({"metadata": {"labels": {"kosmos.io/cluster": "a"}},
        "spec": {"interfaceName": "eth0", "ip": "192.168.0.1"}}),
    )
}

fn status(kind: &str, name: &str) -> Value {
    let status = match kind {
        "ClusterNode" => json!({"mtu": 1500, "capabilities": ["nftables"]}),
        _ => json!({"observedGeneration": 1}),
    };
    with(ours(kind, name), json!({"status": status}))
}

fn finalizers(name: &str, finalizers: &[&str]) -> Value {
    with(ours("NodeConfig", name), json!({"metadata": {"finalizers": finalizers}}))
}

/// Where API servers write down where they are.
fn api_servers(namespace: &str) -> Value {
    in_namespace(namespace, named("discovery.k8s.io/v1", "EndpointSlice", "kubernetes"))
}

#[tokio::test]
async fn an_agent_does_what_its_code_does() {
    let Some(plane) = plane() else { return };
    let agent = agent(plane, "n1").await;
    for object in [
        named("v1", "Node", "n1"),
        ours("Cluster", "a"),
        ours("ClusterNode", "a-n1"),
        ours("NodeConfig", "a-n1"),
    ] {
        agent.may(Try::ListNamed(object)).await;
    }
    agent.may(Try::Get(api_servers("default"))).await;
    agent.may(Try::Apply(facts("a-n1"))).await;
    agent.may(Try::ApplyStatus(status("ClusterNode", "a-n1"))).await;
    agent.may(Try::ApplyStatus(status("NodeConfig", "a-n1"))).await;
    agent.may(Try::Merge(finalizers("a-n1", &["example.org/other", FINALIZER]))).await;
    agent.may(Try::Merge(finalizers("a-n1", &["example.org/other"]))).await;
}

#[tokio::test]
async fn an_agent_publishes_a_node_that_nobody_has_published() {
    let Some(plane) = plane() else { return };
    let admin = crate::actor::Actor { client: plane.client().await.unwrap() };
    admin.may(Try::Delete(ours("ClusterNode", "a-n2"))).await;
    agent(plane, "n2").await.may(Try::Apply(facts("a-n2"))).await;
    // As other tests expect it.
    admin.may(Try::Apply(crate::world::cluster_node("a-n2", "a", "n2"))).await;
}

#[tokio::test]
async fn a_stolen_token_does_not_speak_for_another_node() {
    let Some(plane) = plane() else { return };
    let thief = agent(plane, "n2").await;
    for name in ["a-n1", "a-n3", "a-b-c", "n2", "z-n2", "a-b-n2"] {
        let only = "writes ClusterNode a-n2 only";
        thief.may_not(Try::Apply(facts(name)), only).await;
        thief.may_not(Try::Create(facts(name)), only).await;
    }
    for name in ["a-n1", "a-b-c"] {
        thief.may_not(Try::ApplyStatus(status("ClusterNode", name)), "writes ClusterNode a-n2 only").await;
        let only = "writes NodeConfig a-n2 only";
        thief.may_not(Try::ApplyStatus(status("NodeConfig", name)), only).await;
        thief.may_not(Try::Merge(finalizers(name, &[])), only).await;
    }
}

#[tokio::test]
async fn two_pairs_of_names_that_meet_are_told_apart() {
    let Some(plane) = plane() else { return };
    // Node b-c of cluster a; a-b-c is node c of cluster a-b.
    let agent = agent(plane, "b-c").await;
    agent.may_not(Try::Apply(facts("a-b-c")), "belongs to a node of another cluster").await;
    agent
        .may_not(Try::ApplyStatus(status("ClusterNode", "a-b-c")), "belongs to a node of another cluster")
        .await;
    agent
        .may_not(Try::ApplyStatus(status("NodeConfig", "a-b-c")), "belongs to a node of another cluster")
        .await;
    agent.may_not(Try::Merge(finalizers("a-b-c", &[])), "belongs to a node of another cluster").await;
}

#[tokio::test]
async fn a_stolen_token_writes_facts_and_nothing_else() {
    let Some(plane) = plane() else { return };
    let thief = agent(plane, "n1").await;
    for (field, value) in [
        ("podCIDRs", json!(["0.0.0.0/1"])),
        ("roles", json!(["gateway"])),
        ("publicIP", json!("203.0.113.7")),
        ("clusterName", json!("a-b")),
        ("nodeName", json!("n2")),
    ] {
        let refused = "of the spec an agent writes ip, ip6 and interfaceName";
        thief
            .may_not(Try::Merge(with(ours("ClusterNode", "a-n1"), json!({"spec": {field: value}}))), refused)
            .await;
    }
    let labelled = json!({"metadata": {"labels": {"kosmos.io/cluster": "a-b"}}});
    thief.may_not(Try::Merge(with(ours("ClusterNode", "a-n1"), labelled)), "label kosmos.io/cluster").await;
    for part in [
        json!({"metadata": {"finalizers": ["example.org/held"]}}),
        json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "11111111-1111-1111-1111-111111111111"}]}}),
    ] {
        thief.may_not(Try::Merge(with(ours("ClusterNode", "a-n1"), part)), "not an agent's to change").await;
    }
    let moved = json!({"status": {"overlay": {"bridge": "241.0.0.1"}}});
    let refused = "of the status an agent writes mtu and capabilities";
    thief.may_not(Try::ApplyStatus(with(ours("ClusterNode", "a-n1"), moved)), refused).await;
    thief.has_no_right_to(Try::Delete(ours("ClusterNode", "a-n1"))).await;
    thief.has_no_right_to(Try::DeleteAll(ours("ClusterNode", ""))).await;
}

#[tokio::test]
async fn a_stolen_token_does_not_change_what_is_planned() {
    let Some(plane) = plane() else { return };
    let thief = agent(plane, "n1").await;
    let planned = "the spec of a NodeConfig is the network-manager's";
    thief
        .may_not(Try::Merge(with(ours("NodeConfig", "a-n1"), json!({"spec": {"unreachable": []}}))), planned)
        .await;
    thief
        .may_not(Try::Apply(with(ours("NodeConfig", "a-n1"), json!({"spec": {"rulePriority": 7}}))), planned)
        .await;
    let its_finalizer = "an agent writes its finalizer";
    for part in [
        json!({"metadata": {"finalizers": []}}),
        json!({"metadata": {"finalizers": [FINALIZER]}}),
        json!({"metadata": {"finalizers": ["example.org/other", "example.org/held"]}}),
        json!({"metadata": {"labels": {"kosmos.io/cluster": "a-b"}}}),
        json!({"metadata": {"annotations": {"x": "y"}}}),
        json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "11111111-1111-1111-1111-111111111111"}]}}),
    ] {
        thief.may_not(Try::Merge(with(ours("NodeConfig", "a-n1"), part)), its_finalizer).await;
    }
    thief.has_no_right_to(Try::Create(node_config("a-n9", "a"))).await;
    thief.has_no_right_to(Try::Delete(ours("NodeConfig", "a-n1"))).await;
}

#[tokio::test]
async fn a_stolen_token_reads_no_secrets_and_writes_nothing_else() {
    let Some(plane) = plane() else { return };
    let thief = agent(plane, "n1").await;
    thief.has_no_right_to(Try::List(named("v1", "Secret", ""))).await;
    let control = in_namespace("clusterlink-system", named("v1", "Secret", "clusterlink-control"));
    thief.has_no_right_to(Try::Get(control)).await;
    for listed in [Try::List(api_servers("default")), Try::Get(api_servers("kube-system"))] {
        thief.has_no_right_to(listed).await;
    }
    thief.has_no_right_to(Try::Merge(with(api_servers("default"), json!({"endpoints": []})))).await;
    let settings = in_namespace("clusterlink-system", named("v1", "ConfigMap", "clusterlink"));
    thief.has_no_right_to(Try::Merge(with(settings, json!({"data": {"cluster": "a-b"}})))).await;
    thief.has_no_right_to(Try::Merge(with(ours("Cluster", "a"), json!({"spec": {"namespace": "x"}})))).await;
    thief.has_no_right_to(Try::ApplyStatus(with(ours("Cluster", "a"), json!({"status": {}})))).await;
    thief
        .has_no_right_to(Try::Merge(with(
            named("v1", "Node", "n1"),
            json!({"metadata": {"labels": {"x": "y"}}}),
        )))
        .await;
    for name in ["clusterlink-agent", "clusterlink-controller-manager"] {
        let account = in_namespace("clusterlink-system", named("v1", "ServiceAccount", name));
        thief.has_no_right_to(Try::Token(account, 3600)).await;
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_no_pod_writes_nothing() {
    let Some(plane) = plane() else { return };
    let nobody = account(plane, "clusterlink-system", "clusterlink-agent").await;
    nobody.may_not(Try::Apply(facts("a-n1")), "one of them is missing").await;
    nobody.may_not(Try::ApplyStatus(status("NodeConfig", "a-n1")), "one of them is missing").await;
}
