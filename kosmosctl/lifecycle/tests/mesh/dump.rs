//! Every object of every kind that an API server holds, as far as people and programs decide what stands in it.

use std::collections::BTreeMap;

use kube::{
    Api, Client, Discovery, ResourceExt,
    api::{DynamicObject, ListParams},
    discovery::{Scope, verbs},
};
use serde_json::Value;

/// What API servers and controllers write by themselves all the time.
const RESTLESS: [&str; 3] = ["Lease", "Event", "ComponentStatus"];

/// Objects by kind, namespace and name. Two dumps are equal where no object came, went, or became another.
pub(crate) async fn dump(client: &Client) -> BTreeMap<String, Value> {
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    let mut found = BTreeMap::new();
    for (resource, capabilities) in discovery.groups().flat_map(|group| group.recommended_resources()) {
        if RESTLESS.contains(&resource.kind.as_str()) || !capabilities.supports_operation(verbs::LIST) {
            continue;
        }
        debug_assert!(matches!(capabilities.scope, Scope::Cluster | Scope::Namespaced));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let Ok(list) = api.list(&ListParams::default()).await else { continue };
        for mut object in list {
            object.metadata.resource_version = None;
            object.metadata.managed_fields = None;
            object.metadata.generation = None;
            let key = format!(
                "{}.{} {}/{}",
                resource.kind,
                resource.group,
                object.namespace().unwrap_or_default(),
                object.name_any()
            );
            let mut value = serde_json::to_value(&object).unwrap();
            if resource.kind == "APIService" || resource.kind == "Namespace" || resource.kind == "FlowSchema"
            {
                value.as_object_mut().unwrap().remove("status");
            }
            found.insert(key, value);
        }
    }
    assert!(found.len() > 50, "a real API server has more than {} objects", found.len());
    found
}

/// What is in one and not in the other, or differs.
pub(crate) fn difference(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| format!("gone: {key}"));
    let come = after.keys().filter(|key| !before.contains_key(*key)).map(|key| format!("left: {key}"));
    let other = before
        .iter()
        .filter(|(key, value)| after.get(*key).is_some_and(|other| other != *value))
        .map(|(key, value)| format!("changed: {key}: {value} became {}", after[key]));
    gone.chain(come).chain(other).collect()
}
