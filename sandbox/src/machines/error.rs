//! Why there is no cluster.

use std::io;
use std::path::PathBuf;

use crate::components::MissingProgram;
use crate::state::StateError;

/// Why a real cluster is not there.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// This machine cannot have real clusters.
    #[error("{0}")]
    Missing(String),
    /// A program of Kubernetes or flannel is not built.
    #[error(transparent)]
    Kubernetes(#[from] ::kubernetes::MissingBinaries),
    /// A program of ClusterLink is not built.
    #[error(transparent)]
    Program(#[from] MissingProgram),
    /// A control plane does not start.
    #[error(transparent)]
    Plane(#[from] ::kubernetes::Error),
    /// An API server refused something.
    #[error("cluster {cluster}: {what}: {source}")]
    Api {
        /// Whose.
        cluster: String,
        /// What was asked.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// A manifest of ours is not what it should be.
    #[error("manifest {manifest}: {problem}")]
    Manifest {
        /// Which.
        manifest: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Something did not come to be in time.
    #[error("{what} within {seconds} seconds; see the log of {log}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// The process that should have done it.
        log: String,
    },
    /// A pod could not be wired.
    #[error("node {node}: CNI plugin {plugin} for pod {pod}: {message}")]
    Cni {
        /// The node's place.
        node: String,
        /// The plugin.
        plugin: String,
        /// The pod.
        pod: String,
        /// Its own words.
        message: String,
    },
    /// A pod of the world got an address that the layout gives to nobody or to another.
    #[error("pod {pod}: the CNI plugins gave it {got}, and not {expected}")]
    Address {
        /// The pod.
        pod: String,
        /// What it got.
        got: String,
        /// What it should have.
        expected: String,
    },
    /// A place has no namespace.
    #[error("there is no namespace {0}")]
    Place(String),
    /// A network namespace could not be made or entered.
    #[error(transparent)]
    Namespace(#[from] netlink::netns::NamespaceError),
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A process does not start.
    #[error("{name}: {source}")]
    Process {
        /// Its name.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// The sandbox's directory.
    #[error(transparent)]
    State(#[from] StateError),
}

impl MachineError {
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| MachineError::File { path, source }
    }

    pub(super) fn api(cluster: &str, what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let (cluster, what) = (cluster.to_owned(), what.into());
        move |source| MachineError::Api { cluster, what, source: Box::new(source) }
    }
}
