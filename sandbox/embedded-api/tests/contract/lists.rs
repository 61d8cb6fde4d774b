//! Reading: selectors, pages, ages, representations.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, ListParams, PostParams, VersionMatch};
use serde_json::{Value, json};

use crate::fixture::*;

contract!(
    a_cluster_begins_with_its_namespaces,
    selectors_choose_by_label_and_field,
    pods_are_selected_by_node_and_phase_and_widgets_by_what_their_crd_says,
    what_becomes_selectable_later_selects_older_objects,
    pages_are_of_one_snapshot,
    lists_are_as_old_as_asked,
    metadata_can_be_had_alone,
    tables_have_the_columns_of_the_crd,
    what_cannot_be_given_is_refused_with_a_status,
    discovery_speaks_v2_only_to_those_who_ask_for_it,
    who_shows_no_token_is_turned_away,
);

async fn three(client: &kube::Client) -> Api<ConfigMap> {
    let api = config_maps(client);
    for (name, tier) in [("a", "gold"), ("b", "iron"), ("c", "gold")] {
        api.create(&PostParams::default(), &config_map(name, json!({"tier": tier}))).await.unwrap();
    }
    api
}

async fn names(api: &Api<ConfigMap>, params: &ListParams) -> Vec<String> {
    api.list(params).await.unwrap().items.into_iter().filter_map(|c| c.metadata.name).collect()
}

async fn a_cluster_begins_with_its_namespaces(world: World) {
    let client = world.client().await;
    let api: Api<Namespace> = Api::all(client.clone());
    // kube-apiserver makes one after the other, and serves meanwhile.
    let list = eventually("its namespaces", async || {
        let list = api.list(&ListParams::default()).await.unwrap();
        let names: Vec<_> = list.iter().filter_map(|n| n.metadata.name.as_deref()).collect();
        let own = ["default", "kube-node-lease", "kube-public", "kube-system"];
        own.iter().all(|name| names.contains(name)).then_some(list)
    })
    .await;
    assert!(list.iter().all(|n| n.metadata.uid.is_some()));
}

async fn selectors_choose_by_label_and_field(world: World) {
    let client = world.client().await;
    let api = three(&client).await;
    assert_eq!(names(&api, &ListParams::default().labels("tier=gold")).await, ["a", "c"]);
    assert_eq!(names(&api, &ListParams::default().labels("tier notin (gold),tier")).await, ["b"]);
    assert_eq!(names(&api, &ListParams::default().fields("metadata.name=b")).await, ["b"]);
    let refused = refusal(api.list(&ListParams::default().fields("data.a=1")).await);
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (400, "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    );
}

async fn pods_are_selected_by_node_and_phase_and_widgets_by_what_their_crd_says(world: World) {
    let client = world.client().await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for (name, node) in [("p1", "n1"), ("p2", "n2")] {
        let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }
    let on = pods.list(&ListParams::default().fields("spec.nodeName=n2,status.phase=Pending")).await.unwrap();
    assert_eq!(on.items[0].metadata.name.as_deref(), Some("p2"));
    assert_eq!(on.items.len(), 1);

    let widgets = widgets(&client).await;
    widgets.create(&PostParams::default(), &widget(&client, "w1", json!({"size": 1}))).await.unwrap();
    widgets
        .create(&PostParams::default(), &widget(&client, "w2", json!({"size": 1, "mode": "slow"})))
        .await
        .unwrap();
    let slow = widgets.list(&ListParams::default().fields("spec.mode=slow")).await.unwrap();
    assert_eq!(slow.items.len(), 1);
}

async fn what_becomes_selectable_later_selects_older_objects(world: World) {
    use kube::api::{Patch, PatchParams};
    let client = world.client().await;
    let widgets = widgets(&client).await;
    widgets.create(&PostParams::default(), &widget(&client, "w1", json!({"size": 7}))).await.unwrap();
    let by_size = ListParams::default().fields("spec.size=7");
    assert_eq!(refusal(widgets.list(&by_size).await).message, "field label not supported: spec.size");
    let crds: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(client.clone());
    let add = json!([{"op": "add", "path": "/spec/versions/0/selectableFields/-", "value": {"jsonPath": ".spec.size"}}]);
    let add = Patch::Json::<()>(serde_json::from_value(add).unwrap());
    crds.patch(&widgets_name(&client), &PatchParams::default(), &add).await.unwrap();
    let found = eventually("the new field is served", async || widgets.list(&by_size).await.ok()).await;
    assert_eq!(found.items.len(), 1);
}

async fn pages_are_of_one_snapshot(world: World) {
    let client = world.client().await;
    let api = three(&client).await;
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.items.len(), 2);
    assert_eq!(first.metadata.remaining_item_count, Some(1));
    // What happens between the pages is not seen in them.
    api.delete("c", &Default::default()).await.unwrap();
    api.create(&PostParams::default(), &config_map("d", json!({}))).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    let second = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    let names: Vec<_> = second.items.iter().filter_map(|c| c.metadata.name.as_deref()).collect();
    assert_eq!(names, ["c"]);
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    assert!(second.metadata.continue_.unwrap_or_default().is_empty());
}

async fn lists_are_as_old_as_asked(world: World) {
    let client = world.client().await;
    let api = three(&client).await;
    let then = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    api.delete("a", &Default::default()).await.unwrap();
    let at = |version: &str, rule: VersionMatch| ListParams {
        resource_version: Some(version.into()),
        version_match: Some(rule),
        ..Default::default()
    };
    assert_eq!(names(&api, &at(&then, VersionMatch::Exact)).await, ["a", "b", "c"]);
    // Both may be answered from a cache that follows the writes, and as long as it has not followed, with what was.
    for params in [
        at(&then, VersionMatch::NotOlderThan),
        ListParams { resource_version: Some("0".into()), ..Default::default() },
    ] {
        eventually("the newest list", async || (names(&api, &params).await == ["b", "c"]).then_some(()))
            .await;
    }
    let api = config_maps(&world.impatient_client().await);
    let refused = refusal(api.list(&at("999999", VersionMatch::NotOlderThan)).await);
    assert_eq!(refused.code, 504);
    assert!(refused.message.contains("Too large resource version"));
}

async fn metadata_can_be_had_alone(world: World) {
    let client = world.client().await;
    let api = three(&client).await;
    let list = api.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 3);
    let one = api.get_metadata("a").await.unwrap();
    assert_eq!(one.metadata.labels.unwrap()["tier"], "gold");
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

async fn tables_have_the_columns_of_the_crd(world: World) {
    let client = world.client().await;
    let widgets = widgets(&client).await;
    widgets.create(&PostParams::default(), &widget(&client, "w1", json!({"size": 3}))).await.unwrap();
    let group = widget_resource(&client).group;
    let ask = request("GET", &format!("/apis/{group}/v1alpha1/widgets?limit=500"))
        .header("accept", TABLE)
        .body(Vec::new())
        .unwrap();
    let table = world.ask(ask).await.body;
    assert_eq!(table["kind"], "Table");
    let columns: Vec<_> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Size", "Ready", "Age"]);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..3], [json!("w1"), json!(3), Value::Null]);
    assert!(cells[3].as_str().is_some_and(|age| age.ends_with('s')), "{cells:?}");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}

async fn what_cannot_be_given_is_refused_with_a_status(world: World) {
    let code = async |method: &str, path: &str, accept: &str| {
        let ask = request(method, path).header("accept", accept).body(Vec::new()).unwrap();
        let said = world.ask(ask).await;
        assert_eq!(said.body["kind"], "Status", "{path}: {said:?}");
        assert_eq!(said.body["code"], said.code, "{path}");
        said.code
    };
    assert_eq!(code("GET", "/api/v1/pods", "application/nonsense").await, 406);
    assert_eq!(code("GET", "/api/v1/namespaces/default/nodes", "application/json").await, 404);
    assert_eq!(code("GET", "/api/v1/namespaces/default/pods/x", "application/json").await, 404);
    assert_eq!(code("GET", "/api/v1/namespaces/default/pods/x/nothing", "application/json").await, 404);
    assert_eq!(code("PUT", "/api/v1/pods", "application/json").await, 405);
}

async fn discovery_speaks_v2_only_to_those_who_ask_for_it(world: World) {
    let ask = async |version: &str| {
        let accept = format!(
            "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
        );
        world.ask(request("GET", "/apis").header("accept", accept).body(Vec::new()).unwrap()).await
    };
    let said = ask("v2").await;
    assert_eq!(said.body["kind"], "APIGroupDiscoveryList");
    assert!(said.headers["content-type"].to_str().unwrap().contains("v=v2;as=APIGroupDiscoveryList"));
    assert_eq!(ask("v2beta1").await.body["kind"], "APIGroupList");
    let body = world.get("/api/v1").await.body;
    assert!(body["resources"].as_array().unwrap().iter().any(|r| r["name"] == "nodes/status"));
}

async fn who_shows_no_token_is_turned_away(world: World) {
    let stranger = world.client_with_token("unknown").await;
    let refused = refusal(config_maps(&stranger).get("x").await);
    assert_eq!((refused.code, refused.reason.as_str()), (401, "Unauthorized"));
}
