//! All commands over the loopback of a fresh network namespace, which ends with the test's threads.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use netperf::PORT;
use netperf::failure::{Direction, Failure};
use netperf::outage::{self, Account, EventKind, OutageOptions, OutageReport, ProbeOptions};
use netperf::reach::{self, Cell, Outcome, Protocol, ReachOptions, ReachReport, Target};
use netperf::rtt::{self, RttOptions};
use netperf::serve::{ServeOptions, Server};
use netperf::throughput::{self, ThroughputOptions};
use nix::sched::{CloneFlags, unshare};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Runs `test` on a thread in a network namespace of its own with the loopback up; says so and returns where that is not
/// allowed. Threads that the test starts are in the same namespace.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            return skip::skip(format!("no network namespace: {error}"));
        }
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("`ip` of iproute2 is needed");
    assert!(status.success(), "ip {arguments}");
}

/// The kernel takes packets for a new IPv6 address only when a worker of its own has added the route to the table `local`,
/// with `nodad` too; until then they are dropped.
fn wait_for_local(address: &str) {
    for _ in 0..500 {
        let shown =
            Command::new("ip").args(["-6", "route", "show", "table", "local", address]).output().unwrap();
        if String::from_utf8_lossy(&shown.stdout).contains(&format!("local {address}")) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the kernel has not made {address} local in 5 s");
}

fn serve(name: &str) -> Vec<SocketAddr> {
    let server = Server::bind(&ServeOptions::new(name)).unwrap();
    let addresses = server.addresses();
    server.start().unwrap();
    addresses
}

/// Far beyond what an answer needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn options(targets: Vec<Target>) -> ReachOptions {
    ReachOptions { timeout: PATIENCE, retries: 0, ..ReachOptions::new(targets) }
}

fn failures(report: &ReachReport) -> Vec<&Failure> {
    let failure = |cell| match cell {
        &Cell { outcome: Outcome::Failed(ref failure), .. } => Some(failure),
        Cell { .. } => None,
    };
    report.cells.iter().filter_map(failure).collect()
}

#[test]
fn every_protocol_in_both_families_with_more_than_an_mtu_and_fragments() {
    in_namespace(|| {
        ip("link set lo mtu 1500");
        serve("pod-a");
        let mut options = options(vec![Target::new("pod-a", V4), Target::new("pod-a", V6)]);
        options.tcp_bytes = 100_000;
        options.udp_bytes = vec![0, 200, 4000, 60_000];
        options.icmp_bytes = vec![56, 4000];
        options.flows = 3;
        let report = reach::run(&options);
        assert!(report.all_ok(), "{report}");
        assert_eq!(report.cells.len(), 2 * (1 + 4 + 2) * 3);
        for cell in &report.cells {
            let answer = cell.answer().unwrap();
            let talks = cell.protocol != Protocol::Icmp;
            assert_eq!(answer.name.is_some(), talks);
            assert_eq!(
                answer.source.map(|source| source.ip()),
                talks.then_some(cell.address.ip()),
                "{cell:?}"
            );
        }
        let ports: BTreeSet<u16> = report
            .cells
            .iter()
            .filter(|cell| cell.bytes == 4000)
            .filter_map(|c| Some(c.answer()?.source?.port()))
            .collect();
        assert!(ports.len() >= 3, "each flow has a port of its own: {ports:?}");
    });
}

#[test]
fn the_answer_comes_from_the_address_that_was_asked() {
    in_namespace(|| {
        ip("addr add 10.9.9.9/32 dev lo");
        ip("addr add fd99::9/128 dev lo nodad");
        wait_for_local("fd99::9");
        serve("many");
        let addresses: [IpAddr; 3] =
            ["10.9.9.9".parse().unwrap(), "127.7.7.7".parse().unwrap(), "fd99::9".parse().unwrap()];
        let targets = addresses.map(|address| Target::new("many", address));
        let report = reach::run(&options(targets.to_vec()));
        assert!(report.all_ok(), "{report}");
    });
}

#[test]
fn each_failure_has_its_name() {
    in_namespace(|| {
        serve("pod-a");
        let silent_udp = UdpSocket::bind((V4, 7000)).unwrap();
        let silent_tcp = TcpListener::bind((V4, 7000)).unwrap();
        let cases: [(&str, &[&str]); 5] = [
            ("pod-b=127.0.0.1,protocols=tcp|udp", &["wrong-identity", "wrong-identity"]),
            ("pod-a=127.0.0.1,source=10.0.0.1,protocols=tcp|udp", &["wrong-source", "wrong-source"]),
            ("pod-a=[::1]:9,protocols=tcp|udp", &["refused", "refused"]),
            ("pod-a=127.0.0.1:7000,protocols=tcp|udp", &["timeout", "timeout"]),
            ("pod-a=192.0.2.1", &["unreachable", "unreachable", "unreachable"]),
        ];
        for (target, expected) in cases {
            let mut options = options(vec![target.parse().unwrap()]);
            options.udp_bytes = vec![200];
            if expected.contains(&"timeout") {
                // Nobody ever answers.
                options.timeout = Duration::from_millis(500);
            }
            let report = reach::run(&options);
            assert!(!report.all_ok());
            assert_eq!(failures(&report).iter().map(|f| f.label()).collect::<Vec<_>>(), expected, "{report}");
        }
        drop((silent_udp, silent_tcp));
    });
}

#[test]
fn what_icmp_says_reaches_the_report() {
    in_namespace(|| {
        ip("route add unreachable 203.0.113.0/24");
        ip("-6 route add unreachable 2001:db8::/32");
        for address in ["203.0.113.5", "2001:db8::5"] {
            let mut options = options(vec![Target::new("gone", address.parse::<IpAddr>().unwrap())]);
            options.udp_bytes = vec![200];
            let report = reach::run(&options);
            for failure in failures(&report) {
                assert!(failure.to_string().contains("No route to host"), "{failure}");
            }
            assert_eq!(failures(&report).len(), 3, "{report}");
        }
    });
}

#[test]
fn a_retry_is_counted_and_a_wrong_answer_is_not_asked_again() {
    in_namespace(|| {
        serve("pod-a");
        let mut options =
            options(vec!["pod-a=127.0.0.1:9".parse().unwrap(), "pod-b=127.0.0.1".parse().unwrap()]);
        options.protocols = BTreeSet::from([Protocol::Udp]);
        options.udp_bytes = vec![200];
        options.retries = 2;
        let attempts: Vec<u32> = reach::run(&options).cells.iter().map(|cell| cell.attempts).collect();
        assert_eq!(attempts, [3, 1]);
    });
}

#[test]
fn with_ipv6_disabled_ipv4_still_works() {
    in_namespace(|| {
        // /proc/sys/net shows the namespace of the thread that opens it
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        let addresses = serve("pod-a");
        assert!(addresses.contains(&SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT)), "{addresses:?}");
        let report = reach::run(&options(vec![Target::new("pod-a", V4)]));
        assert!(report.all_ok(), "{report}");
        assert!(reach::run(&options(vec![Target::new("pod-a", V6)])).failed().count() == 4);
    });
}

#[test]
fn an_address_that_is_taken_is_named() {
    in_namespace(|| {
        let bind = ServeOptions { bind: vec![V6], ..ServeOptions::new("a") };
        let first = Server::bind(&bind).unwrap();
        let error = Server::bind(&bind).unwrap_err().to_string();
        assert!(error.contains("[::1]:8889 (UDP)") && error.contains("--port"), "{error}");
        drop(first);
        let absent = ServeOptions { bind: vec![[192, 0, 2, 1].into()], ..ServeOptions::new("a") };
        assert!(Server::bind(&absent).unwrap_err().to_string().contains("192.0.2.1:8889"));
    });
}

#[test]
fn rtt_over_every_protocol_and_in_turns() {
    in_namespace(|| {
        serve("pod-a");
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            let targets = vec![Target::new("v4", V4), Target::new("v6", V6)];
            let options = RttOptions {
                protocol,
                count: 200,
                warmup: 10,
                timeout: PATIENCE,
                ..RttOptions::new(targets)
            };
            let result = rtt::measure(&options).unwrap();
            assert_eq!(
                result.reports.iter().map(|r| (r.sent, r.answered)).collect::<Vec<_>>(),
                [(200, 200); 2]
            );
            assert_eq!(result.ratios.len(), 1);
            let named = (protocol != Protocol::Icmp).then_some("pod-a");
            assert_eq!(result.reports[0].answered_by.as_deref(), named);
        }
        let targets = vec![Target::new("v4", V4)];
        let pinned = |cpu| {
            let targets = targets.clone();
            rtt::measure(&RttOptions {
                cpu: Some(cpu),
                count: 10,
                timeout: PATIENCE,
                ..RttOptions::new(targets)
            })
        };
        assert_eq!(pinned(0).unwrap().reports[0].answered, 10);
        assert!(pinned(1023).unwrap_err().to_string().starts_with("--cpu 1023: "));
        let nobody = RttOptions::new(vec![Target::new("nobody", V4).port(9)]);
        let error = rtt::measure(&nobody).unwrap_err().to_string();
        assert!(error.contains("nobody (127.0.0.1:9, udp)") && error.contains("refused"), "{error}");
    });
}

#[test]
fn bulk_in_both_directions() {
    in_namespace(|| {
        serve("pod-a");
        for (reverse, direction) in [(false, Direction::Forward), (true, Direction::Backward)] {
            let duration = Duration::from_millis(100);
            let target = Target::new("pod-a", V6);
            let options =
                ThroughputOptions { reverse, duration, streams: 2, ..ThroughputOptions::new(target) };
            let report = throughput::measure(&options).unwrap();
            // How many they are in so short a time is the machine's business.
            assert!(report.bytes > 0 && report.gbit_per_s > 0.0, "{report:?}");
            assert_eq!((report.direction, report.streams.len()), (direction, 2));
        }
        let nobody = ThroughputOptions::new(Target::new("nobody", V4).port(9));
        assert_eq!(*throughput::measure(&nobody).unwrap_err().failure, Failure::Refused);
    });
}

/// Where every packet is answered, nobody waits so long.
const WAIT: Duration = Duration::from_secs(5);

fn flow(target: Target) -> OutageOptions {
    OutageOptions { duration: Duration::from_millis(300), wait: WAIT, ..OutageOptions::new(target) }
}

#[test]
fn a_clean_flow_loses_nothing() {
    in_namespace(|| {
        serve("pod-a");
        for address in [V4, V6] {
            let report = outage::measure(&flow(Target::new("pod-a", address))).unwrap();
            let account = &report.account;
            assert_eq!((account.sent, account.answered), (300, 300), "{report}");
            assert_eq!((account.forward.lost, account.backward.lost, account.unknown.lost), (0, 0, 0));
            assert!(report.errors.is_empty(), "{report}");
        }
    });
}

/// A relay that drops by sequence number on the way there and on the way back, and sends some answers twice. What comes from
/// now on waits for it.
fn relay(port: u16) {
    let front = UdpSocket::bind((V4, port)).unwrap();
    let back = UdpSocket::bind((V4, 0)).unwrap();
    back.connect((V4, PORT)).unwrap();
    thread::spawn(move || relay_all(&front, &back));
}

fn relay_all(front: &UdpSocket, back: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        let (length, asker) = front.recv_from(&mut buffer).unwrap();
        let echo = buffer[5] == 3;
        let seq = u64::from_be_bytes(buffer[16..24].try_into().unwrap());
        if echo && seq % 10 == 3 {
            continue;
        }
        back.send(&buffer[..length]).unwrap();
        let length = back.recv(&mut buffer).unwrap();
        let copies = if !echo {
            1
        } else if seq % 10 == 7 {
            0
        } else if seq % 10 == 9 {
            2
        } else {
            1
        };
        for _ in 0..copies {
            front.send_to(&buffer[..length], asker).unwrap();
        }
    }
}

#[test]
fn losses_on_the_way_there_and_back_are_told_apart() {
    in_namespace(|| {
        serve("pod-a");
        relay(7001);
        let report = outage::measure(&flow(Target::new("relayed", V4).port(7001))).unwrap();
        let account = &report.account;
        assert_eq!((account.sent, account.answered), (300, 240), "{report}");
        assert_eq!(
            (account.forward.lost, account.backward.lost, account.unknown.lost),
            (30, 30, 0),
            "{report}"
        );
        assert_eq!((account.forward.duplicated, account.backward.duplicated), (0, 30));
        assert_eq!(account.forward.longest_gap.unwrap().lost, 1);
    });
}

#[test]
fn a_flow_to_nobody_is_lost_with_its_reason() {
    in_namespace(|| {
        let report = outage::measure(&flow(Target::new("nobody", V4))).unwrap();
        assert_eq!((report.account.answered, report.account.unknown.lost), (0, 300));
        assert!(report.errors.keys().any(|text| text.contains("refused")), "{:?}", report.errors);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<outage::OutageReport>(&json).unwrap(), report);
    });
}

/// A probe whose packets flow.
fn start_probe(targets: Vec<Target>) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_clusterlink-netperf"))
        .args(ProbeOptions { wait: WAIT, ..ProbeOptions::new(targets) }.to_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    (child, lines)
}

/// Ends its input, and reads what it has to tell.
fn stop_probe(mut child: Child, lines: Lines<BufReader<ChildStdout>>) -> Vec<OutageReport> {
    drop(child.stdin.take());
    let reports = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(child.wait().unwrap().success());
    reports
}

#[test]
fn a_probe_runs_until_its_input_ends_and_tells_of_each_target() {
    in_namespace(|| {
        serve("pod-a");
        relay(7002);
        let targets = vec![Target::new("v6", V6), Target::new("relayed", V4).port(7002)];
        let (child, lines) = start_probe(targets);
        thread::sleep(Duration::from_millis(300));
        let reports = stop_probe(child, lines);
        let [v6, relayed] = &reports[..] else { panic!("{reports:?}") };
        assert_eq!((v6.target.as_str(), v6.account.sent), ("v6", v6.account.answered), "{v6}");
        // What a busy machine made it sleep through was due too.
        assert!(
            v6.account.sent + v6.skipped > 10 && relayed.account.sent == v6.account.sent,
            "{v6}{relayed}"
        );
        assert!(v6.account.events.iter().all(|event| event.kind == EventKind::Late), "{v6}");
        let third = |account: &Account| (0..account.sent).filter(|seq| seq % 10 == 3).count() as u64;
        assert_eq!(relayed.account.forward.lost, third(&relayed.account), "{relayed}");
    });
}

/// What the kernel has counted of UDP in this namespace.
fn datagrams() -> Vec<String> {
    let counters = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    counters.lines().filter(|line| line.starts_with("Udp:")).map(str::to_owned).collect()
}

/// The sender is stopped for a while: what it did not send is not lost, and it does not catch up.
#[test]
fn a_probe_that_is_stopped_for_a_while_has_lost_nothing() {
    in_namespace(|| {
        serve("pod-a");
        let (child, lines) = start_probe(vec![Target::new("pod-a", V4)]);
        let signal = |name: &str| {
            Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
        };
        signal("-STOP");
        thread::sleep(Duration::from_millis(300));
        let before = datagrams();
        signal("-CONT");
        // Until it has sent again: only then it knows what it slept through.
        while datagrams() == before {
            thread::sleep(Duration::from_millis(1));
        }
        let reports = stop_probe(child, lines);
        let [report] = &reports[..] else { panic!("{reports:?}") };
        assert!(report.skipped >= 250 && report.longest_pause_us >= 250_000, "{report}");
        let account = &report.account;
        assert_eq!(
            (account.sent, account.forward.lost, account.backward.lost),
            (account.answered, 0, 0),
            "{report}"
        );
    });
}

#[test]
fn the_binary_prints_json_and_its_status_says_whether_all_is_well() {
    in_namespace(|| {
        serve("pod-a");
        let reach = |target: &str| {
            let options = options(vec![target.parse().unwrap()]);
            let output = Command::new(env!("CARGO_BIN_EXE_clusterlink-netperf"))
                .args(options.to_args())
                .output()
                .unwrap();
            (output.status.code(), serde_json::from_slice::<ReachReport>(&output.stdout).unwrap())
        };
        let (status, report) = reach("pod-a=127.0.0.1");
        assert_eq!((status, report.all_ok()), (Some(0), true), "{report}");
        let (status, report) = reach("pod-b=127.0.0.1");
        assert_eq!((status, report.all_ok()), (Some(1), false), "{report}");
        let output = Command::new(env!("CARGO_BIN_EXE_clusterlink-netperf")).arg("reach").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
    });
}
