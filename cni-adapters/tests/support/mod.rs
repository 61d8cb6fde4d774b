//! Testdata as an API would deliver it: every document under the watches that it matches.

use std::{fs, path::Path};

use cni_adapters::{Asked, Facts, Observed, WatchSpec, service_cidrs, watches};
use serde_json::Value;

/// The objects of a file of `testdata/`.
pub(crate) fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Whether a watch would deliver this object.
pub(crate) fn matches(watch: &WatchSpec, object: &Value) -> bool {
    let metadata = &object["metadata"];
    object["apiVersion"] == watch.api_version()
        && object["kind"] == watch.kind
        && watch.namespace.is_none_or(|namespace| metadata["namespace"] == namespace)
        && watch.name.is_none_or(|name| metadata["name"] == name)
}

/// What is known once every watch has delivered its list.
pub(crate) fn observed(objects: &[Value]) -> Observed {
    let mut observed = Observed::default();
    let all =
        watches().into_iter().chain(service_cidrs::SERVICE_CIDRS).chain([service_cidrs::API_SERVER_PODS]);
    for watch in all {
        observed.list(watch, objects.iter().filter(|object| matches(&watch, object)).cloned());
    }
    observed
}

/// The facts of a cluster named east, of which nothing was known before.
pub(crate) fn facts(cni: &str, observed: &Observed) -> Facts {
    cni_adapters::facts(&Asked { cluster: "east", cni, before: None }, observed)
}
