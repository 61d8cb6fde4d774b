//! However a member's objects came about, what is published is what a fresh start would publish of them; and no hiccup
//! of its API changes any of it.
//!
//! A model stands in for the member's API and for the watches: each source has news on their way, which arrive late, get
//! lost when the watch expires, fails or the controller-manager restarts, and come again as a complete list. What is
//! written takes effect in a model of the control cluster. Everything between is the program's own: the index, what is
//! built from it, and the differences that are written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use api::{Cluster, condition::CIDRS_KNOWN};
use cni_adapters::{NODES, WatchSpec, service_cidrs};
use controller_manager::{
    build::build,
    diff::{Action, Change, diff},
    index::{Index, Kind, News, Side, Source, Target},
};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index as Pick;
use serde_json::{Value, json};

fn object(api_version: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
    let (head, tail) = name.split_once('/').map_or((None, name), |(namespace, name)| (Some(namespace), name));
    object["metadata"]["name"] = json!(tail);
    if let Some(namespace) = head {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    object
}

fn node(name: &str, cidrs: &[&str], annotations: Value) -> Value {
    let mut node = object("v1", "Node", name, json!({"spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs}}));
    node["metadata"]["annotations"] = annotations;
    node
}

fn pools_and_blocks(version: &str) -> Vec<Value> {
    let pool = |name: &str, spec: Value| object(version, "IPPool", name, json!({ "spec": spec }));
    let block = |name: &str, node: &str, cidr: &str, state: &str| {
        let spec = json!({"spec": {"cidr": cidr, "deleted": "false", "node": node, "state": state}});
        object(version, "BlockAffinity", name, spec)
    };
    vec![
        pool("default-ipv4-ippool", json!({"cidr": "192.168.0.0/16"})),
        pool("default-ipv4-ippool", json!({"cidr": "192.168.0.0/16", "disabled": true})),
        pool("new-pool", json!({"cidr": "10.0.0.0/9", "allowedUses": ["Workload", "Tunnel"]})),
        pool("tunnels", json!({"cidr": "172.30.0.0/24", "allowedUses": ["Tunnel"]})),
        block("n1-192-168-1-0-26", "n1", "192.168.1.0/26", "confirmed"),
        block("n1-192-168-1-0-26", "n1", "192.168.1.0/26", "pendingDeletion"),
        block("n2-192-168-1-0-26", "n2", "192.168.1.0/26", "pending"),
        block("n2-192-168-1-0-26", "n2", "192.168.1.0/26", "confirmed"),
        // What is left in v1 after a migration to v3 is out of date.
        block("n3", "n3", if version.contains("crd") { "10.0.4.0/26" } else { "10.0.5.0/26" }, "confirmed"),
        block("n3-172-30-0-0-26", "n3", "172.30.0.0/26", ""),
    ]
}

fn cilium() -> Vec<Value> {
    let config = |ipam: &str, pool: &str| {
        let data = json!({"data": {"ipam": ipam, "enable-ipv4": "true", "cluster-pool-ipv4-cidr": pool}});
        object("v1", "ConfigMap", "kube-system/cilium-config", data)
    };
    let held =
        |name: &str, ipam: Value| object("cilium.io/v2", "CiliumNode", name, json!({"spec": {"ipam": ipam}}));
    let pool = |name: &str, cidr: &str| {
        let spec = json!({"spec": {"ipv4": {"cidrs": [cidr], "maskSize": 24}}});
        object("cilium.io/v2alpha1", "CiliumPodIPPool", name, spec)
    };
    let allocated = |cidr: &str| json!({"pools": {"allocated": [{"pool": "default", "cidrs": [cidr]}]}});
    vec![
        config("cluster-pool", "10.64.0.0/12"),
        config("multi-pool", "10.64.0.0/12"),
        config("kubernetes", ""),
        held("n1", json!({"podCIDRs": ["10.64.1.0/24"], "pools": {}})),
        held("n1", allocated("10.64.1.0/24")),
        held("n2", json!({"podCIDRs": ["10.64.2.0/24"], "pools": {}})),
        held("n2", allocated("10.80.2.0/24")),
        pool("default", "10.64.0.0/12"),
        pool("default", "10.80.0.0/12"),
    ]
}

/// Everything that a history may put: several states of most objects.
fn catalogue() -> Vec<Value> {
    let flannel = json!({"flannel.alpha.coreos.com/backend-type": "vxlan"});
    let migration = |phase: &str| {
        let status = json!({"status": {"phase": phase}});
        object("migration.projectcalico.org/v1beta1", "DatastoreMigration", "v1-to-v3", status)
    };
    let net_conf =
        |network: &str| json!({"data": {"net-conf.json": format!(r#"{{"Network": "{network}"}}"#)}});
    let range = |name: &str, cidrs: Value| {
        object("networking.k8s.io/v1", "ServiceCIDR", name, json!({"spec": {"cidrs": cidrs}}))
    };
    let installation = json!({"spec": {"cni": {"type": "Calico", "ipam": {"type": "HostLocal"}}}});
    let mut all = vec![
        node("n1", &["10.244.1.0/24"], json!({})),
        node("n1", &["10.244.1.0/24"], flannel.clone()),
        node("n2", &["10.244.2.0/24", "fd00:10:244:2::/64"], json!({})),
        node("n3", &[], flannel),
        migration("Migrating"),
        migration("Converged"),
        object("operator.tigera.io/v1", "Installation", "default", json!({"spec": {"variant": "Calico"}})),
        object("operator.tigera.io/v1", "Installation", "default", installation),
        object("v1", "ConfigMap", "kube-flannel/kube-flannel-cfg", net_conf("10.244.0.0/16")),
        object("v1", "ConfigMap", "kube-flannel/kube-flannel-cfg", net_conf("10.244.0.0/14")),
        range("kubernetes", json!(["10.96.0.0/16"])),
        range("more", json!(["10.112.0.0/16"])),
    ];
    all.extend(pools_and_blocks("crd.projectcalico.org/v1"));
    all.extend(pools_and_blocks("projectcalico.org/v3"));
    all.extend(cilium());
    all
}

fn watch_of(object: &Value) -> WatchSpec {
    let all = cni_adapters::watches().into_iter().chain(service_cidrs::SERVICE_CIDRS);
    let matches = |watch: &WatchSpec| {
        object["apiVersion"] == watch.api_version()
            && object["kind"] == watch.kind
            && watch.name.is_none_or(|name| object["metadata"]["name"] == name)
            && watch.namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
    };
    all.into_iter().find(matches).unwrap_or_else(|| panic!("nobody watches {object}"))
}

/// What a history is made of.
#[derive(Clone, Debug)]
enum Step {
    /// An object is made, or takes this state.
    Put(Pick),
    /// An object goes.
    Remove(Pick),
    /// A kind's CRD goes, and its objects with it.
    Uninstall(Pick),
    /// Some news of a source arrive.
    Arrive(Pick),
    /// What is there is written.
    Publish,
    /// Something goes wrong.
    Fault(Fault),
}

/// What may go wrong, and changes nothing of what is there.
#[derive(Clone, Debug)]
enum Fault {
    /// A watch breaks with 410: its news are lost, and it lists again.
    Expire(Pick),
    /// A source cannot be read until it recovers. Whether the API server says so itself.
    Fail(Pick, bool),
    /// A failing source lists again.
    Recover(Pick),
    /// The API server restarts: every watch breaks, and begins again.
    ApiServer,
    /// The controller-manager is killed and starts again. The picked sources cannot be read then.
    Restart(Vec<Pick>),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => any::<Pick>().prop_map(Fault::Expire),
        4 => (any::<Pick>(), any::<bool>()).prop_map(|(source, answered)| Fault::Fail(source, answered)),
        2 => any::<Pick>().prop_map(Fault::Recover),
        1 => Just(Fault::ApiServer),
        1 => prop::collection::vec(any::<Pick>(), 0..4).prop_map(Fault::Restart),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any::<Pick>().prop_map(Step::Put),
        4 => any::<Pick>().prop_map(Step::Remove),
        1 => any::<Pick>().prop_map(Step::Uninstall),
        8 => any::<Pick>().prop_map(Step::Arrive),
        4 => Just(Step::Publish),
        3 => fault().prop_map(Step::Fault),
    ]
}

/// What is published of a cluster's addresses.
#[derive(Clone, Debug, Default, PartialEq)]
struct Published {
    adapter: Option<String>,
    pods: Vec<String>,
    services: Vec<String>,
    nodes: BTreeMap<String, Vec<String>>,
    known: bool,
}

/// A member's API, the way to it, a controller-manager and a control cluster.
struct World {
    /// What is there, by watch and key.
    there: BTreeMap<WatchSpec, BTreeMap<String, Value>>,
    /// News on their way.
    coming: BTreeMap<WatchSpec, VecDeque<News>>,
    failing: BTreeSet<WatchSpec>,
    index: Index,
    /// The control cluster.
    written: BTreeMap<(Kind, String), Value>,
}

fn key(object: &Value) -> String {
    format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"])
}

impl World {
    fn new(there: &BTreeMap<WatchSpec, BTreeMap<String, Value>>) -> Self {
        let cluster = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "east", "generation": 1}, "spec": {"clusterLinkOptions": {}}});
        let mut world = World {
            there: there.clone(),
            coming: BTreeMap::new(),
            failing: BTreeSet::new(),
            index: Index::default(),
            written: BTreeMap::from([((Kind::Cluster, "east".to_owned()), cluster)]),
        };
        world.restart(&BTreeSet::new());
        world
    }

    fn watches(&self) -> Vec<WatchSpec> {
        let sources = self.index.sources().into_iter();
        sources
            .filter_map(|source| if let Source::Objects(watch) = source { Some(watch) } else { None })
            .collect()
    }

    /// The controller-manager knows nothing but what both APIs show it.
    fn restart(&mut self, failing: &BTreeSet<WatchSpec>) {
        self.index = Index::new("east", false);
        self.coming.clear();
        self.failing.clear();
        for kind in Kind::ALL {
            let objects = self.written.iter().filter(|((of, _), _)| *of == kind);
            let objects = objects.map(|(_, object)| object.clone()).collect();
            self.index.take(Source::Resource(Side::Control, kind), News::Listed(objects));
            self.index.take(Source::Resource(Side::Member, kind), News::Listed(Vec::new()));
        }
        for watch in self.watches() {
            if failing.contains(&watch) { self.fail(watch, true) } else { self.list(watch) }
        }
    }

    fn list(&mut self, watch: WatchSpec) {
        self.coming.remove(&watch);
        self.failing.remove(&watch);
        let objects = self.there.get(&watch).into_iter().flat_map(BTreeMap::values).cloned().collect();
        self.index.take(Source::Objects(watch), News::Listed(objects));
    }

    fn fail(&mut self, watch: WatchSpec, answered: bool) {
        self.coming.remove(&watch);
        self.failing.insert(watch);
        let error = if answered { "forbidden" } else { "connection refused" }.to_owned();
        self.index.take(Source::Objects(watch), News::Failed { error, answered });
    }

    fn tell(&mut self, watch: WatchSpec, news: News) {
        if !self.failing.contains(&watch) {
            self.coming.entry(watch).or_default().push_back(news);
        }
    }

    fn put(&mut self, object: &Value) {
        let watch = watch_of(object);
        self.there.entry(watch).or_default().insert(key(object), object.clone());
        self.tell(watch, News::Put(object.clone()));
    }

    fn remove(&mut self, object: &Value) {
        let watch = watch_of(object);
        let gone = self.there.get_mut(&watch).and_then(|objects| objects.remove(&key(object)));
        if let Some(gone) = gone {
            self.tell(watch, News::Gone(gone));
        }
    }

    fn arrive(&mut self, watch: WatchSpec) {
        while let Some(news) = self.coming.get_mut(&watch).and_then(VecDeque::pop_front) {
            self.index.take(Source::Objects(watch), news);
        }
    }

    /// Everything arrives, and what failed recovers.
    fn calm(&mut self) {
        for watch in self.watches() {
            if self.failing.contains(&watch) { self.list(watch) } else { self.arrive(watch) }
        }
        self.publish();
    }

    fn take(&mut self, step: &Step, catalogue: &[Value]) {
        let watches = self.watches();
        match step {
            Step::Put(pick) => self.put(pick.get(catalogue)),
            Step::Remove(pick) => self.remove(pick.get(catalogue)),
            Step::Uninstall(pick) => {
                let watch = watch_of(pick.get(catalogue));
                let objects = self.there.get(&watch).cloned().unwrap_or_default();
                if watch.optional {
                    objects.values().for_each(|object| self.remove(object));
                    self.tell(watch, News::Listed(Vec::new()));
                }
            }
            Step::Arrive(pick) => self.arrive(*pick.get(&watches)),
            Step::Publish => self.publish(),
            Step::Fault(fault) => self.suffer(fault),
        }
    }

    fn suffer(&mut self, fault: &Fault) {
        let watches = self.watches();
        match fault {
            Fault::Expire(pick) => {
                let watch = *pick.get(&watches);
                if !self.failing.contains(&watch) {
                    self.list(watch);
                }
            }
            Fault::Fail(pick, answered) => self.fail(*pick.get(&watches), *answered),
            Fault::Recover(pick) => self.list(*pick.get(&watches)),
            Fault::ApiServer => {
                watches.iter().for_each(|watch| self.fail(*watch, false));
                self.publish();
                watches.iter().for_each(|watch| self.list(*watch));
            }
            Fault::Restart(picks) => self.restart(&picks.iter().map(|pick| *pick.get(&watches)).collect()),
        }
    }

    /// As the shell does: nothing before everything was heard of, then until nothing differs.
    fn publish(&mut self) {
        if self.index.wants_refusals() {
            // A Kubernetes with ServiceCIDRs names any one of them, and none where the address fits none.
            let ranges =
                self.there.get(&service_cidrs::SERVICE_CIDRS[0]).and_then(|ranges| ranges.values().last());
            let refusal = match ranges {
                Some(range) => {
                    format!("The range of valid IPs is {}", range["spec"]["cidrs"][0].as_str().unwrap())
                }
                None => "the provided network does not match the current range".to_owned(),
            };
            self.index.take(Source::Refusals, News::Listed(vec![json!(refusal)]));
        }
        if !self.index.pending().is_empty() {
            return;
        }
        for _ in 0..4 {
            let changes = self.changes();
            if changes.is_empty() {
                return;
            }
            changes.into_iter().for_each(|change| self.write(change));
        }
        panic!("it never settles: {:#?}", self.changes());
    }

    fn changes(&self) -> Vec<Change> {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let changes = diff(&self.index, &build(&self.index, now));
        // The mirror in the member is another test's.
        changes.into_iter().filter(|change| change.target.side == Side::Control).collect()
    }

    fn write(&mut self, change: Change) {
        let Target { kind, name, status, .. } = change.target;
        let source = Source::Resource(Side::Control, kind);
        let body = match change.action {
            Action::Delete(_) => {
                let gone = self.written.remove(&(kind, name)).unwrap();
                return self.index.take(source, News::Gone(gone));
            }
            Action::Create(body) | Action::Apply(body) => body,
        };
        let head = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": format!("{kind:?}"),
            "metadata": {"name": name, "generation": 1, "labels": body["metadata"]["labels"]}});
        let object = self.written.entry((kind, name)).or_insert(head);
        let part = if status { "status" } else { "spec" };
        object[part] = body[part].clone();
        self.index.take(source, News::Put(object.clone()));
    }

    fn published(&self) -> Published {
        let cluster: Cluster =
            serde_json::from_value(self.written[&(Kind::Cluster, "east".to_owned())].clone()).unwrap();
        let status = cluster.status.unwrap_or_default();
        let found = status.cluster_link_status.unwrap_or_default();
        let nodes = self.index.control.cluster_nodes.iter();
        let known = status.conditions.iter().any(|it| it.type_ == CIDRS_KNOWN && it.status == "True");
        Published {
            adapter: found.adapter,
            pods: found.pod_cidrs,
            services: found.service_cidrs,
            nodes: nodes.map(|(name, node)| (name.clone(), node.spec.pod_cidrs.clone())).collect(),
            known,
        }
    }
}

fn history(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), length)
}

/// A cluster of one CNI, whole and well.
fn settled(kind: usize) -> World {
    let all = catalogue();
    let mut world = World::new(&BTreeMap::new());
    let v1 = "crd.projectcalico.org/v1";
    let is = |object: &Value, of: &str| object["apiVersion"].as_str().unwrap().starts_with(of);
    for object in &all {
        let here = match (kind, object["kind"].as_str().unwrap()) {
            (_, "Node" | "ServiceCIDR") => true,
            (0, "IPPool" | "BlockAffinity") => is(object, v1),
            (1, "IPPool" | "BlockAffinity" | "DatastoreMigration") => true,
            (2, "CiliumNode") | (2 | 4, "ConfigMap") => {
                let name = object["metadata"]["name"].as_str().unwrap();
                object["data"]["ipam"] != "kubernetes" && (kind == 2) != name.contains("flannel")
            }
            (3, "IPPool") => is(object, v1),
            (3, "Installation") => true,
            _ => false,
        };
        if here {
            world.put(object);
        }
    }
    if kind == 2 {
        all.iter().filter(|object| object["kind"] == "CiliumPodIPPool").for_each(|object| world.put(object));
    }
    world.calm();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Deltas, lists, lost news and restarts lead where a fresh start leads, and what is known is never emptied on the
    /// way.
    #[test]
    fn every_history_ends_as_a_fresh_start_would(steps in history(1..60)) {
        let catalogue = catalogue();
        let mut world = World::new(&BTreeMap::new());
        let mut before = Published::default();
        for step in &steps {
            world.take(step, &catalogue);
            let now = world.published();
            prop_assert!(before.pods.is_empty() || !now.pods.is_empty(), "{step:?} took {:?}", before.pods);
            prop_assert!(before.services.is_empty() || !now.services.is_empty(), "{step:?} took {:?}", before.services);
            before = now;
        }
        world.calm();
        let end = world.published();
        // The same controller-manager, started again, has nothing to write.
        world.restart(&BTreeSet::new());
        world.publish();
        prop_assert_eq!(&world.published(), &end);
        // One that never saw anything else publishes the same, unless something is kept from before, which is said.
        let mut fresh = World::new(&world.there);
        fresh.calm();
        if end.known {
            prop_assert_eq!(&fresh.published(), &end);
        } else if fresh.published().known {
            prop_assert!(end.adapter.as_ref().is_some_and(|adapter| !adapter.starts_with("node")), "{:?}", end);
        }
    }

    /// Expired watches, forbidden or failing lists, a restarted API server and restarts of the controller-manager in the
    /// middle of it change nothing of what is published, in any order.
    #[test]
    fn no_hiccup_changes_what_is_published(
        kind in 0_usize..6,
        faults in prop::collection::vec((fault(), any::<bool>()), 1..24),
    ) {
        let mut world = settled(kind);
        let before = world.published();
        for (fault, publish) in &faults {
            world.suffer(fault);
            if *publish {
                world.publish();
            }
            let now = world.published();
            prop_assert_eq!(&now.pods, &before.pods, "{:?}", fault);
            prop_assert_eq!(&now.services, &before.services, "{:?}", fault);
            prop_assert_eq!(&now.nodes, &before.nodes, "{:?}", fault);
        }
        world.calm();
        prop_assert_eq!(world.published(), before);
    }
}

/// The catalogue is worth its name: each adapter is the right one of some of its clusters, and each is well.
#[test]
fn the_settled_clusters_are_of_every_cni() {
    let adapters: Vec<Option<String>> = (0..6)
        .map(|kind| {
            let published = settled(kind).published();
            assert!(published.known, "{kind}: {published:?}");
            assert_eq!(published.services, ["10.96.0.0/16", "10.112.0.0/16"]);
            assert_eq!(published.nodes.len(), 3, "{kind}: {published:?}");
            published.adapter
        })
        .collect();
    let adapters: Vec<&str> = adapters.iter().map(|adapter| adapter.as_deref().unwrap()).collect();
    assert_eq!(
        adapters,
        [
            "calico (auto: IPPools found)",
            "calico (auto: IPPools of projectcalico.org/v3 found)",
            "cilium (auto: ConfigMap cilium-config found)",
            "calico (auto: IPPools found, installed by the Tigera operator)",
            "flannel (auto: ConfigMap kube-flannel-cfg found)",
            "flannel (auto: flannel's annotations found on Nodes)",
        ]
    );
    assert!(settled(0).there.contains_key(&NODES));
}
