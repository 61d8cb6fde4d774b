//! The world without ClusterLink, on a real kernel: what a cluster's own traffic and its traffic to the outside do
//! while FORWARD drops by policy and reverse paths are filtered strictly. Runs in namespaces of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::Family;
use netperf::reach::{Protocol, ReachOptions, ReachReport, Target};
use netperf::serve::{ServeOptions, Server};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sandbox::addressing::{ClusterLayout, Layout, NodeLayout, OUTSIDE, outside_link};
use sandbox::scenario::{Firewall, Scenario};
use sandbox::world::{Namespaces, build, spaces};

/// Runs the test on a thread with a root namespace and a `/run` of its own, or says why it cannot.
fn in_own_world(scenario: &Scenario, test: impl FnOnce(&Layout, &Namespaces) + Send) {
    let layout = scenario.layout().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET) {
                return skip::skip(format!("no mount and network namespace without privilege: {error}"));
            }
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let directory = tempfile::tempdir().unwrap();
            mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
            let namespaces = build(&spaces(&layout), directory.path()).unwrap();
            serve_everywhere(&layout, &namespaces);
            test(&layout, &namespaces);
            nix::mount::umount2(directory.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
        });
    });
}

fn serve_everywhere(layout: &Layout, namespaces: &Namespaces) {
    let pods = layout.nodes().flat_map(|(_, node)| node.pods.iter().map(|pod| pod.place.clone()));
    let nodes = layout.nodes().map(|(_, node)| node.place.clone());
    for place in pods.chain(nodes).chain([OUTSIDE.to_owned()]) {
        let serve = || Server::bind(&ServeOptions::new(place.as_str())).unwrap().start().unwrap();
        namespaces.get(&place).unwrap().run(serve).unwrap();
    }
}

fn reach(namespaces: &Namespaces, from: &str, targets: Vec<Target>) -> ReachReport {
    namespaces.get(from).unwrap().run(|| netperf::reach::run(&ReachOptions::new(targets))).unwrap()
}

fn assert_reached(namespaces: &Namespaces, from: &str, targets: Vec<Target>) {
    let report = reach(namespaces, from, targets);
    assert!(report.all_ok(), "from {from}:\n{report}");
}

fn of_family(addresses: &[IpAddr], family: Family) -> impl Iterator<Item = IpAddr> {
    addresses.iter().copied().filter(move |&address| Family::of(address) == family)
}

/// Every pod of the cluster, which must see the caller's own address.
fn pods(cluster: &ClusterLayout, seen_as: &[IpAddr]) -> Vec<Target> {
    let pods = cluster.nodes.iter().flat_map(|node| &node.pods);
    pods.flat_map(|pod| {
        pod.addresses.iter().map(|&address| {
            let seen = of_family(seen_as, Family::of(address));
            Target::new(&pod.place, address).seen_as(seen)
        })
    })
    .collect()
}

fn services(cluster: &ClusterLayout) -> Vec<Target> {
    let one = |service: &sandbox::addressing::ServiceLayout, address| {
        Target::new(&service.name, address)
            .answered_by([service.backend.place.clone()])
            .only([Protocol::Tcp, Protocol::Udp])
    };
    cluster.services.iter().flat_map(|service| service.addresses.iter().map(|&ip| one(service, ip))).collect()
}

/// The outside, which must see the node's address.
fn outside(node: &NodeLayout) -> Vec<Target> {
    node.underlay
        .iter()
        .map(|&own| Target::new(OUTSIDE, outside_link(Family::of(own))[1]).seen_as([own]))
        .collect()
}

fn ordinary_traffic_works(scenario: &Scenario) {
    in_own_world(scenario, |layout, namespaces| {
        for (cluster, node) in layout.nodes() {
            for pod in &node.pods {
                assert_reached(namespaces, &pod.place, pods(cluster, &pod.addresses));
                assert_reached(namespaces, &pod.place, services(cluster));
                assert_reached(namespaces, &pod.place, outside(node));
            }
            assert_reached(namespaces, &node.place, pods(cluster, &[]));
            assert_reached(namespaces, &node.place, services(cluster));
            assert_reached(namespaces, &node.place, outside(node));
        }
    });
}

fn scenario(firewall: Firewall) -> Scenario {
    let clusters = ["a:gateway:3:2", "c:p2p:2"].map(|text| text.parse().unwrap()).to_vec();
    Scenario { clusters, firewall, pods_per_node: 2, ..Scenario::default() }
}

#[test]
fn ordinary_traffic_works_beside_iptables() {
    ordinary_traffic_works(&scenario(Firewall::Iptables));
}

#[test]
fn ordinary_traffic_works_beside_nft() {
    ordinary_traffic_works(&scenario(Firewall::Nft));
}

#[test]
fn one_family_is_enough() {
    for family in Family::ALL {
        ordinary_traffic_works(&Scenario { families: vec![family], ..scenario(Firewall::Iptables) });
    }
}

#[test]
fn pods_speak_a_family_that_the_underlay_lacks() {
    let mut scenario = scenario(Firewall::Nft);
    scenario.clusters[0].underlay = Some(vec![Family::V4]);
    scenario.clusters[1].underlay = Some(vec![Family::V6]);
    in_own_world(&scenario, |layout, namespaces| {
        for (cluster, node) in layout.nodes() {
            assert_reached(namespaces, &node.pods[0].place, pods(cluster, &node.pods[0].addresses));
            assert_reached(namespaces, &node.pods[0].place, services(cluster));
        }
    });
}

#[test]
fn clusters_do_not_reach_each_other_without_an_overlay() {
    in_own_world(&scenario(Firewall::Iptables), |layout, namespaces| {
        let targets = [pods(&layout.clusters[1], &[]), services(&layout.clusters[1])].concat();
        let mut options = ReachOptions::new(targets);
        options.timeout = std::time::Duration::from_millis(200);
        options.retries = 0;
        let report = namespaces.get("a1-pod1").unwrap().run(|| netperf::reach::run(&options)).unwrap();
        assert_eq!(report.failed().count(), report.cells.len(), "{report}");
    });
}

#[test]
fn the_forward_policy_drops_in_the_flavour_that_was_asked_for() {
    for (firewall, program, words) in [
        (Firewall::Iptables, "iptables-save", ":FORWARD DROP"),
        (Firewall::Nft, "nft list chain inet firewall forward", "policy drop"),
    ] {
        in_own_world(&scenario(firewall), |_, namespaces| {
            let argv: Vec<&str> = program.split(' ').collect();
            let output = namespaces
                .get("a1")
                .unwrap()
                .run(|| std::process::Command::new(argv[0]).args(&argv[1..]).output().unwrap())
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains(words), "{text}");
        });
    }
}

#[test]
fn a_place_twice_is_refused_by_name() {
    in_own_world(&scenario(Firewall::Iptables), |layout, _| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a2"), "").unwrap();
        let message = build(&spaces(layout), directory.path()).unwrap_err().to_string();
        assert!(message.contains("a2") && message.contains("File exists"), "{message}");
    });
}

#[test]
fn both_families_of_every_pod_are_tried() {
    let layout = scenario(Firewall::Iptables).layout().unwrap();
    let targets = pods(&layout.clusters[0], &[]);
    let families: BTreeSet<Family> = targets.iter().map(|target| Family::of(target.address.ip())).collect();
    assert_eq!((targets.len(), families.len()), (3 * 2 * 2, 2));
}
