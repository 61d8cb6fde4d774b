//! Server-side apply, as `sigs.k8s.io/structured-merge-diff` and `k8s.io/apimachinery/pkg/util/managedfields` do it.
//!
//! A configuration is a manager's whole intent. It is laid over the stored object; what the manager applied before and no
//! longer does goes away, unless somebody else owns it too; where it would change what another manager owns, the apply
//! is refused, or takes the field over if it is forced.

use serde_json::{Value, json};

use crate::fields::{Element, Entry, Managed, Set, compare, merge, remove, to_fields};
use crate::limits::same;
use crate::ownership::{Taken, conflicts, dispossess, without_server_fields};
use crate::update::{forget_owners, record};
use crate::{Manager, Operation, Schema, intent, lastapplied};

/// Owns what an object had before it was first applied to, where nobody else is known to.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// A field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// As kubectl prints it: `.spec.replicas`, `.spec.ports[port=80].name`. The cause's `field`; its reason is `FieldManagerConflict`.
    pub field: String,
    /// `conflict with "kubectl-client-side-apply" using v1`. The cause's `message`.
    pub message: String,
}

/// Why an apply is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 409 `Conflict`; the error's text is the status message.
    #[error("{}", conflict_text(.0))]
    Conflicts(Vec<Conflict>),
    /// 400 `BadRequest` (or 500 where stored managedFields cannot be read): the text says what cannot be merged and why.
    #[error("{0}")]
    Invalid(String),
    /// 500: the configuration does not have the types of the schema, or says what the schema does not know.
    #[error("{0}")]
    Untyped(String),
}

/// Merges `applied` (the whole intent of `manager`) into `live` and returns the object to store, defaulted, with
/// `metadata.managedFields` brought up to date. The result equals `live` when nothing changed, times included.
///
/// With a status subresource, an apply to `""` leaves `status` alone, and one to `"status"` all else. A
/// `resourceVersion` or `uid` in `applied` is the caller's to check, as is the identity of the object.
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let applied = intent::of(schema, applied, manager)?;
    let nothing = json!({"apiVersion": applied.get("apiVersion"), "kind": applied.get("kind")});
    let stored = live.unwrap_or(&nothing);
    let mut before = stored.clone();
    forget_owners(&mut before);
    let mut managed = Managed::of(stored).map_err(ApplyError::Invalid)?;
    if managed.entries.is_empty() {
        managed =
            record(schema, &nothing, &before, managed, &Manager { name: BEFORE_FIRST_APPLY, ..*manager });
    }
    let request = Request { schema, before: &before, applied: &applied, manager };
    let outcome = request.attempt(managed.clone(), force).or_else(|taken| request.migrate(managed, taken))?;
    Ok(request.finish(outcome, live))
}

struct Request<'a> {
    schema: &'a Schema,
    /// The stored object without its owners.
    before: &'a Value,
    applied: &'a Value,
    manager: &'a Manager<'a>,
}

struct Outcome {
    object: Value,
    managed: Managed,
}

impl Request<'_> {
    fn attempt(&self, mut managed: Managed, force: bool) -> Result<Outcome, Vec<Taken>> {
        let mut entry = Entry::new(self.manager, Operation::Apply);
        let last = managed.take(&entry);
        entry.fields = to_fields(self.schema, self.applied);
        let merged = merge(self.schema, self.before, self.applied);
        let object = match &last {
            Some(last) if !last.fields.difference(&entry.fields).is_empty() => {
                self.without_withdrawn(&merged, &last.fields, &managed.all_fields().union(&entry.fields))
            }
            _ => merged,
        };
        let change =
            self.schema.writable(self.manager.subresource, compare(self.schema, self.before, &object));
        let taken = conflicts(&managed, &change);
        if !force && !taken.is_empty() {
            return Err(taken);
        }
        dispossess(&mut managed, &change);
        entry.fields = without_server_fields(&entry.fields);
        entry.time = (!self.manager.time.is_empty()).then(|| self.manager.time.to_owned());
        managed.entries.push(entry);
        Ok(Outcome { object, managed })
    }

    /// kubectl goes over from client-side apply: what it itself applied last time is its own to change.
    fn migrate(&self, managed: Managed, taken: Vec<Taken>) -> Result<Outcome, ApplyError> {
        let allowed = if self.manager.name == lastapplied::MANAGER {
            lastapplied::still_in_force(self.schema, self.before, self.manager)
        } else {
            None
        };
        let refused: Vec<&Taken> = taken
            .iter()
            .filter(|taken| !allowed.as_ref().is_some_and(|allowed| allowed.has(&taken.path)))
            .collect();
        if refused.is_empty() {
            return self
                .attempt(managed, true)
                .map_err(|taken| ApplyError::Conflicts(taken.iter().map(Conflict::of).collect()));
        }
        let mut conflicts: Vec<Conflict> = refused.into_iter().map(Conflict::of).collect();
        conflicts.sort_by(|left, right| (&left.message, &left.field).cmp(&(&right.message, &right.field)));
        Err(ApplyError::Conflicts(conflicts))
    }

    /// Removes what the manager applied last time, does not apply this time, and nobody else owns.
    fn without_withdrawn(&self, merged: &Value, last: &Set, owned: &Set) -> Value {
        let schema = self.schema;
        let root = schema.root_type();
        let named = |set: &Set| set.with_named_parents(schema, root);
        let fields_of = |object: &Value| named(&to_fields(schema, object));
        let (last, owned, all) = (named(last), named(owned), fields_of(merged));

        let without_last = remove(schema, root, merged, &last);
        let without_unowned =
            remove(schema, root, merged, &all.difference(&fields_of(&without_last).union(&owned)));
        let withdrawn = all.difference(&fields_of(&without_unowned)).intersection(&last).difference(&owned);
        remove(schema, root, merged, &withdrawn)
    }

    fn finish(&self, outcome: Outcome, live: Option<&Value>) -> Value {
        let Outcome { mut object, managed } = outcome;
        if self.manager.name == lastapplied::MANAGER {
            lastapplied::renew(&mut object, self.applied);
        }
        self.schema.apply_defaults(&mut object);
        managed.write_to(&mut object);
        match live {
            Some(live) if same(&without_times(live), &without_times(&object)) => live.clone(),
            _ => object,
        }
    }
}

/// An apply that changes no more than times is none.
fn without_times(object: &Value) -> Value {
    let mut object = object.clone();
    let entries = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
    for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
        entry.remove("time");
    }
    object
}

impl Conflict {
    fn of(taken: &Taken) -> Conflict {
        Conflict {
            field: taken.path.iter().map(Element::to_string).collect(),
            message: format!("conflict with {}", taken.owner.shown()),
        }
    }
}

fn conflict_text(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", only.message, only.field);
    }
    let mut lines = Vec::new();
    let mut owner = "";
    for conflict in conflicts {
        if conflict.message != owner {
            owner = &conflict.message;
            lines.push(format!("{}:", owner.replacen("conflict", "conflicts", 1)));
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
