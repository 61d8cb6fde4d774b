//! What kube-apiserver says of objects, by table.

use serde_json::{Value, json};
use structural_schema::{Cause, Schema};

fn schema(spec: Value) -> Schema {
    Schema::compile(&json!({"type": "object", "properties": {"spec": spec}})).expect("a sound example")
}

fn texts(causes: &[Cause]) -> Vec<String> {
    causes.iter().map(|cause| format!("{} {cause}", cause.reason)).collect()
}

/// Schema of `.spec`, its value, and what is wrong with it.
fn check(spec: Value, value: Value, expected: &[&str]) {
    let causes = schema(spec.clone()).validate(&json!({"spec": value}), None);
    assert_eq!(texts(&causes), expected, "{value} against {spec}");
}

#[test]
fn types_are_checked() {
    check(
        json!({"type": "integer"}),
        json!("x"),
        &[
            r#"FieldValueTypeInvalid spec: Invalid value: "string": spec in body must be of type integer: "string""#,
        ],
    );
    check(
        json!({"type": "integer"}),
        json!(1.5),
        &[
            r#"FieldValueTypeInvalid spec: Invalid value: "number": spec in body must be of type integer: "number""#,
        ],
    );
    check(
        json!({"type": "integer", "format": "int32"}),
        json!(1.5),
        &[
            r#"FieldValueTypeInvalid spec: Invalid value: "float64": spec in body must be of type int32: "float64""#,
        ],
    );
    check(json!({"type": "integer"}), json!(2.0), &[]);
    check(json!({"type": "number"}), json!(2), &[]);
    check(
        json!({"type": "string"}),
        json!(null),
        &[
            r#"FieldValueTypeInvalid spec: Invalid value: "null": spec in body must be of type string: "null""#,
        ],
    );
    check(json!({"type": "string", "nullable": true}), json!(null), &[]);
    check(json!({"x-kubernetes-int-or-string": true}), json!("50%"), &[]);
    check(json!({"x-kubernetes-int-or-string": true}), json!(5), &[]);
    check(
        json!({"x-kubernetes-int-or-string": true}),
        json!(true),
        &[
            r#"FieldValueTypeInvalid spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean""#,
        ],
    );
    check(
        json!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "boolean"}}}}),
        json!([{"a": true}, {"a": 1}]),
        &[
            r#"FieldValueTypeInvalid spec[1].a: Invalid value: "integer": spec[1].a in body must be of type boolean: "integer""#,
        ],
    );
    check(
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        json!({"k.8": 1}),
        &[
            r#"FieldValueTypeInvalid spec.k.8: Invalid value: "integer": spec.k.8 in body must be of type string: "integer""#,
        ],
    );
}

#[test]
fn limits_are_checked_in_kube_apiservers_words() {
    check(
        json!({"type": "integer", "minimum": 1, "maximum": 3}),
        json!(0),
        &["FieldValueInvalid spec: Invalid value: 0: spec in body should be greater than or equal to 1"],
    );
    check(
        json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
        json!(1),
        &["FieldValueInvalid spec: Invalid value: 1: spec in body should be greater than 1"],
    );
    check(
        json!({"type": "integer", "exclusiveMaximum": 4}),
        json!(4),
        &["FieldValueInvalid spec: Invalid value: 4: spec in body should be less than 4"],
    );
    check(
        json!({"type": "number", "maximum": 0.5}),
        json!(0.75),
        &["FieldValueInvalid spec: Invalid value: 0.75: spec in body should be less than or equal to 0.5"],
    );
    check(
        json!({"type": "integer", "multipleOf": 5}),
        json!(7),
        &["FieldValueInvalid spec: Invalid value: 7: spec in body should be a multiple of 5"],
    );
    check(
        json!({"type": "integer", "format": "int32"}),
        json!(3_000_000_000u32),
        &[
            r#"FieldValueInvalid <nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec"#,
        ],
    );
    check(
        json!({"type": "string", "pattern": "^[a-z]+$"}),
        json!("A"),
        &[r#"FieldValueInvalid spec: Invalid value: "A": spec in body should match '^[a-z]+$'"#],
    );
    check(
        json!({"type": "string", "minLength": 2}),
        json!("é"),
        &[r#"FieldValueInvalid spec: Invalid value: "é": spec in body should be at least 2 chars long"#],
    );
    check(
        json!({"type": "string", "maxLength": 2}),
        json!("abc"),
        &["FieldValueTooLong spec: Too long: may not be more than 2 bytes"],
    );
    check(
        json!({"type": "array", "maxItems": 1, "items": {"type": "integer"}}),
        json!([1, 2]),
        &["FieldValueTooMany spec: Too many: 2: must have at most 1 item"],
    );
    check(
        json!({"type": "array", "minItems": 1, "items": {"type": "integer"}}),
        json!([]),
        &["FieldValueInvalid spec: Invalid value: 0: spec in body should have at least 1 items"],
    );
    check(
        json!({"type": "object", "minProperties": 1}),
        json!({}),
        &["FieldValueInvalid spec: Invalid value: 0: spec in body should have at least 1 properties"],
    );
    check(
        json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
        json!({}),
        &["FieldValueRequired spec.a: Required value"],
    );
    check(
        json!({"type": "string", "enum": ["a", "b"]}),
        json!("x"),
        &[r#"FieldValueNotSupported spec: Unsupported value: "x": supported values: "a", "b""#],
    );
    check(
        json!({"type": "integer", "enum": [1, 2]}),
        json!(3),
        &[r#"FieldValueNotSupported spec: Unsupported value: 3: supported values: "1", "2""#],
    );
    check(
        json!({"type": "string", "format": "cidr"}),
        json!("10.0.0.0/33"),
        &[
            r#"FieldValueTypeInvalid spec: Invalid value: "10.0.0.0/33": spec in body must be of type cidr: "10.0.0.0/33""#,
        ],
    );
    check(json!({"type": "string", "format": "unheard-of"}), json!("anything"), &[]);
}

#[test]
fn branches_are_checked() {
    let one_of = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    check(one_of.clone(), json!({"a": "x"}), &[]);
    check(
        one_of.clone(),
        json!({"a": "x", "b": "y"}),
        &[
            r#"FieldValueInvalid <nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ],
    );
    check(
        one_of,
        json!({}),
        &[
            r#"FieldValueInvalid <nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
            "FieldValueRequired spec.a: Required value",
        ],
    );
    check(
        json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 2}]}),
        json!(3),
        &[
            r#"FieldValueInvalid <nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)"#,
            "FieldValueInvalid spec: Invalid value: 3: spec in body should be greater than or equal to 5",
        ],
    );
    check(
        json!({"type": "integer", "allOf": [{"minimum": 1}, {"maximum": 2}]}),
        json!(3),
        &[
            r#"FieldValueInvalid <nil>: Invalid value: "": "spec" must validate all the schemas (allOf)"#,
            "FieldValueInvalid spec: Invalid value: 3: spec in body should be less than or equal to 2",
        ],
    );
    check(
        json!({"type": "string", "not": {"enum": ["x"]}}),
        json!("x"),
        &[r#"FieldValueInvalid <nil>: Invalid value: "": "spec" must not validate the schema (not)"#],
    );
}

#[test]
fn list_keys_are_unique() {
    let set = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"});
    check(set, json!(["a", "b", "a", "a"]), &[r#"FieldValueDuplicate spec[2]: Duplicate value: "a""#]);
    let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"], "items": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}});
    check(
        map,
        json!([{"a": "x"}, {"a": "x", "b": 1}, {"a": "x"}]),
        &[r#"FieldValueDuplicate spec[2]: Duplicate value: {"a":"x"}"#],
    );
}

#[test]
fn what_is_stored_may_stay_wrong() {
    let schema = schema(
        json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 5}, "b": {"type": "integer", "minimum": 5}}}),
    );
    let old = json!({"spec": {"a": 1, "b": 7}});
    assert_eq!(texts(&schema.validate(&json!({"spec": {"a": 1, "b": 8}}), Some(&old))), [""; 0]);
    assert_eq!(schema.validate(&json!({"spec": {"a": 2, "b": 7}}), Some(&old)).len(), 1);
}

#[test]
fn metadata_may_be_narrowed() {
    let schema = Schema::compile(&json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}}})).unwrap();
    let causes = schema.validate(
        &json!({"metadata": {"name": "toolong", "creationTimestamp": null, "labels": {"a": "b"}}}),
        None,
    );
    assert_eq!(texts(&causes), ["FieldValueTooLong metadata.name: Too long: may not be more than 3 bytes"]);
}

#[test]
fn unknown_fields_are_pruned_and_named() {
    let schema = schema(json!({"type": "object", "properties": {
        "list": {"type": "array", "items": {"type": "object", "properties": {"ok": {"type": "string"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"ok": {"type": "string"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"typed": {"type": "object", "properties": {"ok": {"type": "string"}}}}},
        "any": {"x-kubernetes-preserve-unknown-fields": true},
        "empty": {"type": "object"},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
    }}));
    let mut object = json!({
        "apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "labels": {"a": "b"}, "bad": 1},
        "bad": {},
        "spec": {
            "list": [{"ok": "x"}, {"ok": "y", "bad": 1}],
            "map": {"k": {"bad": 1, "ok": "x"}},
            "free": {"whatever": {"x": 1}, "typed": {"bad": 1, "ok": "x"}},
            "any": {"x": [1, {"y": 2}]},
            "empty": {"bad": 1},
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "bad": 1}, "spec": {"kept": 1}},
            "bad": 1,
        },
    });
    let unknown = schema.prune(&mut object);
    assert_eq!(
        unknown,
        [
            "bad",
            "metadata.bad",
            "spec.bad",
            "spec.empty.bad",
            "spec.free.typed.bad",
            "spec.list[1].bad",
            "spec.map.k.bad",
            "spec.pod.metadata.bad"
        ]
    );
    assert_eq!(object["spec"]["any"], json!({"x": [1, {"y": 2}]}));
    assert_eq!(object["spec"]["free"], json!({"whatever": {"x": 1}, "typed": {"ok": "x"}}));
    assert_eq!(object["spec"]["pod"]["spec"], json!({"kept": 1}));
    assert_eq!(object["metadata"], json!({"name": "n", "labels": {"a": "b"}}));
}

#[test]
fn defaults_fill_silence() {
    let schema = schema(json!({"type": "object", "default": {}, "properties": {
        "a": {"type": "integer", "default": 1},
        "n": {"type": "string", "nullable": true, "default": "d"},
        "z": {"type": "string"},
        "o": {"type": "object", "properties": {"p": {"type": "string", "default": "q"}}},
        "l": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "q"}}}},
        "m": {"type": "object", "additionalProperties": {"type": "object", "default": {}, "properties": {"p": {"type": "string", "default": "q"}}}},
    }}));
    let mut object = json!({});
    schema.apply_defaults(&mut object);
    assert_eq!(
        object,
        json!({"spec": {"a": 1, "n": "d"}}),
        "an object that is absent has no defaults inside"
    );
    let mut object =
        json!({"spec": {"a": null, "n": null, "z": null, "o": {}, "l": [{}, {"p": "x"}], "m": {"k": null}}});
    schema.apply_defaults(&mut object);
    assert_eq!(
        object,
        json!({"spec": {"a": 1, "n": null, "o": {"p": "q"}, "l": [{"p": "q"}, {"p": "x"}], "m": {"k": {"p": "q"}}}})
    );
}

#[test]
fn schemas_of_built_in_types_are_understood() {
    // The idioms of schemars: references, nullable by union, enumerations by oneOf of constants, and recursion.
    let schema = Schema::compile(&json!({
        "type": "object",
        "properties": {
            "spec": {"anyOf": [{"$ref": "#/definitions/Spec"}, {"type": "null"}]},
            "props": {"description": "recursive", "allOf": [{"$ref": "#/definitions/Props"}]},
        },
        "definitions": {
            "Spec": {"type": "object", "required": ["mode"], "properties": {
                "mode": {"oneOf": [{"type": "string", "const": "A"}, {"type": "string", "enum": ["B"]}]},
                "size": {"type": ["integer", "null"], "minimum": 0},
                "raw": true,
            }},
            "Props": {"type": "object", "properties": {
                "not": {"description": "itself", "$ref": "#/definitions/Props"},
                "props": {"type": "object", "additionalProperties": {"$ref": "#/definitions/Props"}},
            }},
        },
    }))
    .unwrap();
    let mut good = json!({"spec": {"mode": "A", "size": null, "raw": {"x": 1}}, "props": {"not": {"not": {}}, "props": {"k": {"not": {}}}}});
    assert_eq!(schema.prune(&mut good), [""; 0]);
    assert_eq!(texts(&schema.validate(&good, None)), [""; 0]);
    assert_eq!(texts(&schema.validate(&json!({"spec": null}), None)), [""; 0]);
    assert_eq!(schema.prune(&mut json!({"props": {"not": {"not": {"bad": 1}}}})), ["props.not.not.bad"]);
    assert_eq!(schema.validate(&json!({"spec": {"mode": "C", "size": -1}}), None).len(), 3);
}

#[test]
fn unsound_schemas_are_refused() {
    let cases = [
        (json!({"type": "text"}), "schema.properties[spec]: type `text` is unknown"),
        (
            json!({"type": "string", "pattern": "("}),
            "schema.properties[spec].pattern: `(` is not a regular expression",
        ),
        (
            json!({"$ref": "#/definitions/Nope"}),
            "schema.properties[spec]: $ref `#/definitions/Nope` points at nothing",
        ),
        (json!({"type": "array", "x-kubernetes-list-type": "map"}), "needs x-kubernetes-list-map-keys"),
        (
            json!({"type": "array", "x-kubernetes-list-type": "bag"}),
            "x-kubernetes-list-type `bag` is unknown",
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.("}]}),
            "x-kubernetes-validations[0].rule: `self.(` is not a CEL expression",
        ),
        (json!({"$ref": "#/properties/spec"}), "leads back to itself"),
    ];
    for (spec, expected) in cases {
        let error = Schema::compile(&json!({"type": "object", "properties": {"spec": spec}})).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
