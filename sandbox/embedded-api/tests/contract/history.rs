//! What a server that has forgotten the past says to those who come from there.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;

use crate::fixture::*;

contract!(
    on_restarted_kubernetes:
    a_page_of_a_forgotten_snapshot_is_gone,
    a_watch_from_the_forgotten_past_is_gone,
    the_watcher_of_kube_rs_begins_again,
    an_exact_list_of_the_forgotten_past_is_gone,
);

async fn create(api: &Api<ConfigMap>, name: &str) -> String {
    let created = api.create(&PostParams::default(), &config_map(name, json!({}))).await.unwrap();
    created.metadata.resource_version.unwrap()
}

async fn a_page_of_a_forgotten_snapshot_is_gone(world: World) {
    let api = config_maps(&world.client().await);
    create(&api, "a").await;
    create(&api, "b").await;
    let first = api.list(&ListParams::default().limit(1)).await.unwrap();
    world.forget_history().await;
    let api = config_maps(&world.client().await);
    let token = first.metadata.continue_.unwrap();
    let refused = refusal(api.list(&ListParams::default().limit(1).continue_token(&token)).await);
    assert_eq!((refused.code, refused.reason.as_str()), (410, "Expired"));
    assert!(refused.message.contains("continue parameter is too old"), "{}", refused.message);
}

async fn an_exact_list_of_the_forgotten_past_is_gone(world: World) {
    let then = create(&config_maps(&world.client().await), "a").await;
    world.forget_history().await;
    let path = format!(
        "/api/v1/namespaces/{}/configmaps?resourceVersion={then}&resourceVersionMatch=Exact",
        world.namespace
    );
    let said = world.get(&path).await;
    assert_eq!((said.code, said.reason()), (410, "Expired"), "{said:?}");
}

async fn a_watch_from_the_forgotten_past_is_gone(world: World) {
    let then = create(&config_maps(&world.client().await), "a").await;
    world.forget_history().await;
    let api = config_maps(&world.client().await);
    let mut stream = api.watch(&WatchParams::default(), &then).await.unwrap().boxed();
    match stream.try_next().await.unwrap() {
        Some(WatchEvent::Error(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
            let words = format!("too old resource version: {then} (");
            assert!(status.message.starts_with(&words), "{}", status.message);
        }
        other => panic!("{other:?}"),
    }
    assert!(stream.try_next().await.unwrap().is_none());
}

async fn the_watcher_of_kube_rs_begins_again(world: World) {
    let api = config_maps(&world.client().await);
    create(&api, "a").await;
    let mut stream =
        watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects().boxed();
    let seen = |map: ConfigMap| map.metadata.name.unwrap_or_default();
    let mut first = stream.try_next().await.unwrap().map(seen);
    while first.as_deref() == Some("kube-root-ca.crt") {
        first = stream.try_next().await.unwrap().map(seen);
    }
    assert_eq!(first.as_deref(), Some("a"));
    world.forget_history().await;
    let api = config_maps(&world.client().await);
    for name in ["b", "c"] {
        create(&api, name).await;
    }
    // It lists again where it must, and sees everything at least once.
    let mut missing = std::collections::BTreeSet::from(["b".to_owned(), "c".to_owned()]);
    while !missing.is_empty() {
        if let Ok(map) = stream.next().await.unwrap() {
            missing.remove(&seen(map));
        }
    }
}
