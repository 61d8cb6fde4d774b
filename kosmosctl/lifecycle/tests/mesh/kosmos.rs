//! A control cluster that Kosmos was installed in: its definitions, its objects, its programs.

use api::{Cluster, ClusterNode, NodeConfig};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::{self, Heard, World, install_args, join_args, wait};

/// As Kosmos has it: no status subresource for Cluster, and looser types.
fn definition(kind: &str, plural: &str, status: bool) -> Value {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut version = json!({"name": "v1alpha1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}}});
    if status {
        version["subresources"] = json!({"status": {}});
    }
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.kosmos.io")},
        "spec": {"group": "kosmos.io", "scope": "Cluster", "versions": [version],
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")}}})
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "kosmos.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "kosmos.io/v1alpha1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

fn objects() -> [(&'static str, &'static str, Value); 3] {
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "kosmos.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    [
        (
            "Cluster",
            "clusters",
            object(
                "Cluster",
                "old",
                json!({
            "kubeconfig": "c2VjcmV0", "namespace": "kosmos-system", "imageRepository": "ghcr.io/kosmos-io",
            "clusterLinkOptions": {"enable": true, "cni": "calico", "networkType": "gateway", "ipFamily": "ipv4",
                "useIPPool": false, "defaultNICName": "*", "autodetectionMethod": "can-reach=8.8.8.8",
                "bridgeCIDRs": {"ip": "220.0.0.0/8", "ip6": "9480::/16"}, "localCIDRs": {"ip": "210.0.0.0/8", "ip6": "9470::/16"}},
            "clusterTreeOptions": {"enable": true, "leafModels": [{"leafNodeName": "x"}]}}),
            ),
        ),
        (
            "ClusterNode",
            "clusternodes",
            object(
                "ClusterNode",
                "old-n1",
                json!({
            "clusterName": "old", "nodeName": "n1", "ip": "192.168.9.1", "interfaceName": "eth0", "roles": ["gateway"]}),
            ),
        ),
        (
            "NodeConfig",
            "nodeconfigs",
            object(
                "NodeConfig",
                "old-n1",
                json!({
            "devices": [{"type": "vxlan", "name": "vx-bridge", "addr": "220.168.9.1/8", "mac": "a6:02:63:1e:ec:01", "bindDev": "eth0", "id": 54, "port": 4876}],
            "iptables": [{"table": "nat", "chain": "POSTROUTING", "rule": "-s 210.0.0.0/8 -o vx-bridge -j MASQUERADE"}]}),
            ),
        ),
    ]
}

async fn plant(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (kind, plural, status) in [
        ("Cluster", "clusters", false),
        ("ClusterNode", "clusternodes", true),
        ("NodeConfig", "nodeconfigs", true),
    ] {
        let definition = serde_json::from_value(definition(kind, plural, status)).unwrap();
        definitions.create(&PostParams::default(), &definition).await.unwrap();
    }
    for (kind, plural, object) in objects() {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind, plural));
        for attempt in 0.. {
            let object = serde_json::from_value(object.clone()).unwrap();
            match api.create(&PostParams::default(), &object).await {
                Ok(_) => break,
                Err(error) if attempt > 600 => panic!("{error}"),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
    }
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "kosmos-system"}})).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let set: DaemonSet = serde_json::from_value(json!({"metadata": {"name": "clusterlink-agent"}, "spec": {
        "selector": {"matchLabels": {"app": "agent"}}, "template": {"metadata": {"labels": {"app": "agent"}},
            "spec": {"containers": [{"name": "a", "image": "ghcr.io/kosmos-io/clusterlink-agent:v0.3.0"}]}}}})).unwrap();
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), "kosmos-system");
    sets.create(&PostParams::default(), &set).await.unwrap();
    let runs = json!({"status": {"desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": 3}});
    sets.patch_status("clusterlink-agent", &PatchParams::default(), &Patch::Merge(runs)).await.unwrap();
}

async fn uproot(client: &Client) {
    for (kind, plural, _) in objects() {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind, plural));
        let _ = api.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let _ = definitions.delete(&format!("{plural}.kosmos.io"), &DeleteParams::default()).await;
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let _ = namespaces.delete("kosmos-system", &DeleteParams::default()).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for _ in 0..600 {
        let mut gone = namespaces.get_opt("kosmos-system").await.unwrap().is_none();
        // Each goes when its own objects are gone: the next test must not find one on its way out.
        for (_, plural, _) in objects() {
            gone &= definitions.get_opt(&format!("{plural}.kosmos.io")).await.unwrap().is_none();
        }
        if gone {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("what Kosmos had does not go");
}

#[test]
fn kosmos_objects_outlive_its_programs_and_ours() {
    let Some(world) = World::take() else { return };
    wait(async {
        let (control, member) = world.clean().await;
        let client = control.client.clone();
        plant(&client).await;

        // While its agents run nothing is written.
        let heard = Heard::default();
        let error =
            lifecycle::install::install(&control, &install_args(), &mut heard.say()).await.unwrap_err();
        assert!(error.to_string().contains("--ignore-preflight kosmos"), "{error}");
        let said = heard.remarks();
        assert!(
            said.contains(
                "another ClusterLink runs in the control cluster (daemonset kosmos-system/clusterlink-agent)"
            ),
            "{said}"
        );
        assert!(said.contains("docs/migrating-from-kosmos.md"), "{said}");
        assert!(
            said.contains(
                "customresourcedefinition clusters.kosmos.io in the control cluster is somebody else's"
            ),
            "{said}"
        );
        assert!(said.contains("spec.kubeconfig of Cluster old holds a credential"), "{said}");

        // Once they are stopped the definitions are taken over, and every object stays and is understood.
        Api::<DaemonSet>::namespaced(client.clone(), "kosmos-system")
            .delete("clusterlink-agent", &DeleteParams::default())
            .await
            .unwrap();
        world::install(&control, &install_args()).await.unwrap();
        for (kind, plural, object) in objects() {
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind, plural));
            let live = api.get(object["metadata"]["name"].as_str().unwrap()).await.unwrap();
            let (was, is) = (&object["spec"], &live.data["spec"]);
            assert_eq!(merged(is, was), *is, "{kind}: nothing of the spec is lost");
        }
        let cluster = Api::<Cluster>::all(client.clone()).get("old").await.unwrap();
        assert_eq!(cluster.spec.cluster_link_options.unwrap().network_type, api::NetworkType::Gateway);
        assert!(Api::<ClusterNode>::all(client.clone()).get("old-n1").await.unwrap().spec.is_gateway());
        assert_eq!(
            Api::<NodeConfig>::all(client.clone()).get("old-n1").await.unwrap().spec.devices[0].id,
            54
        );

        // The member joins by the name that it has; what it had chosen stays.
        let mut args = join_args("old");
        args.preflight.ignore_preflight.push(lifecycle::preflight::Check::Addresses);
        world::join(&control, &member, &args).await.unwrap();
        let cluster = Api::<Cluster>::all(client.clone()).get("old").await.unwrap();
        let options = cluster.spec.cluster_link_options.clone().unwrap();
        assert_eq!(options.bridge_cidrs.unwrap().ip, "220.0.0.0/8");
        assert_eq!(cluster.spec.namespace.as_deref(), Some("kosmos-system"));

        // And what was there before ClusterLink stays when it goes.
        world.clean().await;
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let kept = definitions.get("clusters.kosmos.io").await.unwrap();
        assert!(kept.labels().is_empty(), "{:?}", kept.labels());
        uproot(&client).await;
    });
}

/// The first with what the second has: equal to the first where nothing of the second is missing in it.
fn merged(into: &Value, from: &Value) -> Value {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            let mut all = into.clone();
            for (key, value) in from {
                all.insert(key.clone(), into.get(key).map_or(value.clone(), |own| merged(own, value)));
            }
            Value::Object(all)
        }
        _ => from.clone(),
    }
}
