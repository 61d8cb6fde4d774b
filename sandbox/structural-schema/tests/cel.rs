//! Rules: what they see, what they say, and that they end.

use serde_json::{Value, json};
use structural_schema::{Cause, Schema};

fn texts(causes: &[Cause]) -> Vec<String> {
    causes.iter().map(|cause| format!("{} {cause}", cause.reason)).collect()
}

fn with_rule(spec: Value, rule: Value) -> Schema {
    let mut spec = spec;
    spec["x-kubernetes-validations"] = json!([rule]);
    Schema::compile(&json!({"type": "object", "properties": {"spec": spec}})).expect("a sound example")
}

/// Schema of `.spec`, the rule, and values for which it holds and does not.
fn holds(spec: Value, rule: &str, good: Value, bad: Value) {
    let schema = with_rule(spec, json!({"rule": rule, "message": "no"}));
    assert_eq!(texts(&schema.validate(&json!({"spec": good}), None)), [""; 0], "{rule} for {good}");
    let causes = schema.validate(&json!({"spec": bad}), None);
    assert!(
        matches!(causes.as_slice(), [only] if only.message.ends_with(": no")),
        "{rule} for {bad}: {causes:?}"
    );
}

#[test]
fn rules_see_values_by_their_schema() {
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    holds(
        object(json!({"min": {"type": "integer"}, "max": {"type": "integer"}})),
        "self.min <= self.max",
        json!({"min": 1, "max": 2}),
        json!({"min": 3, "max": 2}),
    );
    holds(
        object(json!({"a": {"type": "string"}})),
        "!has(self.a) || self.a.startsWith('x')",
        json!({}),
        json!({"a": "y"}),
    );
    holds(object(json!({"a": {"type": "number"}})), "self.a > 1.5", json!({"a": 2}), json!({"a": 1}));
    holds(
        object(
            json!({"one_two": {"type": "integer"}, "a-b": {"type": "integer"}, "namespace": {"type": "integer"}}),
        ),
        "self.one_two + self.a__dash__b + self.__namespace__ == 3",
        json!({"one_two": 1, "a-b": 1, "namespace": 1}),
        json!({"one_two": 1, "a-b": 1, "namespace": 2}),
    );
    holds(
        object(json!({"m": {"type": "object", "additionalProperties": {"type": "integer"}}})),
        "self.m.all(k, k.contains('-') && self.m[k] > 0)",
        json!({"m": {"a-b": 1}}),
        json!({"m": {"a-b": 0}}),
    );
    holds(
        object(json!({"t": {"type": "string", "format": "date-time"}})),
        "self.t > timestamp('2026-01-01T00:00:00Z')",
        json!({"t": "2026-01-01T00:00:01Z"}),
        json!({"t": "2025-01-01T00:00:00Z"}),
    );
    holds(
        object(json!({"d": {"type": "string", "format": "duration"}})),
        "self.d <= duration('1h')",
        json!({"d": "30m"}),
        json!({"d": "2h"}),
    );
    holds(
        object(json!({"p": {"x-kubernetes-int-or-string": true}})),
        "type(self.p) == string ? self.p.endsWith('%') : self.p > 0",
        json!({"p": "5%"}),
        json!({"p": "5"}),
    );
    holds(
        json!({"type": "array", "items": {"type": "string"}}),
        "self.all(c, isCIDR(c)) && self.exists_one(c, c == '10.0.0.0/8')",
        json!(["10.0.0.0/8", "fd00::/8"]),
        json!(["nothing"]),
    );
    holds(
        json!({"type": "string"}),
        "cidr('10.0.0.0/8').containsIP(ip(self))",
        json!("10.1.2.3"),
        json!("11.1.2.3"),
    );
}

#[test]
fn failures_are_told_as_kube_apiserver_tells_them() {
    let table = [
        (json!({"rule": "self.a > 1"}), "FieldValueInvalid spec: Invalid value: failed rule: self.a > 1"),
        (
            json!({"rule": "self.a > 1", "message": " too small "}),
            "FieldValueInvalid spec: Invalid value: too small",
        ),
        (
            json!({"rule": "self.a > 1", "messageExpression": "'a is ' + string(self.a)"}),
            "FieldValueInvalid spec: Invalid value: a is 1",
        ),
        (
            json!({"rule": "self.a > 1", "message": "plain", "messageExpression": "self.nope"}),
            "FieldValueInvalid spec: Invalid value: plain",
        ),
        (
            json!({"rule": "self.a > 1", "message": "m", "fieldPath": ".a"}),
            "FieldValueInvalid spec.a: Invalid value: m",
        ),
        (
            json!({"rule": "self.a > 1", "message": "m", "reason": "FieldValueForbidden"}),
            "FieldValueForbidden spec: Forbidden: m",
        ),
        (
            json!({"rule": "self.a > 1", "message": "m", "reason": "FieldValueRequired"}),
            "FieldValueRequired spec: Required value: m",
        ),
        (
            json!({"rule": "self.b > 1", "message": "m"}),
            r#"FieldValueInvalid spec: Invalid value: "object": No such key: b evaluating rule: m"#,
        ),
        (
            json!({"rule": "self.a", "message": "m"}),
            r#"FieldValueInvalid spec: Invalid value: "object": a rule must evaluate to true or false: m"#,
        ),
    ];
    for (rule, expected) in table {
        let schema = with_rule(
            json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}),
            rule,
        );
        assert_eq!(texts(&schema.validate(&json!({"spec": {"a": 1}}), None)), [expected]);
    }
    let schema = with_rule(json!({"type": "integer"}), json!({"rule": "self > 1", "message": "m"}));
    assert_eq!(
        texts(&schema.validate(&json!({"spec": 1}), None)),
        ["FieldValueInvalid spec: Invalid value: 1: m"]
    );
    let schema = Schema::compile(&json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name == 'singleton'", "message": "only one"}]})).unwrap();
    assert_eq!(
        texts(&schema.validate(&json!({"metadata": {"name": "x"}}), None)),
        ["FieldValueInvalid <nil>: Invalid value: only one"]
    );
}

#[test]
fn rules_wait_until_the_rest_is_sound() {
    let schema = with_rule(
        json!({"type": "object", "properties": {"a": {"type": "integer"}}}),
        json!({"rule": "self.a > 1"}),
    );
    let causes = texts(&schema.validate(&json!({"spec": {"a": "x"}}), None));
    assert_eq!(causes.len(), 2);
    assert_eq!(
        causes[1],
        r#"FieldValueInvalid <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"#
    );
}

#[test]
fn transition_rules_compare_with_what_is_stored() {
    let spec = json!({"type": "object", "properties": {"id": {"type": "string"}}});
    let schema =
        with_rule(spec.clone(), json!({"rule": "self.id == oldSelf.id", "message": "id is immutable"}));
    let (one, two) = (json!({"spec": {"id": "1"}}), json!({"spec": {"id": "2"}}));
    assert_eq!(texts(&schema.validate(&one, None)), [""; 0], "nothing to compare with at creation");
    assert_eq!(texts(&schema.validate(&one, Some(&one))), [""; 0]);
    assert_eq!(
        texts(&schema.validate(&two, Some(&one))),
        ["FieldValueInvalid spec: Invalid value: id is immutable"]
    );
    let optional = with_rule(
        spec,
        json!({"rule": "oldSelf.hasValue() || self.id == 'first'", "message": "m", "optionalOldSelf": true}),
    );
    assert_eq!(texts(&optional.validate(&one, None)), ["FieldValueInvalid spec: Invalid value: m"]);
    assert_eq!(texts(&optional.validate(&two, Some(&one))), [""; 0]);
}

#[test]
fn items_are_compared_with_the_item_of_the_same_key() {
    let item = json!({"type": "object", "properties": {"name": {"type": "string"}, "id": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": "self.id == oldSelf.id", "message": "m"}]});
    let list = json!({"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]});
    let schema = Schema::compile(&json!({"type": "object", "properties": {"spec": list}})).unwrap();
    let old = json!({"spec": [{"name": "a", "id": 1}, {"name": "b", "id": 2}]});
    assert_eq!(
        texts(
            &schema.validate(&json!({"spec": [{"name": "b", "id": 2}, {"name": "c", "id": 9}]}), Some(&old))
        ),
        [""; 0]
    );
    assert_eq!(
        texts(&schema.validate(&json!({"spec": [{"name": "b", "id": 3}]}), Some(&old))),
        ["FieldValueInvalid spec[0]: Invalid value: m"]
    );
}

#[test]
fn a_rule_is_not_held_against_what_has_not_changed() {
    let schema =
        Schema::compile(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 5", "message": "m"}]},
            "b": {"type": "integer"},
        }}}}))
        .unwrap();
    let old = json!({"spec": {"a": 1, "b": 1}});
    assert_eq!(texts(&schema.validate(&json!({"spec": {"a": 1, "b": 2}}), Some(&old))), [""; 0]);
    assert_eq!(
        texts(&schema.validate(&json!({"spec": {"a": 2, "b": 2}}), Some(&old))),
        ["FieldValueInvalid spec.a: Invalid value: 2: m"]
    );
}

/// Each would run for minutes, or fill the memory, without a budget.
#[test]
fn bombs_end_in_an_error() {
    let numbers: Vec<u32> = (0..300).collect();
    let long = "x".repeat(200_000);
    // Each step doubles what it is given.
    let doubling = |step: &str| {
        Box::leak(format!("[self.s]{}.size() > 0", format!(".map(x, {step})").repeat(40)).into_boxed_str())
            as &str
    };
    let nested: &str = Box::leak(
        (1..12)
            .fold("true".to_owned(), |inner, i| {
                format!("[[x{i}, x{i}, x{i}, x{i}]].all(x{}, {inner})", i - 1)
            })
            .into_boxed_str(),
    );
    let nested: &str = Box::leak(format!("[self.s].all(x11, {nested})").into_boxed_str());
    let bombs = [
        ("self.l.all(a, self.l.all(b, self.l.all(c, a + b + c >= 0)))", json!({"l": numbers})),
        ("self.l.exists(a, self.l.exists(b, self.l.exists(c, a + b + c < 0)))", json!({"l": numbers})),
        ("self.l.map(a, self.l.map(b, self.l.map(c, c))).size() > 0", json!({"l": numbers})),
        (
            "self.l.filter(a, self.l.filter(b, self.l.filter(c, c > 0).size() > 0).size() > 0).size() > 0",
            json!({"l": numbers}),
        ),
        ("self.l.map(a, self.s + self.s + self.s + self.s).size() > 0", json!({"l": numbers, "s": long})),
        ("self.l.map(a, self.s.replace('x', self.s)).size() > 0", json!({"l": numbers, "s": long})),
        ("sets.equivalent(self.l, self.l)", json!({"l": (0..200_000).collect::<Vec<u32>>()})),
        ("self.s.replace('x', self.s).size() > 0", json!({"s": long})),
        ("self.l.map(a, 'x').join(self.s).size() > 0", json!({"l": numbers, "s": long})),
        (doubling("x + x"), json!({"s": "x"})),
        (doubling("'%s%s'.format([x, x])"), json!({"s": "x"})),
        (doubling("[x, x]"), json!({"s": "x"})),
        (doubling("{'a': x, 'b': x}"), json!({"s": "x"})),
        (nested, json!({"s": "x"})),
        ("self.l.all(a, a >= 0)", json!({"l": (0..600_000).collect::<Vec<u32>>()})),
    ];
    for (rule, spec) in bombs {
        let schema = with_rule(
            json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "integer"}}, "s": {"type": "string"}}}),
            json!({"rule": rule}),
        );
        let causes = texts(&schema.validate(&json!({"spec": spec}), None));
        assert_eq!(
            causes,
            [
                r#"FieldValueInvalid spec: Invalid value: "object": validation failed due to running out of cost budget, no further validation rules will be run"#
            ],
            "{rule}"
        );
    }
}

#[test]
fn honest_rules_on_large_objects_fit_the_budget() {
    let routes: Vec<Value> = (0..10_000)
        .map(|i| json!({"dst": format!("10.{}.{}.0/24", i / 256, i % 256), "mtu": 1400}))
        .collect();
    let item =
        json!({"type": "object", "properties": {"dst": {"type": "string"}, "mtu": {"type": "integer"}}});
    let schema = with_rule(
        json!({"type": "object", "properties": {"routes": {"type": "array", "items": item}}}),
        json!({"rule": "self.routes.all(r, isCIDR(r.dst) && r.mtu > 1000)"}),
    );
    assert_eq!(texts(&schema.validate(&json!({"spec": {"routes": routes}}), None)), [""; 0]);
}
