//! Asks every cell from its namespace, several askers at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use api::{ClusterNode, NetworkType, NodeId};
use netperf::reach::{self, ReachOptions, ReachReport};
use netperf::target::{Protocol, Target};
use serde::{Deserialize, Serialize};

use super::cells::{End, EndKind, Plan, Probe, Scope, plan};
use super::{Overlays, table};
use crate::addressing::{ClusterLayout, Layout, NodeLayout};
use crate::client::{Error, Sandbox};
use crate::components::{Binaries, NETPERF};

/// How the matrix is asked.
#[derive(Clone, Copy, Debug)]
pub struct MatrixOptions {
    /// Which cells.
    pub scope: Scope,
    /// Exchanges per cell, each from a source port of its own: every path of a multipath route is taken.
    pub flows: u32,
    /// Askers at a time.
    pub askers: usize,
    /// Exchanges at a time of one asker.
    pub parallel: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Further attempts. A large IPv6 datagram needs two at least: each end learns the path's MTU by losing one (RFC 8201).
    pub retries: u32,
}

impl Default for MatrixOptions {
    fn default() -> Self {
        MatrixOptions {
            scope: Scope { remote: true, own: false },
            flows: 1,
            askers: 4,
            parallel: 16,
            timeout: Duration::from_millis(500),
            retries: 5,
        }
    }
}

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The payload came back, and the far side saw one of the addresses that it should.
    Ok {
        /// The source address that it saw; ICMP says none.
        seen: Option<IpAddr>,
        /// Whose address that is: `a3-pod1`, `b1 cni0`.
        seen_as: Option<String>,
        /// Round-trip time in microseconds.
        rtt_us: f64,
    },
    /// It did not.
    Failed(String),
}

/// One exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// What was asked.
    pub probe: Probe,
    /// Over what.
    pub protocol: Protocol,
    /// Payload in each direction.
    pub bytes: u32,
    /// How it ended.
    pub outcome: Outcome,
}

impl Cell {
    /// Whether all was as it should be.
    pub fn is_ok(&self) -> bool {
        matches!(self.outcome, Outcome::Ok { .. })
    }

    /// Round-trip time in microseconds, where it was answered.
    pub fn rtt_us(&self) -> Option<f64> {
        match self.outcome {
            Outcome::Ok { rtt_us, .. } => Some(rtt_us),
            Outcome::Failed(_) => None,
        }
    }
}

/// All cells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// In the order of the plan.
    pub cells: Vec<Cell>,
    /// Pairs that cannot be, with the reason.
    pub skipped: BTreeSet<String>,
    /// Ends that should have an address and have none.
    pub missing: BTreeSet<String>,
}

impl Matrix {
    /// Whether every cell is ok and no end lacks an address; without cells nothing was proven.
    pub fn all_ok(&self) -> bool {
        !self.cells.is_empty() && self.missing.is_empty() && self.cells.iter().all(Cell::is_ok)
    }

    /// The cells that are not ok.
    pub fn failed(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| !cell.is_ok())
    }

    /// A table for each target cluster, asker by asker, with the fastest round trip of each pair.
    pub fn by_place(&self) -> String {
        table::by_place(self)
    }

    /// One line for each pair of kinds and roles, with the sources that were seen.
    pub fn by_class(&self) -> String {
        table::by_class(self)
    }

    /// Every failed cell on a line.
    pub fn failures(&self) -> String {
        table::failures(self)
    }
}

/// Asks in a namespace.
pub trait Run: Sync {
    /// Asks all targets from this place.
    fn reach(&self, place: &str, options: &ReachOptions) -> Result<ReachReport, Error>;
}

impl Run for Sandbox {
    fn reach(&self, place: &str, options: &ReachOptions) -> Result<ReachReport, Error> {
        self.netperf(place, &options.to_args())
    }
}

impl Sandbox {
    /// Runs a measurement in a place and reads its JSON. The exit status tells what the report tells too.
    pub fn netperf<T: for<'de> Deserialize<'de>>(
        &self,
        place: &str,
        arguments: &[String],
    ) -> Result<T, Error> {
        let program = Binaries::find().program(NETPERF)?;
        let argv = std::iter::once(program.display().to_string()).chain(arguments.iter().cloned());
        let mut command = self.command(place, argv);
        let text = format!("{NETPERF} in {place}");
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Error::Command { command: text.clone(), source })?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Error::Command { command: text, source: std::io::Error::other(words) }
        })
    }

    /// Asks every cell.
    pub fn matrix(&self, options: &MatrixOptions) -> Result<Matrix, Error> {
        let overlays = self.overlays()?;
        let plan = plan(self.layout(), &overlays, options.scope);
        let names = Names::new(self.layout(), &overlays);
        ask(plan, &names, options, self)
    }

    /// The overlay addresses that were given to the nodes, a node's address in the mesh first.
    pub fn overlays(&self) -> Result<Overlays, Error> {
        let nodes = self.cluster_nodes()?;
        let of = |(cluster, node): (&ClusterLayout, &NodeLayout)| {
            let known = nodes.get(&NodeId::new(&cluster.name, &node.name).object_name());
            let addresses = known.map(|known| overlay_addresses(cluster.mode, known)).unwrap_or_default();
            (node.place.clone(), addresses)
        };
        Ok(self.layout().nodes().map(of).collect())
    }
}

/// A node is known to the mesh by its bridge address while it is a P2P node or a gateway, else by its local one; it keeps
/// an address that it no longer uses.
fn overlay_addresses(mode: NetworkType, node: &ClusterNode) -> Vec<IpAddr> {
    let Some(overlay) = node.status.as_ref().and_then(|status| status.overlay.as_ref()) else {
        return Vec::new();
    };
    let mut planes = [[&overlay.bridge, &overlay.bridge6], [&overlay.local, &overlay.local6]];
    if mode == NetworkType::Gateway && !node.spec.is_gateway() {
        planes.reverse();
    }
    planes.into_iter().flatten().flatten().filter_map(|text| text.parse().ok()).collect()
}

/// Whose an address is: the cluster and the name, several where CIDRs overlap.
struct Names(BTreeMap<IpAddr, Vec<(String, String)>>);

impl Names {
    fn new(layout: &Layout, overlays: &Overlays) -> Self {
        let mut names = Names(BTreeMap::new());
        for (cluster, node) in layout.nodes() {
            let overlay = overlays.get(&node.place).map(Vec::as_slice).unwrap_or_default();
            let flannel: Vec<IpAddr> = node
                .cni_addresses(layout.control_plane)
                .filter(|address| !node.bridge.contains(address))
                .collect();
            for (kind, addresses) in [
                ("cni0", node.bridge.as_slice()),
                ("flannel.1", &flannel),
                ("eth0", &node.underlay),
                ("overlay", overlay),
            ] {
                names.add(cluster, addresses, &format!("{} {kind}", node.place));
            }
            for pod in &node.pods {
                names.add(cluster, &pod.addresses, &pod.place);
            }
        }
        names
    }

    fn add(&mut self, cluster: &ClusterLayout, addresses: &[IpAddr], name: &str) {
        for &address in addresses {
            self.0.entry(address).or_default().push((cluster.name.clone(), name.to_owned()));
        }
    }

    /// The asker's own address before one of who was asked.
    fn of(&self, address: IpAddr, probe: &Probe) -> Option<String> {
        let names = self.0.get(&address)?;
        let of = |cluster: &str| names.iter().find(|(owner, _)| owner == cluster);
        let (_, name) =
            of(&probe.from.cluster).or_else(|| of(&probe.to.cluster)).or_else(|| names.first())?;
        Some(name.clone())
    }
}

fn ask(plan: Plan, names: &Names, options: &MatrixOptions, run: &dyn Run) -> Result<Matrix, Error> {
    let batches: Vec<&[Probe]> = plan.probes.chunk_by(|a, b| a.from == b.from).collect();
    let next = AtomicUsize::new(0);
    let answers: Mutex<BTreeMap<usize, Result<Vec<Cell>, Error>>> = Mutex::default();
    let work = || {
        while let Some((index, batch)) = claim(&next, &batches) {
            let cells = ask_from(batch, names, options, run);
            answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(index, cells);
        }
    };
    thread::scope(|scope| {
        for _ in 0..options.askers.clamp(1, batches.len().max(1)) {
            scope.spawn(work);
        }
    });
    let answers = answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cells: Vec<Vec<Cell>> = answers.into_values().collect::<Result<_, _>>()?;
    Ok(Matrix { cells: cells.concat(), skipped: plan.skipped, missing: plan.missing })
}

fn claim<'a>(next: &AtomicUsize, batches: &[&'a [Probe]]) -> Option<(usize, &'a [Probe])> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    batches.get(index).map(|batch| (index, *batch))
}

/// All probes of one asker.
fn ask_from(
    batch: &[Probe],
    names: &Names,
    options: &MatrixOptions,
    run: &dyn Run,
) -> Result<Vec<Cell>, Error> {
    let Some(first) = batch.first() else { return Ok(Vec::new()) };
    let mut reach = ReachOptions::new(batch.iter().map(|probe| probe.target.clone()).collect());
    reach.flows = options.flows;
    reach.parallel = options.parallel;
    reach.timeout = options.timeout;
    reach.retries = options.retries;
    let report = run.reach(&first.from.name, &reach)?;
    let key = |target: &Target| (target.name.clone(), target.address);
    let probes: BTreeMap<_, &Probe> = batch.iter().map(|probe| (key(&probe.target), probe)).collect();
    let cell = |cell: reach::Cell| {
        let probe = probes.get(&(cell.target.clone(), cell.address))?;
        let outcome = outcome(cell.outcome, probe, names);
        Some(Cell { probe: (*probe).clone(), protocol: cell.protocol, bytes: cell.bytes, outcome })
    };
    Ok(report.cells.into_iter().filter_map(cell).collect())
}

fn outcome(outcome: reach::Outcome, probe: &Probe, names: &Names) -> Outcome {
    match outcome {
        reach::Outcome::Ok(answer) => {
            let seen = answer.source.map(|source| source.ip());
            let seen_as = seen.and_then(|ip| names.of(ip, probe));
            Outcome::Ok { seen, seen_as, rtt_us: answer.rtt_us }
        }
        reach::Outcome::Failed(failure) => Outcome::Failed(failure.to_string()),
    }
}

impl End {
    /// `internal pod`, `service behind gateway`, `outside`.
    pub fn class(&self) -> String {
        match self.kind {
            EndKind::Service => format!("service behind {}", self.role),
            EndKind::Outside => "outside".to_owned(),
            kind => format!("{} {kind}", self.role),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use netperf::reach::Answer;

    use super::*;
    use crate::scenario::Scenario;

    /// Answers as everybody should, except for one target.
    struct Fake {
        broken: &'static str,
    }

    impl Run for Fake {
        fn reach(&self, _: &str, options: &ReachOptions) -> Result<ReachReport, Error> {
            let cell = |target: &Target, protocol| {
                let source = target.source.first().map(|&ip| (ip, 40_000).into());
                let answer = Answer { name: target.answer.first().cloned(), source, rtt_us: 100.0 };
                let outcome = match target.name == self.broken {
                    true => reach::Outcome::Failed(netperf::failure::Failure::Timeout { after_ms: 2000 }),
                    false => reach::Outcome::Ok(answer),
                };
                reach::Cell {
                    target: target.name.clone(),
                    address: target.address,
                    protocol,
                    bytes: 200,
                    flow: 0,
                    attempts: 1,
                    outcome,
                }
            };
            let cells = options.targets.iter().flat_map(|target| {
                let takes =
                    [Protocol::Tcp, Protocol::Udp].into_iter().filter(|&protocol| target.takes(protocol));
                takes.map(|protocol| cell(target, protocol)).collect::<Vec<_>>()
            });
            Ok(ReachReport { cells: cells.collect() })
        }
    }

    pub(crate) fn asked(broken: &'static str) -> Matrix {
        let layout = Scenario::default().layout().unwrap();
        let overlays: Overlays = layout
            .nodes()
            .map(|(_, node)| {
                let addresses = node.underlay.iter().map(|ip| match ip {
                    IpAddr::V4(ip) => std::net::Ipv4Addr::from_bits(ip.to_bits() | 0xf100_0000).into(),
                    IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() | 0x41).into(),
                });
                (node.place.clone(), addresses.collect())
            })
            .collect();
        let options = MatrixOptions::default();
        let plan = plan(&layout, &overlays, options.scope);
        ask(plan, &Names::new(&layout, &overlays), &options, &Fake { broken }).unwrap()
    }

    #[test]
    fn every_probe_has_its_cells_in_the_order_of_the_plan() {
        let matrix = asked("");
        assert!(matrix.all_ok());
        let askers: Vec<&str> = matrix
            .cells
            .chunk_by(|a, b| a.probe.from == b.probe.from)
            .map(|c| c[0].probe.from.name.as_str())
            .collect();
        assert_eq!(askers.len(), 16);
        assert_eq!(askers[..4], ["a1-pod1", "a1", "a2-pod1", "a2"]);
    }

    #[test]
    fn who_was_seen_has_a_name() {
        let matrix = asked("");
        let cell = matrix.cells.iter().find(|c| c.probe.from.name == "a3-pod1").unwrap();
        let Outcome::Ok { seen_as, .. } = &cell.outcome else { panic!("{cell:?}") };
        assert_eq!(seen_as.as_deref(), Some("a3-pod1"));
    }

    #[test]
    fn one_broken_target_is_one_failure_for_each_asker_family_and_protocol() {
        let matrix = asked("b3-pod1");
        assert!(!matrix.all_ok());
        // Asked by a's six and c's four, over two families and two protocols.
        assert_eq!(matrix.failed().count(), 10 * 2 * 2);
    }

    #[test]
    fn a_former_gateway_is_known_by_its_local_address() {
        let mut node = ClusterNode::new("a-node3", api::ClusterNodeSpec::default());
        let overlay = api::Overlay {
            bridge: Some("241.31.1.3".to_owned()),
            local: Some("242.31.1.3".to_owned()),
            ..api::Overlay::default()
        };
        node.status = Some(api::ClusterNodeStatus { overlay: Some(overlay), ..Default::default() });
        let first = |mode, node: &ClusterNode| overlay_addresses(mode, node)[0].to_string();
        assert_eq!(first(NetworkType::Gateway, &node), "242.31.1.3");
        assert_eq!(first(NetworkType::P2p, &node), "241.31.1.3");
        node.spec.roles.push("gateway".to_owned());
        assert_eq!(first(NetworkType::Gateway, &node), "241.31.1.3");
    }

    #[test]
    fn nothing_asked_is_nothing_proven() {
        assert!(!Matrix::default().all_ok());
    }
}
