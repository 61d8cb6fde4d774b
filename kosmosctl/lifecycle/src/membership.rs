//! A member's identity in the control cluster: its service account, and the few rights that are its own.

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject},
};
use kube::api::{DynamicObject, ObjectMeta};
use manifests::CLUSTER_NAME;

use crate::{
    connect::Role as Side,
    manifest::{ManifestError, edit, parse},
    object::{Kind, Name},
};

/// The objects of a member of this name.
pub fn render(cluster: &str) -> Result<Vec<DynamicObject>, ManifestError> {
    let mut objects = parse(Side::Control, manifests::MEMBERSHIP)?;
    for object in &mut objects {
        let kind = Kind::of(object).map(|kind| kind.kind);
        match kind {
            Some("ServiceAccount") => edit(Side::Control, object, |account: &mut ServiceAccount| {
                name(cluster, &mut account.metadata)
            })?,
            Some("Role") => edit(Side::Control, object, |role: &mut Role| {
                name(cluster, &mut role.metadata);
                rules(cluster, &mut role.rules);
            })?,
            Some("ClusterRole") => edit(Side::Control, object, |role: &mut ClusterRole| {
                name(cluster, &mut role.metadata);
                rules(cluster, &mut role.rules);
            })?,
            Some("RoleBinding") => edit(Side::Control, object, |binding: &mut RoleBinding| {
                name(cluster, &mut binding.metadata);
                bind(cluster, &mut binding.role_ref, &mut binding.subjects);
            })?,
            Some("ClusterRoleBinding") => edit(Side::Control, object, |binding: &mut ClusterRoleBinding| {
                name(cluster, &mut binding.metadata);
                bind(cluster, &mut binding.role_ref, &mut binding.subjects);
            })?,
            _ => {
                let reason = "is of a kind that has no place in a membership".to_owned();
                return Err(ManifestError::Malformed { role: Side::Control, name: Name::of(object), reason });
            }
        }
    }
    Ok(objects)
}

/// The placeholder as a whole, or behind a colon.
fn named(cluster: &str, text: &mut String) {
    if text == CLUSTER_NAME {
        *text = cluster.to_owned();
    } else if let Some(prefix) = text.strip_suffix(CLUSTER_NAME).filter(|prefix| prefix.ends_with(':')) {
        *text = format!("{prefix}{cluster}");
    }
}

fn name(cluster: &str, metadata: &mut ObjectMeta) {
    metadata.name.iter_mut().for_each(|name| named(cluster, name));
}

fn rules(cluster: &str, rules: &mut Option<Vec<PolicyRule>>) {
    let names = rules.iter_mut().flatten().flat_map(|rule| rule.resource_names.iter_mut().flatten());
    names.for_each(|name| named(cluster, name));
}

fn bind(cluster: &str, role: &mut RoleRef, subjects: &mut Option<Vec<Subject>>) {
    named(cluster, &mut role.name);
    subjects.iter_mut().flatten().for_each(|subject| named(cluster, &mut subject.name));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_clusters_name_is_everywhere_and_the_placeholder_nowhere() {
        let objects = render("east").unwrap();
        let names: Vec<String> = objects.iter().map(|object| Name::of(object).to_string()).collect();
        assert!(names.contains(&"serviceaccount/east".to_owned()), "{names:?}");
        assert!(
            names.contains(&"clusterrole.rbac.authorization.k8s.io/clusterlink-member:east".to_owned()),
            "{names:?}"
        );
        let text = serde_json::to_string(&objects).unwrap();
        assert!(!text.contains(CLUSTER_NAME), "{text}");
        assert!(text.contains(r#""resourceNames":["east"]"#), "{text}");
    }
}
