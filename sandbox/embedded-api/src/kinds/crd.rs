//! From a CustomResourceDefinition to a served resource.

use serde_json::{Value, json};
use structural_schema::Schema;

use super::columns::{Columns, Path, PrinterColumn};
use super::strategy::Strategy;
use super::{Resource, Storage, Version};
use crate::status::Cause;

/// The finalizer that holds a CRD until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Fills in the names a CRD may leave out.
pub(crate) fn complete_names(crd: &mut Value) {
    let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    let names = &mut crd["spec"]["names"];
    for (field, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
        if names[field].as_str().is_none_or(str::is_empty) {
            names[field] = json!(value);
        }
    }
    if crd["spec"]["conversion"]["strategy"].is_null() {
        crd["spec"]["conversion"] = json!({"strategy": "None"});
    }
}

/// What the controllers of an API server would report: the names are accepted and the resource is served.
pub(crate) fn establish(crd: &mut Value, now: &str) {
    if crd["status"]["conditions"].is_array() {
        crd["status"]["acceptedNames"] = crd["spec"]["names"].clone();
        return;
    }
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now});
    let storage = versions(crd).find(|v| v["storage"] == true).map(|v| v["name"].clone());
    crd["status"] = json!({
        "acceptedNames": crd["spec"]["names"],
        "storedVersions": storage.into_iter().collect::<Vec<_>>(),
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
}

/// The resource that a CRD defines, or all that is wrong with it.
pub(crate) fn resource(crd: &Value) -> Result<Resource, Vec<Cause>> {
    let mut causes = shape_errors(crd);
    let spec = &crd["spec"];
    let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
    let mut served = Vec::new();
    for (i, version) in versions(crd).enumerate() {
        match compile(version, &group, &kind) {
            Ok(compiled) if version["served"] == true => served.push(compiled),
            Ok(_) => {}
            Err(errors) => {
                causes.extend(errors.into_iter().map(|e| within(&format!("spec.versions[{i}]"), e)))
            }
        }
    }
    if !causes.is_empty() {
        return Err(causes);
    }
    served.sort_by_key(|v: &Version| std::cmp::Reverse(version_order(&v.name)));
    let names = &spec["names"];
    let storage = versions(crd).find(|v| v["storage"] == true);
    Ok(Resource {
        group,
        plural: text(&names["plural"]),
        singular: text(&names["singular"]),
        list_kind: text(&names["listKind"]),
        kind,
        short_names: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        strategy: Strategy::Custom,
        storage: Storage::Own,
        storage_version: storage.map(|v| text(&v["name"])).unwrap_or_default(),
        versions: served,
    })
}

fn versions(crd: &Value) -> impl Iterator<Item = &Value> {
    crd["spec"]["versions"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn invalid(field: &str, message: String) -> Cause {
    Cause { reason: "FieldValueInvalid".to_owned(), message, field: field.to_owned() }
}

fn within(prefix: &str, cause: Cause) -> Cause {
    Cause { field: format!("{prefix}.{}", cause.field), ..cause }
}

fn shape_errors(crd: &Value) -> Vec<Cause> {
    let (spec, mut causes) = (&crd["spec"], Vec::new());
    let expected = format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"]));
    if crd["metadata"]["name"] != expected.as_str() {
        let message =
            format!("Invalid value: {}: must be spec.names.plural+\".\"+spec.group", crd["metadata"]["name"]);
        causes.push(invalid("metadata.name", message));
    }
    if versions(crd).filter(|v| v["storage"] == true).count() != 1 {
        let message = "Invalid value: must have exactly one version marked as storage version".to_owned();
        causes.push(invalid("spec.versions", message));
    }
    if spec["conversion"]["strategy"] != "None" {
        let message = format!(
            "Unsupported value: {}: the embedded API server converts by apiVersion only: use \"None\"",
            spec["conversion"]["strategy"]
        );
        causes.push(invalid("spec.conversion.strategy", message));
    }
    causes
}

fn compile(version: &Value, group: &str, kind: &str) -> Result<Version, Vec<Cause>> {
    let open_api = &version["schema"]["openAPIV3Schema"];
    if !open_api.is_object() {
        let field = "schema.openAPIV3Schema".to_owned();
        let message = "Required value: schemas are required".to_owned();
        return Err(vec![Cause { reason: "FieldValueRequired".to_owned(), message, field }]);
    }
    let schema = Schema::compile(open_api).map_err(|e| {
        vec![invalid(&format!("schema.openAPIV3Schema{}", e.path), format!("Invalid value: {}", e.message))]
    })?;
    let status_subresource = version["subresources"]["status"].is_object();
    let name = text(&version["name"]);
    Ok(Version {
        schema: if status_subresource { schema.with_status_subresource() } else { schema },
        component: component_name(group, &name, kind),
        open_api: Some(open_api.clone()),
        status_subresource,
        columns: Columns::Custom(columns(version)?),
        selectable: selectable(version),
        name,
    })
}

/// `io.kosmos.v1alpha1.Cluster` for `kosmos.io`, as Kubernetes names the schemas of CRDs.
fn component_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

fn columns(version: &Value) -> Result<Vec<PrinterColumn>, Vec<Cause>> {
    let listed = version["additionalPrinterColumns"].as_array();
    let age = json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]);
    let listed = listed.filter(|l| !l.is_empty()).or_else(|| age.as_array()).into_iter().flatten();
    listed.enumerate().map(|(i, column)| printer_column(i, column).map_err(|e| vec![e])).collect()
}

fn printer_column(i: usize, column: &Value) -> Result<PrinterColumn, Cause> {
    let json_path = text(&column["jsonPath"]);
    let path = Path::parse(&json_path).map_err(|why| {
        invalid(
            &format!("additionalPrinterColumns[{i}].jsonPath"),
            format!("Invalid value: {json_path:?}: {why}"),
        )
    })?;
    Ok(PrinterColumn {
        name: text(&column["name"]),
        kind: text(&column["type"]),
        format: text(&column["format"]),
        description: text(&column["description"]),
        priority: column["priority"].as_i64().unwrap_or(0),
        path,
    })
}

fn selectable(version: &Value) -> Vec<String> {
    let fields = version["selectableFields"].as_array().into_iter().flatten();
    fields.filter_map(|f| Some(f["jsonPath"].as_str()?.trim_start_matches('.').to_owned())).collect()
}

/// Kubernetes' order of versions: v2 before v1 before v1beta1 before v1alpha1 before anything else.
fn version_order(name: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let Some(rest) = name.strip_prefix('v') else { return (0, 0, 0) };
    for (word, rank) in [("beta", 2), ("alpha", 1)] {
        if let Some((major, minor)) = rest.split_once(word) {
            return (rank, number(major), number(minor));
        }
    }
    if rest.chars().all(|c| c.is_ascii_digit()) { (3, number(rest), 0) } else { (0, 0, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd() -> Value {
        json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                "conversion": {"strategy": "None"},
                "versions": [{"name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]},
        })
    }

    #[test]
    fn names_are_completed_and_the_resource_is_described() {
        let mut crd = crd();
        complete_names(&mut crd);
        let Ok(resource) = resource(&crd) else { panic!("refused") };
        assert_eq!((resource.singular.as_str(), resource.list_kind.as_str()), ("widget", "WidgetList"));
        assert_eq!(resource.versions[0].component, "com.example.v1alpha1.Widget");
        assert!(resource.namespaced && resource.versions[0].status_subresource);
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let mut crd = crd();
        crd["metadata"]["name"] = json!("other");
        crd["spec"]["conversion"]["strategy"] = json!("Webhook");
        crd["spec"]["versions"][0]["storage"] = json!(false);
        crd["spec"]["versions"][0]["schema"] = json!({});
        let Err(causes) = resource(&crd) else { panic!("accepted") };
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "metadata.name",
                "spec.versions",
                "spec.conversion.strategy",
                "spec.versions[0].schema.openAPIV3Schema"
            ]
        );
    }

    #[test]
    fn versions_are_ordered_by_their_maturity() {
        let mut names = ["v1alpha1", "v10", "v1beta2", "v2", "x"];
        names.sort_by_key(|n| std::cmp::Reverse(version_order(n)));
        assert_eq!(names, ["v10", "v2", "v1beta2", "v1alpha1", "x"]);
    }
}
