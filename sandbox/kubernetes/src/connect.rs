//! Clients of a control plane, and the wait until it serves.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::keeper::LOOK;

/// How long a server may take to serve, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(180);

/// Why there is no client or no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {}: {source}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// The API server refuses or does not answer.
    #[error("{what}: {source}")]
    Api {
        /// What was asked for.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
}

/// A client that belongs to the runtime that this is called in.
pub(crate) async fn client(path: &Path) -> Result<Client, ConnectError> {
    let wrong = |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(wrong)?;
    let what = format!("a client for {}", config.cluster_url);
    Client::try_from(config).map_err(|source| ConnectError::Api { what, source: Box::new(source) })
}

/// A token of a service account, valid for an hour.
pub(crate) async fn token(client: Client, namespace: &str, account: &str) -> Result<String, ConnectError> {
    let what = || format!("a token of service account {namespace}/{account}");
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(account, &Default::default(), &request).await;
    let answer = answer.map_err(|source| ConnectError::Api { what: what(), source: Box::new(source) })?;
    Ok(answer.status.map(|status| status.token).unwrap_or_default())
}

/// What is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// The API server is ready, and the first namespaces are there.
    Ready,
    /// The controller manager has made the first service account.
    Accounts,
}

/// Waits until the server of this kubeconfig is so far; false when time is up. `ended` looks whether waiting is in vain.
/// To be called outside a runtime.
pub(crate) fn wait(kubeconfig: &Path, until: Until, ended: &dyn Fn() -> bool) -> std::io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !ended() {
            if reached(kubeconfig, until).await {
                return Ok(true);
            }
            tokio::time::sleep(LOOK * 2).await;
        }
        Ok(false)
    })
}

/// A new client each time: the connection of one that failed may hang.
async fn reached(kubeconfig: &Path, until: Until) -> bool {
    let Ok(client) = client(kubeconfig).await else { return false };
    match until {
        Until::Ready => {
            let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
            let namespaces: Api<Namespace> = Api::all(client.clone());
            client.request_text(request).await.is_ok() && namespaces.get("default").await.is_ok()
        }
        Until::Accounts => {
            let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
            accounts.get("default").await.is_ok()
        }
    }
}
