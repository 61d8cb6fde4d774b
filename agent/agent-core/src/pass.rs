//! One pass: read, resolve, compare, apply stage by stage, read again, report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use api::Family;

use crate::actual::{Actual, Host};
use crate::desired::Desired;
use crate::diff::{by_object, diff};
use crate::kernel::{EXISTS, Kernel, KernelError, Refusal};
use crate::spec::Spec;
use crate::step::{ChangeSet, Stage, Step};

/// What was in the way of an addition goes only after it (an address that becomes somebody else's gateway): then
/// there is a second round.
const MOST_ROUNDS: usize = 2;

/// How many of the objects that were written are named.
const MOST_NAMED: usize = 16;

/// What a pass found when it read the kernel for the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many kernel objects the NodeConfig asks for, those that cannot be included.
    pub desired: usize,
    /// How many steps were done.
    pub changed: usize,
    /// The first of the objects that were written.
    pub written: Vec<String>,
    /// Everything that is not as the NodeConfig says.
    pub differing: Vec<Difference>,
    /// What an operator should know although everything is as the NodeConfig says.
    pub notices: Vec<String>,
    /// Fields that are accepted and never acted upon.
    pub unsupported: Vec<String>,
}

/// Something that is not as the NodeConfig says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The object.
    pub object: String,
    /// The operation that failed and the answer, or what stands against it.
    pub problem: String,
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
}

/// Makes a kernel equal to a NodeConfig, as far as it lets itself. `underlay` as in [`Desired::resolve`].
pub fn pass(kernel: &mut impl Kernel, spec: &Spec, underlay: &[IpAddr]) -> Result<Report, KernelError> {
    reconcile(kernel, spec, |actual| Desired::resolve(spec, actual, underlay))
}

/// Removes everything of ours, and nothing else.
pub fn cleanup(kernel: &mut impl Kernel) -> Result<Report, KernelError> {
    reconcile(kernel, &Spec::default(), |_| Desired::default())
}

fn reconcile(
    kernel: &mut impl Kernel,
    spec: &Spec,
    resolve: impl Fn(&Actual) -> Desired,
) -> Result<Report, KernelError> {
    let doubtful = spec.doubtful();
    let mut actual = kernel.read()?;
    let mut desired = resolve(&actual);
    let mut changes = diff(&desired, &actual, &doubtful);
    let mut outcome = Outcome::default();
    for _ in 0..MOST_ROUNDS {
        if changes.is_empty() {
            break;
        }
        let made_room = changes.stages().any(|(stage, _)| stage.deletes());
        outcome.take(apply(kernel, &changes)?);
        actual = kernel.read()?;
        desired = resolve(&actual);
        changes = diff(&desired, &actual, &doubtful);
        if !made_room {
            break;
        }
    }
    Ok(report(spec, &desired, &actual, &changes, outcome))
}

#[derive(Debug, Default)]
struct Outcome {
    done: usize,
    written: Vec<String>,
    refusals: BTreeMap<String, (&'static str, Refusal)>,
}

impl Outcome {
    /// What is refused in the last round counts.
    fn take(&mut self, next: Outcome) {
        self.done += next.done;
        let room = MOST_NAMED.saturating_sub(self.written.len());
        self.written.extend(next.written.into_iter().take(room));
        self.refusals = next.refusals;
    }
}

/// Every step is tried, whatever became of the ones before it; the second reading says what came of it.
fn apply(kernel: &mut impl Kernel, changes: &ChangeSet) -> Result<Outcome, KernelError> {
    let mut outcome = Outcome::default();
    for (stage, steps) in changes.stages() {
        let answers = kernel.apply(stage, steps)?;
        if answers.len() != steps.len() {
            let reason = format!("{} answers to {} steps", answers.len(), steps.len());
            return Err(KernelError::Write { stage, reason });
        }
        for (step, answer) in steps.iter().zip(answers) {
            match answer {
                Ok(()) => {
                    outcome.done += 1;
                    if outcome.written.len() < MOST_NAMED {
                        outcome.written.push(step.object());
                    }
                }
                // The first refusal is the cause, later ones of the same object follow from it.
                Err(refusal) => {
                    outcome.refusals.entry(step.object()).or_insert((step.operation(), refusal));
                }
            }
        }
    }
    Ok(outcome)
}

fn report(spec: &Spec, desired: &Desired, actual: &Actual, changes: &ChangeSet, outcome: Outcome) -> Report {
    let mut differing: Vec<Difference> = Vec::new();
    for entry in &spec.invalid {
        let problem = format!("{} {:?}: {}", entry.field, entry.value, entry.expected);
        differing.push(Difference { object: entry.object.clone(), problem });
    }
    for refused in &desired.refused {
        differing.push(Difference { object: refused.object.clone(), problem: refused.reason.clone() });
    }
    // Where a NodeConfig asks for nothing of it, what cannot be there needs no reading.
    if desired.firewall.is_some() || !actual.firewall.absent {
        differing.extend(
            actual
                .firewall
                .unreadable
                .iter()
                .map(|problem| Difference { object: "firewall".to_owned(), problem: problem.clone() }),
        );
    }
    let remaining = by_object(changes);
    for step in changes.steps() {
        let object = step.object();
        // One line for each object, though it may take two steps to make it anew.
        if remaining.get(&object).is_some_and(|last| !std::ptr::eq(*last, step)) {
            continue;
        }
        let problem = match outcome.refusals.get(&object) {
            Some((operation, refusal)) => {
                format!("cannot {operation}: {refusal}{}", holder(step, refusal, &actual.host))
            }
            None => {
                format!("differs again after it was set ({}): somebody else changes it", step.operation())
            }
        };
        differing.push(Difference { object, problem });
    }
    Report {
        desired: desired.len() + spec.invalid.len() + desired.refused.len(),
        changed: outcome.done,
        written: outcome.written,
        differing,
        notices: notices(desired, &actual.host),
        unsupported: spec.unsupported.clone(),
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
    let groups = desired.nexthops.values().any(|nexthop| matches!(nexthop, crate::Nexthop::Group { .. }));
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
