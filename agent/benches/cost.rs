//! What the agent costs: one changed peer among many, memory with 1,000 peers, and doing nothing.
//!
//! `cargo bench -p agent --bench cost [SECONDS_OF_IDLENESS]`; needs the right to make a network namespace.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first failure"
)]

mod mesh;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::{Known, RealKernel, Spec};
use agent_core::{Pass, Reading, Report};
use api::node_config::{Arp, Fdb};
use api::{NodeConfig, NodeConfigSpec};
use embedded_api::{Config, MASTERS, Server, Token, User};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client};
use mesh::{config, mac, overlay, sh};
use nix::sched::{CloneFlags, unshare};

const ROUNDS: usize = 20;

fn main() {
    let idle = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(20);
    for peers in [1_000, 3_333, 10_000] {
        std::thread::spawn(move || one_changed_peer(peers)).join().unwrap();
    }
    std::thread::spawn(move || resident(1_000, Duration::from_secs(idle))).join().unwrap();
}

fn in_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    sh("ip link set lo up; ip link add eth0 type veth peer name wire && ip addr add 172.31.1.1/16 dev eth0
        ip link set eth0 up && ip link set wire up; echo 1 > /proc/sys/net/ipv4/ip_forward");
}

/// From the NodeConfig, as the API client hands it over, to the report of the pass.
fn one_changed_peer(peers: u32) {
    in_namespace();
    let mut kernel = RealKernel::open().unwrap();
    assert_eq!(pass(&mut kernel, &config(peers, peers), Reading::Whole).differing, []);
    let (mut times, mut busy) = (Vec::new(), Vec::new());
    let mut writes = 0;
    for round in 0..ROUNDS {
        let config = with_one_moved(config(peers, peers), u32::try_from(round % 2).unwrap());
        let (start, on_cpu) = (Instant::now(), on_cpu());
        let report = pass(&mut kernel, &config, Reading::Current);
        times.push(start.elapsed());
        busy.push(self::on_cpu() - on_cpu);
        assert_eq!(report.differing, []);
        writes = report.changed;
    }
    times.sort();
    busy.sort();
    println!(
        "one changed peer of {peers} ({} routes, neighbours and FDB entries): {writes} writes; {:.1} ms (median of {ROUNDS}; {:.1} to {:.1}), of which on the CPU {:.1} ms",
        3 * peers,
        millis(times[ROUNDS / 2]),
        millis(times[0]),
        millis(times[ROUNDS - 1]),
        millis(busy[ROUNDS / 2]),
    );
    let start = Instant::now();
    assert_eq!(pass(&mut kernel, &with_one_moved(config(peers, peers), 1), Reading::Whole).changed, 0);
    println!("  the same with a reading of everything, nothing written: {:.1} ms", millis(start.elapsed()));
    agent::cleanup(&mut kernel).unwrap();
}

fn pass(kernel: &mut RealKernel, config: &NodeConfigSpec, reading: Reading) -> Report {
    let (spec, known) = (Spec::validate(config), Known::default());
    Pass { reading, ..Pass::new(&spec, &known) }.run(kernel).unwrap()
}

/// Another node in the place of the last one: another overlay address, MAC and underlay address.
fn with_one_moved(mut config: NodeConfigSpec, by: u32) -> NodeConfigSpec {
    let last = config.arps.len() - 1;
    let number = u32::try_from(config.arps.len()).unwrap() + by;
    config.arps[last] = Arp { ip: overlay(number), mac: mac(number), dev: "vx-bridge".to_owned() };
    config.fdbs[last] =
        Fdb { ip: format!("172.30.0.{}", 1 + by), mac: mac(number), dev: "vx-bridge".to_owned() };
    config.routes[last].gw = overlay(number);
    config
}

/// The real agent on a real API over TLS.
fn resident(peers: u32, idle: Duration) {
    in_namespace();
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let token = Token { token: "t".into(), user: "admin".into(), groups: vec![MASTERS.into()] };
        let server = Arc::new(Server::new(Config { tokens: vec![token], ..Config::named("a") }).unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, server.kubeconfig(&url, "t")).unwrap();
        let client = Client::new(server.service_as(User::in_process()), "default");
        tokio::spawn(Arc::clone(&server).serve(vec![listener], std::future::pending()));
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in api::crd::all() {
            crds.create(&PostParams::default(), &crd).await.unwrap();
        }
        let configs: Api<NodeConfig> = Api::all(client);
        configs.create(&PostParams::default(), &NodeConfig::new("a-n1", config(peers, peers))).await.unwrap();
        let agent = Running(start(&kubeconfig, &directory.path().join("state")));
        let begun = Instant::now();
        loop {
            let status = configs.get("a-n1").await.unwrap().status.unwrap_or_default();
            if api::condition::is_true(&status.conditions, api::condition::APPLIED) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{status:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = cpu(agent.0.id());
        tokio::time::sleep(idle).await;
        let spent = cpu(agent.0.id()) - before;
        println!(
            "{peers} peers: resident {:.1} MiB (at most {:.1}); idle for {} s: {} ms of CPU",
            memory(agent.0.id(), "VmRSS"),
            memory(agent.0.id(), "VmHWM"),
            idle.as_secs(),
            10 * spent,
        );
    });
}

/// How long this thread has been on a CPU: a busy machine makes it wait, which is not its cost.
fn on_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(kubeconfig: &Path, state: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_clusterlink-agent"))
        .args(["--node", "n1", "--cluster", "a", "--kubeconfig"])
        .arg(kubeconfig)
        .arg("--state-directory")
        .arg(state)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Ticks of user and system time (a hundred to the second) of a process and of its children that have ended.
fn cpu(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11..15].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

fn memory(process: u32, what: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
