//! How fast the kernel is programmed, next to `ip -batch` and `bridge -batch` with the same objects.
//!
//! Every measurement has a fresh network namespace with one VXLAN device. Both sides go first equally often.
//! Ours includes turning the objects into messages, theirs the start of the program and its parsing.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlink::{
    Family, FdbEntry, Hop, LinkChange, Mac, Namespace, Neighbour, Netlink, NewLink, NewLinkKind, Nexthop, Op,
    Route, Via, Vxlan,
};

const DEVICE: &str = "vx-bench";
const TABLE: u32 = 300;
const PROTOCOL: u8 = 158;

/// As many gateways as a gateway-mode mesh may have. Above a few thousand on one device the kernel's IPv4
/// needs quadratic time, whoever asks; that case is measured with nexthop objects.
const GATEWAYS: u32 = 100;

fn main() -> Result<()> {
    // `cargo test --benches` runs this too, without the argument: then it only has to work.
    let full = std::env::args().any(|argument| argument == "--bench");
    let (count, rounds) = if full { (10_000, 5) } else { (50, 1) };
    match Namespace::create() {
        Ok(_) => compare(count, rounds).and_then(|()| distinct_gateways(count, rounds)),
        Err(error) => {
            println!("skipped: {error}");
            Ok(())
        }
    }
}

/// One kind of object, as operations of ours and as lines for a program.
struct Workload {
    name: &'static str,
    program: &'static str,
    operation: fn(u32, u32) -> Op,
    line: fn(u32) -> String,
    present: fn(&mut Netlink, u32) -> Result<usize>,
}

const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "routes",
        program: "ip",
        operation: |device, n| {
            let hop = Hop::onlink(device, gateway(n % GATEWAYS));
            let route = Route::unicast(address(10, n).into(), TABLE, PROTOCOL, Via::Hop(hop));
            Op::add(Route { mtu: Some(1400), ..route })
        },
        line: |n| {
            let (to, via) = (address(10, n), gateway(n % GATEWAYS));
            format!("route add {to} via {via} dev {DEVICE} onlink table {TABLE} proto {PROTOCOL} mtu 1400")
        },
        present: |netlink, _| Ok(netlink.routes(Family::V4, Some(TABLE))?.len()),
    },
    Workload {
        name: "neighbours",
        program: "ip",
        operation: |device, n| Op::add(Neighbour::permanent(device, gateway(n), mac(n), PROTOCOL)),
        line: |n| {
            let (ip, mac) = (gateway(n), mac(n));
            format!("neigh add {ip} lladdr {mac} dev {DEVICE} nud permanent protocol {PROTOCOL}")
        },
        present: |netlink, device| {
            Ok(netlink.neighbours(device)?.iter().filter(|n| n.protocol == PROTOCOL).count())
        },
    },
    Workload {
        name: "FDB entries",
        program: "bridge",
        operation: |device, n| Op::add(FdbEntry::permanent(device, mac(n), address(172, n))),
        line: |n| format!("fdb add {} dev {DEVICE} dst {} self permanent", mac(n), address(172, n)),
        present: |netlink, device| Ok(netlink.fdb(device)?.len()),
    },
];

fn address(first: u8, n: u32) -> IpAddr {
    let [_, b, c, d] = n.to_be_bytes();
    Ipv4Addr::new(first, 16 + b, c, d).into()
}

fn gateway(n: u32) -> IpAddr {
    address(241, n + 2)
}

fn mac(n: u32) -> Mac {
    let [_, b, c, d] = n.to_be_bytes();
    Mac([0x02, 0x54, 0, b, c, d])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
}

/// The times of one kind of object, in the order of the rounds.
#[derive(Default)]
struct Times {
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
}

fn compare(count: u32, rounds: usize) -> Result<()> {
    let files = tempfile::tempdir()?;
    let mut totals = Times::default();
    println!("{count} of each, median of {} runs, half of them with the other side first", 2 * rounds);
    println!("{:<14}{:>12}{:>12}{:>14}{:>9}", "", "ours", "-batch", "ours/s", "ratio");
    for workload in &WORKLOADS {
        let times = measure_both(workload, count, rounds, files.path())?;
        print_line(workload.name, &times, count);
        totals.add(&times);
    }
    print_line("all together", &totals, 3 * count);
    Ok(())
}

impl Times {
    fn add(&mut self, other: &Self) {
        for (total, times) in [(&mut self.ours, &other.ours), (&mut self.theirs, &other.theirs)] {
            total.resize(times.len(), Duration::ZERO);
            total.iter_mut().zip(times).for_each(|(total, time)| *total += *time);
        }
    }
}

fn measure_both(workload: &Workload, count: u32, rounds: usize, files: &Path) -> Result<Times> {
    let batch = batch_file(workload, count, files)?;
    let mut times = Times::default();
    for _ in 0..rounds {
        for order in [[Side::Ours, Side::Theirs], [Side::Theirs, Side::Ours]] {
            for side in order {
                let time = measure(workload, count, side, &batch)?;
                let times = if side == Side::Ours { &mut times.ours } else { &mut times.theirs };
                times.push(time);
            }
        }
    }
    Ok(times)
}

fn batch_file(workload: &Workload, count: u32, files: &Path) -> Result<PathBuf> {
    let mut lines = String::new();
    for n in 0..count {
        writeln!(lines, "{}", (workload.line)(n))?;
    }
    let path = files.join(workload.name);
    fs::write(&path, lines)?;
    Ok(path)
}

fn measure(workload: &Workload, count: u32, side: Side, batch: &Path) -> Result<Duration> {
    Namespace::create()?.run(|| {
        let (mut netlink, device) = device()?;
        let objects: Vec<_> = (0..count).map(|n| (workload.operation)(device, n)).collect();
        let start = Instant::now();
        match side {
            Side::Ours => apply(&mut netlink, &objects)?,
            Side::Theirs => run_batch(workload.program, batch)?,
        }
        let time = start.elapsed();
        let present = (workload.present)(&mut netlink, device)?;
        ensure!(present == count as usize, "{present} of {count} {} are in the kernel", workload.name);
        Ok(time)
    })?
}

fn device() -> Result<(Netlink, u32)> {
    let mut netlink = Netlink::open()?;
    let settings = Vxlan { vni: 54, port: 4876, local: None, parent: None, learning: false };
    let new = NewLink { up: true, ..NewLink::new(DEVICE, NewLinkKind::Vxlan(settings)) };
    let loopback = netlink.link("lo")?.context("every namespace has a loopback device")?.index;
    // Without any local address the kernel takes every IPv4 gateway for a broadcast address.
    let up = LinkChange { up: Some(true), ..LinkChange::of(loopback) };
    apply(&mut netlink, &[Op::ChangeLink(up), Op::CreateLink(new)])?;
    let device = netlink.link(DEVICE)?.context("the device was just created")?;
    Ok((netlink, device.index))
}

fn apply(netlink: &mut Netlink, ops: &[Op]) -> Result<()> {
    for (op, result) in ops.iter().zip(netlink.apply(ops)?) {
        result.with_context(|| op.to_string())?;
    }
    Ok(())
}

fn run_batch(program: &str, batch: &Path) -> Result<()> {
    let status = Command::new(program).arg("-batch").arg(batch).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{program} -batch {}: {status}", batch.display());
    Ok(())
}

fn print_line(name: &str, times: &Times, count: u32) {
    let (ours, theirs) = (median(&times.ours), median(&times.theirs));
    let rate = f64::from(count) / ours.as_secs_f64();
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    println!("{name:<14}{:>9.1} ms{:>9.1} ms{rate:>14.0}{ratio:>8.1}x", millis(ours), millis(theirs));
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// As many routes as gateways, over nexthop objects: what the plain way takes quadratic time for.
fn distinct_gateways(count: u32, rounds: usize) -> Result<()> {
    let mut objects = Vec::new();
    let mut plain = Vec::new();
    let mut reading = Vec::new();
    let mut second = Vec::new();
    for _ in 0..rounds {
        let (write, again, read) = Namespace::create()?.run(|| with_nexthops(count))??;
        objects.push(write);
        second.push(again);
        reading.push(read);
        plain.push(Namespace::create()?.run(|| without_nexthops(count))??);
    }
    println!("\n{count} IPv4 routes with {count} gateways on one device, median of {rounds} runs");
    println!("{:<36}{:>9.1} ms", "nexthop objects and their routes", millis(median(&objects)));
    println!("{:<36}{:>9.1} ms", "the same again, as replacements", millis(median(&second)));
    println!("{:<36}{:>9.1} ms", "reading all of them back", millis(median(&reading)));
    println!("{:<36}{:>9.1} ms", "gateways in the routes", millis(median(&plain)));
    Ok(())
}

fn with_nexthops(count: u32) -> Result<(Duration, Duration, Duration)> {
    let (mut netlink, device) = device()?;
    let nexthop = |n| Nexthop::hop(n + 1, PROTOCOL, Hop::onlink(device, gateway(n)));
    let route = |n| Route::unicast(address(10, n).into(), TABLE, PROTOCOL, Via::Nexthop(n + 1));
    let ops: Vec<_> = (0..count)
        .map(|n| Op::replace(nexthop(n)))
        .chain((0..count).map(|n| Op::replace(route(n))))
        .collect();
    let start = Instant::now();
    apply(&mut netlink, &ops)?;
    let first = start.elapsed();
    let start = Instant::now();
    apply(&mut netlink, &ops)?;
    let second = start.elapsed();
    let start = Instant::now();
    let nexthops = netlink.nexthops()?;
    let routes = netlink.routes(Family::V4, Some(TABLE))?;
    let reading = start.elapsed();
    ensure!(nexthops == (0..count).map(nexthop).collect::<Vec<_>>(), "the nexthops differ");
    ensure!(routes == (0..count).map(route).collect::<Vec<_>>(), "the routes differ");
    Ok((first, second, reading))
}

fn without_nexthops(count: u32) -> Result<Duration> {
    let (mut netlink, device) = device()?;
    let via = |n| Via::Hop(Hop::onlink(device, gateway(n)));
    let ops: Vec<_> =
        (0..count).map(|n| Op::add(Route::unicast(address(10, n).into(), TABLE, PROTOCOL, via(n)))).collect();
    let start = Instant::now();
    apply(&mut netlink, &ops)?;
    Ok(start.elapsed())
}
