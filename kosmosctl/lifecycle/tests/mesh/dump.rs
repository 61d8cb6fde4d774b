//! Every object of every kind that an API server holds, as far as people and programs decide what stands in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client, Discovery, ResourceExt,
    api::{DynamicObject, ListParams},
    discovery::{Scope, verbs},
};
use serde_json::Value;

/// What API servers and controllers write by themselves all the time.
const RESTLESS: [&str; 3] = ["Lease", "Event", "ComponentStatus"];

/// What the control plane makes and removes by itself, a moment after its cause, stands: every namespace has its account and
/// its root certificate, and exactly the definitions have APIServices.
async fn is_settled(client: &Client) -> Result<bool, kube::Error> {
    let all = ListParams::default();
    let namespaces = Api::<Namespace>::all(client.clone()).list(&all).await?;
    let namespaces: BTreeSet<String> = namespaces
        .iter()
        .filter(|namespace| namespace.metadata.deletion_timestamp.is_none())
        .map(ResourceExt::name_any)
        .collect();
    let named = |name: &str| ListParams::default().fields(&format!("metadata.name={name}"));
    let accounts = Api::<ServiceAccount>::all(client.clone()).list(&named("default")).await?;
    let accounts: BTreeSet<String> = accounts.iter().filter_map(ResourceExt::namespace).collect();
    let roots = Api::<ConfigMap>::all(client.clone()).list(&named("kube-root-ca.crt")).await?;
    let roots: BTreeSet<String> = roots.iter().filter_map(ResourceExt::namespace).collect();
    let definitions = Api::<CustomResourceDefinition>::all(client.clone()).list(&all).await?;
    let defined: BTreeSet<String> = definitions
        .iter()
        .flat_map(|crd| {
            crd.spec.versions.iter().map(move |version| format!("{}.{}", version.name, crd.spec.group))
        })
        .collect();
    let of_definitions = ListParams::default().labels("kube-aggregator.kubernetes.io/automanaged=true");
    let services = Api::<APIService>::all(client.clone()).list(&of_definitions).await?;
    let services: BTreeSet<String> = services.iter().map(ResourceExt::name_any).collect();
    Ok(namespaces.is_subset(&accounts) && namespaces.is_subset(&roots) && services == defined)
}

/// What is served, once the control plane has done what it does by itself. A group that comes or goes is named for a moment
/// though nobody answers for it.
async fn served(client: &Client) -> Discovery {
    for _ in 0..600 {
        if is_settled(client).await.unwrap_or(false)
            && let Ok(found) = Discovery::new(client.clone()).run().await
        {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What never came is what the comparison tells of.
    Discovery::new(client.clone()).run().await.unwrap()
}

/// Objects by kind, namespace and name. Two dumps are equal where no object came, went, or became another.
pub(crate) async fn dump(client: &Client) -> BTreeMap<String, Value> {
    let discovery = served(client).await;
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
