//! `/openapi/v3`: an index, and one document for each group and version. What kubectl reads of them: the schemas
//! with their descriptions (`explain`, `diff`), and that PATCH takes `fieldValidation` (`apply`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::kinds::{Registry, Resource, Version, builtin};
use crate::status::{Answer, Status};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const COMPONENTS: &str = "#/components/schemas/";

/// The index: where each document lies, with a hash that changes with it.
pub(crate) fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, versions) in registry.groups() {
        for version in versions {
            let path = document_path(group, version);
            let document = document(registry, group, version).unwrap_or_default().to_string();
            let digest = Sha256::digest(document.as_bytes());
            let hash: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
            paths.insert(
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}),
            );
        }
    }
    json!({"paths": paths})
}

fn document_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The document of one group and version.
pub(crate) fn document(registry: &Registry, group: &str, version: &str) -> Answer<Value> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in registry.iter().filter(|r| r.group == group) {
        if let Some(served) = resource.version(version) {
            add_paths(&mut paths, resource, served);
            add_schemas(&mut schemas, resource, served);
        }
    }
    if paths.is_empty() {
        return Err(Status::no_such_resource());
    }
    Ok(json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths, "components": {"schemas": schemas},
    }))
}

fn add_paths(paths: &mut Map<String, Value>, resource: &Resource, version: &Version) {
    let root = format!("/{}", document_path(&resource.group, &version.name));
    let collection = match resource.namespaced {
        true => format!("{root}/namespaces/{{namespace}}/{}", resource.plural),
        false => format!("{root}/{}", resource.plural),
    };
    let one = format!("{collection}/{{name}}");
    let operation = |method: &str, action: &str| (method.to_owned(), operation(resource, version, action));
    let verbs = [("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")];
    let object: Map<String, Value> = verbs.into_iter().map(|(m, a)| operation(m, a)).collect();
    let list = [("get", "list"), ("post", "post"), ("delete", "deletecollection")];
    let list: Map<String, Value> = list.into_iter().map(|(m, a)| operation(m, a)).collect();
    if version.status_subresource {
        let verbs = [("get", "get"), ("put", "put"), ("patch", "patch")];
        let status: Map<String, Value> = verbs.into_iter().map(|(m, a)| operation(m, a)).collect();
        paths.insert(format!("{one}/status"), Value::Object(status));
    }
    if resource.namespaced {
        let (method, all) = operation("get", "list");
        paths.insert(format!("{root}/{}", resource.plural), json!({method: all}));
    }
    paths.insert(one, Value::Object(object));
    paths.insert(collection, Value::Object(list));
}

fn operation(resource: &Resource, version: &Version, action: &str) -> Value {
    let writes = matches!(action, "put" | "post" | "patch");
    let mut names = vec!["pretty"];
    if writes {
        names.extend(["dryRun", "fieldManager", "fieldValidation"]);
    }
    let parameter =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let mut parameters: Vec<Value> = names.into_iter().map(parameter).collect();
    if action == "patch" {
        parameters.push(
            json!({"name": "force", "in": "query", "schema": {"type": "boolean", "uniqueItems": true}}),
        );
    }
    let schema = json!({"$ref": format!("{COMPONENTS}{}", version.component)});
    let gvk = json!({"group": resource.group, "version": version.name, "kind": resource.kind});
    json!({
        "operationId": format!("{action}{}", resource.kind), "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
    })
}

fn add_schemas(schemas: &mut Map<String, Value>, resource: &Resource, version: &Version) {
    let gvk = json!([{"group": resource.group, "version": version.name, "kind": resource.kind}]);
    let mut schema = match &version.open_api {
        Some(open_api) => custom_schema(open_api),
        None => builtin::definitions().get(&version.component).cloned().unwrap_or_default(),
    };
    schema["x-kubernetes-group-version-kind"] = gvk;
    let mut wanted = BTreeSet::new();
    point_to_components(&mut schema, &mut wanted);
    schemas.insert(version.component.clone(), schema);
    while let Some(name) = wanted.pop_first() {
        if schemas.contains_key(&name) {
            continue;
        }
        let mut definition =
            builtin::definitions().get(&name).cloned().unwrap_or_else(|| json!({"type": "object"}));
        point_to_components(&mut definition, &mut wanted);
        schemas.insert(name, definition);
    }
}

/// A CRD's schema with the fields that every object has.
fn custom_schema(open_api: &Value) -> Value {
    let mut schema = open_api.clone();
    let text = |description: &str| json!({"type": "string", "description": description});
    let own = [
        ("apiVersion", text("APIVersion defines the versioned schema of this representation of an object.")),
        ("kind", text("Kind is a string value representing the REST resource this object represents.")),
        (
            "metadata",
            json!({"description": "Standard object's metadata.", "$ref": format!("#/$defs/{META}.ObjectMeta")}),
        ),
    ];
    for (field, value) in own {
        schema["properties"][field] = value;
    }
    schema
}

/// Turns references into the document's own. A description beside one needs an `allOf` in OpenAPI 3.0.
fn point_to_components(schema: &mut Value, wanted: &mut BTreeSet<String>) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| point_to_components(item, wanted)),
        Value::Object(map) => {
            let target = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix("#/$defs/"))
                .map(str::to_owned);
            if let Some(name) = target {
                let reference = json!({"$ref": format!("{COMPONENTS}{name}")});
                map.remove("$ref");
                if map.is_empty() {
                    *schema = reference;
                } else {
                    map.insert("allOf".to_owned(), json!([reference]));
                }
                wanted.insert(name);
                return;
            }
            map.values_mut().for_each(|value| point_to_components(value, wanted));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_holds_everything_it_refers_to() {
        let registry = Registry::new(builtin::resources());
        for (group, versions) in registry.groups() {
            let document = document(&registry, group, versions[0]).unwrap();
            let schemas = document["components"]["schemas"].as_object().unwrap();
            for reference in references(&document) {
                let name = reference
                    .strip_prefix(COMPONENTS)
                    .unwrap_or_else(|| panic!("{reference} leads out of the document"));
                assert!(schemas.contains_key(name), "{group}: {name}");
            }
        }
    }

    fn references(value: &Value) -> Vec<String> {
        match value {
            Value::Array(items) => items.iter().flat_map(references).collect(),
            Value::Object(map) => {
                let own = map.get("$ref").and_then(Value::as_str).map(str::to_owned);
                map.values().flat_map(references).chain(own).collect()
            }
            _ => Vec::new(),
        }
    }
}
