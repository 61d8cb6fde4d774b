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

    /// Whether `auto` looks for its sign before the other's.
    fn precedes(self, other: Adapter) -> bool {
        let place = |adapter| Self::BY_SIGN.into_iter().position(|it| it == adapter).unwrap_or(usize::MAX);
        place(self) < place(other)
    }

    /// Whether what it reads may be out of date, or was never seen.
    fn is_unreadable(self, observed: &Observed) -> bool {
        self.watches().iter().any(|watch| observed.failed(watch).is_some())
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

/// The first whose sign is there. A CNI whose objects have all vanished, or cannot be read, is not thereby another one:
/// the one before stays until a more specific one shows, or a less specific one where its own objects can be read.
fn detect(before: Option<&str>, observed: &Observed) -> Choice {
    let found = Adapter::BY_SIGN.into_iter().find_map(|it| Some((it, it.sign(observed)?)));
    let chosen = |adapter, found| Choice { adapter, found: Some(found) };
    match (found, remembered(before)) {
        (Some((adapter, _)), Some(before)) if before.precedes(adapter) && before.is_unreadable(observed) => {
            chosen(before, "as before, its objects cannot be read")
        }
        (Some((adapter, sign)), _) => chosen(adapter, sign),
        // flannel without anything of its own is read as `node` is.
        (None, None | Some(Adapter::Flannel)) => chosen(Adapter::Node, "no other CNI found"),
        (None, Some(before)) => chosen(before, "as before, nothing found now"),
    }
}

/// The adapter that a Cluster's status names, where it is one that a sign spoke for.
fn remembered(before: Option<&str>) -> Option<Adapter> {
    let adapter = Adapter::named(before?.split(' ').next()?)?;
    (adapter != Adapter::Node).then_some(adapter)
}

/// The CIDRs of a cluster's pods, by the adapter that its `cni` names.
pub fn facts(asked: &Asked<'_>, observed: &Observed) -> Facts {
    match choose(asked, observed) {
        Ok(choice) => {
            let facts = Facts { adapter: choice.to_string(), ..choice.adapter.read(observed) };
            if asked.cni == AUTO && remembered(asked.before) != Some(choice.adapter) {
                return with_unseen_signs(observed, choice.adapter, facts);
            }
            facts
        }
        Err(problem) => Facts { problems: vec![problem], ..Facts::default() },
    }
}

/// `auto` cannot exclude a CNI whose objects it cannot read: the choice of a less specific one says so. Only what was
/// chosen before, and still shows, is not doubted.
fn with_unseen_signs(observed: &Observed, chosen: Adapter, mut facts: Facts) -> Facts {
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
