//! Laws that hold for every object.

use proptest::prelude::*;
use serde_json::{Value, json};
use structural_schema::{Manager, Operation, Schema, apply, track_update};

fn schema() -> Schema {
    let item = json!({"type": "object", "properties": {
        "id": {"type": "string"}, "kind": {"type": "string", "default": "x"}, "note": {"type": "string", "nullable": true},
    }});
    Schema::compile(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "a": {"type": "integer", "default": 3},
        "b": {"type": "object", "default": {}, "properties": {"c": {"type": "string", "default": "d"}, "e": {"type": "string"}}},
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "atomic": {"type": "array", "items": item},
        "keyed": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": {"type": "object"}}},
    }}}}))
    .expect("a sound example")
}

fn text() -> BoxedStrategy<Value> {
    "[a-c]{1,2}".prop_map(Value::from).boxed()
}

fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let members: Vec<_> =
        members.into_iter().map(|(name, value)| (Just(name), proptest::option::of(value))).collect();
    members
        .prop_map(|members| {
            members
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        })
        .boxed()
}

fn list(item: BoxedStrategy<Value>, key: fn(&Value) -> String) -> BoxedStrategy<Value> {
    let unique = move |items: Vec<Value>| {
        let mut seen = std::collections::BTreeSet::new();
        Value::Array(items.into_iter().filter(|item| seen.insert(key(item))).collect())
    };
    proptest::collection::vec(item, 0..4).prop_map(unique).boxed()
}

/// A configuration as a client may apply it.
fn config() -> BoxedStrategy<Value> {
    let item = (text(), proptest::option::of(text())).prop_map(|(id, note)| match note {
        Some(note) => json!({"id": id, "note": note}),
        None => json!({"id": id}),
    });
    let map = proptest::collection::btree_map("[a-c]", "[a-b]", 0..3).prop_map(|map| json!(map)).boxed();
    let spec = object(vec![
        ("a", (0..3i64).prop_map(Value::from).boxed()),
        ("b", object(vec![("c", text().boxed()), ("e", text().boxed())])),
        ("set", list(text().boxed(), Value::to_string)),
        ("atomic", list(item.clone().boxed(), Value::to_string)),
        ("keyed", list(item.boxed(), |item| item["id"].to_string())),
        ("map", map.clone()),
        ("free", object(vec![("x", map), ("y", text().boxed())])),
    ]);
    spec.prop_map(|spec| json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": spec}))
        .boxed()
}

/// Anything at all, with names that the schema knows and names that it does not.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    let name = proptest::sample::select(vec![
        "spec", "metadata", "kind", "a", "b", "c", "set", "atomic", "keyed", "map", "free", "known", "id",
        "kind", "note", "labels", "status", "zzz",
    ]);
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name.clone(), inner, 0..5).prop_map(|members| json!(members)),
        ]
    })
}

fn manager(name: &'static str, time: &'static str) -> Manager<'static> {
    Manager { name, operation: Operation::Apply, api_version: "v1", subresource: "", time }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pruning_twice_is_pruning_once(mut object in anything()) {
        let schema = schema();
        schema.prune(&mut object);
        let once = object.clone();
        prop_assert_eq!(schema.prune(&mut object), Vec::<String>::new());
        prop_assert_eq!(object, once);
    }

    #[test]
    fn defaulting_twice_is_defaulting_once(mut object in anything()) {
        let schema = schema();
        schema.apply_defaults(&mut object);
        let once = object.clone();
        schema.apply_defaults(&mut object);
        prop_assert_eq!(object, once);
    }

    #[test]
    fn validation_takes_anything(new in anything(), old in anything()) {
        let schema = schema();
        prop_assert_eq!(schema.validate(&new, Some(&new)), vec![], "what is stored may be stored again");
        schema.validate(&new, Some(&old));
    }

    #[test]
    fn applying_twice_is_applying_once(first in config(), second in config()) {
        let schema = schema();
        let live = apply(&schema, None, &first, &manager("other", "2026-01-01T00:00:01Z"), false).unwrap();
        let once = apply(&schema, Some(&live), &second, &manager("me", "2026-01-01T00:00:02Z"), true).unwrap();
        let twice = apply(&schema, Some(&once), &second, &manager("me", "2026-01-01T00:00:03Z"), true).unwrap();
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn what_was_applied_is_there(first in config(), second in config()) {
        let schema = schema();
        let live = apply(&schema, None, &first, &manager("other", "2026-01-01T00:00:01Z"), false).unwrap();
        let live = apply(&schema, Some(&live), &second, &manager("me", "2026-01-01T00:00:02Z"), true).unwrap();
        prop_assert!(contains(&live["spec"], &second["spec"]), "{} lacks {}", live["spec"], second["spec"]);
        prop_assert_eq!(schema.validate(&live, None), vec![]);
    }

    /// A manager that comes and goes leaves no trace but in the order of lists, if it does not force.
    #[test]
    fn withdrawing_leaves_the_others_fields(mine in config(), theirs in config()) {
        let schema = schema();
        let alone = apply(&schema, None, &theirs, &manager("other", "2026-01-01T00:00:01Z"), false).unwrap();
        let Ok(both) = apply(&schema, Some(&alone), &mine, &manager("me", "2026-01-01T00:00:02Z"), false) else { return Ok(()) };
        let nothing = json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}});
        let after = apply(&schema, Some(&both), &nothing, &manager("me", "2026-01-01T00:00:03Z"), false).unwrap();
        prop_assert!(contains(&after["spec"], &theirs["spec"]), "{} lacks {}", after["spec"], theirs["spec"]);
        let owners = after["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
        prop_assert!(owners.iter().all(|owner| owner["manager"] != "me"), "{owners:?}");
    }

    #[test]
    fn an_update_writes_owners_and_nothing_else(first in config(), second in config()) {
        let schema = schema();
        let (mut one, mut two) = (first.clone(), second.clone());
        track_update(&schema, None, &mut one, &manager("creator", "2026-01-01T00:00:01Z"));
        track_update(&schema, Some(&one), &mut two, &manager("writer", "2026-01-01T00:00:02Z"));
        let mut again = two.clone();
        track_update(&schema, Some(&two), &mut again, &manager("third", "2026-01-01T00:00:03Z"));
        prop_assert_eq!(&again, &two, "a write without a change owns nothing");
        two["metadata"].as_object_mut().unwrap().remove("managedFields");
        prop_assert_eq!(two, second, "nothing but the owners is written");
    }
}

/// Whether everything in `part` is in `whole`: lists of the schema's shared kinds as sets, all else exactly.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(name, part)| {
            let empty = part.as_array().is_some_and(Vec::is_empty)
                || part.as_object().is_some_and(serde_json::Map::is_empty);
            whole.get(name).map_or(empty, |whole| contains(whole, part))
        }),
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|part| whole.iter().any(|whole| contains(whole, part)))
        }
        (whole, part) => whole == part,
    }
}
