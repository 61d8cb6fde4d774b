//! Writing: create, replace, the four patches, status, dry runs, refusals.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::params::ValidationDirective;
use serde_json::{Value, json};

use crate::fixture::*;

contract!(
    a_new_object_gets_its_metadata_and_defaults,
    names_are_generated_and_checked,
    a_bad_object_is_refused_with_every_cause,
    transition_rules_hold,
    a_stale_replacement_is_a_conflict,
    a_write_that_changes_nothing_is_no_write,
    status_and_spec_are_written_apart,
    two_managers_apply_and_conflict,
    an_apply_that_changes_nothing_keeps_the_version,
    conditions_of_two_writers_live_in_one_status,
    an_apply_needs_a_manager_and_no_managed_fields,
    built_ins_merge_strategically_and_custom_resources_do_not,
    json_patches_test_before_they_write,
    a_patch_with_a_stale_version_is_a_conflict_and_may_not_rename,
    a_dry_run_leaves_no_trace,
    unknown_and_duplicate_fields_are_named,
    kube_rs_asks_for_strict_validation_too,
    a_namespace_must_exist,
    a_node_registers_with_its_status,
    string_data_of_a_secret_is_encoded,
    a_body_that_is_too_large_or_unreadable_is_refused,
    a_crd_that_makes_no_sense_is_refused,
    a_namespace_is_born_active_with_its_label,
);

fn owners(object: &DynamicObject) -> Vec<(String, String, String)> {
    let fields = object.metadata.managed_fields.iter().flatten();
    let word = |w: &Option<String>| w.clone().unwrap_or_default();
    fields.map(|f| (word(&f.manager), word(&f.operation), word(&f.subresource))).collect()
}

fn status_causes(status: &kube::core::Status) -> Vec<String> {
    status.details.iter().flat_map(|d| &d.causes).map(|c| c.field.clone()).collect()
}

async fn a_new_object_gets_its_metadata_and_defaults(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    let created =
        api.create(&PostParams::default(), &widget(&client, "w1", json!({"size": 2}))).await.unwrap();
    assert_eq!(created.data["spec"], json!({"size": 2, "mode": "fast"}));
    assert_eq!(created.metadata.generation, Some(1));
    assert!(created.metadata.uid.is_some() && created.metadata.creation_timestamp.is_some());
    let again = refusal(api.create(&PostParams::default(), &widget(&client, "w1", json!({"size": 2}))).await);
    assert_eq!((again.code, again.reason.as_str()), (409, "AlreadyExists"));
    let group = widget_resource(&client).group;
    assert_eq!(again.message, format!("widgets.{group} \"w1\" already exists"));
}

async fn names_are_generated_and_checked(world: World) {
    let api = config_maps(&world.client().await);
    let mut object = config_map("", json!({}));
    object.metadata.name = None;
    object.metadata.generate_name = Some("node-".into());
    let name = api.create(&PostParams::default(), &object).await.unwrap().metadata.name.unwrap();
    assert!(name.starts_with("node-") && name.len() == 10, "{name}");
    let refused = refusal(api.create(&PostParams::default(), &config_map("Not_a_name", json!({}))).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    assert!(refused.message.contains("a lowercase RFC 1123 subdomain"), "{}", refused.message);
}

async fn a_bad_object_is_refused_with_every_cause(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    let refused = refusal(
        api.create(&PostParams::default(), &widget(&client, "w1", json!({"size": 0, "mode": "odd"}))).await,
    );
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    let mut fields = status_causes(&refused);
    fields.sort();
    // The first says, as in kube-apiserver, that rules were not checked on an object that is wrong already.
    assert_eq!(fields, ["<nil>", "spec.mode", "spec.size"]);
    let refused = refusal(api.create(&PostParams::default(), &widget(&client, "w1", json!({}))).await);
    assert!(refused.message.contains("spec.size: Required value"), "{}", refused.message);
}

async fn transition_rules_hold(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    api.create(&PostParams::default(), &widget(&client, "w1", json!({"size": 1, "color": "red"})))
        .await
        .unwrap();
    let patch = Patch::Merge(json!({"spec": {"color": "blue"}}));
    let refused = refusal(api.patch("w1", &PatchParams::default(), &patch).await);
    assert!(refused.message.contains("color stays"), "{}", refused.message);
}

async fn a_stale_replacement_is_a_conflict(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    let first = api.create(&PostParams::default(), &widget(&client, "w1", json!({"size": 1}))).await.unwrap();
    let mut newer = first.clone();
    newer.data["spec"]["size"] = json!(2);
    let second = api.replace("w1", &PostParams::default(), &newer).await.unwrap();
    assert_eq!(second.metadata.generation, Some(2));
    let refused = refusal(api.replace("w1", &PostParams::default(), &newer).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert!(refused.message.contains("please apply your changes to the latest version"));
    let mut unconditional = second;
    unconditional.metadata.resource_version = None;
    let refused = refusal(api.replace("w1", &PostParams::default(), &unconditional).await);
    assert!(refused.message.contains("must be specified for an update"));
}

async fn a_write_that_changes_nothing_is_no_write(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    let first = api.create(&PostParams::default(), &widget(&client, "w1", json!({"size": 1}))).await.unwrap();
    let same =
        api.patch("w1", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": 1}}))).await.unwrap();
    assert_eq!(same.metadata.resource_version, first.metadata.resource_version);
}

async fn status_and_spec_are_written_apart(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    let mut born = widget(&client, "w1", json!({"size": 1}));
    born.data["status"] = json!({"phase": "Dreamt"});
    let created = api.create(&PostParams::default(), &born).await.unwrap();
    assert_eq!(created.data.get("status"), None);
    let both = json!({"spec": {"size": 9}, "status": {"phase": "Ready"}});
    let status = api.patch_status("w1", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!((&status.data["spec"]["size"], &status.data["status"]["phase"]), (&json!(1), &json!("Ready")));
    assert_eq!(status.metadata.generation, Some(1));
    let other = json!({"spec": {"size": 9}, "status": {"phase": "Lost"}});
    let spec = api.patch("w1", &PatchParams::default(), &Patch::Merge(&other)).await.unwrap();
    assert_eq!((&spec.data["spec"]["size"], &spec.data["status"]["phase"]), (&json!(9), &json!("Ready")));
    assert_eq!(spec.metadata.generation, Some(2));
}

async fn two_managers_apply_and_conflict(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    let object = |spec: Value| json!({"apiVersion": widget_resource(&client).api_version, "kind": "Widget", "metadata": {"name": "w1"}, "spec": spec});
    let apply = |manager: &str| PatchParams::apply(manager);
    let one = object(json!({"size": 1, "peers": [{"name": "a", "ip": "10.0.0.1"}]}));
    api.patch("w1", &apply("one"), &Patch::Apply(one)).await.unwrap();
    // The other adds a peer of its own: the list is a map, so both stand.
    let two = object(json!({"peers": [{"name": "b", "ip": "10.0.0.2"}]}));
    let merged = api.patch("w1", &apply("two"), &Patch::Apply(two)).await.unwrap();
    assert_eq!(merged.data["spec"]["peers"].as_array().unwrap().len(), 2);
    let names: Vec<String> = owners(&merged).into_iter().map(|o| o.0).collect();
    assert_eq!(names, ["one", "two"]);

    let grab = object(json!({"size": 5, "peers": [{"name": "b", "ip": "10.0.0.2"}]}));
    let refused = refusal(api.patch("w1", &apply("two"), &Patch::Apply(&grab)).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert_eq!(status_causes(&refused), [".spec.size"]);
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.size");
    let forced = api.patch("w1", &apply("two").force(), &Patch::Apply(&grab)).await.unwrap();
    assert_eq!(forced.data["spec"]["size"], 5);

    // What a manager no longer says goes with it.
    let fewer = object(json!({"size": 5}));
    let fewer = api.patch("w1", &apply("two"), &Patch::Apply(fewer)).await.unwrap();
    assert_eq!(fewer.data["spec"]["peers"], json!([{"name": "a", "ip": "10.0.0.1"}]));
}

async fn an_apply_that_changes_nothing_keeps_the_version(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    let object = json!({"apiVersion": widget_resource(&client).api_version, "kind": "Widget", "metadata": {"name": "w1"}, "spec": {"size": 1}});
    let first = api.patch("w1", &PatchParams::apply("me"), &Patch::Apply(&object)).await.unwrap();
    let second = api.patch("w1", &PatchParams::apply("me"), &Patch::Apply(&object)).await.unwrap();
    assert_eq!(first.metadata.resource_version, second.metadata.resource_version);
}

async fn conditions_of_two_writers_live_in_one_status(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    api.create(&PostParams::default(), &widget(&client, "w1", json!({"size": 1}))).await.unwrap();
    for (manager, kind) in [("one", "Ready"), ("two", "Synced")] {
        let status = json!({"apiVersion": widget_resource(&client).api_version, "kind": "Widget", "metadata": {"name": "w1"},
            "status": {"conditions": [{"type": kind, "status": "True"}]}});
        api.patch_status("w1", &PatchParams::apply(manager).force(), &Patch::Apply(status)).await.unwrap();
    }
    let seen = api.get("w1").await.unwrap();
    let kinds: Vec<&Value> =
        seen.data["status"]["conditions"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    assert_eq!(kinds, ["Ready", "Synced"]);
    assert!(owners(&seen).contains(&("two".into(), "Apply".into(), "status".into())));
    assert_eq!(seen.metadata.generation, Some(1));
}

async fn an_apply_needs_a_manager_and_no_managed_fields(world: World) {
    let apply = async |query: &str, body: &str| {
        let path = format!("/api/v1/namespaces/{}/configmaps/a?{query}", world.namespace);
        world.send("PATCH", &path, "application/apply-patch+yaml", body).await
    };
    let said = apply("", "kind: ConfigMap\napiVersion: v1\n").await;
    assert_eq!(said.code, 422);
    assert!(said.message().contains("fieldManager: Required value"), "{said:?}");
    let managed = "{kind: ConfigMap, apiVersion: v1, metadata: {managedFields: [{manager: who, operation: Apply, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {}}]}}";
    let said = apply("fieldManager=x", managed).await;
    assert_eq!((said.code, said.message()), (400, "metadata.managedFields must be nil"));
    let said =
        apply("fieldManager=x", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: v\n")
            .await;
    assert_eq!((said.code, &said.body["data"]["k"]), (201, &json!("v")));
    let said = apply("fieldManager=x", "apiVersion: v1\nkind: Secret\n").await;
    assert_eq!(said.code, 400);
    assert!(said.message().contains("Secret"), "{said:?}");
}

async fn built_ins_merge_strategically_and_custom_resources_do_not(world: World) {
    let client = world.client().await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let patch = json!({"spec": {"containers": [{"name": "b", "image": "i:2"}]}});
    let pod = pods.patch("p", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    let images: Vec<_> =
        pod.spec.unwrap().containers.into_iter().map(|c| (c.name, c.image.unwrap())).collect();
    assert_eq!(images, [("a".into(), "i:1".into()), ("b".into(), "i:2".into())]);
    let widgets = widgets(&client).await;
    let refused = refusal(widgets.patch("w", &PatchParams::default(), &Patch::Strategic(json!({}))).await);
    assert_eq!(refused.code, 415);
}

async fn json_patches_test_before_they_write(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    api.create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    let patch = |operations: Value| Patch::Json::<()>(serde_json::from_value(operations).unwrap());
    let guarded = json!([{"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["example.com/x"]}]);
    let held = api.patch("a", &PatchParams::default(), &patch(guarded.clone())).await.unwrap();
    assert_eq!(held.metadata.finalizers.unwrap(), ["example.com/x"]);
    let refused = refusal(api.patch("a", &PatchParams::default(), &patch(guarded)).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
}

async fn a_patch_with_a_stale_version_is_a_conflict_and_may_not_rename(world: World) {
    let api = config_maps(&world.client().await);
    api.create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"a": "2"}});
    assert_eq!(refusal(api.patch("a", &PatchParams::default(), &Patch::Merge(stale)).await).code, 409);
    let rename = json!({"metadata": {"name": "b"}});
    let refused = refusal(api.patch("a", &PatchParams::default(), &Patch::Merge(rename)).await);
    assert_eq!(refused.code, 400);
    assert_eq!(refused.message, "the name of the object (b) does not match the name on the URL (a)");
}

async fn a_dry_run_leaves_no_trace(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    let dry = PostParams { dry_run: true, ..Default::default() };
    let dreamt = api.create(&dry, &config_map("a", json!({}))).await.unwrap();
    assert!(dreamt.metadata.uid.is_some());
    assert_eq!(refusal(api.get("a").await).code, 404);
    let real = api.create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    let patched = api
        .patch("a", &PatchParams::default().dry_run(), &Patch::Merge(json!({"data": {"a": "2"}})))
        .await
        .unwrap();
    assert_eq!(patched.data.unwrap()["a"], "2");
    api.delete("a", &kube::api::DeleteParams::default().dry_run()).await.unwrap();
    let still = api.get("a").await.unwrap();
    assert_eq!(still.metadata.resource_version, real.metadata.resource_version);
    assert_eq!(still.data.unwrap()["a"], "1");
}

async fn unknown_and_duplicate_fields_are_named(world: World) {
    let client = world.client().await;
    widgets(&client).await;
    let resource = widget_resource(&client);
    let body = format!(
        r#"{{"apiVersion": "{}", "kind": "Widget", "metadata": {{"name": "w"}}, "spec": {{"size": 1, "size": 2, "sise": 3}}}}"#,
        resource.api_version
    );
    let create = async |validation: &str| {
        let group = &resource.group;
        let path = format!("/apis/{group}/v1alpha1/widgets?dryRun=All&fieldValidation={validation}");
        world.send("POST", &path, "application/json", &body).await
    };
    let refused = create("Strict").await;
    assert_eq!(refused.code, 400);
    assert_eq!(
        refused.message(),
        "Widget in version \"v1alpha1\" cannot be handled as a Widget: strict decoding error: duplicate field \"spec.size\", unknown field \"spec.sise\""
    );
    let kept = create("Warn").await;
    assert_eq!(kept.code, 201);
    let warnings: Vec<_> =
        kept.headers.get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect();
    assert_eq!(
        warnings,
        [r#"299 - "duplicate field \"spec.size\"""#, r#"299 - "unknown field \"spec.sise\"""#]
    );
    assert_eq!(kept.body["spec"], json!({"size": 2, "mode": "fast"}));
    assert!(create("Ignore").await.headers.get("warning").is_none());
}

async fn kube_rs_asks_for_strict_validation_too(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    let params = PostParams::default();
    let object = widget(&client, "w", json!({"size": 1, "sise": 2}));
    // Without being asked the server only warns.
    api.create(&params, &object).await.unwrap();
    let strict = PatchParams { field_validation: Some(ValidationDirective::Strict), ..Default::default() };
    let refused = refusal(api.patch("w", &strict, &Patch::Merge(json!({"spec": {"sise": 3}}))).await);
    assert!(
        refused.message.ends_with("strict decoding error: unknown field \"spec.sise\""),
        "{}",
        refused.message
    );
}

async fn a_namespace_must_exist(world: World) {
    let api: Api<ConfigMap> = Api::namespaced(world.client().await, "nowhere");
    let refused = refusal(api.create(&PostParams::default(), &config_map("a", json!({}))).await);
    assert_eq!((refused.code, refused.message.as_str()), (404, "namespaces \"nowhere\" not found"));
}

async fn a_node_registers_with_its_status(world: World) {
    let api: Api<Node> = Api::all(world.client().await);
    let node = json!({"metadata": {"name": "n1"}, "spec": {"podCIDRs": ["10.1.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "fd00::1"}]}});
    let node = api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    assert_eq!(node.status.unwrap().addresses.unwrap().len(), 2);
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    api.patch_status("n1", &PatchParams::default(), &Patch::Strategic(ready)).await.unwrap();
    let more = json!({"status": {"conditions": [{"type": "MemoryPressure", "status": "False"}]}});
    let node = api.patch_status("n1", &PatchParams::default(), &Patch::Strategic(more)).await.unwrap();
    assert_eq!(node.status.unwrap().conditions.unwrap().len(), 2);
}

async fn string_data_of_a_secret_is_encoded(world: World) {
    let api: Api<Secret> = Api::default_namespaced(world.client().await);
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"token": "x"}});
    let secret = api.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    assert_eq!(secret.data.unwrap()["token"].0, b"x");
    assert_eq!((secret.string_data, secret.type_.as_deref()), (None, Some("Opaque")));
}

async fn a_body_that_is_too_large_or_unreadable_is_refused(world: World) {
    let path = format!("/api/v1/namespaces/{}/configmaps", world.namespace);
    let post = async |media_type: &str, body: &str| world.send("POST", &path, media_type, body).await;
    assert_eq!(post("application/json", &" ".repeat(4 << 20)).await.code, 413);
    assert_eq!(post("application/json", "{").await.code, 400);
    assert_eq!(post("text/plain", "{}").await.code, 415);
    let said =
        post("application/json", r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}"#).await;
    assert_eq!(said.code, 400);
    assert!(said.message().contains("Pod"), "{said:?}");
    let elsewhere =
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "other"}}"#;
    assert_eq!(post("application/json", elsewhere).await.code, 400);
}

async fn a_crd_that_makes_no_sense_is_refused(world: World) {
    let api: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(world.client().await);
    let client = world.client().await;
    let mut crd = widget_crd(&client);
    crd.metadata.name = Some("other.example.com".into());
    let refused = refusal(api.create(&PostParams::default(), &crd).await);
    assert!(refused.message.contains("must be spec.names.plural+\".\"+spec.group"), "{}", refused.message);
}

async fn a_namespace_is_born_active_with_its_label(world: World) {
    let team = format!("{}-team", world.namespace);
    let api: Api<Namespace> = Api::all(world.client().await);
    let created = api
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": team}})).unwrap())
        .await
        .unwrap();
    assert_eq!(created.metadata.labels.unwrap()["kubernetes.io/metadata.name"], team);
    assert_eq!(created.status.unwrap().phase.as_deref(), Some("Active"));
}
