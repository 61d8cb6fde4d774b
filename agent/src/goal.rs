//! What the kernel shall be, and on whose word.

use std::sync::Arc;

use agent_core::Spec;
use api::NodeConfigSpec;

/// What the kernel shall be.
#[derive(Clone, Debug, Default)]
pub(crate) enum Goal {
    /// Not known yet, which is not the same as nothing: the kernel is left alone.
    #[default]
    Unknown,
    /// Like this.
    Present(Wanted),
    /// Without anything of ours: the NodeConfig is being deleted.
    Gone,
}

/// A NodeConfig.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// In words.
    pub(crate) spec: Arc<Spec>,
    /// As it was written, for who keeps it.
    pub(crate) config: Arc<NodeConfigSpec>,
    /// Its generation, where it is an object.
    pub(crate) generation: Option<i64>,
    /// On whose word.
    pub(crate) origin: Origin,
}

/// On whose word a NodeConfig is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The API's: it is the latest one.
    Api,
    /// The disk's: it was the latest one once.
    Disk,
    /// A person's.
    File,
}

impl Wanted {
    /// A NodeConfig, read into words.
    pub(crate) fn new(config: Arc<NodeConfigSpec>, generation: Option<i64>, origin: Origin) -> Self {
        Wanted { spec: Arc::new(Spec::validate(&config)), config, generation, origin }
    }
}

impl Goal {
    /// The NodeConfig, where there is one.
    pub(crate) fn wanted(&self) -> Option<&Wanted> {
        match self {
            Goal::Present(wanted) => Some(wanted),
            Goal::Unknown | Goal::Gone => None,
        }
    }
}
