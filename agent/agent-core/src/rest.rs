//! What is left as it is because somebody else rewrites it again and again, with everything that hangs on it.

use std::collections::{BTreeMap, BTreeSet};

use api::Vtep;

use crate::actual::Actual;
use crate::model::{Nexthop, Route};
use crate::report::{Cause, Difference};
use crate::step::{ChangeSet, Step};

/// A step that is not done for now.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    pub(crate) step: Step,
    /// The object that is fought over.
    on: String,
}

/// What is not there while it rests, and because of which fight.
#[derive(Debug, Default)]
struct Absent {
    devices: BTreeMap<Vtep, String>,
    nexthops: BTreeMap<u32, String>,
}

/// Takes out of the changes what rests, and what cannot be without it.
pub(crate) fn take(changes: &mut ChangeSet, resting: &BTreeSet<String>, actual: &Actual) -> Vec<Rest> {
    let mut rests = Vec::new();
    if resting.is_empty() {
        return rests;
    }
    let mut absent = Absent::default();
    // Steps come in the order in which they rely on each other.
    changes.retain(|step| {
        let object = step.object();
        let on = if resting.contains(&object) { Some(object) } else { absent.under(step).cloned() };
        let Some(on) = on else { return true };
        absent.note(step, &on, actual);
        rests.push(Rest { step: step.clone(), on });
        false
    });
    rests
}

impl Absent {
    fn note(&mut self, step: &Step, on: &str, actual: &Actual) {
        match step {
            Step::CreateDevice(vtep, _) => drop(self.devices.insert(*vtep, on.to_owned())),
            Step::SetNexthop(id, _) if !actual.nexthops.contains_key(id) => {
                self.nexthops.insert(*id, on.to_owned());
            }
            _ => {}
        }
    }

    /// The fight over what a step cannot do without.
    fn under(&self, step: &Step) -> Option<&String> {
        match step {
            Step::SetSysctl(key, _) => self.devices.get(&key.device),
            Step::AddAddress(vtep, _) | Step::SetFdb(vtep, ..) | Step::SetNeighbour(vtep, ..) => {
                self.devices.get(vtep)
            }
            Step::SetNexthop(_, Nexthop::Single { device, .. }) => self.devices.get(device),
            Step::SetNexthop(_, Nexthop::Group { members, .. }) => {
                members.iter().find_map(|id| self.nexthops.get(id))
            }
            Step::AddRoute(_, Route::Via { nexthop, .. })
            | Step::ReplaceRoute(_, Route::Via { nexthop, .. }) => self.nexthops.get(nexthop),
            _ => None,
        }
    }
}

impl Rest {
    /// Whether it is itself what is fought over.
    pub(crate) fn is_cause(&self) -> bool {
        self.step.object() == self.on
    }

    pub(crate) fn difference(&self) -> Difference {
        let object = self.step.object();
        let problem = if object == self.on {
            "somebody else changes it again and again; it is left as it is for some seconds".to_owned()
        } else {
            format!("waits for {}, which somebody else changes again and again", self.on)
        };
        Difference { kind: self.step.kind(), object, problem, cause: Cause::Contended }
    }
}
