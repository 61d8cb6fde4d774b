//! Watching: where a watch begins, what it says, how it ends.

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher;
use serde_json::json;

use crate::fixture::*;

contract!(
    a_watch_resumes_where_a_list_ended,
    a_watch_without_a_version_begins_with_what_is_there,
    a_streaming_list_ends_with_its_bookmark,
    objects_join_and_leave_a_selection,
    streaming_lists_feed_the_watcher_of_kube_rs,
    deleting_a_crd_ends_the_watches_of_its_kind,
);

async fn create(api: &Api<ConfigMap>, name: &str) {
    api.create(&PostParams::default(), &config_map(name, json!({}))).await.unwrap();
}

/// Waits until these stand where those are answered from who ask for any version: a cache that follows the writes.
async fn cached(api: &Api<ConfigMap>, expected: &[&str]) {
    let any = ListParams { resource_version: Some("0".into()), ..Default::default() };
    eventually("the cache has followed", async || {
        let list = api.list(&any).await.unwrap();
        let names: Vec<_> = list.iter().filter_map(|map| map.metadata.name.as_deref()).collect();
        (names == expected).then_some(())
    })
    .await;
}

async fn current(api: &Api<ConfigMap>) -> String {
    api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap()
}

fn say(event: &WatchEvent<ConfigMap>) -> String {
    let name = |c: &ConfigMap| c.metadata.name.clone().unwrap_or_default();
    match event {
        WatchEvent::Added(c) => format!("+{}", name(c)),
        WatchEvent::Modified(c) => format!("~{}", name(c)),
        WatchEvent::Deleted(c) => format!("-{}", name(c)),
        WatchEvent::Bookmark(b) => {
            let end = b.metadata.annotations.contains_key("k8s.io/initial-events-end");
            if end { "end".to_owned() } else { "bookmark".to_owned() }
        }
        WatchEvent::Error(status) => format!("error {}", status.code),
    }
}

/// The next event that is no bookmark.
async fn next_change(
    stream: &mut (impl Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin),
) -> String {
    loop {
        let said = next(stream).await;
        if !matches!(said.as_str(), "bookmark" | "end") {
            return said;
        }
    }
}

async fn next(stream: &mut (impl Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin)) -> String {
    say(&stream.try_next().await.unwrap().expect("the watch goes on"))
}

async fn a_watch_resumes_where_a_list_ended(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    create(&api, "old").await;
    let from = current(&api).await;
    create(&api, "new").await;
    let mut stream = api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    assert_eq!(next(&mut stream).await, "+new");
    api.patch("new", &PatchParams::default(), &Patch::Merge(json!({"data": {"a": "2"}}))).await.unwrap();
    assert_eq!(next(&mut stream).await, "~new");
    api.delete("new", &Default::default()).await.unwrap();
    assert_eq!(next(&mut stream).await, "-new");
}

async fn a_watch_without_a_version_begins_with_what_is_there(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    create(&api, "a").await;
    let mut stream = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert_eq!(next_change(&mut stream).await, "+a");
    create(&api, "b").await;
    assert_eq!(next_change(&mut stream).await, "+b");
}

async fn a_streaming_list_ends_with_its_bookmark(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    create(&api, "a").await;
    create(&api, "b").await;
    cached(&api, &["a", "b"]).await;
    let params = WatchParams::default().initial_events();
    let mut stream = api.watch(&params, "0").await.unwrap().boxed();
    for expected in ["+a", "+b", "end"] {
        assert_eq!(next(&mut stream).await, expected);
    }
    create(&api, "c").await;
    assert_eq!(next(&mut stream).await, "+c");
}

async fn objects_join_and_leave_a_selection(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    let from = current(&api).await;
    let mut stream = api.watch(&WatchParams::default().labels("in=yes"), &from).await.unwrap().boxed();
    create(&api, "a").await;
    let label = async |value: serde_json::Value| {
        let patch = json!({"metadata": {"labels": {"in": value}}});
        api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    label(json!("yes")).await;
    assert_eq!(next(&mut stream).await, "+a");
    label(json!("no")).await;
    assert_eq!(next(&mut stream).await, "-a");
}

async fn streaming_lists_feed_the_watcher_of_kube_rs(world: World) {
    let client = world.client().await;
    let api = config_maps(&client);
    create(&api, "a").await;
    cached(&api, &["a"]).await;
    let config = watcher::Config::default().streaming_lists();
    let mut stream = watcher(api.clone(), config).boxed();
    let mut events = Vec::new();
    while events.len() < 3 {
        events.push(match stream.try_next().await.unwrap().unwrap() {
            watcher::Event::Init => "init".to_owned(),
            watcher::Event::InitApply(c) => format!("has {}", c.metadata.name.unwrap()),
            watcher::Event::InitDone => "done".to_owned(),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(events, ["init", "has a", "done"]);
}

async fn deleting_a_crd_ends_the_watches_of_its_kind(world: World) {
    let client = world.client().await;
    let widgets = widgets(&client).await;
    widgets.create(&PostParams::default(), &widget(&client, "w", json!({"size": 1}))).await.unwrap();
    let mut stream = widgets.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(matches!(stream.try_next().await.unwrap(), Some(WatchEvent::Added(_))));
    let crds: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(client.clone());
    crds.delete(&widgets_name(&client), &Default::default()).await.unwrap();
    let mut rest = Vec::new();
    while let Ok(Some(event)) = stream.try_next().await {
        rest.push(event);
    }
    let deleted = |event: &WatchEvent<DynamicObject>| matches!(event, WatchEvent::Deleted(_));
    rest.retain(|event| !matches!(event, WatchEvent::Bookmark(_)));
    assert!(rest.len() <= 2 && rest.last().is_some_and(deleted), "{rest:?}");
    eventually("the kind goes", async || widgets.get("w").await.is_err().then_some(())).await;
}
