//! Kubeconfigs that lead nowhere, or where nobody should go.

#![allow(clippy::unwrap_used, reason = "tests")]

use component::{connect, connect_with_token};

const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://192.0.2.1:6443"}}]
users: [{name: u, user: {token: do-not-tell}}]
"#;

async fn said(text: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, text).unwrap();
    let connected = connect_with_token(&path, "another").await.and(connect(Some(&path)).await);
    let error = connected.map(drop).map_err(|error| error.to_string());
    if let Err(said) = &error {
        assert!(said.starts_with(&format!("kubeconfig {}: ", path.display())), "{said}");
        assert!(!said.contains("do-not-tell"), "{said}");
    }
    error
}

#[tokio::test]
async fn a_server_that_nobody_verifies_is_refused() {
    assert_eq!(said(KUBECONFIG).await, Ok(()));
    let blind = KUBECONFIG.replace(r#"6443""#, r#"6443", insecure-skip-tls-verify: true"#);
    let error = said(&blind).await.unwrap_err();
    assert!(error.contains("insecure-skip-tls-verify is set for https://192.0.2.1:6443/"), "{error}");
    assert!(error.contains("certificate-authority-data"), "{error}");
}

#[tokio::test]
async fn a_malformed_kubeconfig_is_named_and_its_secrets_are_not() {
    let broken = said(&KUBECONFIG.replace("do-not-tell}}]", "do-not-tell}")).await.unwrap_err();
    assert!(broken.contains("not the YAML of a kubeconfig"), "{broken}");
    let list = said(&KUBECONFIG.replace("token: do-not-tell", "token: [do-not-tell]")).await.unwrap_err();
    assert!(list.contains("not the YAML of a kubeconfig"), "{list}");
    assert!(said("").await.is_err());
}
