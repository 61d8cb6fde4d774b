//! What must not be handed on: values of Secrets, tokens, private keys, whole kubeconfigs.

use std::sync::LazyLock;

use kube::{ResourceExt, api::DynamicObject};
use regex::Regex;
use serde_json::{Value, json};

/// Annotations that hold a copy of the object, with everything in it.
const COPIES: [&str; 2] = ["kubectl.kubernetes.io/last-applied-configuration", "prev"];
/// Words in the name of a variable or a key whose value is nobody's business.
const TELLTALES: [&str; 7] = ["token", "password", "passwd", "secret", "credential", "private", "psk"];

/// An object without its secrets, and without what only its API server reads.
pub(super) fn object(mut object: DynamicObject) -> DynamicObject {
    object.managed_fields_mut().clear();
    let annotations = object.annotations_mut();
    COPIES.iter().for_each(|copy| drop(annotations.remove(*copy)));
    annotations.values_mut().for_each(|value| *value = text(value));
    match object.types.as_ref().map(|types| types.kind.as_str()) {
        Some("Secret") => {
            for field in ["data", "stringData"] {
                let values = object.data.get_mut(field).and_then(Value::as_object_mut);
                values.into_iter().flatten().for_each(|(_, value)| hide(value));
            }
        }
        Some("Cluster") => {
            if let Some(value) = object.data.pointer_mut("/spec/kubeconfig") {
                hide(value);
            }
        }
        _ => {}
    }
    walk(&mut object.data);
    object
}

fn hide(value: &mut Value) {
    let size = value.as_str().map_or(0, str::len);
    *value = json!(format!("<{size} bytes left out>"));
}

/// Values of variables with telling names, and whatever looks like a secret in any text.
fn walk(value: &mut Value) {
    match value {
        Value::String(found) => *found = text(found),
        Value::Array(items) => items.iter_mut().for_each(walk),
        Value::Object(fields) => {
            let tells = fields.get("name").and_then(Value::as_str).is_some_and(tells);
            if tells && fields.get("value").is_some_and(Value::is_string) {
                fields.entry("value").and_modify(hide);
            }
            fields.values_mut().for_each(walk);
        }
        _ => {}
    }
}

fn tells(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLTALES.iter().any(|word| name.contains(word))
}

/// Text without JSON web tokens (RFC 7519), bearer tokens, private keys in PEM form, and base64 of such in kubeconfigs.
pub(super) fn text(text: &str) -> String {
    PATTERNS.iter().fold(text.to_owned(), |text, (pattern, instead)| {
        if pattern.is_match(&text) { pattern.replace_all(&text, *instead).into_owned() } else { text }
    })
}

static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let patterns = [
        (r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", "<token left out>"),
        (
            r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)",
            "<private key left out>",
        ),
        (r"(?i)(bearer\s+)[A-Za-z0-9._~+/=-]{8,}", "${1}<token left out>"),
        (r#"((?:client-key-data|token|password)["']?:\s*)("[^"]*"|'[^']*'|[^\s<{"']\S*)"#, "${1}<left out>"),
    ];
    patterns.into_iter().filter_map(|(pattern, instead)| Some((Regex::new(pattern).ok()?, instead))).collect()
});

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn redacted(value: Value) -> String {
        serde_json::to_string(&object(serde_json::from_value(value).unwrap())).unwrap()
    }

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(PATTERNS.len(), 4);
    }

    #[test]
    fn secrets_keep_their_keys_only() {
        let text =
            redacted(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "annotations":
            {"kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"kubeconfig\":\"c2VjcmV0\"}}"}},
            "data": {"kubeconfig": "c2VjcmV0"}}));
        assert!(!text.contains("c2VjcmV0") && text.contains("kubeconfig"), "{text}");
        assert!(text.contains("<8 bytes left out>"), "{text}");
    }

    #[test]
    fn a_kubeconfig_in_a_cluster_of_kosmos_is_left_out() {
        let text = redacted(
            json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster", "metadata": {"name": "c"},
            "spec": {"kubeconfig": "YXBpVmVyc2lvbg==", "clusterLinkOptions": {"cni": "calico"}}}),
        );
        assert!(!text.contains("YXBpVmVyc2lvbg") && text.contains("calico"), "{text}");
    }

    #[test]
    fn variables_with_telling_names_and_tokens_in_any_text_are_left_out() {
        let text = redacted(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "RUST_LOG", "value": "info"}],
             "args": ["--x=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"]}]}}),
        );
        assert!(!text.contains("hunter2") && !text.contains("eyJhbGci"), "{text}");
        assert!(text.contains("info"), "{text}");
    }

    #[test]
    fn no_kind_and_no_annotation_is_a_place_for_tokens() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln";
        for kind in ["Cluster", "Secret", "Node"] {
            let text = redacted(json!({"apiVersion": "v1", "kind": kind,
                "metadata": {"name": "x", "annotations": {"note": token, "other": "kept"}},
                "status": {"conditions": [{"type": "Ready", "message": format!("refused {token}")}]}}));
            assert!(!text.contains("eyJ") && text.contains("refused") && text.contains("kept"), "{text}");
        }
    }

    #[test]
    fn a_secret_in_quotes_is_one_too() {
        for line in [
            r#"token: "abc""#,
            "password: 'a b'",
            r#"{"client-key-data":"LS0tLS1CRUdJTg==","x":1}"#,
            r#"{"password": "abc"}"#,
        ] {
            let text = text(line);
            assert!(text.contains(": <left out>") || text.contains(":<left out>"), "{text}");
            assert!(!["abc", "a b", "LS0t"].iter().any(|secret| text.contains(secret)), "{text}");
        }
        assert_eq!(text(r#"{"tokens": 3}"#), r#"{"tokens": 3}"#);
    }

    #[test]
    fn logs_lose_keys_and_tokens() {
        let log = "a\n-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\nAuthorization: Bearer abcdefgh12345\ntoken: xyz\nb";
        let text = text(log);
        assert_eq!(
            text,
            "a\n<private key left out>\nAuthorization: Bearer <token left out>\ntoken: <left out>\nb"
        );
    }
}
