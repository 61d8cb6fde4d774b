//! What one write costs the schema: an object of the size of a node's configuration, and a small one with rules.

use divan::Bencher;
use divan::counter::ItemsCount;
use serde_json::{Value, json};
use structural_schema::{Manager, Operation, Schema, apply, track_update};

fn main() {
    divan::main();
}

const ITEMS: [usize; 3] = [1, 100, 10_000];

fn schema() -> Schema {
    let route = json!({"type": "object", "required": ["dst"], "properties": {
        "dst": {"type": "string", "format": "cidr"},
        "via": {"type": "string", "pattern": "^[0-9a-f.:]+$"},
        "mtu": {"type": "integer", "format": "int32", "minimum": 576, "default": 1450},
    }});
    let spec = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "immutable"}]},
            "routes": {"type": "array", "items": route, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["dst"]},
        },
        "x-kubernetes-validations": [{"rule": "self.name.size() > 0", "message": "name is empty"}],
    });
    Schema::compile(&json!({"type": "object", "properties": {"spec": spec}})).expect("a sound schema")
}

fn object(items: usize) -> Value {
    let routes: Vec<Value> = (0..items)
        .map(|i| json!({"dst": format!("10.{}.{}.0/24", i / 256, i % 256), "via": "fd00::1"}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"name": "x", "routes": routes}})
}

fn manager() -> Manager<'static> {
    Manager {
        name: "m",
        operation: Operation::Apply,
        api_version: "v1",
        subresource: "",
        time: "2026-01-01T00:00:00Z",
    }
}

#[divan::bench]
fn compile() -> Schema {
    schema()
}

#[divan::bench(args = ITEMS)]
fn prune_and_default(bencher: Bencher, items: usize) {
    let schema = schema();
    bencher.counter(ItemsCount::new(items)).with_inputs(|| object(items)).bench_local_values(|mut object| {
        schema.prune(&mut object);
        schema.apply_defaults(&mut object);
        object
    });
}

#[divan::bench(args = ITEMS)]
fn validate(bencher: Bencher, items: usize) {
    let (schema, object) = (schema(), object(items));
    bencher.counter(ItemsCount::new(items)).bench_local(|| schema.validate(&object, None));
}

#[divan::bench(args = ITEMS)]
fn apply_again(bencher: Bencher, items: usize) {
    let (schema, object) = (schema(), object(items));
    let live = apply(&schema, None, &object, &manager(), false).expect("nobody to conflict with");
    bencher
        .counter(ItemsCount::new(items))
        .bench_local(|| apply(&schema, Some(&live), &object, &manager(), false));
}

#[divan::bench(args = ITEMS)]
fn track_one_change(bencher: Bencher, items: usize) {
    let (schema, object) = (schema(), object(items));
    let live = apply(&schema, None, &object, &manager(), false).expect("nobody to conflict with");
    let mut new = live.clone();
    new["spec"]["routes"][0]["via"] = json!("fd00::2");
    bencher.counter(ItemsCount::new(items)).with_inputs(|| new.clone()).bench_local_values(|mut new| {
        track_update(&schema, Some(&live), &mut new, &manager());
        new
    });
}
