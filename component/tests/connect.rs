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

/// `/proc/net/tcp` says of each connection which timer runs (2 is keepalive) and when it ends, in hundredths of a second.
fn keepalive_of(server: std::net::SocketAddr) -> Option<u64> {
    let remote = format!("0100007F:{:04X}", server.port());
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let line = table.lines().find(|line| line.split_whitespace().nth(2) == Some(&remote))?;
    let (timer, left) = line.split_whitespace().nth(5)?.split_once(':')?;
    (timer == "02").then(|| u64::from_str_radix(left, 16).unwrap())
}

#[tokio::test]
async fn a_silent_connection_is_asked_whether_it_still_leads_anywhere() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, KUBECONFIG.replace("https://192.0.2.1:6443", &format!("http://{server}"))).unwrap();
    let client = connect(Some(&path)).await.unwrap();
    let asking = tokio::spawn(async move { client.apiserver_version().await });
    let (_silent, _) = listener.accept().await.unwrap();
    let left = loop {
        if let Some(left) = keepalive_of(server) {
            break left;
        }
        assert!(!asking.is_finished(), "the request ended before its connection was silent");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    // Two hours without the setting.
    assert!(left <= 200, "{left}");
    asking.abort();
}
