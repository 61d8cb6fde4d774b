//! One control plane, and what its owner may do to it. Tests that stop parts of it take their turns.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use kubernetes::{Binaries, ControlPlane, Options, Part};
use serde_json::json;

static PLANE: LazyLock<Option<ControlPlane>> = LazyLock::new(|| {
    let binaries = Binaries::find_or_skip()?;
    Some(ControlPlane::start(&Options::named("tests", binaries)).unwrap())
});

/// Held by whoever stops a part, or must not see one stopped.
static TURN: Mutex<()> = Mutex::new(());

fn plane() -> Option<(&'static ControlPlane, MutexGuard<'static, ()>)> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Some((PLANE.as_ref()?, turn))
}

/// A runtime for one test: the plane's methods block, so they are called outside it.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

async fn namespace(client: &Client, name: &str) {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

async fn who(client: Client) -> (String, Vec<String>) {
    let review: SelfSubjectReview =
        Api::all(client).create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let user = review.status.unwrap().user_info.unwrap();
    (user.username.unwrap(), user.groups.unwrap())
}

fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn users_are_who_their_certificate_says_and_may_what_rbac_says() {
    let Some((plane, _turn)) = plane() else { return };
    let jane = plane.kubeconfig_for("jane", &["developers", "testers"]).unwrap();
    wait(async {
        let client = plane.client_of(&jane).await.unwrap();
        let (name, groups) = who(client.clone()).await;
        assert_eq!(name, "jane");
        assert_eq!(groups, ["developers", "testers", "system:authenticated"]);
        let maps: Api<ConfigMap> = Api::namespaced(client, "default");
        assert_eq!(refusal(maps.list(&ListParams::default()).await), 403);
        assert_eq!(
            plane.client().await.unwrap().apiserver_version().await.unwrap().git_version,
            kubernetes::VERSION
        );
    });
}

#[test]
fn service_accounts_have_tokens() {
    let Some((plane, _turn)) = plane() else { return };
    wait(async {
        let client = plane.client().await.unwrap();
        namespace(&client, "accounts").await;
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "robot"}})).unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "accounts");
        accounts.create(&PostParams::default(), &account).await.unwrap();
        let kubeconfig = plane.kubeconfig_of_account("accounts", "robot").await.unwrap();
        let (name, groups) = who(plane.client_of(&kubeconfig).await.unwrap()).await;
        assert_eq!(name, "system:serviceaccount:accounts:robot");
        assert!(groups.contains(&"system:serviceaccounts:accounts".to_owned()), "{groups:?}");
        let error = plane.token("accounts", "nobody").await.unwrap_err();
        assert!(error.to_string().contains("accounts/nobody"), "{error}");
    });
}

#[test]
fn what_was_written_survives_crashes() {
    let Some((plane, _turn)) = plane() else { return };
    let maps = async || Api::<ConfigMap>::namespaced(plane.client().await.unwrap(), "default");
    wait(async { maps().await.create(&PostParams::default(), &config_map("survivor")).await.unwrap() });
    plane.kill(Part::ApiServer).unwrap();
    assert_eq!(plane.pid(Part::ApiServer), None);
    plane.kill(Part::Etcd).unwrap();
    plane.start_again(Part::Etcd).unwrap();
    plane.start_again(Part::ApiServer).unwrap();
    wait(async { maps().await.get("survivor").await.unwrap() });
}

#[test]
fn without_history_nothing_resumes() {
    let Some((plane, _turn)) = plane() else { return };
    let maps = async || Api::<ConfigMap>::namespaced(plane.client().await.unwrap(), "pages");
    let (written, page) = wait(async {
        namespace(&plane.client().await.unwrap(), "pages").await;
        let maps = maps().await;
        let written = maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
        maps.create(&PostParams::default(), &config_map("b")).await.unwrap();
        (written, maps.list(&ListParams::default().limit(1)).await.unwrap())
    });
    plane.forget_history().unwrap();
    wait(async {
        use futures::TryStreamExt as _;
        let maps = maps().await;
        let from = written.metadata.resource_version.unwrap();
        let mut events = std::pin::pin!(maps.watch(&WatchParams::default(), &from).await.unwrap());
        let event = events.try_next().await.unwrap();
        assert!(matches!(&event, Some(WatchEvent::Error(status)) if status.code == 410), "{event:?}");
        let next = ListParams::default().limit(1).continue_token(&page.metadata.continue_.unwrap());
        assert_eq!(refusal(maps.list(&next).await), 410);
    });
}

#[test]
fn the_controller_manager_makes_service_accounts() {
    let Some((plane, _turn)) = plane() else { return };
    plane.start_controller_manager(&[]).unwrap();
    assert!(plane.pid(Part::ControllerManager).is_some());
    wait(async {
        let accounts: Api<ServiceAccount> = Api::namespaced(plane.client().await.unwrap(), "default");
        accounts.get("default").await.unwrap();
    });
    plane.stop(Part::ControllerManager).unwrap();
    assert_eq!(plane.pid(Part::ControllerManager), None);
}
