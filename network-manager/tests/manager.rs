//! The network-manager against an API server in this process.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use api::{Cluster, ClusterNode, NodeConfig};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use serde_json::json;
use support::{Control, condition};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_joined_is_planned_and_its_addresses_are_noted() {
    let control = Control::new().await;
    control.two_clusters().await;
    let _running = control.manage();
    let config = control.routed("a-n1", &["10.2.1.0/24", "10.92.0.0/16"]).await;
    assert_eq!(config.metadata.labels.unwrap()["kosmos.io/cluster"], "a");
    control.routed("b-n1", &["10.1.1.0/24", "10.91.0.0/16"]).await;
    let node = control.get::<ClusterNode>("b-n1").await.unwrap().status.unwrap();
    assert_eq!(node.overlay.unwrap().bridge.as_deref(), Some("241.168.2.1"));
    let planned = |node: Option<&ClusterNode>| {
        node.and_then(|node| condition(&node.status.as_ref()?.conditions, "Planned"))
            .is_some_and(|c| c.0 == "True")
    };
    control.until("planned", "a-n1", planned).await;
    let fine = |cluster: Option<&Cluster>| {
        let conditions = &cluster.unwrap().status.as_ref().unwrap().conditions;
        ["Planned", "CIDRsUnique", "OptionsSupported"]
            .iter()
            .all(|kind| condition(conditions, kind).is_some_and(|c| c.0 == "True"))
    };
    control.until("all conditions are well", "a", fine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_look_writes_nothing() {
    let control = Control::new().await;
    control.two_clusters().await;
    let running = control.manage();
    control.routed("a-n1", &["10.2.1.0/24", "10.92.0.0/16"]).await;
    control.routed("b-n1", &["10.1.1.0/24", "10.91.0.0/16"]).await;
    control.are_well(&["a", "b"], &["a-n1", "b-n1"]).await;
    running.kill().await;
    let versions = async || {
        let mut versions = Vec::new();
        for name in ["a-n1", "b-n1"] {
            versions.push(control.get::<NodeConfig>(name).await.unwrap().metadata.resource_version);
            versions.push(control.get::<ClusterNode>(name).await.unwrap().metadata.resource_version);
        }
        for name in ["a", "b"] {
            versions.push(control.get::<Cluster>(name).await.unwrap().metadata.resource_version);
        }
        versions
    };
    let before = versions().await;
    let _running = control.manage();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(versions().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_edit_and_deletion_are_put_right() {
    let control = Control::new().await;
    control.two_clusters().await;
    let _running = control.manage();
    let good = control.routed("a-n1", &["10.2.1.0/24", "10.92.0.0/16"]).await;
    let route = json!({"cidr": "10.9.0.0/16", "gw": "241.9.9.9", "dev": "vx-bridge"});
    control.apply::<NodeConfig>("person", "a-n1", json!({"spec": {"routes": [route]}})).await;
    let same = |config: Option<&NodeConfig>| config.is_some_and(|config| config.spec == good.spec);
    control.until("the edit is undone", "a-n1", same).await;
    control.delete::<NodeConfig>("a-n1").await;
    control.until("it is there again", "a-n1", same).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_is_removed_and_what_is_not_ours_stays() {
    let control = Control::new().await;
    control.two_clusters().await;
    control.apply::<NodeConfig>("person", "somebody-elses", json!({"spec": {}})).await;
    let _running = control.manage();
    control.routed("a-n1", &["10.2.1.0/24", "10.92.0.0/16"]).await;
    control.delete::<ClusterNode>("b-n1").await;
    control.until::<NodeConfig>("its NodeConfig goes with it", "b-n1", |config| config.is_none()).await;
    control.routed("a-n1", &[]).await;
    assert_eq!(control.names::<NodeConfig>().await, ["a-n1", "somebody-elses"]);
    control.apply::<Cluster>("person", "a", json!({"spec": {"clusterLinkOptions": {"enable": false}}})).await;
    control.until::<NodeConfig>("a cluster that leaves", "a-n1", |config| config.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_be_planned_keeps_its_last_good_config_and_its_addresses() {
    let control = Control::new().await;
    control.two_clusters().await;
    let _running = control.manage();
    let good = control.routed("b-n1", &["10.1.1.0/24", "10.91.0.0/16"]).await;
    let addresses = control.get::<ClusterNode>("b-n1").await.unwrap().status.unwrap().overlay;
    control
        .apply::<ClusterNode>(
            "clusterlink-controller-manager",
            "b-n1",
            json!({"metadata": {"labels": {"kosmos.io/cluster": "b"}}, "spec": {"clusterName": "b", "nodeName": "n1"}}),
        )
        .await;
    let node = control
        .until::<ClusterNode>("the condition says so", "b-n1", |node| {
            let status = node.unwrap().status.as_ref().unwrap();
            condition(&status.conditions, "Planned").is_some_and(|c| c.1 == "NoAddress")
        })
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(node.overlay, addresses);
    let message = condition(&node.conditions, "Planned").unwrap().2;
    assert!(
        message.contains("spec.ip and spec.ip6 are both missing")
            && message.ends_with("until this is put right")
    );
    control.routed("a-n1", &[]).await;
    assert_eq!(control.get::<NodeConfig>("b-n1").await.unwrap().spec, good.spec);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlap_reaches_the_conditions_and_an_event() {
    let control = Control::new().await;
    control.two_clusters().await;
    let _running = control.manage();
    control.routed("a-n1", &["10.2.1.0/24", "10.92.0.0/16"]).await;
    control.cluster("b", json!({"networkType": "p2p"}), "10.2.0.0/16", "10.91.128.0/17").await;
    control.routed("a-n1", &["10.2.1.0/24"]).await;
    let cluster = control
        .until::<Cluster>("the condition names the pair", "a", |cluster| {
            let conditions = &cluster.unwrap().status.as_ref().unwrap().conditions;
            condition(conditions, "CIDRsUnique").is_some_and(|c| c.0 == "False")
        })
        .await
        .unwrap();
    let (_, reason, message) = condition(&cluster.status.unwrap().conditions, "CIDRsUnique").unwrap();
    assert_eq!(reason, "CIDROverlap");
    assert!(message.contains("10.91.0.0/16") && message.contains("10.91.128.0/17 of cluster b"), "{message}");
    let events: Api<Event> = Api::namespaced(control.client.clone(), "default");
    for _ in 0..3000 {
        let events = events.list(&Default::default()).await.unwrap();
        let told = |event: &Event| {
            event.involved_object.name.as_deref() == Some("a")
                && event.reason.as_deref() == Some("CIDROverlap")
                && event.type_.as_deref() == Some("Warning")
        };
        if events.iter().any(told) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no Event tells of the overlap");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_does_not_fit_its_type_costs_nobody_anything() {
    let control = Control::new().await;
    control.two_clusters().await;
    let running = control.manage();
    control.routed("a-n1", &["10.2.1.0/24", "10.92.0.0/16"]).await;
    running.kill().await;
    // As if written before there was a schema: the CRD is loosened, the object spoilt.
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let crds: Api<CustomResourceDefinition> = Api::all(control.client.clone());
    let mut crd = crds.get("clusters.kosmos.io").await.unwrap();
    let open = json!({"type": "object", "properties": {
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema =
        Some(serde_json::from_value(open).unwrap());
    crd.metadata.managed_fields = None;
    crds.replace("clusters.kosmos.io", &Default::default(), &crd).await.unwrap();
    let resource = kube::api::ApiResource::erase::<Cluster>(&());
    let clusters: Api<kube::api::DynamicObject> = Api::all_with(control.client.clone(), &resource);
    let mut spoilt = clusters.get("b").await.unwrap();
    spoilt.data["spec"] = json!({"clusterLinkOptions": {"networkType": "quantum"}});
    clusters.replace("b", &Default::default(), &spoilt).await.unwrap();
    let _running = control.manage();
    control.routed("a-n1", &[]).await;
    assert_eq!(control.names::<NodeConfig>().await, ["a-n1", "b-n1"]);
    // Both the Cluster and its node say why. Whether the first one came to say anything before it was killed is open.
    for _ in 0..3000 {
        let conditions = clusters.get("b").await.unwrap().data["status"]["conditions"].clone();
        let mut conditions = conditions.as_array().into_iter().flatten();
        let planned = conditions.find(|c| c["type"] == "Planned").cloned().unwrap_or_default();
        if planned["reason"] == "Unreadable" {
            assert!(planned["message"].as_str().unwrap().contains("quantum"), "{planned}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the Cluster is not told that it cannot be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_panics_is_tried_again() {
    use tower::Service;
    let control = Control::new().await;
    control.two_clusters().await;
    let server = control.server.service_as(embedded_api::User::in_process());
    let panics = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (mut server, panics) = (server.clone(), std::sync::Arc::clone(&panics));
        async move {
            let writes = request.method() == http::Method::PATCH && request.uri().path().ends_with("/a-n1");
            let now = writes && panics.swap(false, std::sync::atomic::Ordering::SeqCst);
            assert!(!now, "a fault in the midst of a write");
            server.call(request).await
        }
    });
    let client = kube::Client::new(service, "default");
    let _running = control.manage_as(network_manager::Config::alone(client));
    control.routed("a-n1", &["10.2.1.0/24", "10.92.0.0/16"]).await;
}

/// A ClusterNode is there before its agent has found an address: that is how a node joins, and nobody's trouble.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_is_in_its_condition_and_in_no_event() {
    let control = Control::new().await;
    control.two_clusters().await;
    let _running = control.manage();
    control.routed("a-n1", &["10.2.1.0/24", "10.92.0.0/16"]).await;
    let planned = |node: Option<&ClusterNode>, reason: &str| {
        let status = node.and_then(|node| node.status.as_ref());
        let planned = status.and_then(|status| condition(&status.conditions, "Planned"));
        planned.is_some_and(|(_, is, _)| is == reason)
    };
    let mut routes = vec!["10.2.1.0/24".to_owned(), "10.92.0.0/16".to_owned()];
    for number in 2..10 {
        let (name, node, block) =
            (format!("b-n{number}"), format!("n{number}"), format!("10.2.{number}.0/24"));
        let identity = json!({"clusterName": "b", "nodeName": node});
        let part = json!({"metadata": {"labels": {"kosmos.io/cluster": "b"}}, "spec": identity});
        let begun = Instant::now();
        control.apply::<ClusterNode>("clusterlink-controller-manager", &name, part).await;
        control.until("its condition says so", &name, |node| planned(node, "NoAddress")).await;
        control.node("b", &node, &format!("192.168.2.{number}"), &block).await;
        control.until("it is planned", &name, |node| planned(node, "Planned")).await;
        let took = begun.elapsed();
        routes.insert(routes.len() - 1, block);
        control.routed("a-n1", &routes.iter().map(String::as_str).collect::<Vec<_>>()).await;
        // What lasts for five seconds is told of. On a machine that was too busy for this node, the next one may be faster.
        if took >= Duration::from_secs(5) {
            continue;
        }
        let events: Api<Event> = Api::namespaced(control.client.clone(), "default");
        let events = events.list(&Default::default()).await.unwrap().items;
        let of_node =
            events.iter().filter(|event| event.involved_object.name.as_deref() == Some(name.as_str()));
        let told: Vec<_> = of_node.map(|event| event.message.clone()).collect();
        assert_eq!(told, Vec::<Option<String>>::new());
        return;
    }
    panic!("no node was planned within five seconds");
}
