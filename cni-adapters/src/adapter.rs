//! The adapters there are, and which of them reads a cluster.

use std::collections::BTreeSet;

use crate::{Facts, Observed, Problem, WatchSpec, calico, cilium, flannel, node};

/// The field that names the adapter, for messages.
pub const CNI_FIELD: &str = "spec.clusterLinkOptions.cni";
/// The name that leaves the choice to [`choose`].
pub const AUTO: &str = "auto";

/// A way to read a cluster's pod CIDRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Adapter {
    /// `Node.spec.podCIDRs`.
    Node,
    /// flannel, also inside k3s and RKE2.
    Flannel,
    /// Calico with its own IPAM.
    Calico,
    /// Cilium.
    Cilium,
}

impl Adapter {
    /// All of them, in the order in which messages name them.
    pub const ALL: [Adapter; 4] = [Adapter::Node, Adapter::Flannel, Adapter::Calico, Adapter::Cilium];

    /// In the order in which `auto` looks: the most specific sign first, the one that needs no sign last.
    const BY_SIGN: [Adapter; 3] = [Adapter::Cilium, Adapter::Calico, Adapter::Flannel];

    /// Its name in a Cluster.
    pub fn name(self) -> &'static str {
        match self {
            Adapter::Node => "node",
            Adapter::Flannel => "flannel",
            Adapter::Calico => "calico",
            Adapter::Cilium => "cilium",
        }
    }

    /// The adapter of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|adapter| adapter.name() == name)
    }

    /// What it reads.
    pub fn watches(self) -> &'static [WatchSpec] {
        match self {
            Adapter::Node => node::WATCHES,
            Adapter::Flannel => flannel::WATCHES,
            Adapter::Calico => calico::WATCHES,
            Adapter::Cilium => cilium::WATCHES,
        }
    }

    /// What shows that its CNI is here.
    fn sign(self, observed: &Observed) -> Option<&'static str> {
        match self {
            Adapter::Node => None,
            Adapter::Flannel => flannel::sign(observed),
            Adapter::Calico => calico::sign(observed),
            Adapter::Cilium => cilium::sign(observed),
        }
    }

    fn read(self, observed: &Observed) -> Facts {
        match self {
            Adapter::Node => node::read(observed),
            Adapter::Flannel => flannel::read(observed),
            Adapter::Calico => calico::read(observed),
            Adapter::Cilium => cilium::read(observed),
        }
    }
}

/// Everything that any adapter reads: what has to be watched, whatever a Cluster names now or later.
pub fn watches() -> BTreeSet<WatchSpec> {
    Adapter::ALL.into_iter().flat_map(Adapter::watches).copied().collect()
}

/// Which adapter reads a cluster, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The adapter.
    pub adapter: Adapter,
    /// What it was chosen by, where the Cluster leaves the choice.
    pub found: Option<&'static str>,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.found {
            Some(found) => write!(f, "{} (auto: {found})", self.adapter.name()),
            None => f.write_str(self.adapter.name()),
        }
    }
}

/// What a Cluster asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Name of the Cluster.
    pub cluster: &'a str,
    /// Its `cni`.
    pub cni: &'a str,
    /// The adapter that its status names, as [`Facts::adapter`] spelled it.
    pub before: Option<&'a str>,
}

/// The adapter that a Cluster's `cni` names, or that fits what is there.
pub fn choose(asked: &Asked<'_>, observed: &Observed) -> Result<Choice, Problem> {
    if asked.cni == AUTO {
        return Ok(detect(asked.before, observed));
    }
    let unknown = || Problem::UnknownCni {
        cluster: asked.cluster.to_owned(),
        value: asked.cni.to_owned(),
        valid: [AUTO].into_iter().chain(Adapter::ALL.map(Adapter::name)).collect::<Vec<_>>().join(", "),
    };
    Adapter::named(asked.cni).map(|adapter| Choice { adapter, found: None }).ok_or_else(unknown)
}

/// The first whose sign is there. A CNI whose objects have all vanished is not thereby another one: without any sign
/// the one before stays, and says what it misses.
fn detect(before: Option<&str>, observed: &Observed) -> Choice {
    let signs = Adapter::BY_SIGN.into_iter();
    if let Some((adapter, found)) = signs.clone().find_map(|it| Some((it, it.sign(observed)?))) {
        return Choice { adapter, found: Some(found) };
    }
    let before = before.and_then(|before| Adapter::named(before.split(' ').next()?));
    match before.filter(|before| *before != Adapter::Node) {
        Some(adapter) => Choice { adapter, found: Some("as before, nothing found now") },
        None => Choice { adapter: Adapter::Node, found: Some("no other CNI found") },
    }
}

/// The CIDRs of a cluster's pods, by the adapter that its `cni` names.
pub fn facts(asked: &Asked<'_>, observed: &Observed) -> Facts {
    match choose(asked, observed) {
        Ok(choice) => {
            let facts = Facts { adapter: choice.to_string(), ..choice.adapter.read(observed) };
            with_unseen_signs(asked.cni, observed, choice.adapter, facts)
        }
        Err(problem) => Facts { problems: vec![problem], ..Facts::default() },
    }
}

/// `auto` cannot exclude a CNI whose objects it cannot read: the choice of a less specific one says so.
fn with_unseen_signs(cni: &str, observed: &Observed, chosen: Adapter, mut facts: Facts) -> Facts {
    if cni != AUTO {
        return facts;
    }
    let unseen = Adapter::BY_SIGN.into_iter().take_while(|adapter| *adapter != chosen);
    let watches: BTreeSet<&WatchSpec> = unseen.flat_map(Adapter::watches).collect();
    for watch in watches {
        if let Some(error) = observed.failed(watch) {
            let problem = Problem::Unreadable { object: watch.to_string(), error: error.to_owned() };
            if !facts.problems.contains(&problem) {
                facts.problems.push(problem);
            }
        }
    }
    facts
}
