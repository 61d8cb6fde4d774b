//! What a member's components are told: its ConfigMap, which says, first of all, which cluster it is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use crate::{
    manifest::{CLUSTER_KEY, NAMESPACE, SETTINGS},
    object::absent_as_none,
};

/// Everything; nothing where the cluster is no member.
pub(crate) async fn told(client: &Client) -> Result<BTreeMap<String, String>, kube::Error> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let map = absent_as_none(maps.get(SETTINGS).await)?;
    Ok(map.and_then(|map| map.data).unwrap_or_default())
}

/// The name by which the cluster is joined.
pub(crate) async fn joined_as(client: &Client) -> Result<Option<String>, kube::Error> {
    Ok(told(client).await?.remove(CLUSTER_KEY))
}
