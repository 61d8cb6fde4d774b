//! Watching: where a watch begins, what it says, how it ends.

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;

use crate::fixture::*;

async fn create(api: &Api<ConfigMap>, name: &str) {
    api.create(&PostParams::default(), &config_map(name, json!({}))).await.unwrap();
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

async fn next(stream: &mut (impl Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin)) -> String {
    say(&stream.try_next().await.unwrap().expect("the watch goes on"))
}

#[tokio::test]
async fn a_watch_resumes_where_a_list_ended() {
    both(async |client| {
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
    })
    .await;
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_is_there() {
    let client = client();
    let api = config_maps(&client);
    create(&api, "a").await;
    let mut stream = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert_eq!(next(&mut stream).await, "+a");
    create(&api, "b").await;
    assert_eq!(next(&mut stream).await, "+b");
}

#[tokio::test]
async fn a_streaming_list_ends_with_its_bookmark() {
    both(async |client| {
        let api = config_maps(&client);
        create(&api, "a").await;
        create(&api, "b").await;
        let params = WatchParams::default().initial_events();
        let mut stream = api.watch(&params, "0").await.unwrap().boxed();
        for expected in ["+a", "+b", "end"] {
            assert_eq!(next(&mut stream).await, expected);
        }
        create(&api, "c").await;
        assert_eq!(next(&mut stream).await, "+c");
    })
    .await;
}

#[tokio::test]
async fn objects_join_and_leave_a_selection() {
    let client = client();
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

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_gets_bookmarks_and_ends_in_time() {
    let client = client();
    let api = config_maps(&client);
    let from = current(&api).await;
    let mut stream = api.watch(&WatchParams::default().timeout(70), &from).await.unwrap().boxed();
    assert_eq!(next(&mut stream).await, "bookmark");
    assert_eq!(next(&mut stream).await, "bookmark");
    assert_eq!(next(&mut stream).await, "bookmark", "the last one comes at the end");
    assert!(stream.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_lost_beginning_is_gone() {
    let server = server(embedded_api::Config { watch_window: 3, ..config() });
    let api = config_maps(&in_process(&server));
    let from = current(&api).await;
    // Opened in time, but not read until the window has moved past it.
    let mut late = api.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    for i in 0..5 {
        create(&api, &format!("c{i}")).await;
    }
    assert_eq!(next(&mut late).await, "error 410");
    for lost in [from.as_str(), "99999"] {
        let mut stream = api.watch(&WatchParams::default(), lost).await.unwrap().boxed();
        match stream.try_next().await.unwrap() {
            Some(WatchEvent::Error(status)) => {
                assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
                assert!(
                    status.message.starts_with(&format!("too old resource version: {lost} (")),
                    "{}",
                    status.message
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(stream.try_next().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn the_watcher_of_kube_rs_survives_a_lost_window() {
    let server = server(embedded_api::Config { watch_window: 2, ..config() });
    let api = config_maps(&in_process(&server));
    create(&api, "a").await;
    let mut stream =
        watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects().boxed();
    let seen = |c: ConfigMap| c.metadata.name.unwrap_or_default();
    assert_eq!(seen(stream.try_next().await.unwrap().unwrap()), "a");
    for i in 0..6 {
        create(&api, &format!("c{i}")).await;
    }
    // It lists again, and sees everything at least once.
    let mut missing: std::collections::BTreeSet<String> = (0..6).map(|i| format!("c{i}")).collect();
    while !missing.is_empty() {
        match stream.next().await.unwrap() {
            Ok(object) => drop(missing.remove(&seen(object))),
            Err(error) => assert!(error.to_string().contains("too old"), "{error}"),
        }
    }
}

#[tokio::test]
async fn streaming_lists_feed_the_watcher_of_kube_rs() {
    both(async |client| {
        let api = config_maps(&client);
        create(&api, "a").await;
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
    })
    .await;
}

#[tokio::test]
async fn closing_the_server_ends_its_watches() {
    let server = server(config());
    let client = over_tls(&server, "admin-token").await;
    let api = config_maps(&client);
    let mut stream = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    create(&api, "a").await;
    assert_eq!(next(&mut stream).await, "+a");
    server.close();
    assert!(!matches!(stream.next().await, Some(Ok(_))));
}

#[tokio::test]
async fn deleting_a_crd_ends_the_watches_of_its_kind() {
    let client = client();
    let widgets = widgets(&client).await;
    widgets.create(&PostParams::default(), &widget("w", json!({"size": 1}))).await.unwrap();
    let mut stream = widgets.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(matches!(stream.try_next().await.unwrap(), Some(WatchEvent::Added(_))));
    let crds: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(client);
    crds.delete("widgets.example.com", &Default::default()).await.unwrap();
    assert!(matches!(stream.try_next().await.unwrap(), Some(WatchEvent::Deleted(_))));
    assert!(stream.try_next().await.unwrap().is_none());
    assert_eq!(refusal(widgets.get("w").await).code, 404);
}
