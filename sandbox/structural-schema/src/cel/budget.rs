//! What the rules of one object may cost: turns of loops, bytes that they build, and time.
//!
//! The interpreter knows no bounds. [`super::rule`] therefore rewrites each rule so that it calls the functions that
//! [`Budget::functions`] adds: loops ask `@within` for each further turn, and what a rule builds is charged by its size
//! before it can be built upon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kube_cel::KubeCelExt as _;
use kube_cel::cel::extractors::{Arguments, This};
use kube_cel::cel::objects::Key;
use kube_cel::cel::{Context, ExecutionError, ResolveResult, Value as Cel};

use super::types;

/// Turns of loops, over all rules of one object.
const TURNS: u64 = 500_000;
/// Bytes that all rules of one object may build.
const BYTES: u64 = 32 * 1024 * 1024;
/// A turn may be dear (the interpreter copies lists), so there is a third bound, far above what honest rules need, also
/// where most of the machine's time is others'. This is the one place here that looks at a clock: its answer is
/// "refused", never a different result.
const TIME: Duration = Duration::from_secs(10);

/// Whether a loop may take a further turn.
pub(super) const WITHIN: &str = "@within";
/// Its argument, charged by its size.
pub(super) const CHARGED: &str = "@charged";
/// The sum of its arguments, charged by the size of the second: `map` and `filter` append to what has been paid for.
pub(super) const APPENDED: &str = "@appended";
/// The sum of its arguments, charged by its size.
pub(super) const SUM: &str = "@sum";

/// What is left. Shared with the interpreter's functions, hence the atomics.
pub(super) struct Budget {
    turns: AtomicU64,
    bytes: AtomicU64,
    spent: AtomicBool,
    deadline: Instant,
}

impl Budget {
    pub(super) fn start() -> Arc<Budget> {
        Arc::new(Budget {
            turns: AtomicU64::new(TURNS),
            bytes: AtomicU64::new(BYTES),
            spent: AtomicBool::new(false),
            deadline: Instant::now() + TIME,
        })
    }

    pub(super) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }

    /// Ends everything: what is to come costs more than there is.
    pub(super) fn exhaust(&self) {
        self.spent.store(true, Ordering::Relaxed);
    }

    /// All functions of Kubernetes, within this budget.
    pub(super) fn functions(self: &Arc<Budget>) -> Context<'static> {
        let mut context = Context::default().with_all();
        types::declare(&mut context);
        let budget = Arc::clone(self);
        context.add_function(WITHIN, move || budget.turn());
        let budget = Arc::clone(self);
        context.add_function(CHARGED, move |value: Cel| budget.charged(value));
        let budget = Arc::clone(self);
        context.add_function(APPENDED, move |list: Cel, item: Cel| {
            budget.pay(size(&item)).and_then(|()| list + item)
        });
        let budget = Arc::clone(self);
        context.add_function(SUM, move |left: Cel, right: Cel| {
            budget.pay(size(&left) + size(&right)).and_then(|()| left + right)
        });
        let budget = Arc::clone(self);
        context.add_function("replace", move |This(text): This<Arc<String>>, Arguments(args): Arguments| {
            budget.replace(&text, &args)
        });
        let budget = Arc::clone(self);
        context.add_function("join", move |This(parts): This<Arc<Vec<Cel>>>, Arguments(args): Arguments| {
            budget.join(&parts, &args)
        });
        context
    }

    fn turn(&self) -> bool {
        let within = take(&self.turns, 1) && Instant::now() <= self.deadline && !self.is_spent();
        if !within {
            self.exhaust();
        }
        within
    }

    fn pay(&self, bytes: u64) -> Result<(), ExecutionError> {
        if self.is_spent() || !take(&self.bytes, bytes) {
            self.exhaust();
            return Err(ExecutionError::function_error("budget", "cost limit exceeded"));
        }
        Ok(())
    }

    fn charged(&self, value: Cel) -> ResolveResult {
        self.pay(size(&value)).map(|()| value)
    }

    /// `text.replace(from, to[, limit])`, paid for before it is made.
    fn replace(&self, text: &str, args: &[Cel]) -> ResolveResult {
        let (Some(Cel::String(from)), Some(Cel::String(to))) = (args.first(), args.get(1)) else {
            return Err(ExecutionError::NoSuchOverload);
        };
        let limit = match args.get(2) {
            None => usize::MAX,
            Some(Cel::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
            Some(_) => return Err(ExecutionError::NoSuchOverload),
        };
        let places = text.matches(from.as_str()).count().min(limit);
        self.pay((text.len() + places.saturating_mul(to.len())) as u64)?;
        Ok(Cel::String(Arc::new(text.replacen(from.as_str(), to, limit))))
    }

    /// `parts.join([separator])`, paid for before it is made.
    fn join(&self, parts: &[Cel], args: &[Cel]) -> ResolveResult {
        let separator = match args.first() {
            None => "",
            Some(Cel::String(separator)) => separator.as_str(),
            Some(_) => return Err(ExecutionError::NoSuchOverload),
        };
        let texts: Option<Vec<&str>> = parts
            .iter()
            .map(|part| if let Cel::String(text) = part { Some(text.as_str()) } else { None })
            .collect();
        let texts = texts.ok_or(ExecutionError::NoSuchOverload)?;
        let length =
            texts.iter().map(|text| text.len()).sum::<usize>() + texts.len().saturating_mul(separator.len());
        self.pay(length as u64)?;
        Ok(Cel::String(Arc::new(texts.join(separator))))
    }
}

fn take(left: &AtomicU64, amount: u64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount)).is_ok()
}

/// Memory of a value, roughly.
fn size(value: &Cel) -> u64 {
    const HEADER: u64 = 32;
    HEADER
        + match value {
            Cel::String(text) => text.len() as u64,
            Cel::Bytes(bytes) => bytes.len() as u64,
            Cel::List(items) => items.iter().map(size).sum(),
            Cel::Map(members) => members.map.iter().map(|(key, member)| key_size(key) + size(member)).sum(),
            _ => 0,
        }
}

fn key_size(key: &Key) -> u64 {
    if let Key::String(name) = key { 32 + name.len() as u64 } else { 32 }
}
