//! One rule, parsed, with a budget built into its loops.

use kube_cel::cel::common::ast::operators;
use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use kube_cel::cel::parser::Parser;
use serde_json::{Map, Value};

use super::budget::{APPENDED, CHARGED, SUM, WITHIN};
use crate::cause::Cause;
use crate::compile::{CompileError, fault};

/// Functions that compare every item with every other.
const QUADRATIC: [&str; 3] = ["contains", "equivalent", "intersects"];
/// A text is formatted with no more places than this: each may stand for as much as the object holds.
const MAX_PLACES: usize = 16;

/// An entry of `x-kubernetes-validations`.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(super) expression: Expression,
    pub(super) message_expression: Option<Expression>,
    pub(super) uses_old: bool,
    pub(super) optional_old: bool,
    /// Where the fault is shown, below the value that the rule is about.
    pub(super) field_path: Option<String>,
    text: String,
    message: String,
    reason: String,
}

/// A parsed expression that keeps to the budget.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) tree: IdedExpr,
    /// It compares every item of a list with every other, in one call.
    pub(super) is_quadratic: bool,
    uses_old: bool,
}

impl Rule {
    pub(crate) fn compile_all(keywords: &Map<String, Value>, path: &str) -> Result<Vec<Rule>, CompileError> {
        let rules = keywords.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
        rules
            .enumerate()
            .map(|(i, rule)| Rule::compile(rule, &format!("{path}.x-kubernetes-validations[{i}]")))
            .collect()
    }

    fn compile(rule: &Value, path: &str) -> Result<Rule, CompileError> {
        let word = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
        let text = word("rule");
        let expression = Expression::parse(&text, &format!("{path}.rule"))?;
        let message_expression = match word("messageExpression") {
            text if text.is_empty() => None,
            text => Some(Expression::parse(&text, &format!("{path}.messageExpression"))?),
        };
        let field_path = match word("fieldPath") {
            text if text.is_empty() => None,
            text => Some(field_path(&text).ok_or_else(|| {
                fault(path, format!("fieldPath `{text}` is not of the form .a.b or ['a']"))
            })?),
        };
        Ok(Rule {
            uses_old: expression.uses_old,
            optional_old: rule.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or(false),
            expression,
            message_expression,
            field_path,
            text,
            message: word("message"),
            reason: word("reason"),
        })
    }

    pub(super) fn cause(&self, path: &str, value: &Value, detail: &str) -> Cause {
        match self.reason.as_str() {
            "FieldValueForbidden" => Cause::forbidden(path, detail),
            "FieldValueRequired" => Cause::required(path, detail),
            "FieldValueDuplicate" => Cause::duplicate(path, value),
            _ if value.is_object() || value.is_array() => Cause::invalid_whole(path, detail),
            _ => Cause::invalid(path, value, detail),
        }
    }

    /// How a rule is named where it cannot be evaluated.
    pub(super) fn shown(&self) -> &str {
        if self.message.is_empty() { &self.text } else { &self.message }
    }

    pub(super) fn message_or_default(&self) -> String {
        if self.message.is_empty() { format!("failed rule: {}", self.text) } else { self.message.clone() }
    }
}

impl Expression {
    fn parse(text: &str, path: &str) -> Result<Expression, CompileError> {
        let parsed = Parser::new().enable_optional_syntax(true).parse(text);
        let mut tree =
            parsed.map_err(|error| fault(path, format!("`{text}` is not a CEL expression: {error}")))?;
        let mut rewriting = Rewriting { uses_old: false, is_quadratic: false };
        rewriting
            .node(&mut tree, None)
            .map_err(|what| fault(path, format!("`{text}`: {what} are not supported")))?;
        Ok(Expression { tree, is_quadratic: rewriting.is_quadratic, uses_old: rewriting.uses_old })
    }
}

/// Puts the budget into an expression, and notes what it does.
struct Rewriting {
    uses_old: bool,
    is_quadratic: bool,
}

impl Rewriting {
    /// `accumulator` is that of the innermost loop around the node.
    fn node(&mut self, node: &mut IdedExpr, accumulator: Option<&str>) -> Result<(), &'static str> {
        let builds = match &mut node.expr {
            Expr::Unspecified => return Err("empty expressions"),
            Expr::Struct(_) => return Err("messages (`Type{field: value}`)"),
            Expr::Literal(_) => false,
            Expr::Ident(name) => {
                self.uses_old |= name == "oldSelf";
                false
            }
            Expr::Select(select) => {
                self.node(&mut select.operand, accumulator)?;
                false
            }
            Expr::List(list) => {
                list.elements.iter_mut().try_for_each(|element| self.node(element, accumulator))?;
                !list.elements.is_empty()
            }
            Expr::Map(map) => {
                map.entries.iter_mut().try_for_each(|entry| self.entry(&mut entry.expr, accumulator))?;
                !map.entries.is_empty()
            }
            Expr::Call(call) => self.call(call, accumulator)?,
            Expr::Comprehension(comprehension) => {
                self.turns(comprehension, accumulator)?;
                false
            }
        };
        // Outside of loops a rule builds no more than its text has places for.
        if builds && accumulator.is_some() {
            let built = std::mem::take(node);
            *node = call_of(CHARGED, vec![built]);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut EntryExpr, accumulator: Option<&str>) -> Result<(), &'static str> {
        let EntryExpr::MapEntry(entry) = entry else { return Err("messages (`Type{field: value}`)") };
        self.node(&mut entry.key, accumulator)?;
        self.node(&mut entry.value, accumulator)
    }

    /// Whether the result of the call is yet to be charged.
    fn call(&mut self, call: &mut CallExpr, accumulator: Option<&str>) -> Result<bool, &'static str> {
        let name = call.func_name.rsplit('.').next().unwrap_or_default();
        self.is_quadratic |= QUADRATIC.contains(&name) && call.args.len() == 2;
        if name == "format" && !call.target.as_deref().is_some_and(is_short_format) {
            return Err("formats that are not a literal with a few places");
        }
        let first = call.args.first().map(|arg| &arg.expr);
        let appends = matches!(first, Some(Expr::Ident(first)) if Some(first.as_str()) == accumulator);
        if let Some(target) = &mut call.target {
            self.node(target, accumulator)?;
        }
        if call.func_name == operators::ADD {
            call.func_name = if appends { APPENDED.to_owned() } else { SUM.to_owned() };
            let [left, right] = call.args.as_mut_slice() else { return Err("sums of one") };
            self.node(left, accumulator)?;
            // The list around an appended item is the macro's own: its size is charged with it.
            let right = match &mut right.expr {
                Expr::List(list) if appends => list.elements.as_mut_slice(),
                _ => std::slice::from_mut(right),
            };
            right.iter_mut().try_for_each(|part| self.node(part, accumulator))?;
            return Ok(false);
        }
        call.args.iter_mut().try_for_each(|arg| self.node(arg, accumulator))?;
        Ok(!call.func_name.contains(['_', '@', '!']))
    }

    fn turns(
        &mut self,
        comprehension: &mut ComprehensionExpr,
        outer: Option<&str>,
    ) -> Result<(), &'static str> {
        if comprehension.iter_var2.is_some() {
            return Err("loops over two variables");
        }
        let accumulator = comprehension.accu_var.clone();
        self.node(&mut comprehension.iter_range, outer)?;
        self.node(&mut comprehension.accu_init, outer)?;
        for part in [&mut comprehension.loop_cond, &mut comprehension.loop_step, &mut comprehension.result] {
            self.node(part, Some(&accumulator))?;
        }
        let condition = std::mem::take(&mut comprehension.loop_cond);
        comprehension.loop_cond =
            call_of(operators::LOGICAL_AND, vec![call_of(WITHIN, Vec::new()), condition]);
        Ok(())
    }
}

fn call_of(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    let call = CallExpr { func_name: name.to_owned(), target: None, args };
    IdedExpr { id: 0, expr: Expr::Call(call) }
}

fn is_short_format(target: &IdedExpr) -> bool {
    matches!(&target.expr, Expr::Literal(LiteralValue::String(text)) if text.inner().matches('%').count() <= MAX_PLACES)
}

/// `.a.b['c']` as kube-apiserver prints it below another path: `a.b.c`.
fn field_path(text: &str) -> Option<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let name;
        (name, rest) = if let Some(quoted) = rest.strip_prefix("['") {
            quoted.split_once("']")?
        } else {
            let plain = rest.strip_prefix('.')?;
            plain.split_at(plain.find(['.', '[']).unwrap_or(plain.len()))
        };
        names.push(name);
    }
    let sound = !names.is_empty() && names.iter().all(|name| !name.is_empty());
    sound.then(|| names.join("."))
}
