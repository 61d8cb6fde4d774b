//! 10,000 routes, neighbours and FDB entries: the agent's whole pass against `ip -batch` and `bridge -batch`, in the
//! same run; and 10,000 routes by 10,000 gateways, where the kernel alone needs seconds without nexthop objects.
//!
//! `cargo bench -p agent --bench bulk [ROUNDS]`; needs the right to make a network namespace.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first failure"
)]

mod mesh;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use agent::{Known, RealKernel, Report, Spec};
use api::NodeConfigSpec;
use mesh::{cidr, config, mac, overlay, sh};
use nix::sched::{CloneFlags, unshare};

const ENTRIES: u32 = 10_000;

fn main() {
    let rounds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(3);
    let mut rows = Vec::new();
    for round in 1..=rounds {
        // A fresh namespace each time, and its thread with it.
        rows.extend(std::thread::spawn(move || in_namespace(round)).join().unwrap());
    }
    println!("{:<58} {:>6} {:>10}", "what", "round", "ms");
    for (what, round, time) in &rows {
        println!("{what:<58} {round:>6} {:>10.1}", time.as_secs_f64() * 1e3);
    }
    let best = |prefix: &str| {
        rows.iter()
            .filter(|(what, ..)| what.starts_with(prefix))
            .map(|row| row.2)
            .min()
            .unwrap()
            .as_secs_f64()
    };
    println!("best: ip+bridge -batch / agent's pass = {:.2}", best("ip -batch") / best("agent: 10k+10k+10k"));
    println!(
        "best: second pass / first pass = {:.3}",
        best("agent: second pass") / best("agent: 10k+10k+10k")
    );
    println!("best: 10k routes by 10k gateways = {:.3} s", best("agent: 10k routes by 10k gateways"));
}

type Row = (&'static str, u32, Duration);

fn in_namespace(round: u32) -> Vec<Row> {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    sh("ip link add eth0 type veth peer name wire && ip addr add 172.31.1.1/16 dev eth0
        ip link set eth0 up && ip link set wire up");
    let shared = config(ENTRIES, 100);
    let distinct = config(ENTRIES, ENTRIES);
    let mut kernel = RealKernel::open().unwrap();
    let mut rows = vec![("ip -batch + bridge -batch: 10k+10k+10k, 100 gateways", round, by_batch())];
    sh("ip link del vx-bridge; ip rule del pref 200");
    for (first, second, config) in [
        ("agent: 10k+10k+10k, 100 gateways (whole pass)", "agent: second pass, 100 gateways", &shared),
        ("agent: 10k routes by 10k gateways, 10k+10k entries", "agent: second pass, 10k gateways", &distinct),
    ] {
        let (report, time) = pass(&mut kernel, config);
        rows.push((first, round, time));
        assert_eq!(report.differing, []);
        let (report, time) = pass(&mut kernel, config);
        assert_eq!(report.changed, 0, "a second pass writes nothing");
        rows.push((second, round, time));
        let start = Instant::now();
        agent::cleanup(&mut kernel).unwrap();
        rows.push(("agent: cleanup", round, start.elapsed()));
    }
    rows
}

fn pass(kernel: &mut RealKernel, config: &NodeConfigSpec) -> (Report, Duration) {
    let start = Instant::now();
    // Validation, two readings of the kernel and two comparisons are part of it.
    let report = agent::pass(kernel, &Spec::validate(config), &Known::default()).unwrap();
    (report, start.elapsed())
}

/// The same entries (and the same device) by the tools, from files, in two processes.
fn by_batch() -> Duration {
    let mut ip = String::new();
    let mut bridge = String::new();
    for n in 0..ENTRIES {
        writeln!(ip, "neigh replace {} lladdr {} dev vx-bridge nud permanent", overlay(n), mac(n)).unwrap();
        writeln!(
            bridge,
            "fdb replace {} dev vx-bridge dst 172.29.{}.{} self permanent",
            mac(n),
            n / 250,
            1 + n % 250
        )
        .unwrap();
        let gateway = overlay(n % 100);
        writeln!(ip, "route replace {} via {gateway} dev vx-bridge onlink table 200", cidr(n)).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ip, bridge) = (file("ip", &ip), file("bridge", &bridge));
    let start = Instant::now();
    sh("ip link add vx-bridge address 02:54:ff:00:00:01 type vxlan id 54 dstport 4876 local 172.31.1.1 dev eth0 nolearning
        ip addr add 241.200.0.1/32 dev vx-bridge; ip link set vx-bridge up; ip rule add pref 200 lookup 200");
    sh(&format!("ip -batch {ip} && bridge -batch {bridge}"));
    start.elapsed()
}
