//! What is special about each built-in kind: what creation sets, what an update may not change.

use serde_json::{Value, json};

use crate::status::Cause;

/// Which rules a kind follows beside its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    Plain,
    Node,
    Pod,
    Namespace,
    Service,
    ServiceCidr,
    EndpointSlice,
    ConfigMap,
    Secret,
    ServiceAccount,
    Crd,
    /// A kind that a CRD defines.
    Custom,
}

impl Strategy {
    /// The words that `kubectl get` knows it by, with others.
    pub(crate) fn categories(self) -> &'static [&'static str] {
        match self {
            Self::Pod | Self::Service => &["all"],
            Self::Crd => &["api-extensions"],
            _ => &[],
        }
    }

    /// Namespaces are deleted one by one.
    pub(crate) fn deletes_collections(self) -> bool {
        self != Self::Namespace
    }

    /// A kubelet registers its Node with a status; all other kinds are born without one of the client's.
    pub(crate) fn keeps_status_at_creation(self) -> bool {
        self == Self::Node
    }

    /// Whether `metadata.generation` counts the changes of the spec.
    pub(crate) fn counts_generation(self) -> bool {
        matches!(self, Self::Custom | Self::Crd | Self::EndpointSlice | Self::Pod)
    }

    /// Custom resources must say which version they replace.
    pub(crate) fn allows_unconditional_update(self) -> bool {
        self != Self::Custom
    }

    /// Whether a delete answers with the object that it deleted.
    pub(crate) fn returns_deleted(self) -> bool {
        matches!(self, Self::Pod | Self::Service | Self::ServiceAccount)
    }

    /// Whether the kind takes strategic merge patches.
    pub(crate) fn merges_strategically(self) -> bool {
        self != Self::Custom
    }

    /// Whether names are DNS labels, without dots.
    pub(crate) fn names_are_labels(self) -> bool {
        matches!(self, Self::Namespace | Self::Service)
    }

    /// The fields whose keys become names of files.
    pub(crate) fn keyed_fields(self) -> Option<&'static [&'static str]> {
        match self {
            Self::ConfigMap => Some(&["data", "binaryData"]),
            Self::Secret => Some(&["data"]),
            _ => None,
        }
    }

    /// What an API server fills in that a schema's defaults cannot say. `old` is `None` at creation.
    pub(crate) fn prepare(self, new: &mut Value, old: Option<&Value>) {
        match self {
            Self::Namespace => prepare_namespace(new, old),
            Self::Pod => prepare_pod(new, old),
            Self::Secret => encode_string_data(new),
            Self::Node => prepare_node(new),
            Self::Service if new["status"].is_null() => new["status"] = json!({"loadBalancer": {}}),
            _ => {}
        }
    }

    /// What an update breaks beside the schema.
    pub(crate) fn forbidden_changes(self, new: &Value, old: &Value) -> Vec<Cause> {
        match self {
            Self::ConfigMap => immutable_data(new, old, &["data", "binaryData"]),
            Self::Secret => {
                let mut causes = immutable_data(new, old, &["data"]);
                causes.extend(unchanged(new, old, "type"));
                causes
            }
            Self::EndpointSlice => unchanged(new, old, "addressType").into_iter().collect(),
            Self::Pod => fixed_once_set(new, old, "nodeName").into_iter().collect(),
            Self::Crd => crd_changes(new, old),
            _ => Vec::new(),
        }
    }
}

/// The one podCIDR and the first of the podCIDRs are the same.
fn prepare_node(new: &mut Value) {
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let first = spec.get("podCIDRs").and_then(|cidrs| cidrs.get(0)).cloned();
    match (spec.get("podCIDR").cloned(), first) {
        (Some(one), None) if one.as_str().is_some_and(|one| !one.is_empty()) => {
            spec.insert("podCIDRs".to_owned(), json!([one]));
        }
        (None, Some(first)) => _ = spec.insert("podCIDR".to_owned(), first),
        _ => {}
    }
}

fn prepare_namespace(new: &mut Value, old: Option<&Value>) {
    let name = new["metadata"]["name"].clone();
    new["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    if old.is_none() {
        new["spec"]["finalizers"] = json!(["kubernetes"]);
        new["status"] = json!({"phase": "Active"});
    }
}

fn prepare_pod(new: &mut Value, old: Option<&Value>) {
    if old.is_none() {
        new["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    }
    let Some(spec) = new["spec"].as_object_mut() else { return };
    spec.entry("securityContext").or_insert_with(|| json!({}));
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            let image = container.get("image").and_then(Value::as_str).unwrap_or("");
            let latest = !image.rsplit('/').next().unwrap_or("").contains(':') || image.ends_with(":latest");
            let policy = if latest && !image.contains('@') { "Always" } else { "IfNotPresent" };
            container.entry("imagePullPolicy").or_insert_with(|| json!(policy));
            container.entry("resources").or_insert_with(|| json!({}));
        }
    }
}

/// `stringData` is for writing only: it ends in `data`, encoded.
fn encode_string_data(secret: &mut Value) {
    use base64::Engine as _;
    let Some(Value::Object(plain)) = secret.as_object_mut().and_then(|s| s.remove("stringData")) else {
        return;
    };
    for (key, value) in plain {
        if let Value::String(text) = value {
            secret["data"][key] = json!(base64::engine::general_purpose::STANDARD.encode(text));
        }
    }
}

fn immutable_data(new: &Value, old: &Value, fields: &[&str]) -> Vec<Cause> {
    if old["immutable"] != true {
        return Vec::new();
    }
    let forbidden = |field: &str, message: &str| Cause {
        reason: "FieldValueForbidden".to_owned(),
        message: format!("Forbidden: {message}"),
        field: field.to_owned(),
    };
    let mut causes = Vec::new();
    if new["immutable"] != true {
        causes.push(forbidden("immutable", "field is immutable when `immutable` is set"));
    }
    for field in fields.iter().filter(|f| new[**f] != old[**f]) {
        causes.push(forbidden(field, "field is immutable when `immutable` is set"));
    }
    causes
}

fn unchanged(new: &Value, old: &Value, field: &str) -> Option<Cause> {
    (new[field] != old[field]).then(|| immutable(field, &new[field], "field is immutable"))
}

fn fixed_once_set(new: &Value, old: &Value, field: &str) -> Option<Cause> {
    let (before, after) = (&old["spec"][field], &new["spec"][field]);
    let set = before.as_str().is_some_and(|s| !s.is_empty());
    (set && before != after)
        .then(|| immutable(&format!("spec.{field}"), after, "may not be changed once it is set"))
}

fn crd_changes(new: &Value, old: &Value) -> Vec<Cause> {
    let paths = [
        ("spec.group", "/spec/group"),
        ("spec.names.plural", "/spec/names/plural"),
        ("spec.names.kind", "/spec/names/kind"),
        ("spec.scope", "/spec/scope"),
    ];
    let null = Value::Null;
    let changed = |pointer: &str| old.pointer(pointer) != new.pointer(pointer);
    let cause = |field: &str, pointer: &str| {
        immutable(field, new.pointer(pointer).unwrap_or(&null), "field is immutable")
    };
    paths
        .into_iter()
        .filter(|(_, pointer)| changed(pointer))
        .map(|(field, pointer)| cause(field, pointer))
        .collect()
}

/// An `Invalid value` for a field that may not change.
pub(crate) fn immutable(field: &str, value: &Value, why: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: format!("Invalid value: {value}: {why}"),
        field: field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_data_ends_encoded_in_data() {
        let mut secret = json!({"data": {"a": "eA=="}, "stringData": {"b": "y"}});
        Strategy::Secret.prepare(&mut secret, None);
        assert_eq!(secret, json!({"data": {"a": "eA==", "b": "eQ=="}}));
    }

    #[test]
    fn an_immutable_config_map_stays() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        let causes =
            Strategy::ConfigMap.forbidden_changes(&json!({"immutable": true, "data": {"a": "2"}}), &old);
        assert_eq!(causes[0].field, "data");
        assert!(Strategy::ConfigMap.forbidden_changes(&old, &old).is_empty());
    }

    #[test]
    fn a_pod_may_be_bound_to_a_node_but_not_moved() {
        let pod = |node: Value| json!({"spec": {"nodeName": node}});
        assert!(Strategy::Pod.forbidden_changes(&pod(json!("n1")), &pod(Value::Null)).is_empty());
        assert_eq!(
            Strategy::Pod.forbidden_changes(&pod(json!("n2")), &pod(json!("n1")))[0].field,
            "spec.nodeName"
        );
    }
}
