//! Captures on the underlay of every node while a scenario goes on: what leaves a node for another cluster, or from there,
//! outside of a tunnel.
//!
//! The kernel filters, so that nobody is woken by packets that are right. It looks at the outermost addresses alone, and those
//! of a tunnel's packets are nodes'. A marker of the drill's own, when a capture begins and when it ends, proves that it sees.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::{Family, NetworkType};
use sandbox::Sandbox;
use sandbox::addressing::{ClusterLayout, Layout};

const PROGRAM: &str = "tcpdump";
/// To each family's documentation multicast (RFC 6676): neither needs a route or a neighbour, which scenarios take away.
const MARKERS: [(Family, &str); 2] = [(Family::V4, "233.252.0.77"), (Family::V6, "ff02::db8:0:77")];
/// How long a marker may take to be seen on a busy machine.
const SEEN: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(10);
/// Packets that are closer to each other are one leak.
const TOGETHER_US: u64 = 50_000;

/// Sends the markers for each line that it reads. It ends the capture, which knows nothing of pipes, with its own input.
const SCRIPT: &str = "\
\"$@\" &
capture=$!
while read -r _; do
    ping -4 -n -c 1 -W 1 -I eth0 233.252.0.77 &
    ping -6 -n -c 1 -W 1 -I eth0 ff02::db8:0:77 &
done >/dev/null 2>&1
kill $capture
wait $capture";

/// Packets that left a node outside of a tunnel, one soon after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// When the first one left, in microseconds since 1970.
    pub from_us: u64,
    /// When the last one did.
    pub until_us: u64,
    /// How many they are.
    pub packets: u64,
    /// The first one: addresses, ports, protocol.
    pub first: String,
}

/// What the capture on one node has seen.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The node's place.
    pub node: String,
    /// Its cluster's mode.
    pub mode: NetworkType,
    /// What left it.
    pub leaks: Vec<Leak>,
    /// Why it may have missed something.
    pub problems: Vec<String>,
}

/// Running captures. They end when this is dropped.
#[derive(Debug)]
pub struct Captures(Vec<Capture>);

#[derive(Debug)]
struct Capture {
    node: String,
    mode: NetworkType,
    child: Child,
    input: ChildStdin,
    /// What it says of itself.
    errors: BufReader<ChildStderr>,
    seen: Arc<Mutex<Account>>,
    reader: JoinHandle<()>,
    problems: Vec<String>,
}

/// What a capture has printed.
#[derive(Debug, Default)]
struct Account {
    /// How many markers of each family.
    markers: [u64; MARKERS.len()],
    leaks: Vec<Leak>,
    /// The first line that is no packet.
    odd: Option<String>,
}

/// Why nothing can be captured here; `None` where it can.
pub fn missing() -> Option<String> {
    let error = Command::new(PROGRAM).arg("--version").output().err()?;
    Some(format!("{PROGRAM} cannot be run ({error}); build/install-tools installs it"))
}

impl Captures {
    /// Starts one on each node, and waits until they see.
    ///
    /// # Errors
    /// One does not start.
    pub fn start(sandbox: &Sandbox) -> Result<Self> {
        let layout = sandbox.layout();
        let spawn = layout.nodes().map(|(cluster, node)| {
            let command = sandbox.command(&node.place, argv(&filter(layout, cluster)));
            Capture::spawn(command, &node.place, cluster.mode)
        });
        let mut captures = Captures(spawn.collect::<Result<_>>()?);
        captures.0.iter_mut().try_for_each(Capture::listen)?;
        captures.mark("begins");
        Ok(captures)
    }

    /// Ends them, and tells what they have seen.
    ///
    /// # Errors
    /// The end of one cannot be waited for.
    pub fn stop(mut self) -> Result<Vec<Captured>> {
        self.mark("ends");
        self.0.into_iter().map(Capture::stop).collect()
    }

    /// Whoever does not see a marker sees nothing.
    fn mark(&mut self, when: &str) {
        let before: Vec<_> = self.0.iter().map(|capture| capture.account().markers).collect();
        for capture in &mut self.0 {
            // one that has ended sees none, and that is said below
            let _ = capture.input.write_all(b"\n");
        }
        let until = Instant::now() + SEEN;
        for (capture, before) in self.0.iter_mut().zip(before) {
            while !capture.unseen(before).is_empty() && Instant::now() < until {
                thread::sleep(INTERVAL);
            }
            for family in capture.unseen(before) {
                let node = &capture.node;
                let problem = format!("the capture on {node} sees nothing of {family} when it {when}");
                capture.problems.push(problem);
            }
        }
    }
}

impl Capture {
    fn spawn(mut command: Command, node: &str, mode: NetworkType) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start a capture on {node}"))?;
        let input = child.stdin.take().context("its input is a pipe")?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let errors = BufReader::new(child.stderr.take().context("its errors are a pipe")?);
        let seen = Arc::<Mutex<Account>>::default();
        let reader = thread::spawn({
            let seen = Arc::clone(&seen);
            move || read(output, &seen)
        });
        Ok(Capture { node: node.to_owned(), mode, child, input, errors, seen, reader, problems: Vec::new() })
    }

    /// Waits until the kernel gives it what passes the filter.
    fn listen(&mut self) -> Result<()> {
        let mut said = String::new();
        while !said.contains("listening on") {
            if self.errors.read_line(&mut said)? == 0 {
                bail!("the capture on {} does not start: {}", self.node, said.trim());
            }
        }
        Ok(())
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        locked(&self.seen)
    }

    /// The families of which it has seen no marker since then.
    fn unseen(&self, before: [u64; MARKERS.len()]) -> Vec<Family> {
        let now = self.account().markers;
        let of =
            |(index, (family, _)): (usize, &(Family, &str))| (now[index] == before[index]).then_some(*family);
        MARKERS.iter().enumerate().filter_map(of).collect()
    }

    fn stop(self) -> Result<Captured> {
        let Capture { node, mode, mut child, input, mut errors, seen, reader, mut problems } = self;
        drop(input);
        let mut words = String::new();
        errors.read_to_string(&mut words)?;
        child.wait().with_context(|| format!("the capture on {node} does not end"))?;
        // a reader that fails has said so in the test or drill that it is a thread of
        let _ = reader.join();
        problems.extend(missed(&words).map(|why| format!("the capture on {node} {why}")));
        let mut account = locked(&seen);
        problems.extend(account.odd.take().map(|line| format!("the capture on {node} says {line:?}")));
        Ok(Captured { node, mode, leaks: std::mem::take(&mut account.leaks), problems })
    }
}

/// No holder can leave it half written.
fn locked(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(output: ChildStdout, seen: &Mutex<Account>) {
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    // before its last words it ends its line, also where it has begun none
    for line in lines.filter(|line| !line.is_empty()) {
        locked(seen).take(&line);
    }
}

impl Account {
    fn take(&mut self, line: &str) {
        let Some((at_us, packet)) = packet(line) else {
            self.odd.get_or_insert_with(|| line.to_owned());
            return;
        };
        let to = packet.split_whitespace().nth(3).unwrap_or_default().trim_end_matches(':');
        if let Some(index) = MARKERS.iter().position(|(_, marker)| *marker == to) {
            self.markers[index] += 1;
            return;
        }
        match self.leaks.last_mut() {
            Some(leak) if at_us.saturating_sub(leak.until_us) <= TOGETHER_US => {
                leak.until_us = at_us;
                leak.packets += 1;
            }
            _ => {
                let first = packet.to_owned();
                self.leaks.push(Leak { from_us: at_us, until_us: at_us, packets: 1, first });
            }
        }
    }
}

/// A line such as `1795353073.052933 IP 172.31.1.1.36411 > 10.102.0.10.80: UDP, length 3`.
fn packet(line: &str) -> Option<(u64, &str)> {
    let (time, packet) = line.split_once(' ')?;
    let (seconds, micros) = time.split_once('.')?;
    let at_us = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    packet.starts_with("IP").then_some((at_us, packet))
}

/// What its last words say that it has not seen.
fn missed(words: &str) -> Option<String> {
    let dropped = words.lines().find(|line| line.contains("dropped by kernel"));
    match dropped.and_then(|line| line.split_whitespace().next()) {
        Some("0") => None,
        Some(_) => Some(format!("is not whole: {}", dropped.unwrap_or_default().trim())),
        None => Some(format!("did not end in order: {}", words.trim())),
    }
}

/// Only what goes out: what comes in has left another node. Not promiscuous: nothing is changed that an agent could hear of.
fn argv(filter: &str) -> Vec<String> {
    let shell = ["sh", "-c", SCRIPT, "capture"];
    // root is all that there is in the sandbox's user namespace
    let capture = [PROGRAM, "-i", "eth0", "-p", "-Q", "out", "-Z", "root"];
    let output = ["-nn", "-q", "-tt", "-l", "--immediate-mode", "-s", "128"];
    let words = shell.into_iter().chain(capture).chain(output).chain([filter]);
    words.map(str::to_owned).collect()
}

/// Pods and services of every other cluster, as source or destination, and the markers. `net` alone would mean ARP too.
fn filter(layout: &Layout, own: &ClusterLayout) -> String {
    let others = layout.clusters.iter().filter(|cluster| cluster.name != own.name);
    let cidrs: Vec<_> = others.flat_map(|other| other.pod_cidrs.iter().chain(&other.service_cidrs)).collect();
    let family = |(family, marker): (Family, &str)| {
        let word = match family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        let of_family = cidrs.iter().filter(|cidr| Family::of_network(***cidr) == family);
        let nets: String = of_family.map(|cidr| format!(" or net {cidr}")).collect();
        format!("({word} and (dst host {marker}{nets}))")
    };
    MARKERS.map(family).join(" or ")
}

#[cfg(test)]
mod tests {
    use sandbox::Scenario;

    use super::*;

    #[test]
    fn the_filter_of_a_cluster_has_every_other_one_and_not_its_own() {
        let clusters = ["a:p2p:1", "b:gateway:1", "c:p2p:1"].map(|text| text.parse().unwrap()).to_vec();
        let layout = Scenario { clusters, ..Scenario::default() }.layout().unwrap();
        assert_eq!(
            filter(&layout, &layout.clusters[1]),
            "(ip and (dst host 233.252.0.77 or net 10.1.0.0/16 or net 10.101.0.0/16 or net 10.3.0.0/16 \
             or net 10.103.0.0/16)) or (ip6 and (dst host ff02::db8:0:77 or net fd00:10:1::/48 \
             or net fd00:96:1::/112 or net fd00:10:3::/48 or net fd00:96:3::/112))"
        );
    }

    #[test]
    fn the_script_sends_the_markers_that_the_filter_has() {
        assert!(MARKERS.iter().all(|(_, marker)| SCRIPT.contains(&format!("-I eth0 {marker} &"))));
    }

    #[test]
    fn packets_are_counted_and_markers_are_none() {
        let mut account = Account::default();
        for line in [
            "100.000000 IP 172.31.1.1 > 233.252.0.77: ICMP echo request, id 1, seq 1, length 64",
            "100.000001 IP6 fe80::1 > ff02::db8:0:77: ICMP6, echo request, id 1, seq 1, length 64",
            "101.999999 IP 172.31.1.1.36411 > 10.102.0.10.80: UDP, length 3",
            "102.049999 IP6 fd00:10:1:1::2 > fd00:10:2:1::2: ICMP6, echo request, id 2, seq 1, length 64",
            "102.100000 IP 10.1.1.2 > 10.2.1.2: ip-proto-17",
        ] {
            account.take(line);
        }
        let leak = |from_us, until_us, packets, first: &str| Leak {
            from_us,
            until_us,
            packets,
            first: first.to_owned(),
        };
        assert_eq!(account.markers, [1, 1]);
        assert_eq!(
            account.leaks,
            [
                leak(101_999_999, 102_049_999, 2, "IP 172.31.1.1.36411 > 10.102.0.10.80: UDP, length 3"),
                leak(102_100_000, 102_100_000, 1, "IP 10.1.1.2 > 10.2.1.2: ip-proto-17"),
            ]
        );
        assert_eq!(account.odd, None);
        account.take("something else");
        assert_eq!(account.odd.as_deref(), Some("something else"));
    }

    #[test]
    fn a_capture_that_dropped_packets_or_did_not_end_is_not_whole() {
        let words = |dropped| {
            format!("9 packets captured\n9 packets received by filter\n{dropped} packets dropped by kernel\n")
        };
        assert_eq!(missed(&words(0)), None);
        assert!(missed(&words(3)).unwrap().contains("3 packets dropped by kernel"));
        assert!(missed("tcpdump: pcap_loop: it went away").unwrap().contains("it went away"));
    }
}
