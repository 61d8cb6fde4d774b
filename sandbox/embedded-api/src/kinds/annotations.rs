//! What k8s-openapi's schemas leave out: how lists merge, and which defaults an API server fills in.

use serde_json::{Map, Value, json};

/// Lists that are maps: definition, field, keys. The first key is the strategic-merge key too.
const LIST_MAPS: &[(&str, &str, &[&str])] = &[
    ("io.k8s.api.core.v1.PodSpec", "containers", &["name"]),
    ("io.k8s.api.core.v1.PodSpec", "initContainers", &["name"]),
    ("io.k8s.api.core.v1.PodSpec", "ephemeralContainers", &["name"]),
    ("io.k8s.api.core.v1.PodSpec", "volumes", &["name"]),
    ("io.k8s.api.core.v1.PodSpec", "imagePullSecrets", &["name"]),
    ("io.k8s.api.core.v1.PodSpec", "hostAliases", &["ip"]),
    ("io.k8s.api.core.v1.PodSpec", "schedulingGates", &["name"]),
    ("io.k8s.api.core.v1.PodSpec", "resourceClaims", &["name"]),
    ("io.k8s.api.core.v1.PodSpec", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("io.k8s.api.core.v1.PodStatus", "conditions", &["type"]),
    ("io.k8s.api.core.v1.PodStatus", "podIPs", &["ip"]),
    ("io.k8s.api.core.v1.Container", "env", &["name"]),
    ("io.k8s.api.core.v1.Container", "ports", &["containerPort", "protocol"]),
    ("io.k8s.api.core.v1.Container", "volumeMounts", &["mountPath"]),
    ("io.k8s.api.core.v1.Container", "volumeDevices", &["devicePath"]),
    ("io.k8s.api.core.v1.EphemeralContainer", "env", &["name"]),
    ("io.k8s.api.core.v1.EphemeralContainer", "ports", &["containerPort", "protocol"]),
    ("io.k8s.api.core.v1.EphemeralContainer", "volumeMounts", &["mountPath"]),
    ("io.k8s.api.core.v1.EphemeralContainer", "volumeDevices", &["devicePath"]),
    ("io.k8s.api.core.v1.ResourceRequirements", "claims", &["name"]),
    ("io.k8s.api.core.v1.ServiceSpec", "ports", &["port", "protocol"]),
    ("io.k8s.api.core.v1.ServiceStatus", "conditions", &["type"]),
    ("io.k8s.api.core.v1.NodeStatus", "conditions", &["type"]),
    ("io.k8s.api.core.v1.NamespaceStatus", "conditions", &["type"]),
    ("io.k8s.api.core.v1.ServiceAccount", "secrets", &["name"]),
    ("io.k8s.api.networking.v1.ServiceCIDRStatus", "conditions", &["type"]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "ownerReferences", &["uid"]),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        "conditions",
        &["type"],
    ),
];

/// Lists that are sets.
const SETS: &[(&str, &str)] = &[
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers"),
    ("io.k8s.api.core.v1.NodeSpec", "podCIDRs"),
    ("io.k8s.api.discovery.v1.Endpoint", "addresses"),
];

/// Lists that strategic merge merges by a key though server-side apply takes them whole.
const MERGED_ATOMICS: &[(&str, &str, &str)] = &[
    ("io.k8s.api.core.v1.PodStatus", "hostIPs", "ip"),
    ("io.k8s.api.core.v1.ServiceAccount", "imagePullSecrets", "name"),
    // A dual-stack node has two addresses of one type, so that their key is none.
    ("io.k8s.api.core.v1.NodeStatus", "addresses", "type"),
];

/// Objects and maps that have one owner as a whole.
const ATOMIC_MAPS: &[&str] = &[
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.EndpointAddress",
    "io.k8s.api.core.v1.EndpointPort",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.discovery.v1.EndpointPort",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

const ATOMIC_FIELDS: &[(&str, &str)] =
    &[("io.k8s.api.core.v1.ServiceSpec", "selector"), ("io.k8s.api.core.v1.PodSpec", "nodeSelector")];

/// Defaults that are one value; those that depend on other fields stand in `strategy`.
fn defaults() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("io.k8s.api.core.v1.ServicePort", "protocol", json!("TCP")),
        ("io.k8s.api.core.v1.ContainerPort", "protocol", json!("TCP")),
        ("io.k8s.api.core.v1.EndpointPort", "protocol", json!("TCP")),
        ("io.k8s.api.discovery.v1.EndpointPort", "protocol", json!("TCP")),
        ("io.k8s.api.discovery.v1.EndpointPort", "name", json!("")),
        ("io.k8s.api.core.v1.ServiceSpec", "type", json!("ClusterIP")),
        ("io.k8s.api.core.v1.ServiceSpec", "sessionAffinity", json!("None")),
        ("io.k8s.api.core.v1.PodSpec", "restartPolicy", json!("Always")),
        ("io.k8s.api.core.v1.PodSpec", "dnsPolicy", json!("ClusterFirst")),
        ("io.k8s.api.core.v1.PodSpec", "schedulerName", json!("default-scheduler")),
        ("io.k8s.api.core.v1.PodSpec", "terminationGracePeriodSeconds", json!(30)),
        ("io.k8s.api.core.v1.PodSpec", "enableServiceLinks", json!(true)),
        ("io.k8s.api.core.v1.Container", "terminationMessagePath", json!("/dev/termination-log")),
        ("io.k8s.api.core.v1.Container", "terminationMessagePolicy", json!("File")),
        ("io.k8s.api.core.v1.Secret", "type", json!("Opaque")),
        ("io.k8s.api.core.v1.ObjectFieldSelector", "apiVersion", json!("v1")),
    ]
}

/// Closed sets of values that the schemas only describe in words.
const ENUMS: &[(&str, &str, &[&str])] = &[
    ("io.k8s.api.core.v1.ServicePort", "protocol", &["SCTP", "TCP", "UDP"]),
    ("io.k8s.api.core.v1.ContainerPort", "protocol", &["SCTP", "TCP", "UDP"]),
    ("io.k8s.api.core.v1.ServiceSpec", "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]),
    ("io.k8s.api.core.v1.ServiceSpec", "sessionAffinity", &["ClientIP", "None"]),
    (
        "io.k8s.api.core.v1.ServiceSpec",
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    ),
    ("io.k8s.api.core.v1.PodSpec", "restartPolicy", &["Always", "Never", "OnFailure"]),
    ("io.k8s.api.discovery.v1.EndpointSlice", "addressType", &["FQDN", "IPv4", "IPv6"]),
];

/// Completes the definitions in place.
pub(crate) fn complete(definitions: &mut Map<String, Value>) {
    for (definition, field, keys) in LIST_MAPS {
        let merge_key = keys[0];
        annotate(
            definitions,
            definition,
            field,
            &[
                ("x-kubernetes-list-type", json!("map")),
                ("x-kubernetes-list-map-keys", json!(keys)),
                ("x-kubernetes-patch-strategy", json!("merge")),
                ("x-kubernetes-patch-merge-key", json!(merge_key)),
            ],
        );
    }
    for (definition, field) in SETS {
        let words =
            [("x-kubernetes-list-type", json!("set")), ("x-kubernetes-patch-strategy", json!("merge"))];
        annotate(definitions, definition, field, &words);
    }
    for (definition, field, key) in MERGED_ATOMICS {
        let words =
            [("x-kubernetes-patch-strategy", json!("merge")), ("x-kubernetes-patch-merge-key", json!(key))];
        annotate(definitions, definition, field, &words);
    }
    for (definition, field) in ATOMIC_FIELDS {
        annotate(definitions, definition, field, &[("x-kubernetes-map-type", json!("atomic"))]);
    }
    for (definition, field, value) in defaults() {
        annotate(definitions, definition, field, &[("default", value)]);
    }
    for (definition, field, values) in ENUMS {
        annotate(definitions, definition, field, &[("enum", json!(values))]);
    }
    for definition in ATOMIC_MAPS {
        if let Some(schema) = definitions.get_mut(*definition) {
            schema["x-kubernetes-map-type"] = json!("atomic");
        }
    }
}

fn annotate(definitions: &mut Map<String, Value>, definition: &str, field: &str, words: &[(&str, Value)]) {
    let property = definitions.get_mut(definition).and_then(|d| d.get_mut("properties")?.get_mut(field));
    if let Some(property) = property {
        for (word, value) in words {
            property[*word] = value.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtin::definitions;
    use super::*;

    #[test]
    fn every_annotation_names_a_field_that_exists() {
        let definitions = definitions();
        let field = |definition: &str, field: &str| {
            let found = definitions.get(definition).and_then(|d| d["properties"].get(field));
            found.unwrap_or_else(|| panic!("{definition} has no {field}")).clone()
        };
        for (definition, name, keys) in LIST_MAPS {
            assert_eq!(field(definition, name)["x-kubernetes-list-map-keys"], json!(keys));
        }
        SETS.iter().chain(ATOMIC_FIELDS).for_each(|(d, f)| drop(field(d, f)));
        MERGED_ATOMICS.iter().for_each(|(d, f, _)| drop(field(d, f)));
        defaults().iter().for_each(|(d, f, _)| drop(field(d, f)));
        ENUMS.iter().for_each(|(d, f, _)| drop(field(d, f)));
        for definition in ATOMIC_MAPS {
            assert!(definitions.contains_key(*definition), "{definition}");
        }
    }
}
