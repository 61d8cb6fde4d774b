//! The environment of a container. Pure: what it refers to has been read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};
use kube::ResourceExt;

/// Objects that a container's environment and volumes speak of, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Referred {
    pub(super) config_maps: BTreeMap<String, ConfigMap>,
    pub(super) secrets: BTreeMap<String, Secret>,
}

/// Where a pod is.
#[derive(Clone, Debug, Default)]
pub(super) struct Whereabouts {
    pub(super) host_ip: String,
    pub(super) pod_ip: String,
    pub(super) api_server: (String, u16),
}

/// The whole environment, or what is missing.
pub(super) fn environment(
    pod: &Pod,
    container: &Container,
    referred: &Referred,
    whereabouts: &Whereabouts,
) -> Result<BTreeMap<String, String>, String> {
    let (host, port) = &whereabouts.api_server;
    let mut all = BTreeMap::from(
        [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOSTNAME", &pod.name_any()),
            ("KUBERNETES_SERVICE_HOST", host),
            ("KUBERNETES_SERVICE_PORT", &port.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    if container.env_from.as_ref().is_some_and(|from| !from.is_empty()) {
        return Err(format!(
            "container {}: envFrom is not supported by the sandbox's kubelet",
            container.name
        ));
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, variable, referred, whereabouts)? {
            let value = expand(&value, &all);
            all.insert(variable.name.clone(), value);
        }
    }
    Ok(all)
}

fn value(
    pod: &Pod,
    variable: &EnvVar,
    referred: &Referred,
    whereabouts: &Whereabouts,
) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(variable.value.clone().unwrap_or_default()));
    };
    match source {
        EnvVarSource { field_ref: Some(field), .. } => {
            self::field(pod, &field.field_path, whereabouts).map(Some)
        }
        EnvVarSource { config_map_key_ref: Some(key), .. } => {
            let object = referred.config_maps.get(&key.name);
            let value = object.and_then(|object| object.data.as_ref()?.get(&key.key).cloned());
            present(value, key.optional, &format!("key {:?} of ConfigMap {:?}", key.key, key.name))
        }
        EnvVarSource { secret_key_ref: Some(key), .. } => {
            let object = referred.secrets.get(&key.name);
            let value = object.and_then(|object| object.data.as_ref()?.get(&key.key));
            let text = value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
            present(text, key.optional, &format!("key {:?} of Secret {:?}", key.key, key.name))
        }
        _ => Err(format!("variable {}: its source is not supported by the sandbox's kubelet", variable.name)),
    }
}

fn present(value: Option<String>, optional: Option<bool>, what: &str) -> Result<Option<String>, String> {
    match value {
        None if optional != Some(true) => Err(format!("{what} is not there")),
        value => Ok(value),
    }
}

/// A field that the downward API shows.
pub(super) fn field(pod: &Pod, path: &str, whereabouts: &Whereabouts) -> Result<String, String> {
    let spec = pod.spec.as_ref();
    let value = match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        "status.hostIP" => whereabouts.host_ip.clone(),
        "status.podIP" => whereabouts.pod_ip.clone(),
        other => return Err(format!("fieldPath {other:?} is not supported by the sandbox's kubelet")),
    };
    Ok(value)
}

/// `$(NAME)` is an earlier variable; one that is unknown stays as it is.
fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(env: serde_json::Value, data: serde_json::Value) -> Result<BTreeMap<String, String>, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "agent-x", "namespace": "system"},
            "spec": {"nodeName": "node1", "containers": [{"name": "agent", "env": env}]},
        }))
        .unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"data": data})).unwrap();
        let referred =
            Referred { config_maps: BTreeMap::from([("settings".to_owned(), map)]), ..Referred::default() };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        environment(&pod, container, &referred, &Whereabouts::default())
    }

    #[test]
    fn fields_keys_and_earlier_variables_are_put_in() {
        let env = json!([
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "CLUSTER", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "cluster"}}},
            {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level", "optional": true}}},
            {"name": "BOTH", "value": "$(CLUSTER)/$(NODE) $(WHAT)"},
        ]);
        let environment = of(env, json!({"cluster": "a"})).unwrap();
        assert_eq!(environment["BOTH"], "a/node1 $(WHAT)");
        assert!(!environment.contains_key("LEVEL"));
    }

    #[test]
    fn what_is_missing_and_not_optional_is_named() {
        let env =
            json!([{"name": "C", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "cluster"}}}]);
        let problem = of(env, json!({})).unwrap_err();
        assert!(problem.contains("cluster") && problem.contains("settings"), "{problem}");
        let env = json!([{"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}}]);
        assert!(of(env, json!({})).unwrap_err().contains("metadata.labels"));
    }
}
