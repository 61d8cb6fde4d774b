//! What the agent costs: one changed peer among many, memory with 1,000 peers, and doing nothing.
//!
//! `cargo bench -p agent --bench cost [SECONDS_OF_IDLENESS]`; needs the right to make a network namespace.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first failure"
)]

mod mesh;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::{Known, RealKernel, Spec};
use agent_core::{Pass, Reading, Report};
use api::node_config::{Arp, Fdb};
use api::{NodeConfig, NodeConfigSpec};
use embedded_api::{Config, MASTERS, Server, Token, User};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{PostParams, WatchEvent};
use kube::{Api, Client};
use mesh::{config, mac, overlay, sh};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

const ROUNDS: usize = 20;

fn main() {
    let idle = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(20);
    for peers in [1_000, 3_333, 10_000] {
        std::thread::spawn(move || one_changed_peer(peers)).join().unwrap();
    }
    std::thread::spawn(move || agent(1_000, Some(Duration::from_secs(idle)))).join().unwrap();
    std::thread::spawn(move || agent(3_333, None)).join().unwrap();
}

fn in_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    sh("ip link set lo up; ip link add eth0 type veth peer name wire && ip addr add 172.31.1.1/16 dev eth0
        ip link set eth0 up && ip link set wire up; echo 1 > /proc/sys/net/ipv4/ip_forward");
}

/// What one event cost, part by part: how long, and how long on a CPU.
#[derive(Default)]
struct Costs(Vec<[Duration; 2]>);

impl Costs {
    /// Does it and notes what it cost.
    fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (start, busy) = (Instant::now(), on_cpu());
        let done = work();
        self.0.push([start.elapsed(), on_cpu() - busy]);
        done
    }
}

const PARTS: [&str; 4] = ["parsed", "compared with the one before", "validated", "applied and read again"];

/// From the line of the watch, as the API server sends it, to the report of the pass.
fn one_changed_peer(peers: u32) {
    in_namespace();
    let mut kernel = RealKernel::open().unwrap();
    let mut known = config(peers, peers);
    assert_eq!(pass(&mut kernel, &Spec::validate(&known), Reading::Whole).differing, []);
    let events = [0, 1].map(|by| event(&with_one_moved(config(peers, peers), by)));
    let mut rounds = Vec::new();
    let mut writes = 0;
    for round in 0..ROUNDS {
        let mut costs = Costs::default();
        let new = costs.of(|| parsed(&events[round % 2]));
        assert!(costs.of(|| new != known));
        let spec = costs.of(|| Spec::validate(&new));
        let report = costs.of(|| pass(&mut kernel, &spec, Reading::Current));
        rounds.push(costs.0);
        known = new;
        assert_eq!(report.differing, []);
        writes = report.changed;
    }
    let of_part = |part: usize, which: usize| rounds.iter().map(move |costs| costs[part][which]).collect();
    let of_all =
        |which: usize| rounds.iter().map(|costs| costs.iter().map(|cost| cost[which]).sum()).collect();
    println!(
        "one changed peer of {peers} ({} entries, an event of {} kB), from the event to the confirmed kernel: {writes} writes; {}; on the CPU {}",
        3 * peers,
        events[0].len() / 1000,
        spread(of_all(0)),
        spread(of_all(1)),
    );
    for (part, name) in PARTS.iter().enumerate() {
        println!("  {name}: {}; on the CPU {}", spread(of_part(part, 0)), spread(of_part(part, 1)));
    }
    let mut whole = Costs::default();
    let spec = Spec::validate(&with_one_moved(config(peers, peers), 1));
    assert_eq!(whole.of(|| pass(&mut kernel, &spec, Reading::Whole)).changed, 0);
    println!("  a reading of everything, nothing written: {:.1} ms", millis(whole.0[0][0]));
    agent::cleanup(&mut kernel).unwrap();
}

fn pass(kernel: &mut RealKernel, spec: &Spec, reading: Reading) -> Report {
    Pass { reading, ..Pass::new(spec, &Known::default()) }.run(kernel).unwrap()
}

/// A line of a watch.
fn event(config: &NodeConfigSpec) -> String {
    let object = serde_json::to_string(&NodeConfig::new("a-n1", config.clone())).unwrap();
    format!(r#"{{"type":"MODIFIED","object":{object}}}"#)
}

/// As the API client reads it.
fn parsed(event: &str) -> NodeConfigSpec {
    match serde_json::from_str(event).unwrap() {
        WatchEvent::<NodeConfig>::Modified(config) => config.spec,
        other => panic!("{other:?}"),
    }
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

/// The real agent on a real API over TLS: its memory, what it does when there is nothing to do, and how soon a changed
/// peer is in the kernel.
fn agent(peers: u32, idle: Option<Duration>) {
    in_namespace();
    let heard = last_notification();
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let configs = api(directory.path()).await;
        let first = config(peers, peers);
        configs.create(&PostParams::default(), &NodeConfig::new("a-n1", first)).await.unwrap();
        let agent = Running(start(&directory.path().join("kubeconfig"), &directory.path().join("state")));
        let process = agent.0.id();
        applied(&configs, 1).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        if let Some(idle) = idle {
            let before = (busy(process), wakeups(process));
            tokio::time::sleep(idle).await;
            println!(
                "{peers} peers: resident {:.1} MiB (at most {:.1}), of which its own {:.1}, the program's file {:.1}; idle for {} s: {:.1} ms of CPU, {}",
                memory(process, "VmRSS"),
                memory(process, "VmHWM"),
                memory(process, "RssAnon"),
                memory(process, "RssFile"),
                idle.as_secs(),
                millis(busy(process) - before.0),
                woken(&before.1, &wakeups(process)),
            );
        }
        let (mut times, mut costs) = (Vec::new(), Vec::new());
        for round in 0..u32::try_from(ROUNDS).unwrap() {
            let mut changed = configs.get("a-n1").await.unwrap();
            changed.spec = with_one_moved(config(peers, peers), round % 2);
            let before = busy(process);
            let changed = configs.replace("a-n1", &PostParams::default(), &changed).await.unwrap();
            let answered = Instant::now();
            applied(&configs, changed.metadata.generation.unwrap()).await;
            times.push(heard.lock().unwrap().saturating_duration_since(answered));
            // Whatever follows is a part of it.
            tokio::time::sleep(Duration::from_millis(500)).await;
            costs.push(busy(process) - before);
        }
        println!(
            "{peers} peers, one changes: from the API's answer to the last change of the kernel {}; the agent's CPU, all told, {}",
            spread(times),
            spread(costs),
        );
    });
}

/// When the kernel told of a change for the last time.
fn last_notification() -> Arc<Mutex<Instant>> {
    let heard = Arc::new(Mutex::new(Instant::now()));
    let mut monitor = netlink::Monitor::open().unwrap();
    let last = Arc::clone(&heard);
    std::thread::spawn(move || {
        while let Ok(event) = monitor.next(Duration::from_secs(3600)) {
            if event.is_some() {
                *last.lock().unwrap() = Instant::now();
            }
        }
    });
    heard
}

/// Serves an API in this process, and writes down how to reach it.
async fn api(directory: &Path) -> Api<NodeConfig> {
    let token = Token { token: "t".into(), user: "admin".into(), groups: vec![MASTERS.into()] };
    let server = Arc::new(Server::new(Config { tokens: vec![token], ..Config::named("a") }).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    fs::write(directory.join("kubeconfig"), server.kubeconfig(&url, "t")).unwrap();
    let client = Client::new(server.service_as(User::in_process()), "default");
    tokio::spawn(server.serve(vec![listener], std::future::pending()));
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in api::crd::all() {
        crds.create(&PostParams::default(), &crd).await.unwrap();
    }
    Api::all(client)
}

/// Waits until the agent says that it has found this generation in the kernel.
async fn applied(configs: &Api<NodeConfig>, generation: i64) {
    let begun = Instant::now();
    loop {
        // The answer is large: not while the agent is at work.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let status = configs.get_status("a-n1").await.unwrap().status.unwrap_or_default();
        let good = api::condition::is_true(&status.conditions, api::condition::APPLIED);
        if good && status.observed_generation == Some(generation) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{status:?}");
    }
}

/// How long this thread has been on a CPU: a busy machine makes it wait, which is not its cost.
fn on_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// How long all threads of a process have been on a CPU.
fn busy(process: u32) -> Duration {
    let process = Pid::from_raw(process.try_into().unwrap());
    clock_gettime(clock_getcpuclockid(process).unwrap()).unwrap().into()
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

/// How often each thread of a process went to sleep, and so was woken.
fn wakeups(process: u32) -> BTreeMap<String, u64> {
    let count = |text: String| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    };
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|thread| thread.unwrap().path());
    threads
        .filter_map(|thread| {
            let name = fs::read_to_string(thread.join("comm")).ok()?;
            let count = count(fs::read_to_string(thread.join("status")).ok()?)?;
            Some((format!("{} {}", name.trim(), thread.file_name()?.display()), count))
        })
        .collect()
}

/// By thread, without those that slept all the time.
fn woken(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let each = after.iter().map(|(thread, count)| (thread, count - before.get(thread).unwrap_or(&0)));
    let each: Vec<(&String, u64)> = each.filter(|(_, count)| *count > 0).collect();
    let names: Vec<String> = each.iter().map(|(thread, count)| format!("{thread}: {count}")).collect();
    format!("{} wakeups ({})", each.iter().map(|(_, count)| count).sum::<u64>(), names.join(", "))
}

fn memory(process: u32, what: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median, and the range.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let [least, median, most] = [0, times.len() / 2, times.len() - 1].map(|place| millis(times[place]));
    format!("{median:.1} ms (median of {}; {least:.1} to {most:.1})", times.len())
}
