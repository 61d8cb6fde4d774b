//! `x-kubernetes-validations`: rules in the Common Expression Language.
//!
//! A rule is parsed once, when its schema is compiled, and rewritten so that it keeps to a [`Budget`]: when that is spent
//! all loops end, and the object is refused whatever the rule came to.

mod budget;
mod rule;
mod types;
mod values;

use std::sync::{Arc, LazyLock};

use kube_cel::KubeCelExt as _;
use kube_cel::cel::objects::OptionalValue;
use kube_cel::cel::{Context, ExecutionError, Value as Cel};
use serde_json::Value;

use crate::Schema;
use crate::cause::Cause;
use crate::limits::same;
use crate::listkeys::Counterparts;
use crate::node::{Node, NodeId};
use crate::path::Path;
use budget::Budget;
use rule::Expression;
pub(crate) use rule::Rule;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
/// `messageExpression`s may come to no more than this (5 KiB, as in kube-apiserver).
const MAX_MESSAGE: usize = 5 * 1024;

/// Rules run on no object larger than this, which is more than an API server accepts in one request.
const MAX_SIZE: usize = 4 * 1024 * 1024;
/// Functions that compare every item with every other run on none larger than this.
const MAX_SIZE_QUADRATIC: usize = 64 * 1024;

/// Conversions of values need no budget.
static FUNCTIONS: LazyLock<Context<'static>> = LazyLock::new(|| Context::default().with_all());

pub(crate) fn has_rules(schema: &Schema) -> bool {
    schema.nodes.iter().any(|node| !node.rules.is_empty())
}

/// What the rules of the schema say against `new`.
pub(crate) fn check(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    if !has_rules(schema) {
        return Vec::new();
    }
    let mut walk =
        Walk { schema, path: Path::default(), causes: Vec::new(), budget: Budget::start(), functions: None };
    walk.value(&Pair { new, old, unchanged: false }, schema.root);
    walk.causes
}

struct Walk<'s> {
    schema: &'s Schema,
    path: Path,
    causes: Vec<Cause>,
    budget: Arc<Budget>,
    /// Made when the first rule runs.
    functions: Option<Context<'static>>,
}

/// A value and what it continues.
struct Pair<'v> {
    new: &'v Value,
    old: Option<&'v Value>,
    /// It stands in something that is as it was.
    unchanged: bool,
}

impl Walk<'_> {
    fn value(&mut self, pair: &Pair<'_>, id: NodeId) {
        if pair.new.is_null() || self.budget.is_spent() {
            return;
        }
        let node = self.schema.node(id);
        let unchanged = pair.unchanged || pair.old.is_some_and(|old| same(old, pair.new));
        let pair = Pair { unchanged, ..*pair };
        self.rules(&pair, node, id);
        for branch in &node.all_of {
            self.value(&pair, *branch);
        }
        match pair.new {
            Value::Object(members) => {
                for (name, member) in members {
                    let Some(id) = node.member(name) else { continue };
                    let old = pair.old.filter(|_| !node.atomic_map).and_then(|old| old.get(name));
                    if node.properties.contains_key(name) {
                        self.path.push_field(name)
                    } else {
                        self.path.push_key(name)
                    }
                    self.value(&Pair { new: member, old, unchanged }, id);
                    self.path.pop();
                }
            }
            Value::Array(items) => {
                let Some(id) = node.items else { return };
                let before = Counterparts::of(&node.list_type, pair.old);
                for (i, item) in items.iter().enumerate() {
                    self.path.push_index(i);
                    self.value(&Pair { new: item, old: before.get(item), unchanged }, id);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, pair: &Pair<'_>, node: &Node, id: NodeId) {
        // A rule without oldSelf on what has not changed can only repeat itself: it is not held against the writer.
        let due = |rule: &&Rule| {
            let comparable = !rule.uses_old || pair.old.is_some() || rule.optional_old;
            comparable && (rule.uses_old || !pair.unchanged)
        };
        let rules: Vec<&Rule> = node.rules.iter().filter(due).collect();
        if rules.is_empty() {
            return;
        }
        let functions = self.functions.take().unwrap_or_else(|| self.budget.functions());
        let scope = Scope {
            functions: &functions,
            this: values::to_cel(self.schema, pair.new, Some(id)),
            old: pair.old.map(|old| values::to_cel(self.schema, old, Some(id))),
            size: values::size(pair.new) + pair.old.map_or(0, values::size),
        };
        for rule in rules {
            let cause = self.rule(rule, &scope, pair.new, node);
            self.causes.extend(cause);
            if self.budget.is_spent() {
                break;
            }
        }
        self.functions = Some(functions);
    }

    fn rule(&self, rule: &Rule, scope: &Scope<'_>, value: &Value, node: &Node) -> Option<Cause> {
        let path = self.path.bracketed();
        let kind = Value::from(node.types.first().map_or("", |kind| kind.name()));
        let result = self.evaluate(&rule.expression, rule, scope);
        if self.budget.is_spent() {
            return Some(Cause::invalid(&path, &kind, OUT_OF_BUDGET));
        }
        match result {
            Ok(Cel::Bool(true)) => None,
            Ok(Cel::Bool(false)) => {
                let detail = self.message(rule, scope);
                let at = rule.field_path.as_ref().map_or_else(|| path.clone(), |below| joined(&path, below));
                Some(rule.cause(&at, value, &detail))
            }
            Ok(_) => Some(Cause::invalid(
                &path,
                &kind,
                &format!("a rule must evaluate to true or false: {}", rule.shown()),
            )),
            Err(error) => {
                Some(Cause::invalid(&path, &kind, &format!("{error} evaluating rule: {}", rule.shown())))
            }
        }
    }

    fn evaluate(
        &self,
        expression: &Expression,
        rule: &Rule,
        scope: &Scope<'_>,
    ) -> Result<Cel, ExecutionError> {
        if scope.size > MAX_SIZE || expression.is_quadratic && scope.size > MAX_SIZE_QUADRATIC {
            self.budget.exhaust();
            return Ok(Cel::Null);
        }
        let mut context = scope.functions.new_inner_scope();
        context.add_variable_from_value("self", scope.this.clone());
        let old = if rule.optional_old {
            let old = scope.old.clone().map_or_else(OptionalValue::none, OptionalValue::of);
            Some(Cel::Opaque(Arc::new(old)))
        } else {
            scope.old.clone()
        };
        if let Some(old) = old {
            context.add_variable_from_value("oldSelf", old);
        }
        context.resolve(&expression.tree)
    }

    fn message(&self, rule: &Rule, scope: &Scope<'_>) -> String {
        let spoken = rule.message_expression.as_ref().and_then(|expression| {
            match self.evaluate(expression, rule, scope) {
                Ok(Cel::String(text)) => Some(text.trim().to_owned()),
                _ => None,
            }
        });
        let usable =
            spoken.filter(|text| !text.is_empty() && !text.contains('\n') && text.len() <= MAX_MESSAGE);
        usable.unwrap_or_else(|| rule.message_or_default())
    }
}

/// What an expression may refer to.
struct Scope<'c> {
    functions: &'c Context<'static>,
    this: Cel,
    old: Option<Cel>,
    /// Of both together, in bytes.
    size: usize,
}

fn joined(path: &str, below: &str) -> String {
    if path == "<nil>" { below.to_owned() } else { format!("{path}.{below}") }
}
