//! The manifests of both sides, as generated from `daemonset/`, and the edits that fit them to an installation.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    admissionregistration::v1::{
        ParamRef, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec,
    },
    apps::v1::{DaemonSet, Deployment},
    core::v1::{ConfigMap, LocalObjectReference, PodTemplateSpec},
};
use kube::{
    ResourceExt,
    api::{DynamicObject, ObjectMeta},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    connect::Role,
    object::{Kind, Name, rank},
    write::{CLUSTERLINK, PART_OF},
};

/// The version that this program installs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The label that says which version a workload is of.
pub const VERSION_LABEL: &str = "app.kubernetes.io/version";
/// The namespace of the components, on both sides.
pub const NAMESPACE: &str = "clusterlink-system";
/// The namespace of the members' service accounts, in the control cluster.
pub const MEMBERS_NAMESPACE: &str = "clusterlink-members";
/// The member's ConfigMap that says which cluster it is.
pub const SETTINGS: &str = "clusterlink";
/// Its key with the cluster's name.
pub const CLUSTER_KEY: &str = "cluster";
/// The member's Secret with its way to the control cluster.
pub const CREDENTIAL: &str = "clusterlink-control";

/// A manifest that does not fit: a fault of this program, found by its tests.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is no YAML stream of objects.
    #[error("the manifest of the {role} cluster: {reason}")]
    Unreadable {
        /// Whose.
        role: Role,
        /// What is wrong with it.
        reason: String,
    },
    /// An object that is not what its kind says.
    #[error("the manifest of the {role} cluster: {name}: {reason}")]
    Malformed {
        /// Whose.
        role: Role,
        /// The object.
        name: Name,
        /// What is wrong with it.
        reason: String,
    },
}

/// How an installation differs from the manifests as they are.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The image of every component.
    pub image: Option<String>,
    /// The Secret that the image is pulled with; it must exist in the namespace.
    pub image_pull_secret: Option<String>,
    /// What stands in the member's ConfigMap; what does not is left as it is there.
    pub values: BTreeMap<String, String>,
}

/// The objects of one side, in the order in which they are created, fitted to the settings.
pub fn render(role: Role, settings: &Settings) -> Result<Vec<DynamicObject>, ManifestError> {
    let mut objects = parse(role, text(role))?;
    for object in &mut objects {
        object.labels_mut().insert(PART_OF.to_owned(), CLUSTERLINK.to_owned());
        match Kind::of(object).map(|kind| kind.kind) {
            Some("DaemonSet") => edit(role, object, |set: &mut DaemonSet| {
                mark(&mut set.metadata);
                set.spec.iter_mut().for_each(|spec| fit(&mut spec.template, settings));
            })?,
            Some("Deployment") => edit(role, object, |deployment: &mut Deployment| {
                mark(&mut deployment.metadata);
                deployment.spec.iter_mut().for_each(|spec| fit(&mut spec.template, settings));
            })?,
            Some("ConfigMap") if object.name_any() == SETTINGS => {
                edit(role, object, |map: &mut ConfigMap| {
                    map.data.get_or_insert_default().extend(settings.values.clone());
                })?
            }
            Some("ValidatingAdmissionPolicy") => {
                edit(role, object, |policy: &mut ValidatingAdmissionPolicy| {
                    policy.spec.iter_mut().for_each(|spec| hold_to(settings.values.get(CLUSTER_KEY), spec));
                })?
            }
            Some("ValidatingAdmissionPolicyBinding") => {
                edit(role, object, |binding: &mut ValidatingAdmissionPolicyBinding| {
                    let is_settings = |param: &ParamRef| param.name.as_deref() == Some(SETTINGS);
                    binding.spec.iter_mut().filter(|_| settings.values.contains_key(CLUSTER_KEY)).for_each(
                        |spec| spec.param_ref = spec.param_ref.take().filter(|param| !is_settings(param)),
                    );
                })?;
            }
            _ => {}
        }
    }
    objects.sort_by_key(rank);
    Ok(objects)
}

fn text(role: Role) -> &'static str {
    match role {
        Role::Control => manifests::CONTROL,
        Role::Member => manifests::MEMBER,
    }
}

pub(crate) fn parse(role: Role, text: &str) -> Result<Vec<DynamicObject>, ManifestError> {
    let unreadable =
        |error: serde_saphyr::Error| ManifestError::Unreadable { role, reason: error.to_string() };
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).map_err(unreadable)?;
    let objects = documents.into_iter().filter(|document| !document.is_null()).map(|document| {
        serde_json::from_value(document)
            .map_err(|error| ManifestError::Unreadable { role, reason: error.to_string() })
    });
    objects.collect()
}

/// Puts the cluster's name into a policy that would read it from the ConfigMap. An API server stops watching ConfigMaps for
/// policies when the last such policy goes, and never begins again before it restarts: a cluster that is unjoined and joined
/// again would be held to what stood there before, or to nothing.
fn hold_to(cluster: Option<&String>, policy: &mut ValidatingAdmissionPolicySpec) {
    let (Some(cluster), true) = (cluster, policy.param_kind.is_some()) else { return };
    policy.param_kind = None;
    let variables = policy.variables.iter_mut().flatten().filter(|variable| variable.name == CLUSTER_KEY);
    // A name holds letters, digits and '-' alone: `join` sees to that.
    variables.for_each(|variable| variable.expression = format!("'{cluster}'"));
}

/// Edits an object as what it is.
pub(crate) fn edit<K: DeserializeOwned + Serialize>(
    role: Role,
    object: &mut DynamicObject,
    change: impl FnOnce(&mut K),
) -> Result<(), ManifestError> {
    let name = Name::of(object);
    let malformed = |error: serde_json::Error| ManifestError::Malformed {
        role,
        name: name.clone(),
        reason: error.to_string(),
    };
    let value = serde_json::to_value(&*object).map_err(malformed)?;
    let mut typed: K = serde_json::from_value(value).map_err(malformed)?;
    change(&mut typed);
    let value = serde_json::to_value(typed).map_err(malformed)?;
    *object = serde_json::from_value(value).map_err(malformed)?;
    Ok(())
}

fn mark(metadata: &mut ObjectMeta) {
    metadata.labels.get_or_insert_default().insert(VERSION_LABEL.to_owned(), VERSION.to_owned());
}

fn fit(template: &mut PodTemplateSpec, settings: &Settings) {
    let Some(spec) = &mut template.spec else { return };
    if let Some(image) = &settings.image {
        let init = spec.init_containers.iter_mut().flatten();
        for container in spec.containers.iter_mut().chain(init) {
            container.image = Some(image.clone());
        }
    }
    if let Some(name) = &settings.image_pull_secret {
        spec.image_pull_secrets = Some(vec![LocalObjectReference { name: name.clone() }]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_object_is_of_a_kind_that_can_be_written() {
        for role in [Role::Control, Role::Member] {
            for object in render(role, &Settings::default()).unwrap() {
                let kind = Kind::of(&object);
                assert!(kind.is_some(), "{role}: {}", Name::of(&object));
                assert_eq!(kind.unwrap().namespaced, object.namespace().is_some(), "{}", Name::of(&object));
                assert_eq!(object.labels()[PART_OF], CLUSTERLINK);
            }
        }
    }

    #[test]
    fn typed_edits_lose_nothing() {
        for role in [Role::Control, Role::Member] {
            let rendered = render(role, &Settings::default()).unwrap();
            for before in parse(role, text(role)).unwrap() {
                let after = rendered
                    .iter()
                    .find(|object| {
                        (Name::of(object), object.namespace()) == (Name::of(&before), before.namespace())
                    })
                    .unwrap();
                let (before, after) =
                    (serde_json::to_value(before).unwrap(), serde_json::to_value(after).unwrap());
                let lost = lost("", &before, &after);
                assert_eq!(lost, Vec::<String>::new());
            }
        }
    }

    /// Paths of what stands in the one and not in the other.
    fn lost(path: &str, before: &serde_json::Value, after: &serde_json::Value) -> Vec<String> {
        use serde_json::Value;
        match (before, after) {
            (Value::Object(before), Value::Object(_)) => before
                .iter()
                .flat_map(|(key, value)| lost(&format!("{path}.{key}"), value, &after[key.as_str()]))
                .collect(),
            (Value::Array(before), Value::Array(others)) if before.len() == others.len() => before
                .iter()
                .zip(others)
                .enumerate()
                .flat_map(|(at, (value, other))| lost(&format!("{path}[{at}]"), value, other))
                .collect(),
            _ if before == after || before.is_null() => Vec::new(),
            _ => vec![format!("{path}: {before} became {after}")],
        }
    }

    #[test]
    fn policies_of_a_member_that_has_a_name_read_it_nowhere() {
        let settings =
            Settings { values: [(CLUSTER_KEY.to_owned(), "east".to_owned())].into(), ..Settings::default() };
        let with_params = |settings: &Settings| {
            let policies = render(Role::Member, settings).unwrap().into_iter().filter(|object| {
                object.types.as_ref().is_some_and(|types| types.kind.starts_with("ValidatingAdmissionPolicy"))
            });
            let texts: Vec<String> = policies.map(|policy| policy.data.to_string()).collect();
            let named = texts.iter().filter(|text| text.contains(r#""expression":"'east'""#)).count();
            (texts.iter().filter(|text| text.contains("param")).count(), named)
        };
        assert_eq!(with_params(&Settings::default()), (4, 0));
        assert_eq!(with_params(&settings), (0, 2));
    }

    #[test]
    fn the_image_and_its_secret_reach_every_container() {
        let settings = Settings {
            image: Some("r.example/cl:9".to_owned()),
            image_pull_secret: Some("pull".to_owned()),
            ..Settings::default()
        };
        for role in [Role::Control, Role::Member] {
            let mut seen = 0;
            for object in render(role, &settings).unwrap() {
                let template = &object.data["spec"]["template"]["spec"];
                for container in template["containers"].as_array().into_iter().flatten() {
                    assert_eq!(container["image"], "r.example/cl:9");
                    assert_eq!(template["imagePullSecrets"][0]["name"], "pull");
                    assert_eq!(object.labels()[VERSION_LABEL], VERSION);
                    seen += 1;
                }
            }
            assert!(seen > 0, "{role}");
        }
    }
}
