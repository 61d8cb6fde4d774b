//! What an install consists of: the YAML that `make generate` writes from the kustomizations beside, and its objects.

use serde_json::Value;

/// What the control cluster needs.
pub const CONTROL: &str = include_str!("../control.yaml");
/// What every member cluster needs.
pub const MEMBER: &str = include_str!("../member.yaml");
/// What the control cluster needs for each member, with [`CLUSTER_NAME`] in place of its name.
pub const MEMBERSHIP: &str = include_str!("../membership.yaml");
/// Stands for the name of the member's Cluster.
pub const CLUSTER_NAME: &str = "cluster-name";

/// The objects of a manifest, in its order. The error names line and column.
pub fn objects(yaml: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The objects that let a member in, in the control cluster: its ServiceAccount and what that may do beyond what every
/// member may.
pub fn membership(cluster: &str) -> Vec<Value> {
    let mut objects = objects(MEMBERSHIP).expect("a test reads it");
    objects.iter_mut().for_each(|object| name(object, cluster));
    objects
}

fn name(value: &mut Value, cluster: &str) {
    match value {
        Value::String(text) => *text = text.replace(CLUSTER_NAME, cluster),
        Value::Array(items) => items.iter_mut().for_each(|item| name(item, cluster)),
        Value::Object(fields) => fields.values_mut().for_each(|field| name(field, cluster)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
