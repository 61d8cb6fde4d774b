//! A sandbox leaves nothing, whatever ends it, and knows nothing of its neighbours.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::Command;

use e2e::{eventually, joined, scenario, sh, unique, unjoined};
use sandbox::matrix::MatrixOptions;
use sandbox::scenario::Firewall;
use sandbox::{Sandbox, UpOptions};

/// The host's own network: links, addresses, routes, rules, filters, and the switches that a careless program turns.
fn host() -> Vec<String> {
    let run = |argv: &[&str]| {
        let output = Command::new(argv[0])
            .args(&argv[1..])
            .output()
            .unwrap_or_else(|error| panic!("{argv:?}: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut state = vec![
        run(&["ip", "-o", "link"]),
        // Without what ages and what counts: a host has addresses for a time, and packets of its own.
        run(&["ip", "-o", "address"]).lines().filter_map(|line| line.split("valid_lft").next()).collect(),
        run(&["ip", "route", "show", "table", "all"]),
        run(&["ip", "rule"]),
        run(&["nft", "-s", "list", "ruleset"]),
    ];
    for switch in [
        "ipv4/ip_forward",
        "ipv4/conf/all/rp_filter",
        "ipv6/conf/all/forwarding",
        "ipv4/conf/default/rp_filter",
    ] {
        state.push(fs::read_to_string(format!("/proc/sys/net/{switch}")).unwrap_or_default());
    }
    state
}

/// Processes whose command line names this sandbox.
fn processes_of(name: &str) -> Vec<String> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines = processes.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(name)).collect()
}

#[test]
fn the_host_is_as_it_was_during_and_after() {
    let before = host();
    let Some(sandbox) = joined("host", &scenario(Firewall::Iptables, &["a:gateway:2:1", "c:p2p:1"])) else {
        return;
    };
    assert_eq!(before, host());
    let directory = sandbox.state().path().to_owned();
    assert!(directory.exists());
    sandbox.down().unwrap();
    assert_eq!(before, host());
    assert!(!directory.exists(), "{} is left", directory.display());
}

#[test]
fn a_killed_supervisor_takes_everything_with_it() {
    let scenario = scenario(Firewall::Nft, &["a:p2p:1", "b:p2p:1"]);
    let Some(sandbox) = joined("killed", &scenario) else { return };
    let name = sandbox.state().name().to_owned();
    assert!(!processes_of(&name).is_empty());
    let outer = sandbox.state().pids().unwrap().outer;
    assert!(Command::new("kill").args(["-9", &outer.to_string()]).status().unwrap().success());
    eventually(|| match processes_of(&name) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("left behind: {left:?}")),
    });
    drop(sandbox);
    // Its name is free again, and what it left in its directory does not matter.
    let again =
        Sandbox::up(&scenario, &UpOptions { without_components: true, ..UpOptions::named(name) }, |_| {});
    again.unwrap().down().unwrap();
}

#[test]
fn two_of_the_same_stand_side_by_side() {
    let scenario = scenario(Firewall::Iptables, &["a:p2p:1", "b:p2p:1"]);
    let (Some(one), Some(other)) = (joined("side-one", &scenario), joined("side-other", &scenario)) else {
        return;
    };
    for sandbox in [&one, &other] {
        let matrix = sandbox.matrix(&MatrixOptions::default()).unwrap();
        assert!(matrix.all_ok(), "{}", matrix.failures());
    }
    one.down().unwrap();
    let matrix = other.matrix(&MatrixOptions::default()).unwrap();
    assert!(matrix.all_ok(), "the end of one was felt in the other: {}", matrix.failures());
}

#[test]
fn a_name_is_taken_once() {
    let scenario = scenario(Firewall::Nft, &["a:p2p:1"]);
    let Some(sandbox) = unjoined("taken", &scenario) else { return };
    let options = UpOptions { without_components: true, ..UpOptions::named(unique("taken")) };
    let refused = Sandbox::up(&scenario, &options, |_| {}).unwrap_err().to_string();
    assert!(refused.contains(&unique("taken")), "{refused}");
    assert_eq!(sh(&sandbox, "a1", "echo alive"), "alive\n");
}
