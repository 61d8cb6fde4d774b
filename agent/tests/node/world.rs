//! A host in a namespace: an underlay interface, a CNI's bridge, and the tools to look at it.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use agent::{Known, RealKernel, Report, Spec};
use api::NodeConfigSpec;
use netlink::{Event, Monitor};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

pub(crate) const GATEWAY: &str = include_str!("gateway.yaml");
pub(crate) const P2P: &str = include_str!("p2p.yaml");

/// The host of the thread that called [`on_host`].
pub(crate) struct Host;

/// Runs a test on a fresh host. Where the machine does not allow that, it says so, and fails under CI.
pub(crate) fn on_host(test: impl FnOnce(&Host) + Send) {
    let missing =
        ["ip", "bridge", "nft"].into_iter().find(|tool| Command::new(tool).arg("-V").output().is_err());
    std::thread::scope(|scope| {
        let run = || {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                return skip::skip(format!("no network namespace: {error}"));
            }
            if let Some(tool) = missing {
                return skip::skip(format!("{tool} is not installed"));
            }
            Host.prepare();
            test(&Host);
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Host {
    fn prepare(&self) {
        // Until nothing more happens by itself: no link-local addresses, no detection of duplicates, carriers settled.
        self.sh("for which in all default; do echo 0 > /proc/sys/net/ipv6/conf/$which/accept_dad; done
             ip link set lo up
             ip link add eth0 type veth peer name wire
             ip link add pod0 type veth peer name pod1
             ip link add cni0 type bridge
             ip link set pod0 master cni0
             for link in eth0 wire pod0 pod1 cni0; do ip link set $link addrgenmode none; ip link set $link up; done
             ip addr add 172.31.1.1/16 dev eth0
             ip -6 addr add fc00:31::1/64 dev eth0 nodad
             ip addr add 10.1.1.1/24 dev cni0
             for link in eth0 wire pod0 pod1 cni0; do
                 until ip link show $link | grep -q 'state UP'; do sleep 0.01; done
             done");
    }

    /// Runs a script that must succeed, and returns what it printed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        let errors = String::from_utf8_lossy(&output.stderr);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{script}\n{said}{errors}");
        said
    }

    pub(crate) fn try_sh(&self, script: &str) -> Output {
        Command::new("sh").args(["-ec", script]).output().unwrap()
    }

    pub(crate) fn json(&self, command: &str) -> Value {
        let text = self.sh(command);
        serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap()
    }

    /// One pass, as a process that knows nothing of earlier ones.
    pub(crate) fn pass(&self, spec: &NodeConfigSpec) -> Report {
        let mut kernel = RealKernel::open().unwrap();
        agent::pass(&mut kernel, &Spec::validate(spec), &Known::default()).unwrap()
    }

    /// One pass after which everything is as it should be.
    pub(crate) fn apply(&self, spec: &NodeConfigSpec) -> Report {
        let report = self.pass(spec);
        assert_eq!(report.differing, [], "{report:#?}");
        report
    }

    pub(crate) fn cleanup(&self) -> Report {
        let report = agent::cleanup(&mut RealKernel::open().unwrap()).unwrap();
        assert_eq!(report.differing, []);
        report
    }

    /// What netlink told while something was done.
    pub(crate) fn events(&self, work: impl FnOnce()) -> Vec<Event> {
        let mut monitor = Monitor::open().unwrap();
        work();
        let mut events = Vec::new();
        while let Some(event) = monitor.next(Duration::ZERO).unwrap() {
            events.push(event);
        }
        events
    }

    /// Waits until each address of IPv6 has its route in the table `local`: a worker of the kernel adds it, and tells of the
    /// address, some time after the address was added, with `nodad` too.
    fn settle(&self) {
        let lacking = "for address in $(ip -o -6 addr | sed -E 's/.* inet6 ([^ /]+).*/\\1/'); do
                 ip -6 route show table local | grep -q \"^local $address \" || echo $address
             done";
        let end = Instant::now() + Duration::from_secs(20);
        // On a device that is down there is never one.
        while !self.sh(lacking).is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything of the host that anybody could have changed, without counters, handles and indexes.
    pub(crate) fn dump(&self) -> String {
        self.settle();
        let state = self.sh(
            "ip -o link | sed -E 's/^[0-9]+: //; s/@[^:]*:/:/; s/qdisc.*//; s/NO-CARRIER,//; s/,LOWER_UP//'
             ip -o addr | sed -E 's/^[0-9]+: //'
             ip rule; ip -6 rule
             ip route show table all; ip -6 route show table all
             ip nexthop
             ip -o neigh show nud permanent
             bridge fdb | sort
             nft list ruleset
             iptables-nft-save 2>/dev/null | grep -v '^#' || true
             if [ -s /proc/thread-self/net/ip_tables_names ]; then iptables-legacy-save | grep -v '^#'; fi
             cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/rp_filter
             cat /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/disable_ipv6",
        );
        let volatile = |line: &&str| !line.contains("fe80:") && !line.contains("tentative");
        let line = |line: &str| without_counters(line);
        state.lines().filter(volatile).map(line).collect::<Vec<_>>().join("\n")
    }
}

/// `packets 3 bytes 180` of nft, `[3:180]` of iptables.
pub(crate) fn without_counters(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for at in 0..words.len().saturating_sub(1) {
        if matches!(words[at], "packets" | "bytes") {
            words[at + 1] = "n";
        }
    }
    if words.last().is_some_and(|word| word.starts_with('[') && word.ends_with(']')) {
        words.pop();
    }
    words.join(" ")
}

pub(crate) fn spec(yaml: &str) -> NodeConfigSpec {
    agent::config::parse(yaml).unwrap()
}

/// The real agent on a file, in the calling thread's namespace. It ends with the test, however that ends.
pub(crate) struct Agent {
    process: Child,
    _file: tempfile::NamedTempFile,
}

impl Agent {
    pub(crate) fn watching(yaml: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_clusterlink-agent"))
            .args(["--watch", "--config"])
            .arg(file.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Agent { process, _file: file }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks again and again; gives up long before the reading of every minute would help.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
