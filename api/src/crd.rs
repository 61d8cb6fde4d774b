//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{Cluster, ClusterNode, NodeConfig};

/// The three definitions, in the order in which they are written.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![Cluster::crd(), ClusterNode::crd(), NodeConfig::crd()];
    for version in definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions) {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        schema.into_iter().for_each(drop_rust_formats);
    }
    definitions
}

/// kube-apiserver warns of formats that it does not know, such as `uint32`; the bounds beside them say the same.
fn drop_rust_formats(schema: &mut JSONSchemaProps) {
    schema.format.take_if(|format| format.starts_with("uint"));
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(drop_rust_formats);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => drop_rust_formats(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(drop_rust_formats),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        drop_rust_formats(value);
    }
}
