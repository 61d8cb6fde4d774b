//! What the rules of one object may cost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kube_cel::cel::Value as Cel;
use kube_cel::cel::context::VariableResolver;

use super::rule::Expression;

/// Turns of loops, over all rules of one object.
const STEPS: u64 = 1_000_000;
/// A turn may be dear (lists are copied), so there is a second bound, far above what honest rules need. This is the
/// one place here that looks at a clock: its answer is "refused", never a different result.
const TIME: Duration = Duration::from_secs(2);
/// What one turn of a loop that builds texts costs: one step for so many bytes of the object, since it may copy all of it.
const BYTES_PER_STEP: u64 = 16;
/// Functions that compare every item with every other run only on objects with at most so many bytes.
const QUADRATIC_SIZE: usize = 64 * 1024;
/// No rule runs on an object larger than this, which is more than an API server accepts in one request.
const SIZE: usize = 4 * 1024 * 1024;

/// The name that the loops of a rule ask.
pub(super) const WITHIN: &str = "@within";

/// Steps and time that are left. Shared by reference with the interpreter, hence the atomics.
pub(super) struct Budget {
    steps: AtomicU64,
    /// What one turn costs in the rule that runs.
    weight: AtomicU64,
    spent: AtomicBool,
    deadline: Instant,
}

impl Budget {
    pub(super) fn start() -> Budget {
        Budget {
            steps: AtomicU64::new(STEPS),
            weight: AtomicU64::new(1),
            spent: AtomicBool::new(false),
            deadline: Instant::now() + TIME,
        }
    }

    /// Prepares for one expression over `size` bytes of variables.
    pub(super) fn weigh(&self, expression: &Expression, size: usize) {
        let bytes = size as u64;
        let weight = if expression.builds_texts { 1 + bytes / BYTES_PER_STEP } else { 1 };
        self.weight.store(weight, Ordering::Relaxed);
        if size > SIZE || expression.is_quadratic && size > QUADRATIC_SIZE {
            self.spent.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }

    /// One turn of a loop: whether there may be another.
    fn turn(&self) -> bool {
        let weight = self.weight.load(Ordering::Relaxed);
        let left = self.steps.load(Ordering::Relaxed);
        if self.is_spent() || left < weight || Instant::now() > self.deadline {
            self.spent.store(true, Ordering::Relaxed);
            return false;
        }
        self.steps.store(left - weight, Ordering::Relaxed);
        true
    }
}

impl VariableResolver for Budget {
    fn resolve(&self, variable: &str) -> Option<Cel> {
        (variable == WITHIN).then(|| Cel::Bool(self.turn()))
    }
}
