//! What a server is told when it is made.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::auth::{Authorizer, Token};

/// The wall clock of a server, replaceable in tests.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a server is told when it is made; `Config::named` fills in the rest.
#[derive(Clone)]
pub struct Config {
    /// The cluster's name, for the kubeconfig, the certificates and the logs.
    pub name: String,
    /// The ranges that Services get their addresses from: at most one for each IP family, the default family first.
    pub service_cidrs: Vec<String>,
    /// Whether `networking.k8s.io/v1` ServiceCIDR is served, with an object `kubernetes` (Kubernetes 1.33 and later).
    pub serve_service_cidr_api: bool,
    /// Who may come in, by which bearer token.
    pub tokens: Vec<Token>,
    /// The names and addresses that the serving certificate is for.
    pub subject_names: Vec<String>,
    /// Who may do what; `None` is [`crate::allow_by_default`].
    pub authorizer: Option<Authorizer>,
    /// How many changes of each resource can be watched from, before a watcher has to list again.
    pub watch_window: usize,
    /// How often a quiet watch gets a bookmark.
    pub bookmark_interval: Duration,
    /// The resourceVersion to begin above. A server that stands in for one that is gone begins above whatever that
    /// one gave out, or its clients would wait for a future that never comes.
    pub first_revision: u64,
    /// What uids and generated names are derived from; `None` takes the server's own key, so that no two agree.
    pub seed: Option<String>,
    /// The wall clock.
    pub clock: Clock,
    /// The minor version that `/version` reports.
    pub minor_version: u32,
}

impl Config {
    /// A cluster of that name with kubeadm's service range, on the loopback addresses, without any token yet.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let names =
            ["localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        Self {
            name: name.to_owned(),
            service_cidrs: vec!["10.96.0.0/12".to_owned()],
            serve_service_cidr_api: true,
            tokens: Vec::new(),
            subject_names: names.map(str::to_owned).to_vec(),
            authorizer: None,
            watch_window: 8192,
            bookmark_interval: Duration::from_secs(30),
            first_revision: 1,
            seed: None,
            clock: Arc::new(Timestamp::now),
            minor_version: 33,
        }
    }
}
