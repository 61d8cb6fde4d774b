//! Ways to an API server.

use std::path::{Path, PathBuf};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be read.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// It is no kubeconfig. What stands near the fault is not repeated: it may be a secret.
    #[error("kubeconfig {path}: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// It asks not to look at whom it talks to.
    #[error(
        "kubeconfig {path}: insecure-skip-tls-verify is set for {server}: a token would go to whoever answers there. Remove it, and give the API server's certificate-authority-data"
    )]
    Unverified {
        /// The file.
        path: PathBuf,
        /// Address of the API server.
        server: String,
    },
    /// There is neither a kubeconfig nor a service account.
    #[error("no kubeconfig was given, and this does not run in a pod: {0}")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// What it says cannot be used.
    #[error("a client for {server}: {source}")]
    Client {
        /// Address of the API server.
        server: String,
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

/// A client for the cluster of a kubeconfig, or, without one, for the cluster that this runs in. The API server's
/// certificate is always verified.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::incluster().map_err(|source| ConnectError::InCluster(Box::new(source)))?,
    };
    client(config)
}

/// A client for the cluster of a kubeconfig, with another token than stands in it.
pub async fn connect_with_token(kubeconfig: &Path, token: &str) -> Result<Client, ConnectError> {
    let mut config = from_file(kubeconfig).await?;
    config.auth_info.token = Some(token.into());
    client(config)
}

fn client(mut config: Config) -> Result<Client, ConnectError> {
    // By itself it asks again after 429, 503 and 504, in silence, fifteen times, for minutes: nobody would hear that an API
    // does not answer, and its return would be met up to a minute and a half late. Each loop here has a pace of its own.
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|source| ConnectError::Client { server, source: Box::new(source) })
}

async fn from_file(path: &Path) -> Result<Config, ConnectError> {
    let failed = |source| match source {
        KubeconfigError::Parse(error) => {
            let problem = format!("it is not the YAML of a kubeconfig: {}", error.without_snippet());
            ConnectError::Malformed { path: path.to_owned(), problem }
        }
        source => ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) },
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?;
    if config.accept_invalid_certs {
        let server = config.cluster_url.to_string();
        return Err(ConnectError::Unverified { path: path.to_owned(), server });
    }
    Ok(config)
}
