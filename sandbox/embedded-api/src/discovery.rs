//! What is served, told in the three forms of discovery: aggregated v2, legacy group lists, legacy resource lists.

use serde_json::{Value, json};

use crate::kinds::{Registry, Resource, Version};
use crate::status::{Answer, Status};

/// The media type that tells kubectl it got the aggregated form.
pub(crate) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

/// What can be done with the objects of a resource.
fn verbs(resource: &Resource) -> Vec<&'static str> {
    let all = resource.strategy.deletes_collections();
    VERBS.iter().copied().filter(|verb| all || *verb != "deletecollection").collect()
}

/// `/api` (the core group) or `/apis` (all others) in the aggregated form.
pub(crate) fn aggregated(registry: &Registry, core: bool) -> Value {
    let groups = registry.groups();
    let wanted = groups.iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Value> = wanted
        .map(|(group, versions)| {
            let version = |v: &&str| json!({"version": v, "freshness": "Current", "resources": aggregated_resources(registry, group, v)});
            let mut metadata = json!({"creationTimestamp": null});
            if !group.is_empty() {
                metadata["name"] = json!(group);
            }
            json!({"metadata": metadata, "versions": versions.iter().map(version).collect::<Vec<_>>()})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resources(registry: &Registry, group: &str, version: &str) -> Vec<Value> {
    let entry = |resource: &Resource, served: &Version| {
        let kind = json!({"group": group, "version": version, "kind": resource.kind});
        let mut entry = json!({
            "resource": resource.plural, "responseKind": kind, "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": resource.singular, "verbs": verbs(resource),
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        if served.status_subresource {
            entry["subresources"] =
                json!([{"subresource": "status", "responseKind": kind, "verbs": STATUS_VERBS}]);
        }
        entry
    };
    served(registry, group, version).map(|(r, v)| entry(r, v)).collect()
}

fn served<'a>(
    registry: &'a Registry,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = (&'a Resource, &'a Version)> {
    registry.iter().filter(move |r| r.group == group).filter_map(move |r| Some((&**r, r.version(version)?)))
}

/// `/api` in the legacy form.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis` in the legacy form.
pub(crate) fn group_list(registry: &Registry) -> Value {
    let groups = registry.groups();
    let groups: Vec<Value> =
        groups.iter().filter(|(group, _)| !group.is_empty()).map(|(g, v)| group_value(g, v)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_value(group: &str, versions: &[&str]) -> Value {
    let entry = |v: &&str| json!({"groupVersion": format!("{group}/{v}"), "version": v});
    let entries: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": group, "versions": entries, "preferredVersion": entries[0]})
}

/// `/apis/GROUP`.
pub(crate) fn group(registry: &Registry, name: &str) -> Answer<Value> {
    let groups = registry.groups();
    let versions = groups.get(name).filter(|_| !name.is_empty()).ok_or_else(Status::no_such_resource)?;
    let mut value = group_value(name, versions);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Ok(value)
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub(crate) fn resources(registry: &Registry, group: &str, version: &str) -> Answer<Value> {
    let mut list = Vec::new();
    for (resource, served) in served(registry, group, version) {
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": verbs(resource),
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        list.push(entry);
        if served.status_subresource {
            list.push(json!({
                "name": format!("{}/status", resource.plural), "singularName": "", "namespaced": resource.namespaced,
                "kind": resource.kind, "verbs": STATUS_VERBS,
            }));
        }
    }
    if list.is_empty() {
        return Err(Status::no_such_resource());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list}),
    )
}

/// `/version`.
pub(crate) fn version(minor: u32) -> Value {
    json!({
        "major": "1", "minor": minor.to_string(), "gitVersion": format!("v1.{minor}.0+embedded"), "gitCommit": "", "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64",
    })
}
