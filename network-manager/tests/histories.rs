//! Whatever happened, and however late or lossy the watches were: in the end everything stands as a fresh start would
//! leave it, and no two nodes bear one address.
//!
//! A model stands in for the API server: it keeps the objects and, for each resource, the news on their way. A watch that
//! expires (410) and an API server that restarts lose what is on its way and list again; a network-manager that restarts
//! forgets everything. What is decided is the program's own: the index and what is made of it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use network_manager::{
    index::{Index, News, Object, Resource},
    reconcile::{Action, Write, reconcile},
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What a history is made of.
#[derive(Clone, Debug)]
enum Step {
    /// A Cluster is made or changed; 3 is one that nobody here understands.
    Cluster {
        name: u8,
        state: u8,
    },
    NoCluster {
        name: u8,
    },
    /// A ClusterNode is made or changed: 0 as it should be, 1 without address, 2 unreadable, 3 a gateway.
    Node {
        cluster: u8,
        node: u8,
        state: u8,
    },
    NoNode {
        cluster: u8,
        node: u8,
    },
    /// Somebody else changes or deletes a NodeConfig.
    Vandal {
        cluster: u8,
        node: u8,
        deletes: bool,
    },
    /// So much of what is on its way of a resource arrives.
    Arrive {
        resource: usize,
        count: usize,
    },
    /// A watch expires.
    Expire {
        resource: usize,
    },
    /// The API server restarts: every watch ends.
    ServerRestarts,
    /// The network-manager restarts, or another replica takes over that knows nothing.
    Restart,
    /// Plans; the first so many writes succeed, the others fail.
    Plan {
        succeed: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..3u8, 0..4u8).prop_map(|(name, state)| Step::Cluster { name, state }),
        1 => (0..3u8).prop_map(|name| Step::NoCluster { name }),
        6 => (0..3u8, 0..3u8, 0..4u8).prop_map(|(cluster, node, state)| Step::Node { cluster, node, state }),
        2 => (0..3u8, 0..3u8).prop_map(|(cluster, node)| Step::NoNode { cluster, node }),
        1 => (0..3u8, 0..3u8, any::<bool>())
            .prop_map(|(cluster, node, deletes)| Step::Vandal { cluster, node, deletes }),
        6 => (0..3usize, 1..6usize).prop_map(|(resource, count)| Step::Arrive { resource, count }),
        2 => (0..3usize).prop_map(|resource| Step::Expire { resource }),
        1 => Just(Step::ServerRestarts),
        1 => Just(Step::Restart),
        6 => (0..12usize).prop_map(|succeed| Step::Plan { succeed }),
    ]
}

fn cluster_name(number: u8) -> String {
    char::from(b'a' + number).to_string()
}

fn cluster(number: u8, state: u8) -> Value {
    let options = match state {
        0 => json!({"networkType": "p2p"}),
        1 => json!({"networkType": "gateway"}),
        2 => json!({"enable": false}),
        _ => json!({"networkType": "quantum"}),
    };
    let found = json!({"podCIDRs": [format!("10.{number}.0.0/16")], "serviceCIDRs": ["10.96.0.0/16"]});
    json!({"spec": {"clusterLinkOptions": options}, "status": {"clusterLinkStatus": found}})
}

/// Nodes of two clusters share their host bits: the second gets another overlay address.
fn node(cluster: u8, node: u8, state: u8) -> Value {
    let mut spec = json!({"clusterName": cluster_name(cluster), "nodeName": format!("n{node}"),
        "publicIP": format!("203.0.{cluster}.{node}"), "interfaceName": "eth0", "podCIDRs": [format!("10.{cluster}.{node}.0/24")]});
    match state {
        1 => {}
        2 => spec["podCIDRs"] = json!({"in": "words of tomorrow"}),
        _ => spec["ip"] = json!(format!("192.168.{}.{node}", cluster % 2)),
    }
    if state == 3 {
        spec["roles"] = json!(["gateway"]);
    }
    json!({"spec": spec})
}

#[derive(Default)]
struct World {
    objects: BTreeMap<(Resource, String), Value>,
    on_the_way: BTreeMap<Resource, VecDeque<News>>,
    revision: u64,
    index: Index,
}

impl World {
    fn new() -> Self {
        let mut world = World::default();
        world.restart();
        world
    }

    fn object(&self, resource: Resource, name: &str) -> Object {
        let value = self.objects[&(resource, name.to_owned())].clone();
        Object::parse(resource, serde_json::from_value(value).unwrap())
    }

    /// Keeps an object: `parts` replace what it had.
    fn put(&mut self, resource: Resource, name: &str, parts: &Value) -> Object {
        self.revision += 1;
        let revision = self.revision;
        let fresh = || {
            json!({"apiVersion": "kosmos.io/v1alpha1", "kind": resource.as_str(), "spec": {},
                "metadata": {"name": name, "uid": revision.to_string(), "generation": 1}})
        };
        let object = self.objects.entry((resource, name.to_owned())).or_insert_with(fresh);
        let before = object["spec"].clone();
        for (key, part) in parts.as_object().unwrap() {
            match (key.as_str(), part) {
                ("metadata", part) => object["metadata"]["labels"] = part["labels"].clone(),
                ("status", part) => {
                    let parts = part.as_object().unwrap().iter();
                    parts.for_each(|(key, part)| object["status"][key] = part.clone());
                }
                (key, part) => object[key] = part.clone(),
            }
        }
        if object["spec"] != before {
            object["metadata"]["generation"] = json!(revision);
        }
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let object = self.object(resource, name);
        self.on_the_way.get_mut(&resource).unwrap().push_back(News::Put(object.clone()));
        object
    }

    fn remove(&mut self, resource: Resource, name: &str) {
        if self.objects.remove(&(resource, name.to_owned())).is_some() {
            self.revision += 1;
            self.on_the_way.get_mut(&resource).unwrap().push_back(News::Gone(resource, name.to_owned()));
        }
    }

    /// Nothing that was on its way arrives; a complete list will.
    fn expire(&mut self, resource: Resource) {
        let names = self.objects.keys().filter(|(of, _)| *of == resource).map(|(_, name)| name);
        let listed = names.map(|name| self.object(resource, name)).collect();
        self.on_the_way.insert(resource, [News::Listed(resource, listed)].into());
    }

    fn restart(&mut self) {
        self.index = Index::default();
        Resource::ALL.into_iter().for_each(|resource| self.expire(resource));
    }

    fn arrive(&mut self, resource: Resource, count: usize) {
        for _ in 0..count {
            let Some(news) = self.on_the_way.get_mut(&resource).unwrap().pop_front() else { return };
            self.index.take(news);
        }
    }

    /// Plans, and carries out the first `succeed` writes. How many there were.
    fn plan(&mut self, succeed: usize) -> usize {
        if !self.index.pending().is_empty() {
            return 0;
        }
        let writes = reconcile(&self.index, &Time(Timestamp::UNIX_EPOCH)).writes;
        let count = writes.len();
        writes.into_iter().take(succeed).for_each(|write| self.write(write));
        count
    }

    fn write(&mut self, write: Write) {
        let (resource, name) = (write.target.resource, write.target.name);
        let key = (resource, name.clone());
        match write.action {
            Action::Addresses(status) | Action::Status(status) => {
                if self.objects.contains_key(&key) {
                    let object = self.put(resource, &name, &json!({"status": status}));
                    self.index.refresh(object);
                }
            }
            Action::Apply(parts, _) => {
                let object = self.put(resource, &name, &parts);
                self.index.refresh(object);
            }
            Action::Delete(uid) => {
                if self
                    .objects
                    .get(&key)
                    .is_some_and(|object| object["metadata"]["uid"].as_str() == uid.as_deref())
                {
                    self.remove(resource, &name);
                }
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let named = |cluster: u8, node: u8| format!("{}-n{node}", cluster_name(cluster));
        match *step {
            Step::Cluster { name, state } => {
                self.put(Resource::Cluster, &cluster_name(name), &cluster(name, state));
            }
            Step::NoCluster { name } => self.remove(Resource::Cluster, &cluster_name(name)),
            Step::Node { cluster, node: number, state } => {
                let parts = node(cluster, number, state);
                self.put(Resource::ClusterNode, &named(cluster, number), &parts);
            }
            Step::NoNode { cluster, node } => self.remove(Resource::ClusterNode, &named(cluster, node)),
            Step::Vandal { cluster, node, deletes: true } => {
                self.remove(Resource::NodeConfig, &named(cluster, node));
            }
            Step::Vandal { cluster, node, deletes: false } => {
                let name = named(cluster, node);
                if self.objects.contains_key(&(Resource::NodeConfig, name.clone())) {
                    let routes = json!([{"cidr": "10.9.0.0/16", "gw": "241.9.9.9", "dev": "vx-bridge"}]);
                    self.put(Resource::NodeConfig, &name, &json!({"spec": {"routes": routes}}));
                }
            }
            Step::Arrive { resource, count } => self.arrive(Resource::ALL[resource], count),
            Step::Expire { resource } => self.expire(Resource::ALL[resource]),
            Step::ServerRestarts => Resource::ALL.into_iter().for_each(|resource| self.expire(resource)),
            Step::Restart => self.restart(),
            Step::Plan { succeed } => {
                self.plan(succeed);
            }
        }
    }

    /// Everything arrives, and everything is written, until nothing is left to write.
    fn settle(&mut self) {
        for _ in 0..10 {
            Resource::ALL.into_iter().for_each(|resource| self.arrive(resource, usize::MAX));
            if self.plan(usize::MAX) == 0 {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", reconcile(&self.index, &Time(Timestamp::UNIX_EPOCH)).writes);
    }

    fn overlay_addresses(&self) -> Vec<String> {
        let nodes = self.objects.iter().filter(|((of, _), _)| *of == Resource::ClusterNode);
        let overlays = nodes.filter_map(|(_, node)| node["status"]["overlay"].as_object());
        overlays.flat_map(|overlay| overlay.values().map(|text| text.as_str().unwrap().to_owned())).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_the_end_everything_stands_as_a_fresh_start_would_leave_it(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
        let stands = world.objects.clone();
        world.restart();
        Resource::ALL.into_iter().for_each(|resource| world.arrive(resource, usize::MAX));
        let left = reconcile(&world.index, &Time(Timestamp::UNIX_EPOCH)).writes;
        prop_assert_eq!(left, Vec::new(), "a fresh start would write more");
        prop_assert_eq!(&world.objects, &stands);
        let addresses = world.overlay_addresses();
        let unique: BTreeSet<&String> = addresses.iter().collect();
        prop_assert_eq!(unique.len(), addresses.len(), "{:?}", addresses);
    }
}

#[test]
fn the_histories_reach_what_they_are_about() {
    let mut world = World::new();
    for (cluster, node) in [(0, 1), (2, 1)] {
        world.step(&Step::Cluster { name: cluster, state: 0 });
        world.step(&Step::Node { cluster, node, state: 0 });
    }
    world.settle();
    let configs = |world: &World| world.objects.keys().filter(|(of, _)| *of == Resource::NodeConfig).count();
    let addresses = world.overlay_addresses();
    let unique: BTreeSet<&String> = addresses.iter().collect();
    assert_eq!(
        (configs(&world), addresses.len(), unique.len()),
        (2, 4, 4),
        "they share their host bits, and no address"
    );
    world.step(&Step::Node { cluster: 2, node: 1, state: 2 });
    world.step(&Step::Restart);
    world.settle();
    assert_eq!((configs(&world), world.overlay_addresses()), (2, addresses));
    world.step(&Step::NoNode { cluster: 2, node: 1 });
    world.settle();
    assert_eq!(configs(&world), 1);
}
