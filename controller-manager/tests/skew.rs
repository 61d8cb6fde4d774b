//! Components of another version: what they say in words that are not understood here is ignored, and where that is not
//! possible it is said, and nothing is torn down.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use controller_manager::{
    build::build,
    diff::{Action, Change, diff},
    index::{Index, Kind, News, Side, Source},
};
use jiff::Timestamp;
use serde_json::{Value, json};

fn object(kind: Kind, name: &str, parts: Value) -> Value {
    let mut object = json!({"apiVersion": "kosmos.io/v1alpha1", "kind": format!("{kind:?}"),
        "metadata": {"name": name, "uid": name, "generation": 1, "labels": {"kosmos.io/cluster": "east"}}});
    object.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    object
}

fn node_config(name: &str, spec: Value, status: Value) -> Value {
    object(Kind::NodeConfig, name, json!({"spec": spec, "status": status}))
}

/// A member with one Node, its Cluster, and these NodeConfigs above and below.
fn index(above: Vec<Value>, below: Vec<Value>) -> Index {
    let mut index = Index::new("east", false);
    for source in index.sources() {
        let listed = match source {
            Source::Resource(_, Kind::Cluster) => {
                vec![object(Kind::Cluster, "east", json!({"spec": {"clusterLinkOptions": {}}}))]
            }
            Source::Resource(Side::Control, Kind::NodeConfig) => above.clone(),
            Source::Resource(Side::Member, Kind::NodeConfig) => below.clone(),
            Source::Objects(watch) if watch == cni_adapters::NODES => {
                vec![json!({"metadata": {"name": "n1"}, "spec": {"podCIDRs": ["10.244.0.0/24"]}})]
            }
            _ => Vec::new(),
        };
        index.take(source, News::Listed(listed));
    }
    index
}

fn changes(index: &Index) -> Vec<Change> {
    diff(index, &build(index, Timestamp::UNIX_EPOCH))
}

fn of(changes: &[Change], side: Side, kind: Kind) -> BTreeSet<String> {
    let of = changes.iter().filter(|change| (change.target.side, change.target.kind) == (side, kind));
    of.map(|change| change.target.name.clone()).collect()
}

fn deletes(changes: &[Change]) -> usize {
    changes.iter().filter(|change| matches!(change.action, Action::Delete(_))).count()
}

#[test]
fn fields_that_are_not_known_are_ignored_on_the_way_down_and_up() {
    let newer = json!({"unreachable": ["10.80.0.0/16"], "fromTomorrow": {"deep": [1]}});
    let says = json!({"observedGeneration": 1, "conditions": [], "fromTomorrow": 7});
    let index = index(vec![node_config("east-n1", newer.clone(), json!({}))], Vec::new());
    let changes = changes(&index);
    let mirrored = changes.iter().find(|change| change.target.kind == Kind::NodeConfig).unwrap();
    let Action::Apply(body) = &mirrored.action else { panic!("{mirrored:?}") };
    assert_eq!(body["spec"], json!({"unreachable": ["10.80.0.0/16"]}));
    // An agent of another version reports on it.
    let index = self::index(
        vec![node_config("east-n1", newer, json!({}))],
        vec![node_config("east-n1", json!({"unreachable": ["10.80.0.0/16"]}), says)],
    );
    let changes = self::changes(&index);
    assert_eq!(of(&changes, Side::Member, Kind::NodeConfig), BTreeSet::new(), "nothing is written for ever");
    assert_eq!(of(&changes, Side::Control, Kind::NodeConfig), BTreeSet::from(["east-n1".to_owned()]));
}

#[test]
fn a_plan_that_is_not_understood_leaves_the_one_before_and_is_spoken_of() {
    let old = node_config("east-n1", json!({"unreachable": ["10.80.0.0/16"]}), json!({}));
    let newer = node_config("east-n1", json!({"unreachable": {"by": "another shape"}}), json!({}));
    let other = node_config("east-n2", json!({"unreachable": ["10.81.0.0/16"]}), json!({}));
    let index = index(vec![newer, other], vec![old]);
    let changes = changes(&index);
    assert_eq!(deletes(&changes), 0);
    assert_eq!(of(&changes, Side::Member, Kind::NodeConfig), BTreeSet::from(["east-n2".to_owned()]));
    let told =
        changes.iter().find(|change| change.target.kind == Kind::Cluster && change.target.status).unwrap();
    let published = told.notices.iter().find(|condition| condition.type_ == "Published").unwrap();
    assert_eq!((published.status.as_str(), published.reason.as_str()), ("False", "Unreadable"));
    assert!(
        published.message.starts_with("NodeConfig east-n1 of the control cluster does not fit its type: "),
        "{}",
        published.message
    );
}

#[test]
fn a_cluster_whose_options_are_not_understood_is_left_as_it_is() {
    let config = node_config("east-n1", json!({"unreachable": ["10.80.0.0/16"]}), json!({}));
    let mut index = index(vec![config.clone()], vec![config]);
    let options = json!({"spec": {"clusterLinkOptions": {"networkType": "quantum"}}});
    let source = Source::Resource(Side::Control, Kind::Cluster);
    index.take(source, News::Put(object(Kind::Cluster, "east", options)));
    assert_eq!(changes(&index), Vec::new());
}
