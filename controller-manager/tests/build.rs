//! What should be written, state by state: pure, without any API.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use api::{Cluster, ClusterNode, NodeConfig};
use cni_adapters::{NODES, WatchSpec, service_cidrs};
use controller_manager::{
    build::build,
    diff::{Action, Change, diff},
    index::{Index, Kind, News, Side, Source, Target, Trouble},
};
use jiff::Timestamp;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// An index whose writes take effect, as the two APIs would show them.
struct World {
    index: Index,
    written: BTreeMap<(Side, Kind, String), Value>,
}

impl World {
    /// A member with a service range, and a control cluster with its Cluster.
    fn new(options: Value) -> Self {
        let mut world = World { index: Index::new("east", false), written: BTreeMap::new() };
        for source in world.index.sources() {
            world.index.take(source, News::Listed(Vec::new()));
        }
        world.objects(
            service_cidrs::SERVICE_CIDRS[0],
            vec![json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}})],
        );
        world.put(
            Side::Control,
            Kind::Cluster,
            json!({"metadata": {"name": "east", "generation": 3},
            "spec": {"clusterLinkOptions": options}}),
        );
        world
    }

    fn objects(&mut self, watch: WatchSpec, objects: Vec<Value>) {
        self.index.take(Source::Objects(watch), News::Listed(objects));
    }

    fn nodes(&mut self, nodes: Vec<Value>) {
        self.objects(NODES, nodes);
    }

    fn put(&mut self, side: Side, kind: Kind, mut object: Value) {
        object["apiVersion"] = json!("kosmos.io/v1alpha1");
        object["kind"] = json!(format!("{kind:?}"));
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.index.take(Source::Resource(side, kind), News::Put(object.clone()));
        self.written.insert((side, kind, name), object);
    }

    fn gone(&mut self, side: Side, kind: Kind, name: &str) {
        let object = self.written.remove(&(side, kind, name.to_owned())).unwrap();
        self.index.take(Source::Resource(side, kind), News::Gone(object));
    }

    fn changes(&self) -> Vec<Change> {
        diff(&self.index, &build(&self.index, now()))
    }

    /// Writes until there is nothing more to write; returns how many writes it took.
    fn settle(&mut self) -> usize {
        let mut writes = 0;
        for _ in 0..6 {
            let changes = self.changes();
            if changes.is_empty() {
                return writes;
            }
            writes += changes.len();
            changes.into_iter().for_each(|change| self.write(change));
        }
        panic!("it never settles: {:#?}", self.changes());
    }

    fn write(&mut self, change: Change) {
        let Target { side, kind, name, status } = change.target;
        let body = match change.action {
            Action::Delete(_) => return self.gone(side, kind, &name),
            Action::Create(body) | Action::Apply(body) => body,
        };
        let empty = || json!({"metadata": {"name": name, "generation": 1}});
        let mut object = self.written.get(&(side, kind, name.clone())).cloned().unwrap_or_else(empty);
        let part = if status { "status" } else { "spec" };
        if part == "spec" && object[part] != body[part] {
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        object[part] = body[part].clone();
        if let Some(labels) = body["metadata"].get("labels") {
            object["metadata"]["labels"] = labels.clone();
        }
        self.put(side, kind, object);
    }

    fn node_names(&self) -> Vec<&str> {
        self.index.control.cluster_nodes.keys().map(String::as_str).collect()
    }

    fn node(&self, name: &str) -> &ClusterNode {
        &self.index.control.cluster_nodes[name]
    }

    fn gateways(&self) -> Vec<&str> {
        let nodes = self.index.control.cluster_nodes.values();
        nodes
            .filter(|node| node.spec.is_gateway())
            .filter_map(|node| node.spec.node_name.as_deref())
            .collect()
    }

    fn cluster(&self) -> &Cluster {
        self.index.own().unwrap()
    }

    fn pod_cidrs(&self) -> Vec<String> {
        self.cluster().status.clone().unwrap().cluster_link_status.unwrap().pod_cidrs
    }

    fn condition(&self, kind: &str) -> (String, String, String) {
        let conditions = self.cluster().status.clone().unwrap().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == kind).unwrap();
        (found.status, found.reason, found.message)
    }
}

fn node(name: &str, cidr: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"podCIDRs": [cidr]}})
}

fn silent(mut node: Value, since: &str) -> Value {
    node["status"] =
        json!({"conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": since}]});
    node
}

fn labelled(mut node: Value, label: &str) -> Value {
    node["metadata"]["labels"] = json!({label: "true"});
    node
}

fn facts(name: &str, ip: &str) -> Value {
    json!({"metadata": {"name": format!("east-{name}")}, "spec": {"ip": ip, "interfaceName": "eth0"},
        "status": {"mtu": 1500, "capabilities": ["nftables"]}})
}

/// Member states, each a list of Nodes.
fn states() -> Vec<Vec<Value>> {
    vec![
        vec![node("n1", "10.244.0.0/24")],
        vec![node("n1", "10.244.0.0/24"), node("n2", "10.244.1.0/24")],
        vec![node("n2", "10.244.1.0/24"), node("n3", "10.244.2.0/24")],
        vec![node("n1", "10.244.7.0/24"), labelled(node("n2", "10.244.1.0/24"), "kosmos.io/exclude")],
        vec![labelled(node("n1", "10.244.7.0/24"), "kosmos.io/node"), node("n4", "fd00:1::/64")],
        vec![node("n1", "10.244.0.0/24"), node("n2", "10.244.1.0/24"), node("n3", "10.244.2.0/24")],
    ]
}

/// What stands in the control cluster, less the times.
fn outcome(world: &World) -> (BTreeMap<String, Value>, Value) {
    let nodes = &world.index.control.cluster_nodes;
    let nodes =
        nodes.iter().map(|(name, node)| (name.clone(), json!({"spec": node.spec, "status": node.status})));
    (nodes.collect(), json!(world.cluster().status))
}

fn run(states: &[Vec<Value>]) -> (BTreeMap<String, Value>, Value) {
    let mut world = World::new(json!({"cni": "node"}));
    for state in states {
        world.nodes(state.clone());
        world.settle();
        assert_eq!(world.settle(), 0, "a settled world needs no write");
    }
    outcome(&world)
}

#[test]
fn every_way_to_a_state_ends_at_the_same() {
    let forward = states();
    let backward: Vec<_> = forward.iter().rev().cloned().collect();
    for states in [forward, backward] {
        for length in 1..=states.len() {
            let expected = run(&states[length - 1..length]);
            assert_eq!(run(&states[..length]), expected, "after {length} states");
            let with_empties: Vec<_> =
                states[..length].iter().flat_map(|state| [Vec::new(), state.clone()]).collect();
            assert_eq!(run(&with_empties), expected, "after {length} states with empties");
        }
    }
}

#[test]
fn nothing_is_written_before_everything_was_heard() {
    let index = Index::new("east", false);
    let sources = index.sources();
    for last in &sources {
        let mut index = Index::new("east", false);
        for source in sources.iter().filter(|source| *source != last) {
            index.take(*source, News::Listed(Vec::new()));
        }
        assert_eq!(index.pending().into_iter().collect::<Vec<_>>(), [*last]);
        index.take(*last, News::Put(json!({"metadata": {"name": "x"}})));
        assert!(!index.pending().is_empty(), "one object is no complete list");
        index.take(*last, News::Failed { error: "out of reach".to_owned(), answered: false });
        assert!(!index.pending().is_empty(), "a failure is no complete list");
        index.take(*last, News::Listed(Vec::new()));
        assert_eq!(
            index.pending().into_iter().collect::<Vec<_>>(),
            [Source::Refusals],
            "no ServiceCIDR: ask"
        );
        index.take(Source::Refusals, News::Listed(Vec::new()));
        assert!(index.pending().is_empty());
    }
}

#[test]
fn a_kind_that_may_not_be_read_does_not_hold_up_the_rest_but_nodes_do() {
    let mut index = Index::new("east", false);
    let refused = || News::Failed { error: "forbidden".to_owned(), answered: true };
    for source in index.sources() {
        index.take(source, refused());
    }
    let pending: Vec<String> = index.pending().iter().map(ToString::to_string).collect();
    assert_eq!(
        pending,
        [
            "nodes of the member cluster",
            "Cluster of the member cluster",
            "ClusterNode of the member cluster",
            "NodeConfig of the member cluster",
            "Cluster of the control cluster",
            "ClusterNode of the control cluster",
            "NodeConfig of the control cluster",
        ]
    );
}

#[test]
fn gateways_are_chosen_kept_and_replaced() {
    let mut world = World::new(json!({"networkType": "gateway", "gateways": 2}));
    let nodes = ["n1", "n2", "n3", "n4"].map(|name| node(name, "10.244.0.0/24"));
    world.nodes(nodes.to_vec());
    world.settle();
    assert_eq!(world.gateways(), Vec::<&str>::new(), "nobody has an address yet");
    for (name, ip) in [("n2", "172.18.0.2"), ("n3", "172.18.0.3"), ("n4", "172.18.0.4")] {
        world.put(Side::Member, Kind::ClusterNode, facts(name, ip));
    }
    world.settle();
    assert_eq!(world.gateways(), ["n2", "n3"]);
    world.put(Side::Member, Kind::ClusterNode, facts("n1", "172.18.0.1"));
    world.settle();
    assert_eq!(world.gateways(), ["n2", "n3"], "who has the role keeps it");

    // Silent for a moment, then for long.
    let [n1, n2, n3, n4] = nodes;
    world.nodes(vec![n1.clone(), silent(n2.clone(), "2026-01-01T11:59:55Z"), n3.clone(), n4.clone()]);
    let desired = build(&world.index, now());
    assert_eq!(desired.again_in, Some(std::time::Duration::from_secs(15)), "it looks again by itself");
    world.settle();
    assert_eq!(world.gateways(), ["n2", "n3"]);
    world.nodes(vec![n1.clone(), silent(n2.clone(), "2026-01-01T11:00:00Z"), n3.clone(), n4.clone()]);
    world.settle();
    assert_eq!(world.gateways(), ["n1", "n3"]);
    world.nodes(vec![n1.clone(), n2.clone(), n3.clone(), labelled(n4, "kosmos.io/gateway")]);
    world.settle();
    assert_eq!(world.gateways(), ["n1", "n4"], "the labelled one first, the rest as it was");

    // Everybody silent: better a silent gateway than none. In P2P mode too: the mode may change.
    let all = [n1, n2, n3].map(|node| silent(node, "2026-01-01T11:00:00Z"));
    world.nodes(all.to_vec());
    world.settle();
    assert_eq!(world.gateways(), ["n1"]);
    world.put(
        Side::Control,
        Kind::Cluster,
        json!({"metadata": {"name": "east"},
        "spec": {"clusterLinkOptions": {"networkType": "p2p"}}}),
    );
    world.settle();
    assert_eq!(world.gateways(), ["n1"]);
}

#[test]
fn facts_outlive_an_agent_that_says_nothing() {
    let mut world = World::new(json!({}));
    world.nodes(vec![node("n1", "10.244.0.0/24")]);
    world.put(Side::Member, Kind::ClusterNode, facts("n1", "172.18.0.2"));
    world.settle();
    assert_eq!(world.node("east-n1").spec.ip.as_deref(), Some("172.18.0.2"));
    world.put(Side::Member, Kind::ClusterNode, json!({"metadata": {"name": "east-n1"}, "spec": {}}));
    assert_eq!(world.settle(), 0);
    world.gone(Side::Member, Kind::ClusterNode, "east-n1");
    assert_eq!(world.settle(), 0);
    assert_eq!(world.node("east-n1").status.as_ref().unwrap().mtu, Some(1500));
    // A new address replaces the whole old one.
    world.put(
        Side::Member,
        Kind::ClusterNode,
        json!({"metadata": {"name": "east-n1"},
        "spec": {"ip6": "fd00::2", "interfaceName": "eth1"}}),
    );
    world.settle();
    let spec = &world.node("east-n1").spec;
    assert_eq!((spec.ip.as_deref(), spec.ip6.as_deref()), (None, Some("fd00::2")));
}

#[test]
fn cidrs_outlive_the_objects_they_were_read_from() {
    let pools =
        cni_adapters::watches().into_iter().find(|w| w.kind == "IPPool" && w.version == "v1").unwrap();
    let blocks =
        cni_adapters::watches().into_iter().find(|w| w.kind == "BlockAffinity" && w.version == "v1").unwrap();
    let pool = |cidr: &str| json!({"metadata": {"name": "default"}, "spec": {"cidr": cidr}});
    let block = json!({"metadata": {"name": "b"}, "spec": {"cidr": "10.1.2.0/26", "node": "n1", "state": "confirmed"}});
    let mut world = World::new(json!({"cni": "calico"}));
    world.nodes(vec![node("n1", "10.244.0.0/24")]);
    world.objects(pools, vec![pool("10.1.0.0/16")]);
    world.objects(blocks, vec![block.clone()]);
    world.settle();
    assert_eq!(world.condition("CIDRsKnown").0, "True");
    assert_eq!(world.node("east-n1").spec.pod_cidrs, ["10.1.2.0/26"]);

    // It can not be read any more.
    world.index.take(Source::Objects(pools), News::Failed { error: "forbidden".to_owned(), answered: true });
    world.settle();
    let (status, reason, message) = world.condition("CIDRsKnown");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Stale"));
    assert_eq!(
        message,
        "ippools.crd.projectcalico.org/v1 cannot be read: forbidden; what is known of it may be out of date. Kept as they were: podCIDRs"
    );
    assert_eq!(world.pod_cidrs(), ["10.1.0.0/16"]);

    // Everything is gone, also after a restart that remembers nothing but what stands in the APIs.
    world.objects(pools, Vec::new());
    world.objects(blocks, Vec::new());
    world.settle();
    assert_eq!(world.condition("CIDRsKnown").1, "Stale");
    assert_eq!(world.pod_cidrs(), ["10.1.0.0/16"]);
    assert_eq!(world.node("east-n1").spec.pod_cidrs, ["10.1.2.0/26"]);

    // It comes back, changed; and a block that moves away takes its CIDR along.
    world.objects(pools, vec![pool("10.2.0.0/16")]);
    world.settle();
    assert_eq!(world.condition("CIDRsKnown").1, "Stale", "no block at all is not known to be none");
    let mut moved = block;
    moved["spec"]["node"] = json!("n2");
    moved["spec"]["cidr"] = json!("10.2.3.0/26");
    world.objects(blocks, vec![moved]);
    world.settle();
    assert_eq!(
        world.condition("CIDRsKnown"),
        (
            "True".to_owned(),
            "Found".to_owned(),
            "pods: IPPool default (crd.projectcalico.org/v1), by calico; services: ServiceCIDR kubernetes"
                .to_owned(),
        )
    );
    assert_eq!(world.pod_cidrs(), ["10.2.0.0/16"]);
    assert_eq!(world.node("east-n1").spec.pod_cidrs, Vec::<String>::new());
}

/// What each bad input is told.
#[test]
fn bad_input_is_named_with_what_to_do() {
    let mut world = World::new(json!({"cni": "weave"}));
    world.nodes(vec![node("n1", "10.244.0.0/24")]);
    world.settle();
    assert_eq!(
        world.condition("CIDRsKnown").2,
        r#"Cluster east: spec.clusterLinkOptions.cni is "weave"; it must be one of auto, node, flannel, calico, cilium"#
    );
    assert_eq!(world.node_names(), ["east-n1"], "the rest goes on");

    let mut world = World::new(Value::Null);
    world.nodes(vec![node("n1", "10.244.0.0/24")]);
    world.settle();
    assert_eq!(world.condition("CIDRsKnown"), ("False".to_owned(), "NoOptions".to_owned(),
        "Cluster east: spec.clusterLinkOptions is absent, so the cluster takes no part; set it, {} is enough".to_owned()));

    let mut world = World::new(json!({}));
    let mut bad = node("n2", "10.244.1.0/33");
    bad["metadata"]["annotations"] = json!({"kosmos.io/public-ip": "example.org"});
    world.nodes(vec![node("n1", "10.244.0.0/24"), bad]);
    world.settle();
    assert_eq!(world.condition("CIDRsKnown"), ("False".to_owned(), "InvalidValue".to_owned(),
        r#"Node n2: spec.podCIDRs[0] is "10.244.1.0/33", which is not a CIDR such as 10.244.0.0/16 or fd00:10:244::/56; correct it"#.to_owned()));
    assert_eq!(world.pod_cidrs(), ["10.244.0.0/24"]);
    assert_eq!(world.condition("Published"), ("False".to_owned(), "InvalidValue".to_owned(),
        r#"Node n2: annotation kosmos.io/public-ip is "example.org", which is not an IP address such as 203.0.113.7; correct or remove it"#.to_owned()));
    assert_eq!(world.node_names(), ["east-n1", "east-n2"]);

    let mut world = World::new(json!({}));
    world.nodes(vec![node("n1", "10.244.0.0/24")]);
    world.objects(service_cidrs::SERVICE_CIDRS[0], Vec::new());
    world.settle();
    let (_, reason, message) = world.condition("CIDRsKnown");
    assert_eq!(reason, "SourceMissing");
    assert!(
        message.starts_with("service CIDRs: no ServiceCIDR, range in the API server's refusal"),
        "{message}"
    );
    assert_eq!(world.pod_cidrs(), ["10.244.0.0/24"], "pod CIDRs do not wait for service CIDRs");
    world.index.take(
        Source::Refusals,
        News::Listed(vec![json!("… not in the valid range. The range of valid IPs is 10.96.0.0/16")]),
    );
    world.settle();
    assert_eq!(world.condition("CIDRsKnown").0, "True");
}

#[test]
fn a_valid_public_address_is_published_and_a_broken_one_leaves_it() {
    let with = |address: &str| {
        let mut node = node("n1", "10.244.0.0/24");
        node["metadata"]["annotations"] = json!({"kosmos.io/public-ip": address});
        vec![node]
    };
    let mut world = World::new(json!({}));
    for (annotation, published) in [
        ("203.0.113.7", Some("203.0.113.7")),
        ("203.0.113", Some("203.0.113.7")),
        ("2001:DB8::7", Some("2001:db8::7")),
        ("", None),
    ] {
        world.nodes(with(annotation));
        world.settle();
        assert_eq!(world.node("east-n1").spec.public_ip.as_deref(), published, "{annotation:?}");
    }
}

#[test]
fn another_clusters_node_of_the_same_name_is_never_touched() {
    let mut world = World::new(json!({}));
    world.put(
        Side::Control,
        Kind::ClusterNode,
        json!({
        "metadata": {"name": "east-n1", "labels": {"kosmos.io/cluster": "east"}},
        "spec": {"clusterName": "e", "nodeName": "ast-n1", "podCIDRs": ["10.9.0.0/24"]}}),
    );
    world.nodes(vec![node("n1", "10.244.0.0/24"), node("n2", "10.244.1.0/24")]);
    world.settle();
    assert_eq!(world.node("east-n1").spec.pod_cidrs, ["10.9.0.0/24"]);
    let told = r#"Node n1: its ClusterNode would be named east-n1, which belongs to cluster "e" (spec.clusterName); it is left out until one of the two clusters or nodes is renamed"#;
    assert_eq!(
        world.condition("Published"),
        ("False".to_owned(), "NameCollision".to_owned(), told.to_owned())
    );
    assert_eq!(world.node_names(), ["east-n1", "east-n2"]);
    // Neither when our Node goes.
    world.nodes(vec![node("n2", "10.244.1.0/24")]);
    world.settle();
    assert_eq!(world.node_names(), ["east-n1", "east-n2"]);
    assert_eq!(world.condition("Published").0, "True");
    // Where the other's node is not even seen, the API server's answer says the same.
    let target =
        Target { side: Side::Control, kind: Kind::ClusterNode, name: "east-n1".to_owned(), status: false };
    world.index.troubles.insert(target, Trouble::Foreign { owner: "e".to_owned() });
    world.settle();
    assert_eq!(world.condition("Published").2, told);
}

/// `kosmosctl join` waits for this word, and counts the ClusterNodes that there are.
#[test]
fn nobody_is_told_that_all_is_published_before_it_is() {
    let mut world = World::new(json!({}));
    world.nodes(vec![node("n1", "10.244.0.0/24"), node("n2", "10.244.1.0/24")]);
    let changes = world.changes();
    let created = |change: &&Change| matches!(change.action, Action::Create(_));
    assert_eq!(changes.iter().filter(created).count(), 2);
    for change in changes {
        world.write(change);
        let told = world.cluster().status.clone().unwrap_or_default().conditions;
        assert!(told.iter().all(|condition| condition.type_ != "Published"), "{told:?}");
    }
    assert_eq!(world.condition("CIDRsKnown").0, "True", "what is known does not wait");
    world.settle();
    assert_eq!(world.condition("Published").0, "True");
    // For the moment that a new one takes, it is not taken back.
    world.nodes(["n1", "n2", "n3"].map(|name| node(name, "10.244.0.0/24")).to_vec());
    for change in world.changes() {
        world.write(change);
        assert_eq!(world.condition("Published").0, "True");
    }
    assert_eq!(world.node_names().len(), 3);
}

#[test]
fn a_refused_write_is_named() {
    let mut world = World::new(json!({}));
    let target =
        Target { side: Side::Member, kind: Kind::NodeConfig, name: "east-n1".to_owned(), status: false };
    world.index.troubles.insert(target, Trouble::Rejected { answer: "nodeconfigs is forbidden".to_owned() });
    world.settle();
    assert_eq!(
        world.condition("Published"),
        (
            "False".to_owned(),
            "WriteRejected".to_owned(),
            "NodeConfig east-n1 was not accepted by its API server: nodeconfigs is forbidden".to_owned()
        )
    );
}

fn config(side: Side, unreachable: &str) -> Value {
    let generation = if side == Side::Control { 7 } else { 2 };
    json!({"metadata": {"name": "east-n1", "generation": generation, "labels": {"kosmos.io/cluster": "east"}},
        "spec": {"unreachable": [unreachable]}})
}

#[test]
fn mirrors_follow_their_originals_and_nothing_else_is_touched() {
    let mut world = World::new(json!({}));
    world.put(Side::Control, Kind::NodeConfig, config(Side::Control, "10.80.0.0/16"));
    world.put(Side::Member, Kind::NodeConfig, json!({"metadata": {"name": "mine"}, "spec": {}}));
    world.put(Side::Member, Kind::Cluster, json!({"metadata": {"name": "other"}, "spec": {}}));
    world.settle();
    let mirrored = |world: &World| -> Option<NodeConfig> {
        world.index.member.node_configs.get("east-n1").map(|seen| seen.object.clone())
    };
    assert_eq!(mirrored(&world).unwrap().spec.unreachable, ["10.80.0.0/16"]);
    world.put(Side::Member, Kind::NodeConfig, config(Side::Member, "10.99.0.0/16"));
    world.settle();
    assert_eq!(mirrored(&world).unwrap().spec.unreachable, ["10.80.0.0/16"], "a changed mirror is put right");
    // An original that does not fit our types is there all the same.
    let mut broken = config(Side::Control, "10.80.0.0/16");
    broken["spec"]["devices"] = json!("none");
    world.put(Side::Control, Kind::NodeConfig, broken);
    assert_eq!(world.settle(), 1, "the own Cluster's status says so, and nothing else is written");
    assert_eq!(world.condition("Published").1, "Unreadable");
    assert_eq!(mirrored(&world).unwrap().spec.unreachable, ["10.80.0.0/16"]);
    world.put(Side::Control, Kind::NodeConfig, config(Side::Control, "10.81.0.0/16"));
    world.settle();
    assert_eq!(world.condition("Published").0, "True");
    // One that is being torn down is waited for.
    let mut leaving = config(Side::Member, "10.81.0.0/16");
    leaving["metadata"]["deletionTimestamp"] = json!(NOW);
    world.put(Side::Member, Kind::NodeConfig, leaving);
    world.put(Side::Control, Kind::NodeConfig, config(Side::Control, "10.82.0.0/16"));
    assert_eq!(world.settle(), 0);
    world.gone(Side::Member, Kind::NodeConfig, "east-n1");
    world.settle();
    assert_eq!(mirrored(&world).unwrap().spec.unreachable, ["10.82.0.0/16"]);
    world.gone(Side::Control, Kind::NodeConfig, "east-n1");
    world.settle();
    assert_eq!(mirrored(&world), None);
    assert!(world.index.member.node_configs.contains_key("mine"), "what somebody else wrote stays");
}

#[test]
fn a_credential_is_not_mirrored() {
    let mut world = World::new(json!({}));
    world.put(
        Side::Control,
        Kind::Cluster,
        json!({"metadata": {"name": "east"},
        "spec": {"kubeconfig": "c2VjcmV0", "clusterLinkOptions": {}}}),
    );
    world.settle();
    let copy = &world.index.member.clusters["east"].spec;
    assert!(copy.kubeconfig.is_none() && copy.cluster_link_options.is_some());
    assert_eq!(world.cluster().spec.kubeconfig.as_deref(), Some("c2VjcmV0"));
}

#[test]
fn a_cluster_that_is_not_there_takes_nothing_with_it() {
    let mut world = World::new(json!({}));
    world.nodes(vec![node("n1", "10.244.0.0/24")]);
    world.settle();
    world.gone(Side::Control, Kind::Cluster, "east");
    world.settle();
    assert_eq!(world.node_names(), ["east-n1"], "its nodes wait");
    assert!(world.index.member.clusters.is_empty(), "its copy does not");
}

#[test]
fn status_goes_up_in_the_control_clusters_words() {
    let mut world = World::new(json!({}));
    world.put(Side::Control, Kind::NodeConfig, config(Side::Control, "10.80.0.0/16"));
    let report = |unreachable: &str, generation: i64, sync: &str, differing: u64| {
        let mut object = config(Side::Member, unreachable);
        object["status"] = json!({"observedGeneration": generation, "lastSyncTime": sync,
            "entries": {"desired": 3, "differing": differing}});
        object
    };
    let above = |world: &World| world.index.control.node_configs["east-n1"].object.status.clone().unwrap();
    world.put(Side::Member, Kind::NodeConfig, report("10.80.0.0/16", 2, "2026-01-01T12:00:00Z", 1));
    world.settle();
    assert_eq!(above(&world).observed_generation, Some(7));
    // A sync that changed nothing is not worth a write, until a minute has passed.
    world.put(Side::Member, Kind::NodeConfig, report("10.80.0.0/16", 2, "2026-01-01T12:00:59Z", 1));
    assert_eq!(world.settle(), 0);
    world.put(Side::Member, Kind::NodeConfig, report("10.80.0.0/16", 2, "2026-01-01T12:01:00Z", 1));
    assert_eq!(world.settle(), 1);
    world.put(Side::Member, Kind::NodeConfig, report("10.80.0.0/16", 2, "2026-01-01T12:01:01Z", 0));
    assert_eq!(world.settle(), 1, "what differs is");
    // A newer plan above: what the agent says is still about the older one.
    let mut newer = config(Side::Control, "10.81.0.0/16");
    newer["metadata"]["generation"] = json!(8);
    newer["status"] = json!(above(&world));
    world.put(Side::Control, Kind::NodeConfig, newer);
    world.settle();
    assert_eq!(above(&world).observed_generation, Some(7));
}

#[test]
fn one_server_for_both_is_neither_mirrored_nor_relayed() {
    let mut world = World::new(json!({}));
    world.index.same_server = true;
    world.put(Side::Control, Kind::NodeConfig, config(Side::Control, "10.80.0.0/16"));
    world.put(
        Side::Control,
        Kind::ClusterNode,
        json!({
        "metadata": {"name": "east-n1", "labels": {"kosmos.io/cluster": "east"}},
        "spec": {"ip": "172.18.0.2", "interfaceName": "eth0"}, "status": {"mtu": 1500}}),
    );
    world.nodes(vec![node("n1", "10.244.0.0/24")]);
    let changes = world.changes();
    let targets: Vec<_> = changes.iter().map(|change| (change.target.kind, change.target.status)).collect();
    assert_eq!(targets, [(Kind::Cluster, true), (Kind::ClusterNode, false)]);
    let Action::Apply(body) = &changes[1].action else { panic!("it exists: {:?}", changes[1]) };
    assert_eq!(
        body["spec"],
        json!({"clusterName": "east", "nodeName": "n1", "podCIDRs": ["10.244.0.0/24"], "roles": ["gateway"]})
    );
    assert!(changes.iter().all(|change| change.target.side == Side::Control));
}

#[test]
fn only_what_differs_is_written_and_only_to_the_object_that_was_compared() {
    let mut world = World::new(json!({}));
    world.nodes(states().pop().unwrap());
    world.settle();
    let mut changed = world.written[&(Side::Control, Kind::ClusterNode, "east-n2".to_owned())].clone();
    changed["metadata"]["uid"] = json!("u-2");
    changed["metadata"]["resourceVersion"] = json!("77");
    changed["spec"]["podCIDRs"] = json!(["10.0.0.0/8"]);
    world.put(Side::Control, Kind::ClusterNode, changed);
    let changes = world.changes();
    assert_eq!(changes.len(), 1);
    let Action::Apply(body) = &changes[0].action else { panic!("{:?}", changes[0]) };
    assert_eq!(body["metadata"]["uid"], "u-2");
    assert_eq!(changes[0].live.as_deref(), Some("77"));
}

#[test]
fn a_report_on_a_node_that_is_gone_goes_too() {
    let mut world = World::new(json!({}));
    let excluded = labelled(node("n2", "10.244.1.0/24"), "kosmos.io/exclude");
    world.nodes(vec![node("n1", "10.244.0.0/24"), excluded.clone()]);
    for name in ["n1", "n2", "n3"] {
        let mut report = facts(name, "172.18.0.2");
        report["metadata"]["labels"] = json!({"kosmos.io/cluster": "east"});
        world.put(Side::Member, Kind::ClusterNode, report);
    }
    world.put(Side::Member, Kind::ClusterNode, json!({"metadata": {"name": "east-mine"}, "spec": {}}));
    world.settle();
    let left: Vec<&str> = world.index.member.cluster_nodes.keys().map(String::as_str).collect();
    assert_eq!(left, ["east-mine", "east-n1", "east-n2"]);
}
