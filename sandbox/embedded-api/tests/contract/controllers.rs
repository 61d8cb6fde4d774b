//! Deletion as controllers see it: finalizers, owners, namespaces; and kube-rs's own machinery.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace};
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy,
};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{EventType, Recorder, Reporter};
use kube::runtime::finalizer::{Event as Finalizer, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::fixture::*;

contract!(
    finalizers_hold_an_object_until_the_last_is_gone,
    a_delete_has_preconditions,
    dependents_follow_their_owner_unless_orphaned,
    a_foreground_delete_waits_for_dependents_that_block,
    what_is_born_after_its_owner_went_is_collected,
    a_collection_is_deleted_by_selector,
    a_namespace_takes_its_objects_with_it,
    a_controller_with_a_finalizer_does_its_work,
    events_are_recorded_and_counted,
    a_lease_is_taken_by_one_of_two,
);

async fn owned(client: &Client, name: &str, owner: &ConfigMap, block: bool) {
    let mut reference = owner.owner_ref(&()).unwrap();
    reference.block_owner_deletion = Some(block);
    let mut child = config_map(name, json!({}));
    child.metadata.owner_references = Some(vec![reference]);
    config_maps(client).create(&PostParams::default(), &child).await.unwrap();
}

/// Waits until exactly these are left.
async fn left(client: &Client, expected: &[&str]) {
    eventually(&format!("only {expected:?} are left"), async || {
        let list = config_maps(client).list(&ListParams::default()).await.unwrap();
        let names: Vec<String> = list.into_iter().map(|map| map.name_any()).collect();
        (names == expected).then_some(())
    })
    .await;
}

async fn finalizers_hold_an_object_until_the_last_is_gone(world: World) {
    let client = world.client().await;
    let api = widgets(&client).await;
    let mut object = widget(&client, "w", json!({"size": 1}));
    object.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    api.create(&PostParams::default(), &object).await.unwrap();
    let held = api.delete("w", &DeleteParams::default()).await.unwrap().left().expect("the object itself");
    assert!(held.metadata.deletion_timestamp.is_some());
    assert_eq!(held.metadata.generation, Some(2));
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/new"]}});
    let refused = refusal(api.patch("w", &PatchParams::default(), &Patch::Merge(more)).await);
    assert!(refused.message.contains("no new finalizers can be added if the object is being deleted"));
    let none = json!({"metadata": {"finalizers": null}});
    api.patch("w", &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
    assert_eq!(refusal(api.get("w").await).code, 404);
}

async fn a_delete_has_preconditions(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    api.create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    let wrong = DeleteParams {
        preconditions: Some(Preconditions { uid: Some("other".into()), resource_version: None }),
        ..Default::default()
    };
    let refused = refusal(api.delete("a", &wrong).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert!(
        refused.message.contains("the UID in the precondition (other) does not match the UID in record"),
        "{}",
        refused.message
    );
    let gone = api.delete("a", &DeleteParams::default()).await.unwrap().right().expect("a status");
    assert!(gone.is_success());
}

async fn dependents_follow_their_owner_unless_orphaned(world: World) {
    for (policy, expected) in [
        (PropagationPolicy::Background, vec![]),
        (PropagationPolicy::Foreground, vec![]),
        (PropagationPolicy::Orphan, vec!["child", "grandchild"]),
    ] {
        let client = world.client().await;
        let api = config_maps(&client);
        let owner = api.create(&PostParams::default(), &config_map("owner", json!({}))).await.unwrap();
        owned(&client, "child", &owner, true).await;
        owned(&client, "grandchild", &api.get("child").await.unwrap(), true).await;
        let params = DeleteParams { propagation_policy: Some(policy.clone()), ..Default::default() };
        api.delete("owner", &params).await.unwrap();
        left(&client, &expected).await;
        if let Ok(child) = api.get("child").await {
            assert!(child.owner_references().is_empty(), "{policy:?}");
        }
    }
}

async fn a_foreground_delete_waits_for_dependents_that_block(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    let owner = api.create(&PostParams::default(), &config_map("owner", json!({}))).await.unwrap();
    owned(&client, "child", &owner, true).await;
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    api.patch("child", &PatchParams::default(), &Patch::Merge(hold)).await.unwrap();
    api.delete("owner", &DeleteParams::foreground()).await.unwrap();
    eventually("the owner waits", async || {
        let finalizers = api.get("owner").await.unwrap().metadata.finalizers?;
        finalizers.contains(&"foregroundDeletion".to_owned()).then_some(())
    })
    .await;
    left(&client, &["child", "owner"]).await;
    let free = json!({"metadata": {"finalizers": null}});
    api.patch("child", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    left(&client, &[]).await;
}

async fn what_is_born_after_its_owner_went_is_collected(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    let owner = api.create(&PostParams::default(), &config_map("owner", json!({}))).await.unwrap();
    api.delete("owner", &DeleteParams::default()).await.unwrap();
    owned(&client, "late", &owner, false).await;
    left(&client, &[]).await;
}

async fn a_collection_is_deleted_by_selector(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    for (name, tier) in [("a", "gold"), ("b", "iron")] {
        api.create(&PostParams::default(), &config_map(name, json!({"tier": tier}))).await.unwrap();
    }
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels("tier=gold"))
        .await
        .unwrap();
    left(&client, &["b"]).await;
}

async fn a_namespace_takes_its_objects_with_it(world: World) {
    let client = world.client().await;
    let team = format!("{}-team", world.namespace);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": team}})).unwrap())
        .await
        .unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &team);
    let mut held = config_map("held", json!({}));
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    api.create(&PostParams::default(), &config_map("free", json!({}))).await.unwrap();
    namespaces.delete(&team, &DeleteParams::default()).await.unwrap();
    assert_eq!(namespaces.get(&team).await.unwrap().status.unwrap().phase.as_deref(), Some("Terminating"));
    eventually("the free one goes", async || api.get_opt("free").await.unwrap().is_none().then_some(()))
        .await;
    let refused = refusal(api.create(&PostParams::default(), &config_map("new", json!({}))).await);
    assert!(refused.message.contains("because it is being terminated"), "{}", refused.message);
    api.patch("held", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}})))
        .await
        .unwrap();
    eventually("the namespace goes", async || {
        namespaces.get_opt(&team).await.unwrap().is_none().then_some(())
    })
    .await;
}

/// Far beyond what the controller needs, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

/// A controller with a finalizer that answers each ConfigMap with an annotation.
async fn reconcile(object: Arc<ConfigMap>, api: Arc<Api<ConfigMap>>) -> Result<Action, Failed> {
    let annotate = async |object: Arc<ConfigMap>| {
        let patch =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"annotations": {"seen": "yes"}}});
        api.patch(&object.name_any(), &PatchParams::apply("controller"), &Patch::Apply(patch))
            .await
            .map_err(|e| Failed(e.to_string()))
    };
    finalizer(&api, "example.com/controller", Arc::clone(&object), |event| async {
        if let Finalizer::Apply(object) = event {
            annotate(object).await?;
        }
        Ok::<_, Failed>(Action::await_change())
    })
    .await
    .map_err(|e| Failed(e.to_string()))
}

async fn a_controller_with_a_finalizer_does_its_work(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    let controller = Controller::new(api.clone(), watcher::Config::default());
    let run = controller
        .run(reconcile, |_, error, _| panic!("{error}"), Arc::new(api.clone()))
        .for_each(|_| async {});
    let run = tokio::spawn(run);
    api.create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    let seen = |object: Option<&ConfigMap>| object.is_some_and(|o| o.annotations().contains_key("seen"));
    let wait = tokio::time::timeout(PATIENCE, await_condition(api.clone(), "a", seen)).await;
    let object = wait.expect("the controller answers").unwrap().unwrap();
    assert_eq!(object.finalizers(), ["example.com/controller"]);
    let uid = object.uid().unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(api.clone(), "a", conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await.expect("the finalizer lets go").unwrap();
    run.abort();
}

async fn events_are_recorded_and_counted(world: World) {
    let client = world.client().await;
    let recorder = Recorder::new(client.clone(), Reporter { controller: "test".into(), instance: None });
    let object =
        config_maps(&client).create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    let event = kube::runtime::events::Event {
        type_: EventType::Warning,
        reason: "Odd".into(),
        note: Some("n".into()),
        action: "Look".into(),
        secondary: None,
    };
    recorder.publish(&event, &object.object_ref(&())).await.unwrap();
    recorder.publish(&event, &object.object_ref(&())).await.unwrap();
    // The recorder writes events.k8s.io/v1; people and older clients read the core form.
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let found =
        events.list(&ListParams::default().fields("involvedObject.name=a,type=Warning")).await.unwrap();
    assert_eq!(found.items.len(), 1);
    assert_eq!(
        (found.items[0].message.as_deref(), found.items[0].reporting_component.as_deref()),
        (Some("n"), Some("test"))
    );
    assert_eq!(found.items[0].series.as_ref().and_then(|s| s.count), Some(2));
    let new: Api<k8s_openapi::api::events::v1::Event> = Api::default_namespaced(client);
    assert_eq!(new.list(&ListParams::default()).await.unwrap().items[0].note.as_deref(), Some("n"));
    let meta =
        ObjectMeta { name: Some("e".into()), namespace: Some(world.namespace.clone()), ..Default::default() };
    let core = Event {
        metadata: meta,
        involved_object: object.object_ref(&()),
        type_: Some("Normal".into()),
        ..Default::default()
    };
    events.create(&PostParams::default(), &core).await.unwrap();
    assert_eq!(
        events
            .list(&ListParams::default().fields("involvedObject.kind=ConfigMap,type=Normal"))
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}

async fn a_lease_is_taken_by_one_of_two(world: World) {
    let client = world.client().await;
    let api: Api<Lease> = Api::default_namespaced(client);
    let lease = |holder: &str| {
        serde_json::from_value::<Lease>(json!({"metadata": {"name": "leader"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}})).unwrap()
    };
    let seen = api.create(&PostParams::default(), &lease("none")).await.unwrap();
    let mut claims = Vec::new();
    for holder in ["one", "two"] {
        let mut claim = lease(holder);
        claim.metadata.resource_version = seen.metadata.resource_version.clone();
        claims.push(api.replace("leader", &PostParams::default(), &claim).await.map(|_| ()));
    }
    assert!(claims[0].is_ok());
    assert_eq!(refusal(claims.pop().unwrap()).code, 409);
}
