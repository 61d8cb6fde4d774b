//! The example inputs of Kosmos: whatever a node reaches by Kosmos's NodeConfigs, it reaches by ours, and nothing breaks.
//! Held against the independent `walk.py` where Python and PyYAML are there, and against our own walker always.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use ipnetwork::IpNetwork;
use support::{
    Configs, Input, configs_from_yaml, read, to_yaml,
    walker::{Fate, World},
};

/// 010 maps global CIDRs, which is refused for now.
const NOT_YET: &str = "010-globalmap-gateway-overlap";

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.is_dir() && !path.ends_with(NOT_YET)).collect();
    cases.sort();
    assert!(cases.len() >= 8, "the cases are missing from {}", folder.display());
    cases
}

fn input(case: &Path) -> Input {
    let mut input = Input::from_yaml(&read(&case.join("clusters.yaml")));
    input.nodes = Input::from_yaml(&read(&case.join("clusternodes.yaml"))).nodes;
    input
}

#[test]
fn walk_py_finds_no_path_missing_and_none_broken() {
    let yaml = Command::new("python3").args(["-c", "import yaml"]).output();
    if !yaml.is_ok_and(|output| output.status.success()) {
        return skip::skip("python3 with PyYAML is missing");
    }
    for case in cases() {
        let (configs, _) = input(&case).plan();
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let ours = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.yaml"));
        std::fs::write(&ours, to_yaml(&configs)).unwrap();
        let walk = Command::new("python3")
            .arg(case.parent().unwrap().join("walk.py"))
            .arg("--against")
            .args(
                ["expected-nodeconfigs.yaml", "clusters.yaml", "clusternodes.yaml"]
                    .map(|file| case.join(file)),
            )
            .arg(&ours)
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&walk.stdout).into_owned() + &String::from_utf8_lossy(&walk.stderr);
        assert!(walk.status.success(), "{name}: {said}");
    }
}

/// (node, cluster reached, CIDR) for every CIDR that a golden route names.
fn reached(
    input: &Input,
    configs: &Configs,
    cidrs: &BTreeSet<IpNetwork>,
) -> (BTreeSet<(String, String, IpNetwork)>, Vec<Fate>) {
    let world = World::new(input, configs);
    let (mut reached, mut broken) = (BTreeSet::new(), Vec::new());
    // Nobody's pod: the pairs that our packet filter refuses are not what this is about.
    let nobody: IpAddr = "203.0.113.1".parse().unwrap();
    for node in configs.keys() {
        let own = input.nodes.iter().find(|n| n.metadata.name.as_ref() == Some(node)).unwrap();
        let own = own.spec.cluster_name.clone().unwrap();
        for cidr in cidrs {
            for fate in world.walk(node, nobody, cidr.ip()) {
                match fate {
                    Fate::At { cluster, .. } if cluster != own => {
                        reached.insert((node.clone(), cluster, *cidr));
                    }
                    Fate::Broken(_) => broken.push(fate),
                    _ => {}
                }
            }
        }
    }
    (reached, broken)
}

#[test]
fn our_walker_finds_no_path_missing_and_none_broken() {
    for case in cases() {
        let input = input(&case);
        let golden = configs_from_yaml(&read(&case.join("expected-nodeconfigs.yaml")));
        let cidrs: BTreeSet<IpNetwork> =
            golden.values().flat_map(|spec| &spec.routes).map(|route| route.cidr.parse().unwrap()).collect();
        let (want, _) = reached(&input, &golden, &cidrs);
        let (got, broken) = reached(&input, &input.plan().0, &cidrs);
        let missing: Vec<_> = want.difference(&got).collect();
        assert!(missing.is_empty() && broken.is_empty(), "{}: {missing:?} {broken:?}", case.display());
        assert!(
            !want.is_empty() || case.ends_with("028-vxlan-ip-collision"),
            "{}: nothing proven",
            case.display()
        );
    }
}

#[test]
fn addresses_are_those_of_kosmos_unless_two_nodes_collide() {
    for case in cases() {
        let golden = configs_from_yaml(&read(&case.join("expected-nodeconfigs.yaml")));
        let (configs, _) = input(&case).plan();
        let collides = case.ends_with("028-vxlan-ip-collision");
        let mut moved = 0;
        for (name, spec) in &golden {
            for device in &spec.devices {
                let ours = configs[name].devices.iter().find(|d| d.name == device.name).unwrap();
                let host = |text: &str| text.parse::<IpNetwork>().unwrap().ip();
                moved += usize::from(host(&ours.addr) != host(&device.addr));
            }
        }
        // Both nodes of that case would get 220.1.2.3 and 210.1.2.3: one keeps them, the other one moves.
        assert_eq!(moved, if collides { 2 } else { 0 }, "{}", case.display());
    }
}
