//! What to watch, as data.

use std::fmt;

/// Every Node: its podCIDRs and its annotations.
pub const NODES: WatchSpec = WatchSpec::all("", "v1", "Node", "nodes");

/// Objects that an adapter wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchSpec {
    /// API group; empty for the core one.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Kind of one object.
    pub kind: &'static str,
    /// Name of the resource in the API's paths.
    pub plural: &'static str,
    /// Namespace; `None` for all of them, or for a kind without.
    pub namespace: Option<&'static str>,
    /// Name of the only object wanted.
    pub name: Option<&'static str>,
    /// Labels of the objects wanted.
    pub labels: Option<&'static str>,
    /// Whether a cluster may well not serve this kind.
    pub optional: bool,
}

impl WatchSpec {
    /// Every object of a kind that every cluster serves.
    pub const fn all(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        WatchSpec { group, version, kind, plural, namespace: None, name: None, labels: None, optional: false }
    }

    /// One ConfigMap.
    pub const fn config_map(namespace: &'static str, name: &'static str) -> Self {
        let every = Self::all("", "v1", "ConfigMap", "configmaps");
        WatchSpec { namespace: Some(namespace), name: Some(name), ..every }
    }

    /// The same objects, of a kind that a cluster may well not serve.
    pub const fn or_not_served(self) -> Self {
        WatchSpec { optional: true, ..self }
    }

    /// The field selector that leaves only what is wanted.
    pub fn field_selector(&self) -> Option<String> {
        self.name.map(|name| format!("metadata.name={name}"))
    }

    /// The API version as objects spell it: `v1`, `crd.projectcalico.org/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl fmt::Display for WatchSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plural)?;
        if !self.group.is_empty() {
            write!(f, ".{}/{}", self.group, self.version)?;
        }
        match (self.namespace, self.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (None, Some(name)) => write!(f, " {name}"),
            (Some(namespace), None) => write!(f, " in {namespace}"),
            (None, None) => Ok(()),
        }
    }
}
