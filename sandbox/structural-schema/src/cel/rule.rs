//! One rule, parsed, with a budget built into its loops.

use kube_cel::cel::common::ast::operators;
use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr};
use kube_cel::cel::parser::Parser;
use serde_json::{Map, Value};

use super::budget::WITHIN;
use crate::cause::Cause;
use crate::compile::{CompileError, fault};

/// Functions whose result can be larger than their arguments.
const BUILDERS: [&str; 6] = ["join", "replace", "format", "flatten", "split", "string"];
/// Functions that compare every item with every other.
const QUADRATIC: [&str; 5] = ["contains", "equivalent", "intersects", "distinct", "sort"];

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

/// A parsed expression and what makes it dear.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) tree: IdedExpr,
    /// A loop in it makes texts or lists out of texts or lists.
    pub(super) builds_texts: bool,
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
        let tree =
            parsed.map_err(|error| fault(path, format!("`{text}` is not a CEL expression: {error}")))?;
        let mut expression = Expression { tree, builds_texts: false, is_quadratic: false, uses_old: false };
        let mut tree = std::mem::take(&mut expression.tree);
        expression
            .prepare(&mut tree, None)
            .map_err(|what| fault(path, format!("`{text}`: {what} are not supported")))?;
        expression.tree = tree;
        Ok(expression)
    }

    /// Notes what the expression does and puts the budget into its loops. `accumulator` is that of the innermost loop.
    fn prepare(&mut self, node: &mut IdedExpr, accumulator: Option<&str>) -> Result<(), &'static str> {
        match &mut node.expr {
            Expr::Unspecified => Err("empty expressions"),
            Expr::Struct(_) => Err("messages (`Type{field: value}`)"),
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => {
                self.uses_old |= name == "oldSelf";
                Ok(())
            }
            Expr::Select(select) => self.prepare(&mut select.operand, accumulator),
            Expr::List(list) => {
                list.elements.iter_mut().try_for_each(|element| self.prepare(element, accumulator))
            }
            Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.prepare(&mut entry.key, accumulator)?;
                    self.prepare(&mut entry.value, accumulator)
                }
                EntryExpr::StructField(_) => Err("messages (`Type{field: value}`)"),
            }),
            Expr::Call(call) => self.prepare_call(call, accumulator),
            Expr::Comprehension(comprehension) => self.prepare_loop(comprehension, accumulator),
        }
    }

    fn prepare_call(&mut self, call: &mut CallExpr, accumulator: Option<&str>) -> Result<(), &'static str> {
        let name = call.func_name.rsplit('.').next().unwrap_or_default();
        // `map` and `filter` append to their own accumulator; that is not the rule's doing.
        let appends = matches!(call.args.first().map(|arg| &arg.expr), Some(Expr::Ident(first)) if Some(first.as_str()) == accumulator);
        let builds = BUILDERS.contains(&name) || call.func_name == operators::ADD && !appends;
        self.builds_texts |= accumulator.is_some() && builds;
        self.is_quadratic |=
            QUADRATIC.contains(&name) && (call.args.len() == 2 || name == "distinct" || name == "sort");
        if let Some(target) = &mut call.target {
            self.prepare(target, accumulator)?;
        }
        call.args.iter_mut().try_for_each(|arg| self.prepare(arg, accumulator))
    }

    fn prepare_loop(
        &mut self,
        comprehension: &mut ComprehensionExpr,
        outer: Option<&str>,
    ) -> Result<(), &'static str> {
        if comprehension.iter_var2.is_some() {
            return Err("loops over two variables");
        }
        let accumulator = comprehension.accu_var.clone();
        self.prepare(&mut comprehension.iter_range, outer)?;
        self.prepare(&mut comprehension.accu_init, outer)?;
        for part in [&mut comprehension.loop_cond, &mut comprehension.loop_step, &mut comprehension.result] {
            self.prepare(part, Some(&accumulator))?;
        }
        let condition = std::mem::take(&mut comprehension.loop_cond);
        let within = IdedExpr { id: condition.id, expr: Expr::Ident(WITHIN.to_owned()) };
        let both = CallExpr {
            func_name: operators::LOGICAL_AND.to_owned(),
            target: None,
            args: vec![within, condition],
        };
        comprehension.loop_cond = IdedExpr { id: both.args[1].id, expr: Expr::Call(both) };
        Ok(())
    }
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
