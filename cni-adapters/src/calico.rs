//! Calico: IPPools for the cluster, BlockAffinities for each node.
//!
//! Calico keeps them in `crd.projectcalico.org/v1`; since v3.32 a cluster may keep them in CRDs of
//! `projectcalico.org/v3` instead, which Calico's own API server otherwise only shows. As Calico does, v1 is read where
//! it has anything, unless a DatastoreMigration says that v3 has taken over: what it leaves in v1 is not kept up to date.
//!
//! A disabled pool gives no new address, but its pods keep theirs until they are made anew: it counts for as long as a
//! node holds a block of it. So does a block whose pool is gone. A node may borrow single addresses out of another
//! node's block: those packets reach the block's node, and Calico's own host routes take them on from there.
//!
//! With the IPAM `host-local` there are pools, and no blocks: each node's CIDRs are `Node.spec.podCIDRs`.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::{
    Facts, NODES, Observed, Problem, WatchSpec,
    cidr::{self, aggregate},
    field::{Cidrs, at, name, text, truth},
    node,
};

const CRD_GROUP: &str = "crd.projectcalico.org";
const API_GROUP: &str = "projectcalico.org";

/// One API of Calico's.
struct Source {
    pools: WatchSpec,
    blocks: WatchSpec,
}

const V1: Source = Source {
    pools: WatchSpec::all(CRD_GROUP, "v1", "IPPool", "ippools").or_not_served(),
    blocks: WatchSpec::all(CRD_GROUP, "v1", "BlockAffinity", "blockaffinities").or_not_served(),
};
const V3: Source = Source {
    pools: WatchSpec::all(API_GROUP, "v3", "IPPool", "ippools").or_not_served(),
    blocks: WatchSpec::all(API_GROUP, "v3", "BlockAffinity", "blockaffinities").or_not_served(),
};
/// What moves a cluster from v1 to v3.
const MIGRATIONS: WatchSpec =
    WatchSpec::all("migration.projectcalico.org", "v1beta1", "DatastoreMigration", "datastoremigrations")
        .or_not_served();
/// What the Tigera operator installs by; it is there before the first pool is.
const INSTALLATIONS: WatchSpec =
    WatchSpec::all("operator.tigera.io", "v1", "Installation", "installations").or_not_served();
/// What the manifests install by.
const CONFIG: WatchSpec = WatchSpec::config_map("kube-system", "calico-config");

/// What it reads.
pub(crate) const WATCHES: &[WatchSpec] =
    &[NODES, V1.pools, V1.blocks, V3.pools, V3.blocks, MIGRATIONS, INSTALLATIONS, CONFIG];

/// Pools that Kosmos makes for other clusters' CIDRs.
const FOREIGN_POOL: &str = "clusterlink-";

/// What shows that Calico is here.
pub(crate) fn sign(observed: &Observed) -> Option<&'static str> {
    let source = Source::of(observed);
    if !Pooled::of(observed, source, &mut Vec::new()).serving.is_empty() {
        return Some(if source.pools == V3.pools {
            "IPPools of projectcalico.org/v3 found"
        } else if observed.any(&INSTALLATIONS) {
            "IPPools found, installed by the Tigera operator"
        } else {
            "IPPools found"
        });
    }
    let by_operator = observed.of(&INSTALLATIONS).any(networks_with_calico);
    by_operator.then_some("the Tigera operator's Installation found")
}

/// The operator also installs Calico for policy only, beside another CNI.
fn networks_with_calico(installation: &Value) -> bool {
    matches!(text(installation, "spec.cni.type"), None | Some("Calico"))
}

impl Source {
    /// The API that Calico itself reads.
    fn of(observed: &Observed) -> &'static Source {
        let in_v1 = V1.is_used(observed) && !observed.of(&MIGRATIONS).any(has_taken_over);
        if !in_v1 && V3.is_used(observed) { &V3 } else { &V1 }
    }

    fn is_used(&self, observed: &Observed) -> bool {
        observed.any(&self.pools) || observed.any(&self.blocks)
    }

    fn is_unreadable(&self, observed: &Observed) -> bool {
        observed.failed(&self.pools).is_some() || observed.failed(&self.blocks).is_some()
    }
}

/// From `Converged` on Calico's components are switched to v3; what is in v1 stays there until the migration is deleted.
fn has_taken_over(migration: &Value) -> bool {
    matches!(text(migration, "status.phase"), Some("Converged" | "Complete"))
}

pub(crate) fn read(observed: &Observed) -> Facts {
    let source = Source::of(observed);
    let mut problems = unreadable(observed, source);
    let Pooled { serving, blocks } = Pooled::of(observed, source, &mut problems);
    if serving.is_empty() {
        problems.push(Problem::Missing {
            adapter: "calico",
            object: format!("enabled IPPool of {CRD_GROUP}/v1 or {API_GROUP}/v3"),
            remedy: "create one, or set spec.clusterLinkOptions.cni to the CNI in use",
        });
    }
    let per_node = if is_host_local(observed) {
        node::per_node(observed, &mut problems)
    } else {
        if !serving.is_empty() && !observed.any(&source.blocks) {
            problems.push(no_blocks());
        }
        by_node(&blocks)
    };
    let names: Vec<&str> = serving.iter().map(|pool| pool.name).collect();
    let pooled = serving.iter().filter_map(|pool| pool.cidr);
    let pod_cidrs = if serving.is_empty() {
        Vec::new()
    } else {
        aggregate(pooled.chain(blocks.iter().map(|block| block.cidr)))
    };
    let source = format!("IPPool {} ({})", names.join(", "), source.pools.api_version());
    Facts { adapter: String::new(), pod_cidrs, per_node, source, problems }
}

fn no_blocks() -> Problem {
    Problem::Missing {
        adapter: "calico",
        object: "BlockAffinity".to_owned(),
        remedy: "Calico makes a node's first one with its first pod; let this controller read them",
    }
}

/// Whether addresses come out of `Node.spec.podCIDRs`.
fn is_host_local(observed: &Observed) -> bool {
    let ipam = |installation: &Value| text(installation, "spec.cni.ipam.type") == Some("HostLocal");
    observed.of(&INSTALLATIONS).any(ipam) || observed.first(&CONFIG).is_some_and(configures_host_local)
}

/// The network configuration is JSON with unquoted places to fill in, which no parser takes.
fn configures_host_local(config: &Value) -> bool {
    let network = text(config, "data.cni_network_config").unwrap_or_default();
    network.contains("\"host-local\"")
}

/// What cannot be read and matters here: the objects themselves, and those that would have made others count.
fn unreadable(observed: &Observed, source: &Source) -> Vec<Problem> {
    let (in_v3, taken_over) = (source.pools == V3.pools, observed.of(&MIGRATIONS).any(has_taken_over));
    let matters = [
        (&source.pools, true),
        (&source.blocks, true),
        (&V1.pools, in_v3 && !taken_over),
        (&V1.blocks, in_v3 && !taken_over),
        (&V3.pools, !in_v3 && taken_over),
        (&V3.blocks, !in_v3 && taken_over),
        (&MIGRATIONS, V1.is_used(observed) && (V3.is_used(observed) || V3.is_unreadable(observed))),
        (&INSTALLATIONS, !observed.any(&source.blocks)),
        (&CONFIG, !observed.any(&source.blocks)),
    ];
    let failing = matters.into_iter().filter(|(_, matters)| *matters);
    failing
        .filter_map(|(watch, _)| Some((watch, observed.failed(watch)?)))
        .map(|(watch, error)| Problem::Unreadable { object: watch.to_string(), error: error.to_owned() })
        .collect()
}

/// `allowedUses` defaults to workloads and tunnels; a pool for tunnels or load balancers alone holds no pod.
fn is_for_workloads(pool: &Value) -> bool {
    if name(pool).starts_with(FOREIGN_POOL) {
        return false;
    }
    match at(pool, "spec.allowedUses").and_then(Value::as_array) {
        Some(uses) if !uses.is_empty() => uses.iter().any(|one| one == "Workload"),
        _ => true,
    }
}

/// What pods have addresses of.
struct Pooled<'a> {
    serving: Vec<Pool<'a>>,
    blocks: Vec<Block<'a>>,
}

impl<'a> Pooled<'a> {
    fn of(observed: &'a Observed, source: &Source, problems: &mut Vec<Problem>) -> Self {
        let pools = Pool::all(observed.of(&source.pools), problems);
        let mut blocks = Block::all(observed.of(&source.blocks), problems);
        blocks.retain(|block| block.is_of_pods(&pools));
        let serving = pools.into_iter().filter(|pool| pool.counts(&blocks)).collect();
        Pooled { serving, blocks }
    }
}

/// An IPPool.
struct Pool<'a> {
    name: &'a str,
    cidr: Option<IpNetwork>,
    for_workloads: bool,
    enabled: bool,
}

impl<'a> Pool<'a> {
    fn all(pools: impl Iterator<Item = &'a Value>, problems: &mut Vec<Problem>) -> Vec<Pool<'a>> {
        let read = |pool: &'a Value| {
            let mut cidrs = Cidrs::of("IPPool", pool, problems);
            cidrs.take_value("spec.cidr", at(pool, "spec.cidr").unwrap_or(&Value::Null));
            Pool {
                name: name(pool),
                cidr: cidrs.found().pop(),
                for_workloads: is_for_workloads(pool),
                enabled: !truth(pool, "spec.disabled"),
            }
        };
        pools.map(read).collect()
    }

    fn holds(&self, block: &Block<'_>) -> bool {
        self.cidr.is_some_and(|cidr| cidr::contains(&cidr, &block.cidr))
    }

    /// Whether pods have addresses of it.
    fn counts(&self, blocks: &[Block<'_>]) -> bool {
        self.for_workloads && (self.enabled || blocks.iter().any(|block| self.holds(block)))
    }
}

/// A block that a node holds.
struct Block<'a> {
    node: &'a str,
    cidr: IpNetwork,
}

impl<'a> Block<'a> {
    /// Those that are held: neither those that a node is about to get nor those it gives back.
    fn all(blocks: impl Iterator<Item = &'a Value>, problems: &mut Vec<Problem>) -> Vec<Block<'a>> {
        blocks.filter(|block| is_held(block)).filter_map(|block| Self::read(block, problems)).collect()
    }

    fn read(block: &'a Value, problems: &mut Vec<Problem>) -> Option<Block<'a>> {
        let mut cidrs = Cidrs::of("BlockAffinity", block, problems);
        cidrs.take_value("spec.cidr", at(block, "spec.cidr").unwrap_or(&Value::Null));
        let cidr = cidrs.found().pop()?;
        let Some(node) = text(block, "spec.node") else {
            problems.push(Problem::Invalid {
                object: format!("BlockAffinity {}", name(block)),
                field: "spec.node".to_owned(),
                value: at(block, "spec.node").map(Value::to_string).unwrap_or_default(),
                expected: "the name of a Node",
            });
            return None;
        };
        Some(Block { node, cidr })
    }

    /// Whether its pool is for pods, or there is none any more.
    fn is_of_pods(&self, pools: &[Pool<'_>]) -> bool {
        let mut of = pools.iter().filter(|pool| pool.holds(self)).peekable();
        of.peek().is_none() || of.any(|pool| pool.for_workloads)
    }
}

fn by_node(blocks: &[Block<'_>]) -> BTreeMap<String, Vec<IpNetwork>> {
    let mut per_node: BTreeMap<String, Vec<IpNetwork>> = BTreeMap::new();
    for block in blocks {
        per_node.entry(block.node.to_owned()).or_default().push(block.cidr);
    }
    per_node.into_iter().map(|(node, cidrs)| (node, aggregate(cidrs))).collect()
}

/// A block without a state is "implicitly confirmed" to Calico's own BGP configuration too. Since v3.30 a block may be held
/// by something that is no host (`spec.type: virtual`).
fn is_held(block: &Value) -> bool {
    matches!(text(block, "spec.state"), None | Some("confirmed"))
        && !truth(block, "spec.deleted")
        && matches!(text(block, "spec.type"), None | Some("host"))
}
