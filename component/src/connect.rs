//! Ways to an API server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::{Builder, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tower::{BoxError, ServiceBuilder};

/// A connection that was silent for so long is asked whether it still leads anywhere,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(2);
/// so often,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// so many times.
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent and not acknowledged for so long ends the connection, instead of a quarter of an hour of repetitions.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

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
    stack(config).map_err(|source| ConnectError::Client { server, source: Box::new(source) })
}

/// The layers of kube's own client, over connections that notice when nobody is at their other end: a node that loses the
/// address that they were made from would wait for minutes otherwise.
fn stack(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        // It says which proxies there are.
        return Client::try_from(config);
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp())?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Builder::new(TokioExecutor::new()).build(connector));
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp
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
