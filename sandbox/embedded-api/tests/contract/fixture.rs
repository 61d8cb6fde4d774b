//! The two servers that every case runs against, and what the cases are about: config maps and a custom resource.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use embedded_api::{Config, MASTERS, Server, Token, User};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use kubernetes::{Binaries, ControlPlane, Options, Part};
use serde_json::{Value, json};

/// A server under test, and a namespace of the test's own in it.
pub(crate) struct World {
    kubeconfig: Kubeconfig,
    /// Cluster-scoped names begin with it too, because the other cases use the same server.
    pub(crate) namespace: String,
    server: Under,
}

/// Which server it is.
enum Under {
    Embedded,
    Kubernetes(&'static ControlPlane),
}

/// The window of the embedded server is small enough to be left behind, and large enough for any case.
const WINDOW: usize = 256;

/// The control plane that most cases share.
static SHARED: LazyLock<Option<ControlPlane>> = LazyLock::new(|| plane("shared", true));
/// The one that is restarted, by one case at a time.
static RESTARTED: LazyLock<Option<ControlPlane>> = LazyLock::new(|| plane("restarted", false));
static TURN: Mutex<()> = Mutex::new(());

fn plane(name: &str, controllers: bool) -> Option<ControlPlane> {
    let plane = ControlPlane::start(&Options::named(name, Binaries::find_or_skip()?)).unwrap();
    if controllers {
        // It would put a ConfigMap into every namespace.
        plane
            .start_controller_manager(&["--controllers=*,-root-ca-certificate-publisher-controller"])
            .unwrap();
    }
    Some(plane)
}

/// Makes two tests of each named case: one against the embedded server, over TLS, and one against kube-apiserver.
/// `on_restarted_kubernetes:` stands before cases that make a server forget its history.
macro_rules! contract {
    ($($case:ident),+ $(,)?) => { $crate::fixture::contract!(on_kubernetes: $($case),+); };
    ($on_kubernetes:ident: $($case:ident),+ $(,)?) => {
        mod embedded {
            $(#[test] fn $case() { crate::fixture::on_embedded(super::$case); })+
        }
        mod kubernetes {
            $(#[test] fn $case() { crate::fixture::$on_kubernetes(super::$case); })+
        }
    };
}

pub(crate) use contract;

pub(crate) fn on_embedded(case: impl AsyncFn(World)) {
    run(async {
        let server = server(Config { watch_window: WINDOW, ..config() });
        let kubeconfig = serve(&server, "admin-token");
        case(World::new(kubeconfig, Under::Embedded).await).await;
        server.close();
    });
}

pub(crate) fn on_kubernetes(case: impl AsyncFn(World)) {
    let Some(plane) = SHARED.as_ref() else { return };
    run(async { case(World::new(admin(plane), Under::Kubernetes(plane)).await).await });
}

pub(crate) fn on_restarted_kubernetes(case: impl AsyncFn(World)) {
    let _turn: MutexGuard<'_, ()> = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(plane) = RESTARTED.as_ref() else { return };
    run(async { case(World::new(admin(plane), Under::Kubernetes(plane)).await).await });
}

/// Runs a comparison of the two.
pub(crate) fn on_both(case: impl AsyncFn(World, World)) {
    let Some(plane) = SHARED.as_ref() else { return };
    run(async {
        // The clock stands still here, and what kube-apiserver says of ages and times is not compared.
        let server = server(config());
        let embedded = World::new(serve(&server, "admin-token"), Under::Embedded).await;
        case(embedded, World::new(admin(plane), Under::Kubernetes(plane)).await).await;
        server.close();
    });
}

fn run(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(case);
}

fn admin(plane: &ControlPlane) -> Kubeconfig {
    Kubeconfig::read_from(plane.admin_kubeconfig()).unwrap()
}

impl World {
    async fn new(kubeconfig: Kubeconfig, server: Under) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("case-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let world = Self { kubeconfig, namespace, server };
        let client = world.client().await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object = json!({"metadata": {"name": world.namespace}});
        namespaces.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        if let Under::Kubernetes(plane) = &world.server
            && plane.pid(Part::ControllerManager).is_some()
        {
            // Its controller makes one once it runs; until then every pod is refused.
            let accounts: Api<ServiceAccount> = Api::default_namespaced(client);
            eventually("the account", async || accounts.get_opt("default").await.unwrap().map(drop)).await;
        }
        world
    }

    /// A client that may do everything, whose default namespace is the test's own.
    pub(crate) async fn client(&self) -> Client {
        self.connect(self.kubeconfig.clone(), true).await
    }

    /// The same, without a second try where the server asks for one.
    pub(crate) async fn impatient_client(&self) -> Client {
        self.connect(self.kubeconfig.clone(), false).await
    }

    /// A client with another bearer token.
    pub(crate) async fn client_with_token(&self, token: &str) -> Client {
        let mut kubeconfig = self.kubeconfig.clone();
        let token = serde_json::from_value(json!({"token": token})).unwrap();
        kubeconfig.auth_infos[0].auth_info = Some(token);
        self.connect(kubeconfig, true).await
    }

    async fn connect(&self, kubeconfig: Kubeconfig, retry: bool) -> Client {
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        config.default_namespace = self.namespace.clone();
        config.default_retry = retry;
        Client::try_from(config).unwrap()
    }

    /// Makes the server forget everything but the present.
    pub(crate) async fn forget_history(&self) {
        match &self.server {
            Under::Kubernetes(plane) => tokio::task::block_in_place(|| plane.forget_history()).unwrap(),
            Under::Embedded => {
                // Each kind has a window of its own.
                let maps: Api<ConfigMap> = Api::namespaced(self.client().await, "default");
                for i in 0..=WINDOW {
                    let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "history"}, "data": {"round": i.to_string()}});
                    let patch = kube::api::Patch::Apply(patch);
                    maps.patch("history", &PatchParams::apply("history"), &patch).await.unwrap();
                }
            }
        }
    }

    /// A request by hand, for what the typed client cannot ask.
    pub(crate) async fn ask(&self, request: http::Request<Vec<u8>>) -> Said {
        use http_body_util::BodyExt as _;
        let response = self.client().await.send(request.map(kube::client::Body::from)).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        Said { code: head.status.as_u16(), headers: head.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Said {
        self.ask(request("GET", path).body(Vec::new()).unwrap()).await
    }

    /// A request with a JSON body of this media type.
    pub(crate) async fn send(&self, method: &str, path: &str, media_type: &str, body: &str) -> Said {
        let request = request(method, path).header("content-type", media_type);
        self.ask(request.body(body.as_bytes().to_vec()).unwrap()).await
    }
}

/// An answer to a request by hand.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Said {
    pub(crate) fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// Waits for what a controller of kube-controller-manager does in its time and the embedded server at once. The garbage
/// collector begins anew, for half a minute at worst, whenever another case defines a kind or removes one.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..1800 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("within three minutes: {what}");
}

pub(crate) const NOW: &str = "2026-01-01T00:00:00Z";

/// An embedded server with a clock that stands still and uids from a seed.
pub(crate) fn config() -> Config {
    Config {
        seed: Some("contract".to_owned()),
        clock: Arc::new(|| NOW.parse().unwrap()),
        tokens: vec![
            Token {
                token: "admin-token".to_owned(),
                user: "admin".to_owned(),
                groups: vec![MASTERS.to_owned()],
            },
            Token { token: "agent-token".to_owned(), user: "agent".to_owned(), groups: Vec::new() },
        ],
        service_cidrs: vec!["10.96.0.0/16".to_owned()],
        ..Config::named("contract")
    }
}

pub(crate) fn server(config: Config) -> Arc<Server> {
    Arc::new(Server::new(config).unwrap())
}

/// A client of an embedded server that goes through no socket.
pub(crate) fn in_process(server: &Server) -> Client {
    Client::new(server.service_as(User::in_process()), "default")
}

/// Serves TLS until the server is closed.
fn serve(server: &Arc<Server>, token: &str) -> Kubeconfig {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = server.kubeconfig(&format!("https://{}", listener.local_addr().unwrap()), token);
    tokio::spawn(Arc::clone(server).serve(vec![listener], std::future::pending()));
    Kubeconfig::from_yaml(&kubeconfig).unwrap()
}

/// A client that knows an embedded server by its kubeconfig only.
pub(crate) async fn over_tls(server: &Arc<Server>, token: &str) -> Client {
    let kubeconfig = serve(server, token);
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

pub(crate) fn config_maps(client: &Client) -> Api<ConfigMap> {
    Api::default_namespaced(client.clone())
}

pub(crate) fn config_map(name: &str, labels: Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})).unwrap()
}

/// A CRD with a status subresource, a default, printer columns and a selectable field, in a group of its own for each case.
pub(crate) fn widget_crd(client: &Client) -> CustomResourceDefinition {
    let group = widget_resource(client).group;
    serde_json::from_value(json!({
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {
            "group": group, "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.mode"}],
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status", "priority": 1},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "minimum": 1},
                        "mode": {"type": "string", "default": "fast", "enum": ["fast", "slow"]},
                        "color": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "color stays"}]},
                        "limit": {"type": "object", "x-kubernetes-validations": [{"rule": "self.low <= self.high", "message": "low is above high", "reason": "FieldValueForbidden", "fieldPath": ".low"}],
                            "properties": {"low": {"type": "integer", "default": 0}, "high": {"type": "integer", "maximum": 100}}, "required": ["high"]},
                        "cidrs": {"type": "array", "maxItems": 4, "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 43, "x-kubernetes-validations": [{"rule": "isCIDR(self)"}]}},
                        "peers": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "ip": {"type": "string"}}}},
                        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                        "ratio": {"x-kubernetes-int-or-string": true},
                        "note": {"type": "string", "nullable": true},
                    }},
                    "status": {"type": "object", "properties": {
                        "phase": {"type": "string"},
                        "conditions": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                            "items": {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}, "status": {"type": "string"}}}},
                    }},
                }}},
            }],
        },
    }))
    .unwrap()
}

/// The name of the definition.
pub(crate) fn widgets_name(client: &Client) -> String {
    format!("widgets.{}", widget_resource(client).group)
}

/// Defines the kind and waits until it is served.
pub(crate) async fn widgets(client: &Client) -> Api<DynamicObject> {
    define(client, &widget_crd(client)).await;
    Api::all_with(client.clone(), &widget_resource(client))
}

/// Creates a definition and waits until its kind is served.
pub(crate) async fn define(client: &Client, crd: &CustomResourceDefinition) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = crds.create(&PostParams::default(), crd).await.unwrap().metadata.name.unwrap();
    eventually("the definition is established", async || {
        let conditions = crds.get(&name).await.unwrap().status?.conditions?;
        conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
    })
    .await;
    let (group, version) = (&crd.spec.group, &crd.spec.versions[0].name);
    let path = format!("/apis/{group}/{version}/{}", crd.spec.names.plural);
    eventually("the kind is served", async || {
        client.request_text(request("GET", &path).body(Vec::new()).unwrap()).await.ok()
    })
    .await;
}

pub(crate) fn widget_resource(client: &Client) -> ApiResource {
    let group = format!("{}.example.com", client.default_namespace());
    ApiResource {
        api_version: format!("{group}/v1alpha1"),
        group,
        version: "v1alpha1".into(),
        kind: "Widget".into(),
        plural: "widgets".into(),
    }
}

pub(crate) fn widget(client: &Client, name: &str, spec: Value) -> DynamicObject {
    DynamicObject::new(name, &widget_resource(client)).data(json!({"spec": spec}))
}

/// The refusal of a call that must be refused.
pub(crate) fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> kube::core::Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(path)
}
