//! What is written, as a function of what is there: no API, no clock.

#![allow(clippy::unwrap_used, reason = "tests")]

use api::{Cluster, ClusterNode, NodeConfig};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use network_manager::{
    index::{Index, News, Object, Resource, Unreadable},
    reconcile::{Action, Write, reconcile},
    waves::Wave,
};
use serde_json::{Value, json};

fn writes(index: &Index) -> Vec<Write> {
    reconcile(index, &Time(Timestamp::UNIX_EPOCH)).writes
}

fn names(writes: &[Write], what: fn(&Action) -> bool) -> Vec<&str> {
    writes.iter().filter(|write| what(&write.action)).map(|write| write.target.name.as_str()).collect()
}

fn cluster(name: &str, number: u8) -> Object {
    let status = json!({"clusterLinkStatus": {"podCIDRs": [format!("10.{number}.0.0/16")]}});
    let object = json!({"metadata": {"name": name}, "spec": {"clusterLinkOptions": {}}, "status": status});
    Object::Cluster(Box::new(serde_json::from_value::<Cluster>(typed("Cluster", object)).unwrap()))
}

fn node(cluster: &str, number: u8) -> ClusterNode {
    let spec = json!({"clusterName": cluster, "nodeName": "n1", "ip": format!("192.168.{number}.1"),
        "interfaceName": "eth0", "podCIDRs": [format!("10.{number}.1.0/24")]});
    let object = json!({"metadata": {"name": format!("{cluster}-n1")}, "spec": spec});
    serde_json::from_value(typed("ClusterNode", object)).unwrap()
}

fn typed(kind: &str, mut object: Value) -> Value {
    object["apiVersion"] = json!("kosmos.io/v1alpha1");
    object["kind"] = json!(kind);
    object
}

fn index() -> Index {
    let mut index = Index::default();
    for news in [cluster("a", 1), cluster("b", 2)] {
        index.take(News::Put(news));
    }
    for news in [node("a", 1), node("b", 2)] {
        index.take(News::Put(Object::ClusterNode(Box::new(news))));
    }
    index
}

/// The index after everything was written.
fn settled() -> Index {
    settle(index())
}

fn settle(mut index: Index) -> Index {
    for write in writes(&index) {
        let name = write.target.name.clone();
        match write.action {
            Action::Addresses(status) | Action::Status(status) => match write.target.resource {
                Resource::Cluster => {
                    let conditions = serde_json::from_value(status["conditions"].clone()).unwrap();
                    index.clusters.get_mut(&name).unwrap().status.as_mut().unwrap().conditions = conditions;
                }
                _ => {
                    index.nodes.get_mut(&name).unwrap().status = Some(serde_json::from_value(status).unwrap())
                }
            },
            Action::Apply(mut body, _) => {
                body["metadata"]["name"] = json!(name);
                let config: NodeConfig = serde_json::from_value(typed("NodeConfig", body)).unwrap();
                index.take(News::Put(Object::NodeConfig(Box::new(config))));
            }
            Action::Delete(_) => panic!("nothing was there to delete"),
        }
    }
    index
}

const IS_DELETE: fn(&Action) -> bool = |action| matches!(action, Action::Delete(_));

#[test]
fn addresses_come_first_and_configs_last() {
    let writes = writes(&index());
    assert_eq!(names(&writes, |action| matches!(action, Action::Addresses(_))), ["a-n1", "b-n1"]);
    assert_eq!(names(&writes, |action| matches!(action, Action::Status(_))), ["a", "b"]);
    assert_eq!(names(&writes, |action| matches!(action, Action::Apply(..))), ["a-n1", "b-n1"]);
    let rank = |write: &Write| match write.action {
        Action::Addresses(_) => 0,
        Action::Status(_) => 1,
        _ => 2,
    };
    assert!(writes.is_sorted_by_key(rank));
    assert!(writes.iter().all(|write| write.notices.is_empty()), "that all is well is no news");
}

#[test]
fn what_was_written_is_not_written_again() {
    assert_eq!(writes(&settled()), []);
}

#[test]
fn nothing_is_known_before_every_list_has_come() {
    let mut index = Index::default();
    for resource in [Resource::Cluster, Resource::NodeConfig] {
        index.take(News::Listed(resource, Vec::new()));
        assert!(index.pending().contains(&Resource::ClusterNode));
    }
    index.take(News::Listed(Resource::ClusterNode, Vec::new()));
    assert_eq!(index.pending(), []);
}

#[test]
fn a_node_that_is_gone_takes_its_config_with_it_and_one_that_is_spoilt_does_not() {
    let mut gone = settled();
    gone.take(News::Gone(Resource::ClusterNode, "b-n1".to_owned()));
    assert_eq!(names(&writes(&gone), IS_DELETE), ["b-n1"]);

    let mut spoilt = settled();
    spoilt.nodes.get_mut("b-n1").unwrap().spec.ip = None;
    let spoilt = writes(&spoilt);
    assert_eq!(names(&spoilt, IS_DELETE), Vec::<&str>::new());
    let told = spoilt.iter().find(|write| write.target.name == "b-n1").unwrap();
    assert_eq!(told.notices[0].reason, "NoAddress");
}

#[test]
fn a_cluster_that_leaves_or_wants_ipsec_is_torn_down_and_one_with_a_fault_is_not() {
    let options = |change: Value| {
        let mut index = settled();
        let cluster = index.clusters.get_mut("b").unwrap();
        cluster.spec.cluster_link_options = serde_json::from_value(change).unwrap();
        writes(&index)
    };
    for leaves in [json!({"enable": false}), json!({"tunnelType": "ipsec"}), Value::Null] {
        assert_eq!(names(&options(leaves.clone()), IS_DELETE), ["b-n1"], "{leaves}");
    }
    let fault = json!({"bridgeCIDRs": {"ip": "nowhere", "ip6": "fd00::/32"}});
    assert_eq!(names(&options(fault), IS_DELETE), Vec::<&str>::new());
}

#[test]
fn an_answer_never_brings_back_what_is_gone() {
    let mut index = settled();
    let late = index.configs["b-n1"].clone();
    index.take(News::Gone(Resource::NodeConfig, "b-n1".to_owned()));
    index.refresh(Object::NodeConfig(Box::new(late)));
    assert!(!index.configs.contains_key("b-n1"));
}

/// An API server that was restored from a backup counts from an earlier version again.
#[test]
fn a_complete_list_is_believed_though_its_versions_are_older() {
    let with = |version: &str, ip: &str| {
        let mut node = node("a", 1);
        (node.metadata.uid, node.metadata.resource_version) =
            (Some("u".to_owned()), Some(version.to_owned()));
        node.spec.ip = Some(ip.to_owned());
        Object::ClusterNode(Box::new(node))
    };
    let mut index = Index::default();
    index.take(News::Put(with("900", "192.168.1.9")));
    assert!(!index.take(News::Put(with("100", "192.168.1.1"))), "a late event");
    assert_eq!(index.nodes["a-n1"].spec.ip.as_deref(), Some("192.168.1.9"));
    assert!(index.take(News::Listed(Resource::ClusterNode, vec![with("100", "192.168.1.1")])));
    assert_eq!(index.nodes["a-n1"].spec.ip.as_deref(), Some("192.168.1.1"));
}

#[test]
fn a_cluster_that_cannot_be_read_is_not_called_missing() {
    let mut index = settled();
    index.take(News::Put(Object::Unreadable(Resource::Cluster, "b".to_owned(), Box::default())));
    let writes = writes(&index);
    assert_eq!(names(&writes, IS_DELETE), Vec::<&str>::new());
    let told = writes.iter().find(|write| write.target.name == "b-n1").unwrap();
    assert_eq!(told.notices[0].reason, "ClusterUnreadable");
    assert!(told.notices[0].message.contains("\"b\": that Cluster does not fit its type"));
}

/// A node that a newer component has written in words that are not understood here.
fn newer(name: &str, overlay: Option<Value>) -> Object {
    let mut object = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": "ClusterNode",
        "metadata": {"name": name, "uid": "u", "generation": 3}, "spec": {"podCIDRs": {"of": "another shape"}}});
    object["status"] = json!({"overlay": overlay, "conditions": []});
    let object: kube::api::DynamicObject = serde_json::from_value(object).unwrap();
    let unreadable = Unreadable::of(&object, "podCIDRs: invalid type".to_owned());
    Object::Unreadable(Resource::ClusterNode, name.to_owned(), Box::new(unreadable))
}

#[test]
fn a_node_that_becomes_unreadable_keeps_its_addresses_and_is_told() {
    let settled = settled();
    let overlay = |index: &Index| json!(index.nodes["b-n1"].status.as_ref().unwrap().overlay);
    let borne = overlay(&settled);
    for said in [Some(borne.clone()), None, Some(json!("another shape"))] {
        let mut index = settled.clone();
        assert!(index.take(News::Put(newer("b-n1", said))));
        let writes = writes(&index);
        assert_eq!(names(&writes, IS_DELETE), Vec::<&str>::new());
        let told = writes.iter().find(|write| write.target.name == "b-n1").unwrap();
        let Action::Status(status) = &told.action else { panic!("{told:?}") };
        assert_eq!(status["overlay"], borne, "what is not applied again is given up");
        let condition = &told.notices[0];
        assert_eq!((condition.type_.as_str(), condition.reason.as_str()), ("Planned", "Unreadable"));
        assert!(condition.message.contains("podCIDRs: invalid type"), "{}", condition.message);

        // Another node with the very host bits of the first comes, and gets another address.
        let mut rival = node("a", 2);
        rival.metadata.name = Some("a-n2".to_owned());
        rival.spec.node_name = Some("n2".to_owned());
        rival.spec.pod_cidrs = vec!["10.1.2.0/24".to_owned()];
        index.take(News::Put(Object::ClusterNode(Box::new(rival))));
        let writes = self::writes(&index);
        let given = writes.iter().find(|write| write.target.name == "a-n2").unwrap();
        let Action::Addresses(status) = &given.action else { panic!("{given:?}") };
        assert_ne!(status["overlay"]["bridge"], borne["bridge"]);
        assert!(status["overlay"]["bridge"].is_string());
    }
}

#[test]
fn what_was_told_of_an_unreadable_object_is_not_told_again() {
    let mut index = settled();
    let Object::Unreadable(resource, name, unreadable) = newer("b-n1", None) else { unreachable!() };
    index.take(News::Put(Object::Unreadable(resource, name.clone(), unreadable.clone())));
    let told = writes(&index).into_iter().find(|write| write.target.name == "b-n1").unwrap();
    let conditions = told.notices;
    let again = Unreadable { conditions, ..*unreadable };
    index.take(News::Put(Object::Unreadable(resource, name, Box::new(again))));
    assert!(writes(&index).iter().all(|write| write.target.name != "b-n1"));
}

#[test]
fn what_another_version_adds_makes_nothing_unreadable() {
    let parse = |resource: Resource, parts: Value| {
        let mut object = typed(resource.as_str(), parts);
        object["metadata"] = json!({"name": "a-n1", "labels": {"kosmos.io/cluster": "a"}});
        Object::parse(resource, serde_json::from_value(object).unwrap())
    };
    let options = json!({"clusterLinkOptions": {"networkType": "p2p", "fromTomorrow": true}, "alsoNew": 1});
    let says = json!({"observedGeneration": "in another shape", "conditions": 7});
    for (resource, parts) in [
        (Resource::Cluster, json!({"spec": options, "status": {"fromTomorrow": {}}})),
        (Resource::ClusterNode, json!({"spec": {"nodeName": "n1", "fromTomorrow": []}})),
        (Resource::NodeConfig, json!({"spec": {"fromTomorrow": 1}, "status": says})),
    ] {
        let object = parse(resource, parts);
        assert!(!matches!(object, Object::Unreadable(..)), "{object:?}");
    }
    let newer = parse(Resource::NodeConfig, json!({"spec": {"routes": "in another shape"}}));
    let Object::Unreadable(_, _, unreadable) = &newer else { panic!("{newer:?}") };
    assert!(
        unreadable.error.contains("routes") || unreadable.error.contains("expected a sequence"),
        "{unreadable:?}"
    );
    // A plan of another version is replaced by ours, as it would be by a person who goes back to this version.
    let mut index = settled();
    index.take(News::Put(newer));
    let writes = writes(&index);
    assert_eq!(names(&writes, |action| matches!(action, Action::Apply(..))), ["a-n1"]);
}

#[test]
fn who_begins_to_receive_is_written_first_then_who_answers_for_it_then_all_others() {
    let mut index = Index::default();
    let put = |index: &mut Index, name: &str, ip: &str, block: &str, roles: &[&str]| {
        let (cluster, node) = name.split_once('-').unwrap();
        let spec = json!({"clusterName": cluster, "nodeName": node, "ip": ip, "interfaceName": "eth0",
            "podCIDRs": [block], "roles": roles});
        let object = typed("ClusterNode", json!({"metadata": {"name": name}, "spec": spec}));
        let mut object: ClusterNode = serde_json::from_value(object).unwrap();
        object.status = index.nodes.get(name).and_then(|node| node.status.clone());
        index.take(News::Put(Object::ClusterNode(Box::new(object))));
    };
    for (name, number) in [("a", 1), ("b", 2)] {
        let Object::Cluster(mut cluster) = cluster(name, number) else { panic!("a Cluster") };
        let options = json!({"networkType": "gateway"});
        cluster.spec.cluster_link_options = serde_json::from_value(options).unwrap();
        index.take(News::Put(Object::Cluster(cluster)));
    }
    put(&mut index, "a-n1", "192.168.1.1", "10.1.1.0/24", &["gateway"]);
    put(&mut index, "a-n2", "192.168.1.2", "10.1.2.0/24", &[]);
    put(&mut index, "b-n1", "192.168.2.1", "10.2.1.0/24", &["gateway"]);
    let mut index = settle(index);
    put(&mut index, "a-n2", "192.168.1.2", "10.1.2.0/24", &["gateway"]);
    let of = |write: &Write| match write.action {
        Action::Apply(_, wave) => Some((write.target.name.clone(), wave)),
        _ => None,
    };
    let told: Vec<(String, Wave)> = writes(&index).iter().filter_map(of).collect();
    let names = ["a-n2", "a-n1", "b-n1"].map(str::to_owned);
    let waves = [Wave::Receivers, Wave::Siblings, Wave::Others];
    assert_eq!(told, names.into_iter().zip(waves).collect::<Vec<_>>());
}
