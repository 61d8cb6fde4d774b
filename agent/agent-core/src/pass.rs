//! One pass: read, resolve, compare, apply stage by stage, read again, report.

use std::collections::BTreeSet;

use crate::actual::Actual;
use crate::desired::{Desired, Known};
use crate::diff::diff;
use crate::hold::Held;
use crate::kernel::{Kernel, KernelError, Reading, Refusal};
use crate::linger::{Lingering, Spared};
use crate::report::{Found, Outcome, Report};
use crate::rest::{self, Rest};
use crate::restore::only_additions;
use crate::spec::Spec;
use crate::step::{ChangeSet, Stage, Step};

/// What was in the way of an addition goes only after it (an address that becomes somebody else's gateway): then
/// there is a second round.
const MOST_ROUNDS: usize = 2;

/// How many of the objects that were written are named.
const MOST_NAMED: usize = 16;

/// How much a NodeConfig may decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The kernel becomes equal to it.
    Full,
    /// So it does, but what may linger stays for now.
    Lingering(Spared),
    /// What it asks for and is not there is added; what is there is neither changed nor taken away. Who does not know
    /// whether a NodeConfig is the latest one says this.
    Additions,
}

/// What a pass is made of.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The NodeConfig.
    pub spec: &'a Spec,
    /// What is known of this host from elsewhere.
    pub known: &'a Known,
    /// How to begin. What was written is always looked at again.
    pub reading: Reading,
    /// How much the NodeConfig may decide.
    pub authority: &'a Authority,
    /// Objects (by [`Step::object`]) that are left as they are: somebody else rewrites them again and again.
    pub resting: &'a BTreeSet<String>,
}

impl<'a> Pass<'a> {
    /// A reading of everything, and full authority.
    pub fn new(spec: &'a Spec, known: &'a Known) -> Self {
        static NOTHING: BTreeSet<String> = BTreeSet::new();
        Pass { spec, known, reading: Reading::Whole, authority: &Authority::Full, resting: &NOTHING }
    }
}

/// Makes a kernel equal to a NodeConfig, as far as it lets itself.
pub fn pass(kernel: &mut impl Kernel, spec: &Spec, known: &Known) -> Result<Report, KernelError> {
    Pass::new(spec, known).run(kernel)
}

/// Removes everything of ours, and nothing else.
pub fn cleanup(kernel: &mut impl Kernel) -> Result<Report, KernelError> {
    Pass::new(&Spec::default(), &Known::default()).run(kernel)
}

/// Compares a kernel with a NodeConfig and writes nothing; what may linger by this authority is told as lingering.
pub fn inspect(
    kernel: &mut impl Kernel,
    spec: &Spec,
    known: &Known,
    authority: &Authority,
) -> Result<Report, KernelError> {
    let pass = Pass { authority, ..Pass::new(spec, known) };
    let view = pass.look(kernel, Reading::Whole, pass.authority)?;
    let outcome = Outcome { untried: true, ..Outcome::default() };
    Ok(pass.report(&view, kernel, outcome))
}

/// What one reading led to.
struct View {
    desired: Desired,
    changes: ChangeSet,
    withheld: usize,
    lingering: BTreeSet<String>,
    rests: Vec<Rest>,
}

impl Pass<'_> {
    /// Runs it.
    pub fn run(&self, kernel: &mut impl Kernel) -> Result<Report, KernelError> {
        let mut authority = self.authority;
        let mut view = self.look(kernel, self.reading, authority)?;
        let mut outcome = Outcome::default();
        let mut rounds = MOST_ROUNDS;
        while rounds > 0 && !view.changes.is_empty() {
            rounds -= 1;
            let made_room = view.changes.stages().any(|(stage, _)| stage.deletes());
            let host = (kernel.actual().host.clone(), kernel.actual().devices.clone());
            outcome.take(apply(kernel, &view));
            kernel.read(Reading::Current)?;
            let actual = kernel.actual();
            let same_host = (&actual.host, &actual.devices) == (&host.0, &host.1);
            if same_host && view.withheld == 0 && view.lingering.is_empty() && self.is_so(&view, actual) {
                // On the same host the same is wanted, and there it is.
                view.changes = ChangeSet::default();
                break;
            }
            let hindered = outcome.is_refused_by_kernel() && matches!(authority, Authority::Lingering(_));
            if hindered {
                // Perhaps by what lingers.
                (authority, rounds) = (&Authority::Full, MOST_ROUNDS);
            }
            // Before anything is said to differ, it is looked at itself.
            view = self.look(kernel, Reading::Whole, authority)?;
            if !made_room && !hindered {
                break;
            }
        }
        Ok(self.report(&view, kernel, outcome))
    }

    fn is_so(&self, view: &View, actual: &Actual) -> bool {
        diff(&view.desired, actual, &self.spec.doubtful()).is_empty()
    }

    fn look(
        &self,
        kernel: &mut impl Kernel,
        reading: Reading,
        authority: &Authority,
    ) -> Result<View, KernelError> {
        kernel.read(reading)?;
        let actual = kernel.actual();
        let mut desired = Desired::resolve(self.spec, actual, self.known);
        let linger = match authority {
            Authority::Lingering(spared) => Some(Lingering {
                spared,
                actual,
                protected: desired.protected(self.spec, actual, self.known),
            }),
            Authority::Full | Authority::Additions => None,
        };
        let mut lingering = linger.as_ref().map(|linger| linger.widen(&mut desired)).unwrap_or_default();
        let mut changes = diff(&desired, actual, &self.spec.doubtful());
        lingering.extend(linger.into_iter().flat_map(|linger| linger.withhold(&mut changes, &desired)));
        let withheld = match authority {
            Authority::Additions => only_additions(&mut changes, actual),
            Authority::Full | Authority::Lingering(_) => 0,
        };
        let rests = rest::take(&mut changes, self.resting, actual);
        Ok(View { desired, changes, withheld, lingering, rests })
    }

    fn report(&self, view: &View, kernel: &impl Kernel, outcome: Outcome) -> Report {
        let found = Found {
            spec: self.spec,
            desired: &view.desired,
            actual: kernel.actual(),
            remaining: &view.changes,
            withheld: view.withheld,
            lingering: &view.lingering,
            rests: &view.rests,
        };
        found.report(outcome)
    }
}

impl Outcome {
    /// Whether the kernel itself refused something: a program that is missing hinders in another way.
    fn is_refused_by_kernel(&self) -> bool {
        self.refusals.values().any(|(_, refusal)| refusal.errno.is_some())
    }

    /// What is refused in the last round counts.
    fn take(&mut self, next: Outcome) {
        for (kind, count) in next.done {
            *self.done.entry(kind).or_default() += count;
        }
        let room = MOST_NAMED.saturating_sub(self.written.len());
        self.written.extend(next.written.into_iter().take(room));
        self.refusals = next.refusals;
        self.broken += next.broken;
    }

    fn note(&mut self, step: &Step, answer: Result<(), Refusal>, held: &mut Held) {
        match answer {
            Ok(()) => {
                *self.done.entry(step.kind()).or_default() += 1;
                if self.written.len() < MOST_NAMED {
                    self.written.push(step.object());
                }
            }
            Err(refusal) => {
                held.note(step);
                // The first refusal is the cause, later ones of the same object follow from it.
                self.refusals.entry(step.object()).or_insert((step.operation(), refusal));
            }
        }
    }
}

/// Every step is tried, whatever became of those that it does not rely on; the next reading says what came of it.
fn apply(kernel: &mut impl Kernel, view: &View) -> Outcome {
    let mut outcome = Outcome::default();
    let mut held = Held::default();
    // What rests is not there, as if it had been refused.
    view.rests.iter().for_each(|rest| held.note(&rest.step));
    for (stage, steps) in view.changes.stages() {
        let (steps, waiting) = held.part(stage, steps, kernel.actual());
        for (step, reason) in waiting {
            outcome.note(step, Err(Refusal::without_errno(reason)), &mut held);
        }
        if steps.is_empty() {
            continue;
        }
        let answers = answers(kernel, stage, &steps).unwrap_or_else(|reason| {
            // Nobody knows what was done: each step counts as refused until it is read again.
            outcome.broken += 1;
            vec![Err(Refusal::without_errno(reason)); steps.len()]
        });
        for (step, answer) in steps.iter().zip(answers) {
            outcome.note(step, answer, &mut held);
        }
    }
    outcome
}

/// An answer for each step, or why the conversation broke off.
fn answers(
    kernel: &mut impl Kernel,
    stage: Stage,
    steps: &[Step],
) -> Result<Vec<Result<(), Refusal>>, String> {
    let answers = kernel.apply(stage, steps).map_err(|error| error.to_string())?;
    if answers.len() == steps.len() {
        return Ok(answers);
    }
    Err(format!("{} answers to {} steps", answers.len(), steps.len()))
}
