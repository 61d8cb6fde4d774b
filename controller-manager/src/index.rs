//! Everything that is known now, of both APIs. One task owns it; watches report to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use api::{CLUSTER_LABEL, Cluster, ClusterNode, NodeConfig};
use cni_adapters::{NODES, Observed, WatchSpec, service_cidrs};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Which API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The member cluster's.
    Member,
    /// The control cluster's.
    Control,
}

/// Which custom resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A cluster of the mesh.
    Cluster,
    /// A node of a cluster.
    ClusterNode,
    /// What a node's kernel shall hold.
    NodeConfig,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Cluster, Kind::ClusterNode, Kind::NodeConfig];
}

/// Whence news come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Objects that are not ours, in the member.
    Objects(WatchSpec),
    /// Our custom resources.
    Resource(Side, Kind),
    /// The member API server's answers to Services with impossible addresses.
    Refusals,
}

impl Source {
    /// In which API.
    pub fn side(self) -> Side {
        match self {
            Source::Resource(side, _) => side,
            Source::Objects(_) | Source::Refusals => Side::Member,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Objects(watch) => write!(f, "{watch} of the member cluster"),
            Source::Resource(Side::Member, kind) => write!(f, "{kind:?} of the member cluster"),
            Source::Resource(Side::Control, kind) => write!(f, "{kind:?} of the control cluster"),
            Source::Refusals => f.write_str("the service range of the member cluster"),
        }
    }
}

/// What a source says.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// All there is.
    Listed(Vec<Value>),
    /// One object has come or changed.
    Put(Value),
    /// One object is gone.
    Gone(Value),
    /// It cannot be read. `answered`: the API server itself says so, it is not merely out of reach.
    Failed {
        /// Why.
        error: String,
        /// Whether the API server said so.
        answered: bool,
    },
}

/// An object and a digest of its spec, so that large specs are compared at the price of a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen<T> {
    /// The object.
    pub object: T,
    /// Digest of `spec`.
    pub digest: u64,
}

/// The digest by which specs are compared.
pub fn digest(spec: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(spec).expect("our specs have text keys only").hash(&mut hasher);
    hasher.finish()
}

/// The custom resources of one API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// By name; only the own one is watched.
    pub clusters: BTreeMap<String, Cluster>,
    /// By name.
    pub cluster_nodes: BTreeMap<String, ClusterNode>,
    /// By name.
    pub node_configs: BTreeMap<String, Seen<NodeConfig>>,
    /// Objects that exist but do not fit our types, and why. They are neither written nor removed.
    pub unreadable: BTreeMap<(Kind, String), String>,
}

impl Resources {
    /// Whether an object exists that cannot be read.
    pub fn is_unreadable(&self, kind: Kind, name: &str) -> bool {
        !self.unreadable.is_empty() && self.unreadable.contains_key(&(kind, name.to_owned()))
    }

    fn clear(&mut self, kind: Kind) {
        match kind {
            Kind::Cluster => self.clusters.clear(),
            Kind::ClusterNode => self.cluster_nodes.clear(),
            Kind::NodeConfig => self.node_configs.clear(),
        }
        self.unreadable.retain(|(other, _), _| *other != kind);
    }

    fn put(&mut self, kind: Kind, value: Value) {
        let name = name_of(&value);
        let problem = match kind {
            Kind::Cluster => store(&mut self.clusters, &name, value, |cluster| cluster),
            Kind::ClusterNode => store(&mut self.cluster_nodes, &name, value, |node| node),
            Kind::NodeConfig => store(&mut self.node_configs, &name, value, |object: NodeConfig| Seen {
                digest: digest(&object.spec),
                object,
            }),
        };
        match problem {
            Ok(()) => {
                self.unreadable.remove(&(kind, name));
            }
            Err(error) => {
                tracing::warn!(?kind, name, error, "an object that does not fit our types is left alone");
                self.unreadable.insert((kind, name), error);
            }
        }
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Cluster => self.clusters.remove(name).is_some(),
            Kind::ClusterNode => self.cluster_nodes.remove(name).is_some(),
            Kind::NodeConfig => self.node_configs.remove(name).is_some(),
        };
        self.unreadable.remove(&(kind, name.to_owned()));
    }
}

fn store<T: DeserializeOwned, S>(
    map: &mut BTreeMap<String, S>,
    name: &str,
    value: Value,
    wrap: impl FnOnce(T) -> S,
) -> Result<(), String> {
    match serde_json::from_value(value) {
        Ok(object) => {
            map.insert(name.to_owned(), wrap(object));
            Ok(())
        }
        Err(error) => {
            map.remove(name);
            Err(error.to_string())
        }
    }
}

fn name_of(value: &Value) -> String {
    value["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// What is written: an object, or its status.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// In which API.
    pub side: Side,
    /// Of which kind.
    pub kind: Kind,
    /// Of which name.
    pub name: String,
    /// Whether its status is meant, which is a resource of its own.
    pub status: bool,
}

/// Why an object could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A ClusterNode of that name belongs to another cluster.
    Foreign {
        /// That cluster.
        owner: String,
    },
    /// The API server refuses the object.
    Rejected {
        /// Its answer.
        answer: String,
    },
}

/// Everything that is known now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// Name of the own Cluster.
    pub cluster: String,
    /// Whether both APIs are one: then there is nothing to mirror or to relay.
    pub same_server: bool,
    /// Nodes, CNI objects, ServiceCIDRs and API server pods of the member.
    pub observed: Observed,
    /// The member API server's answers to Services with impossible addresses.
    pub refusals: Vec<String>,
    /// The member's custom resources.
    pub member: Resources,
    /// The control cluster's custom resources of this cluster.
    pub control: Resources,
    /// What could not be written.
    pub troubles: BTreeMap<Target, Trouble>,
    heard: BTreeSet<Source>,
}

impl Index {
    /// Nothing is known yet.
    pub fn new(cluster: impl Into<String>, same_server: bool) -> Self {
        Index { cluster: cluster.into(), same_server, ..Index::default() }
    }

    /// The own Cluster, as the control cluster has it.
    pub fn own(&self) -> Option<&Cluster> {
        self.control.clusters.get(&self.cluster)
    }

    /// Everything that has to be watched.
    pub fn sources(&self) -> BTreeSet<Source> {
        let control = Kind::ALL.map(|kind| Source::Resource(Side::Control, kind));
        let member = Kind::ALL.map(|kind| Source::Resource(Side::Member, kind));
        let adapters = cni_adapters::watches().into_iter();
        let objects = adapters.chain(service_cidrs::SERVICE_CIDRS).chain([service_cidrs::API_SERVER_PODS]);
        let member = member.into_iter().filter(|_| !self.same_server);
        objects.map(Source::Objects).chain(control).chain(member).collect()
    }

    /// What has not delivered its first complete list yet. While there is any, nothing may be written.
    pub fn pending(&self) -> BTreeSet<Source> {
        let mut pending: BTreeSet<Source> = self.sources().difference(&self.heard).copied().collect();
        if pending.is_empty() && self.wants_refusals() && !self.heard.contains(&Source::Refusals) {
            pending.insert(Source::Refusals);
        }
        pending
    }

    /// Whether the service range has to be found by asking for an impossible one: there are no ServiceCIDRs.
    pub fn wants_refusals(&self) -> bool {
        let objects = service_cidrs::SERVICE_CIDRS;
        objects.iter().all(|watch| self.heard.contains(&Source::Objects(*watch)) && !self.observed.any(watch))
    }

    /// Takes in what a source says.
    pub fn take(&mut self, source: Source, news: News) {
        match &news {
            News::Listed(_) => {
                self.heard.insert(source);
            }
            News::Failed { answered: true, .. } if may_be_refused(&source) => {
                self.heard.insert(source);
            }
            _ => {}
        }
        match source {
            Source::Objects(watch) => self.take_object(watch, news),
            Source::Resource(side, kind) => self.take_resource(side, kind, news),
            Source::Refusals => self.take_refusals(news),
        }
    }

    fn take_object(&mut self, watch: WatchSpec, news: News) {
        match news {
            News::Listed(objects) => self.observed.list(watch, objects),
            News::Put(object) => self.observed.put(watch, object),
            News::Gone(object) => self.observed.remove(watch, &object),
            News::Failed { error, .. } => self.observed.fail(watch, error),
        }
    }

    fn take_resource(&mut self, side: Side, kind: Kind, news: News) {
        let resources = match side {
            Side::Member => &mut self.member,
            Side::Control => &mut self.control,
        };
        match news {
            News::Listed(objects) => {
                resources.clear(kind);
                objects.into_iter().for_each(|object| resources.put(kind, object));
            }
            News::Put(object) => resources.put(kind, object),
            News::Gone(object) => resources.remove(kind, &name_of(&object)),
            // What was known stays known.
            News::Failed { .. } => {}
        }
    }

    fn take_refusals(&mut self, news: News) {
        if let News::Listed(refusals) = news {
            self.refusals = refusals.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        }
    }
}

/// An answer "you may not read this" counts as heard where the rest is worth publishing without it; adapters see
/// that it failed. Nodes and our own resources have to be read.
fn may_be_refused(source: &Source) -> bool {
    matches!(source, Source::Objects(watch) if *watch != NODES)
}

/// Whether an object bears the label of this cluster.
pub fn labelled(metadata: &ObjectMeta, cluster: &str) -> bool {
    metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(CLUSTER_LABEL))
        .is_some_and(|label| label == cluster)
}

/// Whether an object is being deleted.
pub fn terminating(object: &impl Resource) -> bool {
    object.meta().deletion_timestamp.is_some()
}
