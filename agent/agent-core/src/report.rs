//! What a pass found, in the words of an operator.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::Family;

use crate::actual::{Actual, ActualNexthop, Host, Owner};
use crate::desired::Desired;
use crate::diff::by_object;
use crate::firewall::Accept;
use crate::kernel::{EXISTS, Refusal};
use crate::model::{Kind, Nexthop};
use crate::rest::Rest;
use crate::spec::Spec;
use crate::step::{ChangeSet, Stage, Step};

/// The device on which kube-proxy in IPVS mode holds every service address.
const IPVS_DEVICE: &str = "kube-ipvs0";

/// What a pass found when it read the kernel for the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many kernel objects the NodeConfig asks for, those that cannot be included.
    pub desired: usize,
    /// Of each kind, how many are asked for, there, and not as they should be.
    pub kinds: BTreeMap<Kind, Counts>,
    /// How many steps were done.
    pub changed: usize,
    /// Of each kind, how many steps were done.
    pub changes: BTreeMap<Kind, usize>,
    /// The first of the objects that were written.
    pub written: Vec<String>,
    /// Everything that is not as the NodeConfig says.
    pub differing: Vec<Difference>,
    /// How many steps were not done because only additions were allowed.
    pub withheld: usize,
    /// What only an older NodeConfig asked for, and stays for now.
    pub lingering: BTreeSet<String>,
    /// How many conversations with the kernel broke off while it was changed.
    pub broken: usize,
    /// What an operator should know although everything is as the NodeConfig says.
    pub notices: Vec<String>,
    /// Fields that are accepted and never acted upon.
    pub unsupported: Vec<String>,
}

/// Numbers of objects of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What the NodeConfig asks for.
    pub desired: usize,
    /// What the kernel holds of ours.
    pub actual: usize,
    /// What is not as it should be.
    pub failed: usize,
}

/// Something that is not as the NodeConfig says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The kind of the object.
    pub kind: Kind,
    /// The object.
    pub object: String,
    /// The operation that failed and the answer, or what stands against it.
    pub problem: String,
    /// Why it is so.
    pub cause: Cause,
}

/// Why something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The entry of the NodeConfig is no word of ours.
    Invalid,
    /// It must not be done on this host.
    Refused,
    /// Somebody else rewrites it, or what it hangs on, again and again: it is left as it is for a while.
    Contended,
    /// The kernel, or a program, did not do it or cannot be read: it is tried again.
    Failed,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)
    }
}

impl Report {
    /// Whether the kernel equals the NodeConfig.
    pub fn is_applied(&self) -> bool {
        self.differing.is_empty()
    }

    /// Whether nothing is left that may be done: what rests is not for now.
    pub fn is_settled(&self) -> bool {
        self.differing.iter().all(|difference| difference.cause == Cause::Contended)
    }

    /// Whether everything that this host accepts of a readable NodeConfig was found in the kernel.
    pub fn is_verified(&self) -> bool {
        self.withheld == 0 && self.differing.iter().all(|difference| difference.cause == Cause::Refused)
    }
}

/// The steps that were done, and the answers to those that were not.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) done: BTreeMap<Kind, usize>,
    pub(crate) written: Vec<String>,
    pub(crate) refusals: BTreeMap<String, (&'static str, Refusal)>,
    /// How many conversations broke off.
    pub(crate) broken: usize,
    /// Whether nothing was tried at all.
    pub(crate) untried: bool,
}

/// What is found where nothing more will be done.
pub(crate) struct Found<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) desired: &'a Desired,
    pub(crate) actual: &'a Actual,
    pub(crate) remaining: &'a ChangeSet,
    pub(crate) withheld: usize,
    pub(crate) lingering: &'a BTreeSet<String>,
    pub(crate) rests: &'a [Rest],
}

impl Found<'_> {
    pub(crate) fn report(&self, outcome: Outcome) -> Report {
        // What is fought over comes first, whatever follows from it.
        let mut differing = self.contended();
        differing.extend(self.unmeant());
        differing.extend(self.unreadable());
        differing.extend(self.undone(&outcome));
        Report {
            desired: self.desired.len() + self.spec.invalid.len() + self.desired.refused.len(),
            kinds: counts(self.desired, self.actual, &differing),
            changed: outcome.done.values().sum(),
            changes: outcome.done,
            written: outcome.written,
            differing,
            withheld: self.withheld,
            lingering: self.lingering.clone(),
            broken: outcome.broken,
            notices: notices(self.desired, &self.actual.host),
            unsupported: self.spec.unsupported.clone(),
        }
    }

    fn contended(&self) -> Vec<Difference> {
        let (causes, others): (Vec<&Rest>, Vec<&Rest>) = self.rests.iter().partition(|rest| rest.is_cause());
        let mut told = BTreeSet::new();
        let rests = causes.into_iter().chain(others).map(Rest::difference);
        // One line for each object, though it may take two steps to make it anew.
        rests.filter(|rest| told.insert(rest.object.clone())).collect()
    }

    /// What of the NodeConfig is not even wanted here.
    fn unmeant(&self) -> Vec<Difference> {
        let invalid = self.spec.invalid.iter().map(|entry| Difference {
            kind: entry.list.kind(),
            object: entry.object.clone(),
            problem: format!("{} {:?}: {}", entry.field, entry.value, entry.expected),
            cause: Cause::Invalid,
        });
        let refused = self.desired.refused.iter().map(|refused| Difference {
            kind: refused.kind,
            object: refused.object.clone(),
            problem: refused.reason.clone(),
            cause: Cause::Refused,
        });
        invalid.chain(refused).collect()
    }

    /// Where a NodeConfig asks for nothing of it, what cannot be there needs no reading.
    fn unreadable(&self) -> impl Iterator<Item = Difference> {
        let firewall = &self.actual.firewall;
        let matters = self.desired.firewall.is_some() || !firewall.absent;
        firewall.unreadable.iter().filter(move |_| matters).map(|problem| Difference {
            kind: Kind::Firewall,
            object: "firewall".to_owned(),
            problem: problem.clone(),
            cause: Cause::Failed,
        })
    }

    fn undone(&self, outcome: &Outcome) -> Vec<Difference> {
        let remaining = by_object(self.remaining);
        let mut undone = Vec::new();
        for step in self.remaining.steps() {
            let object = step.object();
            // One line for each object, though it may take two steps to make it anew.
            if remaining.get(&object).is_some_and(|last| !std::ptr::eq(*last, step)) {
                continue;
            }
            let problem = match outcome.refusals.get(&object) {
                Some((operation, refusal)) => {
                    format!("cannot {operation}: {refusal}{}", holder(step, refusal, &self.actual.host))
                }
                None if outcome.untried => {
                    format!("is not so now; an agent would {} it", step.operation())
                }
                None => {
                    format!("differs again after it was set ({}): somebody else changes it", step.operation())
                }
            };
            undone.push(Difference { kind: step.kind(), object, problem, cause: Cause::Failed });
        }
        undone
    }
}

fn counts(desired: &Desired, actual: &Actual, differing: &[Difference]) -> BTreeMap<Kind, Counts> {
    let of = |kind: Kind| Counts {
        desired: desired.count(kind),
        actual: actual_count(desired, actual, kind),
        failed: differing.iter().filter(|difference| difference.kind == kind).count(),
    };
    Kind::ALL.into_iter().map(|kind| (kind, of(kind))).collect()
}

fn actual_count(desired: &Desired, actual: &Actual, kind: Kind) -> usize {
    let ours = |nexthop: &&ActualNexthop| **nexthop != ActualNexthop::Foreign;
    match kind {
        Kind::Device => actual.devices.values().filter(|device| device.owner != Owner::Foreign).count(),
        // Whoever set it: a setting says nothing of that.
        Kind::Sysctl => {
            desired.sysctls.iter().filter(|(key, value)| actual.sysctls.get(key) == Some(value)).count()
        }
        Kind::Address => actual.addresses.len(),
        Kind::Fdb => actual.fdb.len(),
        Kind::Neighbour => actual.neighbours.len(),
        Kind::Firewall => usize::from(actual.firewall.table.is_some()),
        Kind::Accept => {
            actual.firewall.chains.values().filter(|chain| chain.accept != Accept::Absent).count()
        }
        Kind::Nexthop => actual.nexthops.values().filter(ours).count(),
        Kind::Route => actual.routes.len(),
        Kind::Rule => actual.rules.len(),
    }
}

/// `EEXIST` of a new VXLAN device: somebody else has its VNI. Say who.
fn holder(step: &Step, refusal: &Refusal, host: &Host) -> String {
    let Step::CreateDevice(_, device) = step else { return String::new() };
    if refusal.errno != Some(EXISTS) {
        return String::new();
    }
    let same = host.links.values().find(|link| link.vxlan == Some((device.vni, device.port)));
    let port = || host.links.values().find(|link| link.vxlan.is_some_and(|(_, port)| port == device.port));
    match same.or_else(port) {
        Some(link) => format!(
            "; device {} holds VNI {} on UDP port {}: choose another port for this mesh or delete that device",
            link.name,
            link.vxlan.map_or(device.vni, |(vni, _)| vni),
            device.port
        ),
        None => format!("; VNI {} or UDP port {} is held by another device", device.vni, device.port),
    }
}

fn notices(desired: &Desired, host: &Host) -> Vec<String> {
    let families: BTreeSet<Family> = desired.addresses.iter().map(|(_, a)| Family::of_network(*a)).collect();
    let mut notices: Vec<String> = families
        .into_iter()
        .filter(|family| host.forwarding.get(family) == Some(&false))
        .map(|family| {
            let key = if family == Family::V4 { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
            format!("ForwardingOff: {key} is 0, so this host forwards no {family} packets of its pods; set it to 1")
        })
        .collect();
    notices.extend(desired.narrowed.values().map(|(whole, part)| {
        format!(
            "MoreSpecific: {part} is a part of the host's own route to {whole}; it goes into the tunnel now"
        )
    }));
    if host.link(IPVS_DEVICE).is_some() {
        notices.push(format!(
            "IpvsProxy: {IPVS_DEVICE} is there: kube-proxy in IPVS mode is not supported, packets of other clusters to services of this one may not be answered; run it in iptables or nftables mode"
        ));
    }
    let groups = desired.nexthops.values().any(|nexthop| matches!(nexthop, Nexthop::Group { .. }));
    if groups && !host.resilient_groups {
        notices.push(
            "PlainGroups: this kernel has no resilient nexthop groups (Linux 5.13); flows may move when a gateway comes or goes"
                .to_owned(),
        );
    }
    notices
}

/// The stages of a change set, for those who log them.
impl fmt::Display for ChangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (stage, steps) in self.stages() {
            let verb = if stage.deletes() || stage == Stage::ClearDevices { "delete" } else { "write" };
            write!(f, "{separator}{verb} {} {stage}", steps.len())?;
            separator = ", ";
        }
        Ok(())
    }
}
