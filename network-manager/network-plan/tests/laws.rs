//! What holds for every mesh.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use api::{Family, NodeConfigSpec};
use ipnetwork::IpNetwork;
use network_plan::{diff, plan, topology};
use proptest::prelude::*;
use support::{
    Configs, Input,
    mesh::{inside, mesh},
    model::{self, ClusterModel, NodeModel},
    walker::{Fate, World},
};

fn addresses(input: &Input) -> BTreeMap<String, api::Overlay> {
    let (topology, _) = topology(&input.snapshot());
    topology.nodes.iter().map(|node| (node.id.object_name(), node.overlay_status())).collect()
}

/// A node's addresses as a host in the mesh, and whether each is on the bridge plane.
fn host_addresses(overlay: &api::Overlay, bridge: bool, local: bool, family: Family) -> Vec<(IpAddr, bool)> {
    let [between, within] = match family {
        Family::V4 => [&overlay.bridge, &overlay.local],
        Family::V6 => [&overlay.bridge6, &overlay.local6],
    };
    let texts = [(between.as_ref().filter(|_| bridge), true), (within.as_ref().filter(|_| local), false)];
    texts.into_iter().filter_map(|(text, on_bridge)| Some((text?.parse().unwrap(), on_bridge))).collect()
}

/// An end of a conversation: an address, at a node, and the range by which others route to it (none: its host address).
struct End<'a> {
    node: &'a NodeModel,
    address: IpAddr,
    range: Option<IpNetwork>,
    /// An address on the bridge plane: others' tunnels end at its node itself.
    bridge: bool,
    service: bool,
}

/// Every pod, service and host of a cluster.
fn ends<'a>(cluster: &'a ClusterModel, overlays: &BTreeMap<String, api::Overlay>) -> Vec<End<'a>> {
    let mut ends = Vec::new();
    for node in &cluster.nodes {
        for block in &node.blocks {
            let declared = cluster.pods.iter().find(|net| net.contains(block.network())).copied().unwrap();
            let range = Some(if cluster.gateway { declared } else { *block });
            ends.push(End { node, address: inside(*block), range, bridge: false, service: false });
        }
        for family in Family::ALL.into_iter().filter(|family| cluster.families[*family as usize]) {
            let bridge = !cluster.gateway || node.gateway;
            let addresses = host_addresses(&overlays[&node.name], bridge, cluster.gateway, family);
            let host = |(address, bridge)| End { node, address, range: None, bridge, service: false };
            ends.extend(addresses.into_iter().map(host));
        }
    }
    let node = &cluster.nodes[0];
    let services = cluster.services.iter().filter(|net| cluster.families[model::family(**net) as usize]);
    ends.extend(services.map(|net| End {
        node,
        address: inside(*net),
        range: Some(*net),
        bridge: false,
        service: true,
    }));
    ends
}

/// Whether cluster `at` routes this address to the named cluster.
fn claims(clusters: &[ClusterModel], at: usize, name: &str, address: IpAddr) -> bool {
    let of = clusters.iter().position(|cluster| cluster.name == name).unwrap();
    let nets = clusters[of].nodes.iter().flat_map(|node| &node.blocks).chain(&clusters[of].own);
    nets.filter(|net| net.contains(address)).any(|net| model::routable(clusters, at, of, *net))
}

fn reach_is_as_modelled(input: &Input) -> Result<usize, TestCaseError> {
    let (configs, _) = input.plan();
    let (world, clusters, overlays) = (World::new(input, &configs), model::model(input), addresses(input));
    let all: Vec<Vec<End<'_>>> = clusters.iter().map(|cluster| ends(cluster, &overlays)).collect();
    let mut delivered = 0;
    for (at, from_cluster) in clusters.iter().enumerate() {
        for (of, to_cluster) in clusters.iter().enumerate().filter(|(of, _)| *of != at) {
            for from in all[at].iter().filter(|from| !from.service) {
                for to in &all[of] {
                    let family = Family::of(to.address);
                    if Family::of(from.address) != family || !from_cluster.families[family as usize] {
                        continue;
                    }
                    // Everything behind gateways is reached by any of them.
                    let by_itself = !to.service && (!to_cluster.gateway || to.bridge);
                    let target = by_itself.then_some(to.node);
                    let expected = model::linked(from_cluster, from.node, to_cluster, target)
                        && to.range.is_none_or(|net| model::routable(&clusters, at, of, net))
                        && from.range.is_none_or(|net| model::routable(&clusters, of, at, net));
                    let fates = world.walk(&from.node.name, from.address, to.address);
                    let what = format!(
                        "{} ({}) to {} ({}): {fates:?}",
                        from.node.name, from.address, to.node.name, to.address
                    );
                    for fate in &fates {
                        let arrives = match fate {
                            Fate::At { node, cluster } if *cluster == to_cluster.name => {
                                to.service || *node == to.node.name
                            }
                            Fate::Broken(_) => return Err(TestCaseError::fail(what)),
                            // The same address in a third cluster, where that is the one that this cluster routes.
                            Fate::At { cluster, .. }
                                if *cluster != from_cluster.name
                                    && !claims(&clusters, at, cluster, to.address) =>
                            {
                                return Err(TestCaseError::fail(what));
                            }
                            _ => false,
                        };
                        prop_assert_eq!(arrives, expected, "{}", what);
                    }
                    prop_assert!(!fates.is_empty(), "{}", what);
                    delivered += usize::from(expected);
                }
            }
        }
    }
    Ok(delivered)
}

fn every_gateway_has_its_entries(configs: &Configs) -> Result<(), TestCaseError> {
    for (name, spec) in configs {
        for route in spec.routes.iter().chain(&spec.inbound_routes) {
            for gateway in route.gateways() {
                let arp = spec.arps.iter().find(|arp| arp.ip == gateway && arp.dev == route.dev);
                prop_assert!(arp.is_some(), "{name}: no neighbour for {route:?}");
                let fdbs = spec.fdbs.iter().filter(|fdb| fdb.dev == route.dev && fdb.mac == arp.unwrap().mac);
                prop_assert_eq!(fdbs.count(), 1, "{}: {:?}", name, route);
            }
        }
        let cidrs: BTreeSet<&String> = spec.routes.iter().map(|route| &route.cidr).collect();
        prop_assert_eq!(cidrs.len(), spec.routes.len(), "{}: a CIDR is routed twice", name);
    }
    Ok(())
}

fn no_route_covers_an_endpoint(configs: &Configs) -> Result<(), TestCaseError> {
    for (name, spec) in configs {
        let routes = spec.routes.iter().chain(&spec.inbound_routes).map(|route| &route.cidr);
        for cidr in routes.chain(&spec.unreachable) {
            let net: IpNetwork = cidr.parse().unwrap();
            let covered = spec.fdbs.iter().find(|fdb| net.contains(fdb.ip.parse().unwrap()));
            prop_assert!(covered.is_none(), "{name}: {cidr} covers {covered:?}");
        }
    }
    Ok(())
}

fn shuffled(input: &Input, by: usize) -> Input {
    let mut other = input.clone();
    other.clusters.reverse();
    other.nodes.reverse();
    let turn = by % other.nodes.len().max(1);
    other.nodes.rotate_left(turn);
    other
}

/// 64 cases in `make test`; PROPTEST_CASES asks for more.
fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_pair_is_delivered_or_refused_as_the_model_says(input in mesh()) {
        reach_is_as_modelled(&input)?;
    }

    #[test]
    fn every_gateway_of_a_route_has_its_neighbour_and_one_fdb_entry(input in mesh()) {
        every_gateway_has_its_entries(&input.plan().0)?;
    }

    #[test]
    fn no_route_and_no_unreachable_covers_an_underlay_endpoint(input in mesh()) {
        no_route_covers_an_endpoint(&input.plan().0)?;
    }

    #[test]
    fn the_plan_does_not_depend_on_the_order_of_the_input(input in mesh(), by in 0usize..20) {
        let (configs, rejections) = input.plan();
        let (other_configs, other_rejections) = shuffled(&input, by).plan();
        prop_assert_eq!(&configs, &other_configs);
        prop_assert_eq!(rejections, other_rejections);
        prop_assert!(diff(&configs, &other_configs).is_empty());
    }

    #[test]
    fn a_plan_from_its_own_addresses_is_the_same_plan(input in mesh()) {
        prop_assert_eq!(input.plan(), input.clone().with_overlays().plan());
    }

    #[test]
    fn whoever_comes_or_goes_moves_nobody_else(input in mesh(), who in 0usize..20) {
        let before = addresses(&input);
        let mut fewer = input.clone().with_overlays();
        let gone = fewer.nodes.remove(who % fewer.nodes.len());
        for (name, overlay) in addresses(&fewer) {
            prop_assert_eq!(&overlay, &before[&name], "{} moved", name);
        }
        let mut arrival = gone.clone();
        arrival.status = None;
        fewer.nodes.insert(0, arrival);
        let after = addresses(&fewer);
        for (name, overlay) in after.iter().filter(|(name, _)| Some(*name) != gone.metadata.name.as_ref()) {
            prop_assert_eq!(overlay, &before[name], "{} moved", name);
        }
    }

    #[test]
    fn overlay_addresses_and_macs_belong_to_one_node(input in mesh()) {
        let (configs, _) = input.plan();
        let mut owners: BTreeMap<String, &String> = BTreeMap::new();
        let entries = |spec: &NodeConfigSpec| -> Vec<String> {
            let device = |d: &api::node_config::Device| [d.addr.clone(), format!("{} {}", d.name, d.mac)].into_iter().chain(d.extra_addrs.clone());
            spec.devices.iter().flat_map(device).collect()
        };
        for (name, spec) in &configs {
            for entry in entries(spec) {
                let other = owners.insert(entry.clone(), name);
                prop_assert!(other.is_none_or(|other| other == name), "{entry} is {name}'s and {other:?}'s");
            }
        }
    }
}

/// The model must not agree with the plan because nothing is ever expected.
#[test]
fn most_meshes_deliver_something() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let delivering = (0..32).filter(|_| {
        let input = mesh().new_tree(&mut runner).unwrap().current();
        reach_is_as_modelled(&input).unwrap() > 0
    });
    assert!(delivering.count() > 16);
}

/// A list of states, forwards, backwards, and with an empty mesh between: each plan depends on its state alone, and
/// every address stays where it was.
#[test]
fn states_in_any_order_give_the_same_plans() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let full = mesh().new_tree(&mut runner).unwrap().current().with_overlays();
    let states: Vec<Input> = (0..=full.nodes.len())
        .map(|count| Input { clusters: full.clusters.clone(), nodes: full.nodes[..count].to_vec() })
        .collect();
    let forwards: Vec<Configs> = states.iter().map(|state| state.plan().0).collect();
    let mut backwards: Vec<Configs> = states.iter().rev().map(|state| state.plan().0).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    for (state, configs) in states.iter().zip(&forwards) {
        let empty = Input::default();
        assert!(plan(&topology(&empty.snapshot()).0).is_empty());
        assert_eq!(state.plan().0, *configs);
        assert_eq!(addresses(state), addresses(&state.clone().with_overlays()));
    }
}
