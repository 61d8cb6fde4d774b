//! The one credential for the control cluster, before a real API server: renewed, kept, revoked and given anew. The member
//! is embedded; the test itself plays the kubelet that mounts the Secret.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{path::PathBuf, sync::LazyLock, time::Duration};

use api::{ClusterNode, NodeConfig};
use component::{Registry, election::Leadership};
use controller_manager::{Config, Metrics, Uplink, run, uplink};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{Namespace, Secret, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use kubernetes::{Binaries, ControlPlane, Options, Part};
use prometheus_client::encoding::text::encode;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use support::*;
use tokio::{sync::MutexGuard, task::JoinHandle};

static PLANE: LazyLock<Option<ControlPlane>> = LazyLock::new(|| {
    let binaries = Binaries::find_or_skip()?;
    Some(ControlPlane::start(&Options::named("control", binaries)).expect("a control plane starts"))
});

const MEMBERS: &str = "clusterlink-members";
const SYSTEM: &str = "clusterlink-system";
const SECRET: &str = "clusterlink-control";

/// A clock that is far ahead: every token has lived for half of its life.
fn ahead() -> Timestamp {
    Timestamp::now() + SignedDuration::from_mins(50)
}

async fn make<K>(api: Api<K>, object: Value)
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => drop(other.unwrap()),
    }
}

struct World {
    plane: &'static ControlPlane,
    admin: Client,
    member: TestCluster,
    name: &'static str,
    file: PathBuf,
    registry: Registry,
    metrics: Metrics,
    running: Vec<JoinHandle<()>>,
    _directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    async fn new(name: &'static str) -> Option<Self> {
        static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let alone = ALONE.lock().await;
        let plane = tokio::task::spawn_blocking(|| PLANE.as_ref()).await.unwrap()?;
        let admin = plane.client().await.unwrap();
        if names::<CustomResourceDefinition>(&admin).await.is_empty() {
            install_crds(&admin).await;
        }
        let member = cluster(name).await;
        for (client, namespace) in [(&admin, MEMBERS), (&member.client, SYSTEM)] {
            make::<Namespace>(Api::all(client.clone()), json!({"metadata": {"name": namespace}})).await;
        }
        allow_members(&admin).await;
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.register_uplink(&mut registry);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kubeconfig");
        let running = Vec::new();
        let mut world = World {
            plane,
            admin,
            member,
            name,
            file,
            registry,
            metrics,
            running,
            _directory: directory,
            _alone: alone,
        };
        world.settle().await;
        Some(world)
    }

    /// Its Cluster and a node exist.
    async fn settle(&mut self) {
        retry(async || {
            let clusters: Api<api::Cluster> = Api::all(self.admin.clone());
            let object = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster",
                "metadata": {"name": self.name}, "spec": {"clusterLinkOptions": {}}});
            clusters.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.is_ok()
        })
        .await;
        add_node(&self.member.client, "n1", "10.244.0.0/24").await;
    }

    /// As `kosmosctl join` does: an account, its token, and the Secret.
    async fn join(&self) {
        let account = json!({"metadata": {"name": self.name, "namespace": MEMBERS}});
        make::<ServiceAccount>(Api::namespaced(self.admin.clone(), MEMBERS), account).await;
        let kubeconfig = self.plane.kubeconfig_of_account(MEMBERS, self.name).await.unwrap();
        let text = std::fs::read(kubeconfig).unwrap();
        let secrets: Api<Secret> = Api::namespaced(self.member.client.clone(), SYSTEM);
        let _ = secrets.delete(SECRET, &DeleteParams::default()).await;
        let metadata = ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() };
        let data = Some([("kubeconfig".to_owned(), ByteString(text))].into());
        secrets
            .create(&PostParams::default(), &Secret { metadata, data, ..Secret::default() })
            .await
            .unwrap();
    }

    async fn leave(&self) {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), MEMBERS);
        accounts.delete(self.name, &DeleteParams::default()).await.unwrap();
    }

    async fn secret(&self) -> Vec<u8> {
        let secrets: Api<Secret> = Api::namespaced(self.member.client.clone(), SYSTEM);
        secrets.get(SECRET).await.unwrap().data.unwrap()["kubeconfig"].0.clone()
    }

    /// As a kubelet does, some day.
    async fn mount(&self) {
        std::fs::write(&self.file, self.secret().await).unwrap();
    }

    async fn start(&mut self, now: fn() -> Timestamp) {
        let options = uplink::Options {
            kubeconfig: self.file.clone(),
            member: self.member.client.clone(),
            cluster: self.name.to_owned(),
            namespace: SYSTEM.to_owned(),
            secret: SECRET.to_owned(),
            now,
        };
        let (uplink, control) = Uplink::open(options, Leadership::unrivalled(), self.metrics.clone()).await;
        let config = Config { cluster: self.name.to_owned(), member: self.member.client.clone(), control };
        self.running.push(tokio::spawn(async move { match uplink.keep().await {} }));
        self.running.push(tokio::spawn(run(config, std::future::pending())));
    }

    async fn says(&self, metric: &str) {
        eventually(metric, async || self.scrape(), |text| text.lines().any(|line| line == metric)).await;
    }

    fn scrape(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    /// What people in the member are told.
    async fn tells(&self, reason: &str, says: &str) {
        let told = || condition(&self.member.client, self.name, "ControlClusterReachable");
        let told = eventually(reason, told, |told| told.as_ref().is_some_and(|told| told.1 == reason)).await;
        let message = told.unwrap().2;
        assert!(message.contains(says), "{message}");
    }

    async fn is_published(&self, node: &str) {
        let name = format!("{}-{node}", self.name);
        eventually(&name, || names::<ClusterNode>(&self.admin), |names| names.contains(&name)).await;
    }

    async fn restart(&self, how: fn(&ControlPlane, Part) -> Result<(), kubernetes::Error>) {
        let plane = self.plane;
        tokio::task::spawn_blocking(move || how(plane, Part::ApiServer)).await.unwrap().unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

async fn retry(mut works: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if works().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never worked");
}

/// What a member may do in the control cluster, as far as it matters here.
async fn allow_members(admin: &Client) {
    let name = "uplink-test";
    let rule = |group: &str, resources: Value, verbs: Value| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let all = json!(["get", "list", "watch", "create", "patch", "delete"]);
    let ours = json!([
        "clusters",
        "clusters/status",
        "clusternodes",
        "clusternodes/status",
        "nodeconfigs",
        "nodeconfigs/status"
    ]);
    let rules = json!([
        rule("kosmos.io", ours, all),
        rule("", json!(["namespaces"]), json!(["get"])),
        rule("", json!(["serviceaccounts/token"]), json!(["create"])),
        rule("", json!(["events"]), json!(["get", "create", "patch"]))
    ]);
    make::<ClusterRole>(Api::all(admin.clone()), json!({"metadata": {"name": name}, "rules": rules})).await;
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group",
            "name": format!("system:serviceaccounts:{MEMBERS}")}]});
    make::<ClusterRoleBinding>(Api::all(admin.clone()), binding).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_at_half_its_life_and_kept_where_the_other_replica_finds_it() {
    let Some(mut world) = World::new("renews").await else { return };
    world.join().await;
    world.mount().await;
    let before = world.secret().await;
    world.start(ahead).await;
    world.is_published("n1").await;
    world.says(r#"uplink_token_renewals_total{result="ok"} 1"#).await;
    let after = eventually("the Secret", || world.secret(), |now| *now != before).await;
    world.mount().await;
    add_node(&world.member.client, "n2", "10.244.1.0/24").await;
    world.is_published("n2").await;
    world.says("uplink_connected 1").await;
    assert_eq!(world.secret().await, after, "a clock that is wrong renews nothing twice");
    assert!(!world.scrape().contains("uplink_token_expiry_timestamp_seconds 0"), "{}", world.scrape());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_token_that_cannot_be_kept_is_used_all_the_same() {
    let Some(mut world) = World::new("unkept").await else { return };
    world.join().await;
    world.mount().await;
    let secrets: Api<Secret> = Api::namespaced(world.member.client.clone(), SYSTEM);
    secrets.delete(SECRET, &DeleteParams::default()).await.unwrap();
    world.start(ahead).await;
    world.says(r#"uplink_token_renewals_total{result="unkept"} 1"#).await;
    world.is_published("n1").await;
    world.says("uplink_connected 1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_comes_late_is_revoked_and_given_anew_tears_nothing_down() {
    let Some(mut world) = World::new("revoked").await else { return };
    plan(&world.member.client, "revoked", "n1", json!({"unreachable": ["10.80.0.0/16"]})).await;
    // Nothing is mounted yet.
    world.start(Timestamp::now).await;
    let mirrors = || names::<NodeConfig>(&world.member.client);
    stays("without a credential", mirrors, |names| names.len() == 1).await;
    world.says("uplink_connected 0").await;

    plan(&world.admin, "revoked", "n1", json!({"unreachable": ["10.81.0.0/16"]})).await;
    world.join().await;
    world.mount().await;
    world.is_published("n1").await;
    world.says("uplink_connected 1").await;
    world.tells("Connected", "facts go up").await;

    world.leave().await;
    world.restart(ControlPlane::restart).await;
    world.says("uplink_connected 0").await;
    world.tells("CredentialRejected", "kosmosctl join, with the same arguments as before").await;
    stays("with a revoked one", mirrors, |names| names.len() == 1).await;

    world.join().await;
    world.mount().await;
    world.says("uplink_connected 1").await;
    add_node(&world.member.client, "n2", "10.244.1.0/24").await;
    world.is_published("n2").await;
    stays("and with a good one", mirrors, |names| names.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_cluster_that_is_away_at_the_start_and_later_is_waited_for() {
    let Some(mut world) = World::new("away").await else { return };
    world.join().await;
    world.mount().await;
    plan(&world.admin, "away", "n1", json!({"unreachable": ["10.82.0.0/16"]})).await;
    plan(&world.member.client, "away", "n1", json!({"unreachable": ["10.82.0.0/16"]})).await;
    world.restart(ControlPlane::stop).await;
    world.start(Timestamp::now).await;
    let mirrors = || names::<NodeConfig>(&world.member.client);
    stays("while it is away", mirrors, |names| names.len() == 1).await;
    world.restart(ControlPlane::start_again).await;
    world.is_published("n1").await;

    world.restart(ControlPlane::stop).await;
    // What is known is kept up, though nobody can be asked.
    delete::<NodeConfig>(&world.member.client, "away-n1").await;
    eventually("the mirror", mirrors, |names| names.len() == 1).await;
    world.restart(ControlPlane::start_again).await;
    add_node(&world.member.client, "n2", "10.244.1.0/24").await;
    world.is_published("n2").await;
}
