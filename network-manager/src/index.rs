//! What the watches have told, as objects.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    Cluster, ClusterNode, NodeConfig, NodeConfigStatus,
    cluster_node::{ClusterNodeStatus, Overlay},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;

/// The three resources that the plan is made of and written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Clusters.
    Cluster,
    /// ClusterNodes.
    ClusterNode,
    /// NodeConfigs.
    NodeConfig,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 3] = [Resource::Cluster, Resource::ClusterNode, Resource::NodeConfig];

    /// Its kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Resource::Cluster => "Cluster",
            Resource::ClusterNode => "ClusterNode",
            Resource::NodeConfig => "NodeConfig",
        }
    }
}

/// An object as it came; one that cannot be read is worth knowing of, too.
#[derive(Clone, Debug)]
pub enum Object {
    /// A Cluster.
    Cluster(Box<Cluster>),
    /// A ClusterNode.
    ClusterNode(Box<ClusterNode>),
    /// A NodeConfig.
    NodeConfig(Box<NodeConfig>),
    /// An object that does not fit its type.
    Unreadable(Resource, String, Box<Unreadable>),
}

/// What can be said of an object that does not fit its type: one that a newer component wrote, perhaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unreadable {
    /// What does not fit.
    pub error: String,
    /// Its uid.
    pub uid: Option<String>,
    /// Its generation.
    pub generation: Option<i64>,
    /// What is said of it.
    pub conditions: Vec<Condition>,
    /// The overlay addresses that it bears.
    pub overlay: Option<Overlay>,
}

impl Unreadable {
    /// What does fit of an object that does not.
    pub fn of(object: &DynamicObject, error: String) -> Self {
        Unreadable {
            error,
            uid: object.metadata.uid.clone(),
            generation: object.metadata.generation,
            conditions: part(object, "conditions").unwrap_or_default(),
            overlay: part(object, "overlay"),
        }
    }

    /// A ClusterNode that cannot be planned, and whose addresses nobody else gets.
    pub(crate) fn stand_in(&self, name: &str) -> Option<ClusterNode> {
        let mut node = ClusterNode::new(name, api::ClusterNodeSpec::default());
        let overlay = Some(self.overlay.clone()?);
        node.status = Some(ClusterNodeStatus { overlay, ..ClusterNodeStatus::default() });
        Some(node)
    }
}

fn followed(observed_generation: Option<i64>) -> Option<NodeConfigStatus> {
    let status = NodeConfigStatus { observed_generation, ..NodeConfigStatus::default() };
    observed_generation.map(|_| status)
}

fn part<T: DeserializeOwned>(object: &DynamicObject, key: &str) -> Option<T> {
    serde_json::from_value(object.data.get("status")?.get(key)?.clone()).ok()
}

impl Object {
    /// The object in its type. One that does not fit, of another version perhaps, must not hide the others.
    pub fn parse(resource: Resource, mut object: DynamicObject) -> Self {
        object.metadata.managed_fields = None;
        let parsed = match resource {
            Resource::Cluster => object.clone().try_parse().map(|o| Object::Cluster(Box::new(o))),
            Resource::ClusterNode => object.clone().try_parse().map(|o| Object::ClusterNode(Box::new(o))),
            Resource::NodeConfig => {
                // Of what agents say only the generation concerns anybody here, and a newer agent may say more than we
                // understand.
                let status = object.data.as_object_mut().and_then(|fields| fields.remove("status"));
                let observed = status.and_then(|status| status.get("observedGeneration")?.as_i64());
                object.clone().try_parse().map(|mut o: NodeConfig| {
                    o.status = followed(observed);
                    Object::NodeConfig(Box::new(o))
                })
            }
        };
        parsed.unwrap_or_else(|error| {
            let name = object.metadata.name.clone().unwrap_or_default();
            tracing::warn!(?resource, name, %error, "cannot be read; what depends on it stays as it is");
            let unreadable = Unreadable::of(&object, error.to_string());
            Object::Unreadable(resource, name, Box::new(unreadable))
        })
    }

    fn key(&self) -> (Resource, String) {
        let name = |meta: &kube::api::ObjectMeta| meta.name.clone().unwrap_or_default();
        match self {
            Object::Cluster(object) => (Resource::Cluster, name(&object.metadata)),
            Object::ClusterNode(object) => (Resource::ClusterNode, name(&object.metadata)),
            Object::NodeConfig(object) => (Resource::NodeConfig, name(&object.metadata)),
            Object::Unreadable(resource, name, _) => (*resource, name.clone()),
        }
    }
}

/// What a watch has to say.
#[derive(Clone, Debug)]
pub enum News {
    /// All objects of a resource.
    Listed(Resource, Vec<Object>),
    /// One that came or changed.
    Put(Object),
    /// One that went.
    Gone(Resource, String),
}

impl News {
    /// Of which resource.
    pub fn resource(&self) -> Resource {
        match self {
            News::Listed(resource, _) | News::Gone(resource, _) => *resource,
            News::Put(object) => object.key().0,
        }
    }
}

/// Every object that is known.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Clusters by name.
    pub clusters: BTreeMap<String, Cluster>,
    /// ClusterNodes by name.
    pub nodes: BTreeMap<String, ClusterNode>,
    /// NodeConfigs by name; of their status no more than the generation that it speaks of.
    pub configs: BTreeMap<String, NodeConfig>,
    /// Objects that do not fit their type. Nothing that depends on one is deleted.
    pub unreadable: BTreeMap<(Resource, String), Unreadable>,
    listed: BTreeSet<Resource>,
}

impl Index {
    /// Resources of which no complete list has come yet.
    pub fn pending(&self) -> Vec<Resource> {
        Resource::ALL.into_iter().filter(|resource| !self.listed.contains(resource)).collect()
    }

    /// What was listed of a resource may be old: another list has to come before anything is made of it.
    pub fn expect_list(&mut self, resource: Resource) {
        self.listed.remove(&resource);
    }

    /// Every ClusterNode that is known: those that cannot be read only by their addresses.
    pub(crate) fn stand_ins(&self) -> Vec<ClusterNode> {
        let nodes = self.unreadable.iter().filter(|((of, _), _)| *of == Resource::ClusterNode);
        nodes.filter_map(|((_, name), unreadable)| unreadable.stand_in(name)).collect()
    }

    /// Takes news in. Whether anything that matters to the plan, or to what is written, has changed.
    pub fn take(&mut self, news: News) -> bool {
        match news {
            News::Put(object) => self.put(object, Source::Event),
            News::Gone(resource, name) => self.remove(resource, &name),
            News::Listed(resource, objects) => {
                let mut changed = self.listed.insert(resource);
                let here: BTreeSet<String> = objects.iter().map(|object| object.key().1).collect();
                for name in self.names(resource) {
                    if !here.contains(&name) {
                        changed |= self.remove(resource, &name);
                    }
                }
                for object in objects {
                    changed |= self.put(object, Source::List);
                }
                changed
            }
        }
    }

    /// Takes in the answer to a write, ahead of the watch; but never brings back what the watch has seen go.
    pub fn refresh(&mut self, object: Object) {
        let (resource, name) = object.key();
        let uid = |meta: &kube::api::ObjectMeta| meta.uid.clone();
        let known = self.uid(resource, &name);
        let answered = match &object {
            Object::Cluster(object) => uid(&object.metadata),
            Object::ClusterNode(object) => uid(&object.metadata),
            Object::NodeConfig(object) => uid(&object.metadata),
            Object::Unreadable(.., unreadable) => unreadable.uid.clone(),
        };
        if known.is_some() && known == answered {
            self.put(object, Source::Event);
        }
    }

    /// The uid of an object that is known.
    pub(crate) fn uid(&self, resource: Resource, name: &str) -> Option<String> {
        if let Some(unreadable) = self.unreadable.get(&(resource, name.to_owned())) {
            return unreadable.uid.clone();
        }
        let meta = match resource {
            Resource::Cluster => &self.clusters.get(name)?.metadata,
            Resource::ClusterNode => &self.nodes.get(name)?.metadata,
            Resource::NodeConfig => &self.configs.get(name)?.metadata,
        };
        meta.uid.clone()
    }

    /// What is said of an object now.
    pub(crate) fn conditions(&self, resource: Resource, name: &str) -> &[Condition] {
        if let Some(unreadable) = self.unreadable.get(&(resource, name.to_owned())) {
            return &unreadable.conditions;
        }
        let of_cluster =
            || self.clusters.get(name)?.status.as_ref().map(|status| status.conditions.as_slice());
        let of_node = || self.nodes.get(name)?.status.as_ref().map(|status| status.conditions.as_slice());
        match resource {
            Resource::Cluster => of_cluster().unwrap_or_default(),
            Resource::ClusterNode => of_node().unwrap_or_default(),
            Resource::NodeConfig => &[],
        }
    }

    fn names(&self, resource: Resource) -> Vec<String> {
        let unreadable =
            self.unreadable.keys().filter(|(of, _)| *of == resource).map(|(_, name)| name.clone());
        let names: Vec<String> = match resource {
            Resource::Cluster => self.clusters.keys().cloned().collect(),
            Resource::ClusterNode => self.nodes.keys().cloned().collect(),
            Resource::NodeConfig => self.configs.keys().cloned().collect(),
        };
        names.into_iter().chain(unreadable).collect()
    }

    fn put(&mut self, object: Object, source: Source) -> bool {
        let key = object.key();
        let name = key.1.clone();
        if let Object::Unreadable(.., unreadable) = object {
            return self.put_unreadable(key, *unreadable);
        }
        let readable_again = self.unreadable.remove(&key).is_some();
        let changed = match object {
            Object::Cluster(object) => replace(&mut self.clusters, name, (*object, source), same_cluster),
            Object::ClusterNode(object) => replace(&mut self.nodes, name, (*object, source), same_node),
            Object::NodeConfig(mut object) => {
                object.status = followed(object.status.and_then(|status| status.observed_generation));
                replace(&mut self.configs, name, (*object, source), same_config)
            }
            Object::Unreadable(..) => true,
        };
        changed || readable_again
    }

    /// Where its addresses cannot be read either, those that it bore last are still its own.
    fn put_unreadable(&mut self, key: (Resource, String), mut unreadable: Unreadable) -> bool {
        let known = self.nodes.get(&key.1).filter(|_| key.0 == Resource::ClusterNode);
        let borne = known.and_then(|node| node.status.as_ref()?.overlay.clone());
        let before = self.unreadable.get(&key).cloned();
        let before_that = before.as_ref().and_then(|before| before.overlay.clone());
        unreadable.overlay = unreadable.overlay.or(borne).or(before_that);
        let changed = before.as_ref() != Some(&unreadable);
        self.remove(key.0, &key.1);
        self.unreadable.insert(key, unreadable);
        changed
    }

    fn remove(&mut self, resource: Resource, name: &str) -> bool {
        let unreadable = self.unreadable.remove(&(resource, name.to_owned())).is_some();
        let known = match resource {
            Resource::Cluster => self.clusters.remove(name).is_some(),
            Resource::ClusterNode => self.nodes.remove(name).is_some(),
            Resource::NodeConfig => self.configs.remove(name).is_some(),
        };
        unreadable || known
    }
}

/// How an object came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// In a complete list: that is how it is, also where an API server was set back to an earlier state.
    List,
    /// Alone. The answer to a write may overtake the watch, so an older one is passed over.
    Event,
}

/// Puts an object in its place, unless what stands there is newer.
fn replace<K: kube::Resource>(
    objects: &mut BTreeMap<String, K>,
    name: String,
    (object, source): (K, Source),
    same: fn(&K, &K) -> bool,
) -> bool {
    let version = |object: &K| object.meta().resource_version.as_ref().and_then(|v| v.parse::<u64>().ok());
    if let Some(old) = objects.get(&name) {
        let one_life = old.meta().uid == object.meta().uid;
        let may_be_late = one_life && source == Source::Event;
        if may_be_late && version(old).zip(version(&object)).is_some_and(|(old, new)| new < old) {
            return false;
        }
        let changed = !same(old, &object);
        objects.insert(name, object);
        return changed;
    }
    objects.insert(name, object);
    true
}

fn same_meta(one: &kube::api::ObjectMeta, two: &kube::api::ObjectMeta) -> bool {
    let relevant = |meta: &kube::api::ObjectMeta| {
        (meta.uid.clone(), meta.generation, meta.labels.clone(), meta.deletion_timestamp.is_some())
    };
    relevant(one) == relevant(two)
}

fn same_cluster(one: &Cluster, two: &Cluster) -> bool {
    same_meta(&one.metadata, &two.metadata) && one.spec == two.spec && one.status == two.status
}

fn same_node(one: &ClusterNode, two: &ClusterNode) -> bool {
    same_meta(&one.metadata, &two.metadata) && one.spec == two.spec && one.status == two.status
}

/// The agents' measurements come often and make no other plan.
fn same_config(one: &NodeConfig, two: &NodeConfig) -> bool {
    same_meta(&one.metadata, &two.metadata) && one.spec == two.spec
}
