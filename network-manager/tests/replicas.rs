//! Two replicas: one leads, the other is ready to. The binary that ships, over TLS; and replicas whose way to the API
//! server can be cut.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::{ClusterNode, NodeConfig};
use component::{Readiness, election::Candidate};
use embedded_api::{Config, Token, User};
use http::{Method, Request};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Namespace};
use kube::{Api, Client, api::PostParams, client::Body};
use support::{Control, Running, condition};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};
use tower::Service;

const BINARY: &str = env!("CARGO_BIN_EXE_clusterlink-network-manager");
const NAMESPACE: &str = "clusterlink-system";
const LEASE: &str = "clusterlink-network-manager";
/// Far beyond what a take-over needs; a test fails then, and asserts no time.
const PATIENCE: Duration = Duration::from_secs(90);

async fn with_namespace(control: &Control) {
    let namespaces: Api<Namespace> = Api::all(control.client.clone());
    let namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": NAMESPACE}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
}

async fn holder(control: &Control) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(control.client.clone(), NAMESPACE);
    leases.get_opt(LEASE).await.unwrap()?.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(tokio::time::Instant::now() < end, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn is_planned(control: &Control, node: &str) {
    let planned = |node: Option<&ClusterNode>| {
        let status = node.and_then(|node| node.status.as_ref());
        status.and_then(|status| condition(&status.conditions, "Planned")).is_some_and(|c| c.0 == "True")
    };
    control.until(&format!("{node} is planned"), node, planned).await;
}

/// A replica in a process of its own.
struct Replica {
    child: Child,
    address: SocketAddr,
}

impl Replica {
    fn start(name: &str, kubeconfig: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(BINARY)
            .args(["--listen", &address.to_string(), "--kubeconfig"])
            .arg(kubeconfig)
            .env("POD_NAME", name)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Replica { child, address }
    }

    /// Code and body; nothing while nobody listens.
    async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    async fn is_ready(&self) {
        until("ready", async || self.ask("/readyz").await.filter(|(code, _)| *code == 200)).await;
        assert_eq!(self.ask("/livez").await.unwrap().0, 200);
    }

    /// Waits until a line of its metrics is this one.
    async fn says(&self, metric: &str) {
        let metric = format!("clusterlink_network_manager_{metric}");
        until(&metric, async || {
            let (_, text) = self.ask("/metrics").await?;
            text.lines().any(|line| line == metric).then_some(())
        })
        .await;
    }

    async fn signal(mut self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
        let status = self.child.wait().await.unwrap();
        assert_eq!(status.success(), signal == "-TERM");
    }
}

fn serve(control: &Control, directory: &Path) -> PathBuf {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let kubeconfig = directory.join("kubeconfig");
    std::fs::write(&kubeconfig, control.server.kubeconfig(&url, "token")).unwrap();
    tokio::spawn(Arc::clone(&control.server).serve(vec![listener], std::future::pending()));
    kubeconfig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_ends_gives_way_at_once_and_one_that_is_killed_after_its_lease() {
    let token = Token { token: "token".to_owned(), user: "manager".to_owned(), groups: Vec::new() };
    let control = Control::with(Config { tokens: vec![token], ..Config::named("control") }).await;
    with_namespace(&control).await;
    control.two_clusters().await;
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = serve(&control, directory.path());

    let first = Replica::start("first", &kubeconfig);
    first.says("leader 1").await;
    is_planned(&control, "a-n1").await;
    first.says(r#"writes_total{resource="NodeConfig",result="ok"} 2"#).await;
    let second = Replica::start("second", &kubeconfig);
    second.is_ready().await;
    second.says("leader 0").await;
    assert_eq!(holder(&control).await.as_deref(), Some("first"));

    first.signal("-TERM").await;
    second.says("leader 1").await;
    control.node("b", "n2", "192.168.2.2", "10.2.2.0/24").await;
    is_planned(&control, "b-n2").await;

    let third = Replica::start("third", &kubeconfig);
    third.is_ready().await;
    second.signal("-KILL").await;
    control.node("b", "n3", "192.168.2.3", "10.2.3.0/24").await;
    is_planned(&control, "b-n3").await;
    assert_eq!(holder(&control).await.as_deref(), Some("third"));
    third.says("rejected_objects{resource=\"ClusterNode\"} 0").await;
}

/// Everything that was written, in its order: by whom.
type Journal = Arc<Mutex<Vec<&'static str>>>;

/// A client whose requests hang while `hangs` is set, and whose writes to our resources stand in the journal.
fn client(control: &Control, name: &'static str, hangs: &Arc<AtomicBool>, journal: &Journal) -> Client {
    let server = control.server.service_as(User::in_process());
    let (hangs, journal) = (Arc::clone(hangs), Arc::clone(journal));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (mut server, hangs, journal) = (server.clone(), Arc::clone(&hangs), Arc::clone(&journal));
        async move {
            if hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if request.method() == Method::PATCH && request.uri().path().contains("kosmos.io") {
                journal.lock().unwrap().push(name);
            }
            server.call(request).await
        }
    });
    Client::new(service, "default")
}

struct Electorate {
    control: Control,
    journal: Journal,
    running: BTreeMap<&'static str, (Running, tokio::task::JoinHandle<()>, Arc<AtomicBool>)>,
}

impl Electorate {
    fn start(&mut self, name: &'static str) {
        let hangs = Arc::new(AtomicBool::new(false));
        let client = client(&self.control, name, &hangs, &self.journal);
        self.start_with(name, client, hangs);
    }

    fn start_with(&mut self, name: &'static str, client: Client, hangs: Arc<AtomicBool>) -> Readiness {
        let (mut candidate, leadership) = Candidate::new(client.clone(), NAMESPACE, LEASE, name);
        let stands = tokio::spawn(async move { match candidate.stand().await {} });
        let config = network_manager::Config { leadership, ..network_manager::Config::alone(client) };
        let readiness = config.readiness.clone();
        self.running.insert(name, (self.control.manage_as(config), stands, hangs));
        readiness
    }

    fn hang(&self, name: &str, hangs: bool) {
        self.running[name].2.store(hangs, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_api_server_hangs_writes_nothing_once_another_does() {
    let control = Control::new().await;
    with_namespace(&control).await;
    control.two_clusters().await;
    let mut electorate = Electorate { control, journal: Journal::default(), running: BTreeMap::new() };
    electorate.start("one");
    is_planned(&electorate.control, "a-n1").await;
    electorate.start("two");
    electorate.hang("one", true);
    // There is something to write all the time.
    for block in 0..u8::MAX {
        let control = &electorate.control;
        control.node("b", "n1", "192.168.2.1", &format!("10.2.{block}.0/24")).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        if electorate.journal.lock().unwrap().contains(&"two") {
            break;
        }
    }
    assert_eq!(holder(&electorate.control).await.as_deref(), Some("two"));
    electorate.hang("one", false);
    for block in 0..30 {
        electorate.control.node("b", "n1", "192.168.2.1", &format!("10.2.{block}.0/24")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    electorate.control.routed("a-n1", &["10.2.29.0/24", "10.92.0.0/16"]).await;
    let journal = electorate.journal.lock().unwrap().clone();
    let taken_over = journal.iter().position(|who| *who == "two").unwrap();
    assert!(taken_over > 0 && journal[taken_over..].iter().all(|who| *who == "two"), "{journal:?}");
}

/// A client whose watches of ClusterNodes never tell of anything. Lists are answered.
fn deaf(control: &Control) -> Client {
    let server = control.server.service_as(User::in_process());
    let service = tower::service_fn(move |request: Request<Body>| {
        let mut server = server.clone();
        async move {
            let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            if watches && request.uri().path().ends_with("/clusternodes") {
                std::future::pending::<()>().await;
            }
            server.call(request).await
        }
    });
    Client::new(service, "default")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_looks_at_what_its_watch_has_not_told_of_before_it_writes() {
    let control = Control::new().await;
    with_namespace(&control).await;
    control.two_clusters().await;
    let mut electorate = Electorate { control, journal: Journal::default(), running: BTreeMap::new() };
    electorate.start("one");
    is_planned(&electorate.control, "b-n1").await;
    let readiness = electorate.start_with("two", deaf(&electorate.control), Arc::default());
    until("two has listed", async || readiness.not_ready().is_none().then_some(())).await;
    electorate.control.node("b", "n2", "192.168.2.2", "10.2.2.0/24").await;
    is_planned(&electorate.control, "b-n2").await;
    until("its plan", async || electorate.control.get::<NodeConfig>("b-n2").await).await;
    let before = electorate.control.get::<NodeConfig>("b-n2").await.unwrap().metadata.uid;

    let (running, stands, _) = electorate.running.remove("one").unwrap();
    stands.abort();
    running.kill().await;
    until("two leads", async || holder(&electorate.control).await.filter(|holder| holder == "two")).await;
    // It has written: what it did not know of would be gone by now.
    electorate.control.delete::<NodeConfig>("a-n1").await;
    electorate.control.routed("a-n1", &["10.2.1.0/24", "10.2.2.0/24", "10.92.0.0/16"]).await;
    let after = electorate.control.get::<NodeConfig>("b-n2").await.and_then(|config| config.metadata.uid);
    assert_eq!(after, before);
}
