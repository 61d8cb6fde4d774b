//! What holds for any objects: order does not matter, and no garbage costs another object's fact.

mod support;

use std::collections::BTreeSet;

use cni_adapters::{Observed, cidr, watches};
use proptest::prelude::*;
use serde_json::Value;
use support::{documents, facts, matches, observed};

const FILES: [(&str, &str); 6] = [
    ("calico-v3.26-manifest.yaml", "calico"),
    ("calico-v3.28-operator.yaml", "auto"),
    ("cilium-v1.14-cluster-pool.yaml", "cilium"),
    ("cilium-v1.16-multi-pool.yaml", "auto"),
    ("flannel-v0.26-dual-stack.yaml", "flannel"),
    ("node-kind.yaml", "auto"),
];

fn garbage() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::String),
        Just(Value::String("10.0.0.0/99".to_owned())),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The same objects, put and removed one by one in some order, with strangers that come and go.
fn one_by_one(objects: &[Value]) -> Observed {
    let mut seen = Observed::default();
    for watch in watches() {
        seen.list(watch, []);
        for object in objects.iter().filter(|object| matches(&watch, object)) {
            let mut stranger = object.clone();
            stranger["metadata"]["name"] = "stranger".into();
            seen.put(watch, stranger.clone());
            seen.put(watch, object.clone());
            seen.remove(watch, &stranger);
        }
    }
    seen
}

proptest! {
    #[test]
    fn facts_do_not_depend_on_order(file in 0..FILES.len(), seed in any::<u64>()) {
        let (file, cni) = FILES[file];
        let objects = documents(file);
        let mut shuffled = objects.clone();
        for index in (1..shuffled.len()).rev() {
            let other = usize::try_from(seed.rotate_left(index as u32) % (index as u64 + 1)).unwrap();
            shuffled.swap(index, other);
        }
        let expected = facts(cni, &observed(&objects));
        prop_assert_eq!(&facts(cni, &observed(&shuffled)), &expected);
        prop_assert_eq!(&facts(cni, &one_by_one(&shuffled)), &expected);
    }

    #[test]
    fn garbage_costs_no_other_fact(file in 0..FILES.len(), at in any::<prop::sample::Index>(), spec in garbage()) {
        let (file, cni) = FILES[file];
        let objects = documents(file);
        let victim = at.index(objects.len());
        prop_assume!(!["ConfigMap", "Installation"].contains(&objects[victim]["kind"].as_str().unwrap()));
        let mut without = objects.clone();
        without.remove(victim);
        let mut broken = objects.clone();
        broken[victim]["spec"] = spec;
        let (without, broken) =
            (facts(cni, &observed(&without)), facts(cni, &observed(&broken)));
        for cidr in &without.pod_cidrs {
            let whole = broken.pod_cidrs.iter().any(|other| other.contains(cidr.ip()) && other.prefix() <= cidr.prefix());
            prop_assert!(whole, "{cidr} was lost");
        }
        for (node, cidrs) in &without.per_node {
            prop_assert_eq!(broken.per_node.get(node), Some(cidrs));
        }
    }

    #[test]
    fn aggregation_keeps_every_address_and_adds_none(
        networks in prop::collection::vec((any::<u16>(), 8u8..=32), 0..24),
        probes in prop::collection::vec(any::<u32>(), 16),
    ) {
        let networks: BTreeSet<_> = networks
            .into_iter()
            .map(|(bits, length)| cidr::parse(&format!("10.{}.{}.0/{length}", bits >> 8, bits & 255)).unwrap())
            .collect();
        let merged = cidr::aggregate(networks.iter().copied());
        prop_assert_eq!(cidr::aggregate(merged.iter().copied()), merged.clone());
        prop_assert!(merged.is_sorted());
        let addresses = probes.into_iter().map(|bits| std::net::IpAddr::from((0x0a00_0000 | bits >> 8).to_be_bytes()));
        for address in addresses.chain(networks.iter().map(|network| network.ip())) {
            let before = networks.iter().any(|network| network.contains(address));
            prop_assert_eq!(before, merged.iter().any(|network| network.contains(address)));
        }
    }
}
