//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{Cluster, ClusterNode, NodeConfig};

/// The three definitions, in the order in which they are written.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![Cluster::crd(), ClusterNode::crd(), NodeConfig::crd()]
}
