//! A controller-manager between two real API servers: what appears, what changes, what goes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use api::{Cluster, ClusterNode, NodeConfig};
use k8s_openapi::api::core::v1::{Event, Node};
use kube::Api;
use serde_json::json;
use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_appear_with_cidrs_facts_and_gateways_and_go() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    join(&control.client, "east", json!({"networkType": "gateway", "gateways": 1})).await;
    for (index, node) in ["n1", "n2", "n3"].into_iter().enumerate() {
        add_node(&member.client, node, &format!("10.244.{index}.0/24")).await;
        report(&member.client, "east", node, &format!("172.18.0.{}", index + 2)).await;
    }
    let _running = Running::start("east", &member.client, &control.client);

    let look = || get::<ClusterNode>(&control.client, "east-n1");
    // A node is claimed by its name first; the rest of its spec and its status are two more writes, in any order.
    let n1 = eventually("n1 with its facts", look, |node| {
        node.as_ref().is_some_and(|node| {
            node.spec.ip.is_some() && node.status.as_ref().is_some_and(|status| status.mtu.is_some())
        })
    });
    let n1 = n1.await.unwrap();
    assert_eq!(n1.metadata.labels.unwrap()["kosmos.io/cluster"], "east");
    assert_eq!(n1.spec.cluster_name.as_deref(), Some("east"));
    assert_eq!(n1.spec.node_name.as_deref(), Some("n1"));
    assert_eq!(n1.spec.pod_cidrs, ["10.244.0.0/24"]);
    assert_eq!(n1.spec.ip.as_deref(), Some("172.18.0.2"));
    assert_eq!(n1.spec.interface_name.as_deref(), Some("eth0"));
    assert_eq!(n1.status.unwrap().capabilities, ["nftables"]);
    let nodes = || names::<ClusterNode>(&control.client);
    eventually("all nodes", nodes, |names| *names == ["east-n1", "east-n2", "east-n3"]).await;

    let gateways = || async {
        let nodes = Api::<ClusterNode>::all(control.client.clone()).list(&Default::default()).await.unwrap();
        let gateways = nodes.items.iter().filter(|node| node.spec.is_gateway());
        gateways.filter_map(|node| node.spec.node_name.clone()).collect::<Vec<_>>()
    };
    let first = eventually("one gateway", gateways, |gateways| gateways.len() == 1).await;

    let known = || condition(&control.client, "east", "CIDRsKnown");
    let (_, reason, message) =
        eventually("CIDRs", known, |known| known.as_ref().is_some_and(|known| known.0 == "True"))
            .await
            .unwrap();
    assert_eq!(reason, "Found");
    assert_eq!(
        message,
        "pods: spec.podCIDRs of every Node, by node (auto: no other CNI found); services: ServiceCIDR kubernetes"
    );
    let found =
        get::<Cluster>(&control.client, "east").await.unwrap().status.unwrap().cluster_link_status.unwrap();
    assert_eq!(found.pod_cidrs, ["10.244.0.0/23", "10.244.2.0/24"]);
    assert_eq!(found.service_cidrs, ["10.96.0.0/12"]);

    // A labelled node takes the role over; the label is a person's wish.
    let chosen = if first == ["n3"] { "n2" } else { "n3" };
    apply::<Node>(
        &member.client,
        "person",
        false,
        json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": chosen, "labels": {"kosmos.io/gateway": "true"}}}),
    )
    .await;
    eventually("the labelled gateway", gateways, |gateways| *gateways == [chosen]).await;

    // A node that goes, and one that is kept out.
    delete::<Node>(&member.client, "n1").await;
    apply::<Node>(
        &member.client,
        "person",
        false,
        json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n2", "labels": {"kosmos.io/exclude": "true"}}}),
    )
    .await;
    eventually("the nodes that are left", nodes, |names| *names == ["east-n3"]).await;
    eventually("another gateway", gateways, |gateways| *gateways == ["n3"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stays_silent_is_replaced() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    join(&control.client, "east", json!({"networkType": "gateway", "gateways": 1})).await;
    for (index, node) in ["n1", "n2"].into_iter().enumerate() {
        add_node(&member.client, node, &format!("10.244.{index}.0/24")).await;
        report(&member.client, "east", node, &format!("172.18.0.{}", index + 2)).await;
    }
    let _running = Running::start("east", &member.client, &control.client);
    let is_gateway = |node: &'static str| {
        let client = control.client.clone();
        move || {
            let client = client.clone();
            async move {
                get::<ClusterNode>(&client, &format!("east-{node}"))
                    .await
                    .is_some_and(|node| node.spec.is_gateway())
            }
        }
    };
    eventually("n1 is chosen", is_gateway("n1"), |is| *is).await;
    set_ready(&member.client, "n1", false, "2026-01-02T00:00:00Z").await;
    eventually("n2 takes over", is_gateway("n2"), |is| *is).await;
    eventually("n1 has no role", is_gateway("n1"), |is| !*is).await;
    set_ready(&member.client, "n1", true, "2026-01-02T00:10:00Z").await;
    stays("n2 keeps the role", is_gateway("n2"), |is| *is).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_go_down_and_status_goes_up() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    join(&control.client, "east", json!({"defaultNICName": "eth1"})).await;
    join(&control.client, "west", json!({})).await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    plan(&control.client, "east", "n1", json!({"unreachable": ["10.80.0.0/16"]})).await;
    plan(&control.client, "west", "n1", json!({"unreachable": ["10.81.0.0/16"]})).await;
    let running = Running::start("east", &member.client, &control.client);

    let mirrored = || get::<NodeConfig>(&member.client, "east-n1");
    eventually("the mirror", mirrored, |config| {
        config.as_ref().is_some_and(|config| config.spec.unreachable == ["10.80.0.0/16"])
    })
    .await;
    let own = || get::<Cluster>(&member.client, "east");
    let copy = eventually("the own Cluster", own, Option::is_some).await.unwrap();
    assert_eq!(copy.spec.cluster_link_options.unwrap().default_nic_name, "eth1");
    assert_eq!(
        names::<NodeConfig>(&member.client).await,
        ["east-n1"],
        "another cluster's plan is none of ours"
    );
    assert_eq!(names::<Cluster>(&member.client).await, ["east"]);

    // A change comes through; generations of the two APIs differ, and the relayed status speaks of the control's.
    plan(&control.client, "east", "n1", json!({"unreachable": ["10.82.0.0/16"]})).await;
    let changed = eventually("the change", mirrored, |config| {
        config.as_ref().is_some_and(|config| config.spec.unreachable == ["10.82.0.0/16"])
    });
    let below = changed.await.unwrap().metadata.generation.unwrap();
    plan(&control.client, "east", "n1", json!({"unreachable": ["10.82.0.0/16"], "rulePriority": 300})).await;
    eventually("another", mirrored, |config| config.as_ref().is_some_and(|c| c.spec.rule_priority.is_some()))
        .await;
    let above = || get::<NodeConfig>(&control.client, "east-n1");
    let report = |generation: i64| {
        json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "NodeConfig", "metadata": {"name": "east-n1"},
            "status": {"observedGeneration": generation, "entries": {"desired": 7, "differing": 0},
                "conditions": [{"type": "Applied", "status": "True", "reason": "InSync", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation}]}})
    };
    apply::<NodeConfig>(&member.client, "clusterlink-agent", true, report(below)).await;
    let old =
        eventually("the status", above, |config| config.as_ref().is_some_and(|c| c.status.is_some())).await;
    assert_eq!(old.unwrap().status.unwrap().observed_generation, None, "it speaks of an older plan");
    let now = mirrored().await.unwrap().metadata.generation.unwrap();
    apply::<NodeConfig>(&member.client, "clusterlink-agent", true, report(now)).await;
    let new = eventually("the newer status", above, |config| {
        config.as_ref().is_some_and(|c| c.status.as_ref().is_some_and(|s| s.observed_generation.is_some()))
    });
    let new = new.await.unwrap();
    let status = new.status.unwrap();
    assert_eq!(status.observed_generation, new.metadata.generation);
    assert_eq!(status.conditions[0].observed_generation, new.metadata.generation);
    assert_eq!(status.entries.unwrap().desired, 7);

    // What somebody does to a mirror is undone.
    delete::<NodeConfig>(&member.client, "east-n1").await;
    eventually("the mirror again", mirrored, Option::is_some).await;

    // Gone above while nobody looks: gone below as soon as somebody does.
    running.kill().await;
    delete::<NodeConfig>(&control.client, "east-n1").await;
    let _running = Running::start("east", &member.client, &control.client);
    eventually("no mirror", mirrored, Option::is_none).await;
    assert_eq!(names::<NodeConfig>(&control.client).await, ["west-n1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_ends_at_the_same() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    join(&control.client, "east", json!({"networkType": "gateway"})).await;
    let mut expected = Vec::new();
    for index in 0..24 {
        let node = format!("n{index:02}");
        add_node(&member.client, &node, &format!("10.244.{index}.0/24")).await;
        report(&member.client, "east", &node, &format!("172.18.0.{}", index + 2)).await;
        expected.push(format!("east-{node}"));
    }
    let nodes = || names::<ClusterNode>(&control.client);
    let running = Running::start("east", &member.client, &control.client);
    eventually("some nodes", nodes, |names| !names.is_empty()).await;
    running.kill().await;
    delete::<Node>(&member.client, "n05").await;
    expected.remove(5);
    let running = Running::start("east", &member.client, &control.client);
    let complete = || async {
        let nodes = Api::<ClusterNode>::all(control.client.clone()).list(&Default::default()).await.unwrap();
        let complete = |node: &&ClusterNode| {
            node.spec.ip.is_some() && node.status.as_ref().is_some_and(|status| status.mtu == Some(1500))
        };
        let names = nodes.items.iter().filter(complete).filter_map(|node| node.metadata.name.clone());
        (names.collect::<Vec<_>>(), nodes.items.iter().filter(|node| node.spec.is_gateway()).count())
    };
    eventually("all nodes and two gateways", complete, |(names, gateways)| {
        *names == expected && *gateways == 2
    })
    .await;

    // And then nothing more is written, by the same nor by the next.
    let versions = || async {
        let nodes = Api::<ClusterNode>::all(control.client.clone()).list(&Default::default()).await.unwrap();
        nodes.items.into_iter().map(|node| node.metadata.resource_version).collect::<Vec<_>>()
    };
    let own = || async { get::<Cluster>(&control.client, "east").await.unwrap().metadata.resource_version };
    // The Cluster's status is one write, beside those of the nodes; the first one may have published n05.
    let published = || async {
        let status = get::<Cluster>(&control.client, "east").await.and_then(|cluster| cluster.status);
        status.and_then(|status| status.cluster_link_status).unwrap_or_default().pod_cidrs
    };
    let without_n05 = ["10.244.0.0/22", "10.244.4.0/24", "10.244.6.0/23", "10.244.8.0/21", "10.244.16.0/21"];
    eventually("the CIDRs without n05's", published, |cidrs| *cidrs == without_n05).await;
    // Only then it is told that all is published.
    let told = || condition(&control.client, "east", "Published");
    eventually("that all is published", told, |told| told.as_ref().is_some_and(|told| told.0 == "True"))
        .await;
    let (before, cluster) = (versions().await, own().await);
    stays("nothing is written", versions, |now| *now == before).await;
    running.kill().await;
    let _running = Running::start("east", &member.client, &control.client);
    stays("nothing is written by the next", versions, |now| *now == before).await;
    stays("nor of the Cluster", own, |now| *now == cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_past_is_gone_begins_anew() {
    let window = embedded_api::Config { watch_window: 4, ..embedded_api::Config::named("east") };
    let (member, control) = (bare_cluster(window), cluster("control").await);
    install_crds(&member.client).await;
    join(&control.client, "east", json!({})).await;
    add_node(&member.client, "n0", "10.244.0.0/24").await;
    let _running = Running::start("east", &member.client, &control.client);
    let nodes = || names::<ClusterNode>(&control.client);
    eventually("the first node", nodes, |names| *names == ["east-n0"]).await;
    let mut expected = vec!["east-n0".to_owned()];
    for index in 10..40 {
        add_node(&member.client, &format!("n{index}"), &format!("10.244.{index}.0/24")).await;
        expected.push(format!("east-n{index}"));
    }
    delete::<Node>(&member.client, "n10").await;
    expected.retain(|name| name != "east-n10");
    eventually("all nodes", nodes, |names| *names == expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_cluster_that_is_its_own_member_is_left_in_peace() {
    let control = cluster("control").await;
    join(&control.client, "control", json!({"networkType": "gateway"})).await;
    add_node(&control.client, "n1", "10.244.0.0/24").await;
    report(&control.client, "control", "n1", "172.18.0.2").await;
    plan(&control.client, "control", "n1", json!({"unreachable": ["10.80.0.0/16"]})).await;
    let _running = Running::start("control", &control.client, &control.client);
    let node = || get::<ClusterNode>(&control.client, "control-n1");
    let published = eventually("n1 is published as a gateway", node, |node| {
        node.as_ref().is_some_and(|node| node.spec.is_gateway() && !node.spec.pod_cidrs.is_empty())
    });
    let published = published.await.unwrap();
    assert_eq!(published.spec.ip.as_deref(), Some("172.18.0.2"), "the agent's own field stays");
    assert_eq!(published.status.unwrap().mtu, Some(1500));
    // The agent changes its address; nobody puts the old one back.
    report(&control.client, "control", "n1", "172.18.0.99").await;
    let version = || async { node().await.unwrap().metadata.resource_version };
    let now = version().await;
    stays("no second writer", version, |seen| *seen == now).await;
    assert_eq!(node().await.unwrap().spec.ip.as_deref(), Some("172.18.0.99"));
    let config = get::<NodeConfig>(&control.client, "control-n1").await.unwrap();
    let managers = config.metadata.managed_fields.unwrap_or_default();
    assert!(managers.iter().all(|entry| entry.manager.as_deref() == Some("clusterlink-network-manager")));
    let own = get::<Cluster>(&control.client, "control").await.unwrap();
    assert_eq!(own.metadata.labels, None, "the original is no mirror");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_with_the_same_node_names_do_not_mix() {
    let (east, west, control) = (cluster("east").await, cluster("west").await, cluster("control").await);
    for (member, name, ip, cidr) in
        [(&east, "east", "172.18.0.2", "10.244.0.0/24"), (&west, "west", "172.19.0.2", "10.245.0.0/24")]
    {
        join(&control.client, name, json!({})).await;
        add_node(&member.client, "n1", cidr).await;
        report(&member.client, name, "n1", ip).await;
    }
    let _east = Running::start("east", &east.client, &control.client);
    let _west = Running::start("west", &west.client, &control.client);
    for (name, ip, cidr) in [("east", "172.18.0.2", "10.244.0.0/24"), ("west", "172.19.0.2", "10.245.0.0/24")]
    {
        let object = format!("{name}-n1");
        let look = || get::<ClusterNode>(&control.client, &object);
        let node =
            eventually("the node", look, |node| node.as_ref().is_some_and(|node| node.spec.ip.is_some()));
        let node = node.await.unwrap();
        assert_eq!((node.spec.cluster_name.as_deref(), node.spec.ip.as_deref()), (Some(name), Some(ip)));
        assert_eq!(node.spec.pod_cidrs, [cidr]);
    }
    // One of them leaves; the other's node stays.
    delete::<Node>(&east.client, "n1").await;
    let nodes = || names::<ClusterNode>(&control.client);
    eventually("west alone", nodes, |names| *names == ["west-n1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_condition_makes_an_event() {
    let (member, control) = (cluster("east").await, cluster("control").await);
    join(&control.client, "east", json!({"cni": "weave"})).await;
    let _running = Running::start("east", &member.client, &control.client);
    let events = || async {
        let events = Api::<Event>::namespaced(control.client.clone(), "default");
        let events = events.list(&Default::default()).await.unwrap();
        let text = |event: Event| {
            let about = event.involved_object.name.unwrap_or_default();
            let words = [event.type_, Some(about), event.reason, event.message];
            words.map(Option::unwrap_or_default).join(" ")
        };
        events.items.into_iter().map(text).collect::<Vec<_>>()
    };
    eventually("the Event", events, |events| {
        events.iter().any(|event| {
            event == r#"Warning east UnknownCNI Cluster east: spec.clusterLinkOptions.cni is "weave"; it must be one of auto, node, flannel, calico, cilium"#
        })
    })
    .await;
}

/// A CRD of somebody else's, open as theirs are.
fn foreign_crd(group: &str, kind: &str, plural: &str) -> serde_json::Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Cluster",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calicos_objects_are_followed_and_kept_when_they_vanish() {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
    let (member, control) = (cluster("east").await, cluster("control").await);
    let group = "crd.projectcalico.org";
    for (kind, plural) in [("IPPool", "ippools"), ("BlockAffinity", "blockaffinities")] {
        create::<CustomResourceDefinition>(&member.client, foreign_crd(group, kind, plural)).await;
    }
    let add = |kind: &'static str, name: &'static str, spec: serde_json::Value| {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let resource = ApiResource {
            plural: if kind == "IPPool" { "ippools" } else { "blockaffinities" }.to_owned(),
            ..resource
        };
        let api: Api<DynamicObject> = Api::all_with(member.client.clone(), &resource);
        let object = DynamicObject::new(name, &resource).data(json!({"spec": spec}));
        async move { api.create(&PostParams::default(), &object).await.unwrap() }
    };
    join(&control.client, "east", json!({})).await;
    add_node(&member.client, "n1", "10.244.0.0/24").await;
    add("IPPool", "default-ipv4-ippool", json!({"cidr": "10.1.0.0/16"})).await;
    let _running = Running::start("east", &member.client, &control.client);
    let found = || async {
        let status = get::<Cluster>(&control.client, "east").await.and_then(|cluster| cluster.status);
        status.and_then(|status| status.cluster_link_status).unwrap_or_default()
    };
    let first = eventually("the pool", found, |found| found.pod_cidrs == ["10.1.0.0/16"]).await;
    assert_eq!(first.adapter.as_deref(), Some("calico (auto: IPPools found)"));
    let block = json!({"cidr": "10.1.7.0/26", "node": "n1", "state": "confirmed", "deleted": "false"});
    add("BlockAffinity", "n1-10-1-7-0-26", block).await;
    // The node is an object of its own: it may come after the Cluster's status.
    let node = || async {
        let node = get::<ClusterNode>(&control.client, "east-n1").await;
        node.map(|node| node.spec.pod_cidrs).unwrap_or_default()
    };
    eventually("the block", node, |cidrs| *cidrs == ["10.1.7.0/26"]).await;
    delete::<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>(
        &member.client,
        "ippools.crd.projectcalico.org",
    )
    .await;
    let known = || condition(&control.client, "east", "CIDRsKnown");
    eventually("it says that it is stale", known, |known| {
        known.as_ref().is_some_and(|(status, reason, _)| status == "False" && reason == "Stale")
    })
    .await;
    assert_eq!(found().await.pod_cidrs, ["10.1.0.0/16"]);
    assert_eq!(node().await, ["10.1.7.0/26"]);
}
