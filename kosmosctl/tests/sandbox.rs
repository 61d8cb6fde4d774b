//! The sandbox as a person uses it: built, entered, killed and removed, by the program itself.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sandbox::scenario::Scenario;
use sandbox::state::{Phase, StateDir};
use sandbox::{Sandbox, UpOptions};

/// Far beyond what a sandbox needs to come or to go, also on a loaded machine; a test fails then, and asserts no time.
const PATIENCE: Duration = Duration::from_secs(120);

fn kosmosctl() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_kosmosctl"))
}

/// A small world without components, or why there is none here.
fn small(name: &str, detached: bool) -> Option<Sandbox> {
    if !kosmosctl().with_file_name("clusterlink-netperf").is_file() {
        return skipped("clusterlink-netperf is not built beside kosmosctl");
    }
    let clusters = ["a:gateway:2:1", "c:p2p:1"].map(|text| text.parse().unwrap()).to_vec();
    let scenario = Scenario { clusters, ..Scenario::default() };
    let name = format!("{name}-{}", std::process::id());
    let options = UpOptions {
        without_components: true,
        detached,
        kosmosctl: Some(kosmosctl()),
        ..UpOptions::named(name)
    };
    match Sandbox::up(&scenario, &options, |_| {}) {
        Ok(sandbox) => Some(sandbox),
        Err(error) if error.to_string().contains("cannot create") => skipped(&error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

fn skipped(why: &str) -> Option<Sandbox> {
    skip::skip(why);
    None
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the host's own network is made of.
fn host_network() -> String {
    ["link", "route", "rule"]
        .map(|what| text(&Command::new("ip").args(["-o", what, "show"]).output().unwrap()))
        .concat()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_place_is_entered_with_its_network_and_the_exit_status_comes_back() {
    let Some(sandbox) = small("enter", false) else { return };
    let output = sandbox.exec("a/node1", ["ip", "-o", "-4", "address", "show", "cni0"]).unwrap();
    assert!(text(&output).contains("10.1.1.1/24"), "{output:?}");
    let output = sandbox.exec("root", ["sh", "-c", "exit 7"]).unwrap();
    assert_eq!(output.status.code(), Some(7));
    let output = sandbox.exec("a9", ["true"]).unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("no place \"a9\""), "{message}");
}

#[test]
fn several_stand_side_by_side_and_the_host_is_left_alone() {
    let before = host_network();
    let (Some(one), Some(other)) = (small("one", false), small("other", false)) else { return };
    assert_eq!(before, host_network());
    let id = |sandbox: &Sandbox| text(&sandbox.exec("a1", ["readlink", "/proc/self/ns/net"]).unwrap());
    assert_ne!(id(&one), id(&other));
    one.down().unwrap();
    assert!(other.exec("a1-pod1", ["true"]).unwrap().status.success());
    other.down().unwrap();
    assert_eq!(before, host_network());
}

#[test]
fn kubeconfigs_reach_the_api_from_the_host_and_are_private() {
    use std::os::unix::fs::MetadataExt;
    let Some(sandbox) = small("kubeconfig", false) else { return };
    for cluster in ["control", "a", "c"] {
        let path = sandbox.kubeconfig(cluster);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }
    // Asks the control cluster through its kubeconfig.
    assert_eq!(sandbox.node_configs().unwrap().len(), 0);
}

#[test]
fn a_detached_one_survives_its_maker_and_down_leaves_nothing() {
    let Some(sandbox) = small("detached", true) else { return };
    let (name, path) = (sandbox.state().name().to_owned(), sandbox.state().path().to_owned());
    drop(sandbox);
    let status = |command: &str| {
        Command::new(kosmosctl())
            .args(["sandbox", command, "--name", &name])
            .stdout(Stdio::null())
            .status()
            .unwrap()
    };
    assert!(status("status").success());
    assert!(status("down").success());
    assert!(!path.exists());
    assert!(!status("status").success());
    assert!(status("down").success(), "what is down already is down");
}

#[test]
fn an_owned_one_goes_with_its_owner() {
    let Some(sandbox) = small("owned", false) else { return };
    let path = sandbox.state().path().to_owned();
    drop(sandbox);
    assert!(!path.exists());
}

#[test]
fn an_owner_that_is_killed_leaves_nothing_either() {
    if small("before-owner", false).is_none() {
        return;
    }
    let name = format!("owner-{}", std::process::id());
    let state = StateDir::of(&name).unwrap();
    let mut owner = Command::new(kosmosctl())
        .args([
            "sandbox",
            "up",
            "--foreground",
            "--without-components",
            "--clusters",
            "a:p2p:1",
            "--name",
            &name,
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it comes up", || state.status().is_ok_and(|status| status.phase == Phase::Ready));
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("nothing is left behind", || !state.path().exists());
}

#[test]
fn killing_either_half_of_the_supervisor_ends_everything() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    for inner in [false, true] {
        let Some(sandbox) = small("killed", true) else { return };
        let state = sandbox.state().clone();
        let pids = state.pids().unwrap();
        let namespace = format!("/proc/{}/ns/net", pids.inner);
        kill(Pid::from_raw(if inner { pids.inner } else { pids.outer }), Signal::SIGKILL).unwrap();
        eventually("nobody holds it", || !state.is_up().unwrap());
        // A process gives its lock back before it leaves its namespaces.
        eventually("its network is gone", || !Path::new(&namespace).exists());
        assert!(sandbox.exec("a1", ["true"]).is_ok_and(|output| !output.status.success()));
        // The next one of the name finds nothing in its way.
        let again = small("killed", false).unwrap();
        assert!(again.exec("a1", ["true"]).unwrap().status.success());
    }
}

#[test]
fn a_name_is_used_once() {
    let Some(sandbox) = small("twice", false) else { return };
    let options = UpOptions { kosmosctl: Some(kosmosctl()), ..UpOptions::named(sandbox.state().name()) };
    let message = Sandbox::up(&Scenario::default(), &options, |_| {}).unwrap_err().to_string();
    assert!(message.contains("is up already"), "{message}");
    assert!(sandbox.exec("a1", ["true"]).unwrap().status.success());
}

#[test]
fn a_wrong_scenario_is_refused_before_anything_is_built() {
    let run = |args: &[&str]| {
        Command::new(kosmosctl()).args(["sandbox", "up", "--name", "wrong"]).args(args).output().unwrap()
    };
    for (args, words) in [
        (["--clusters", "a:gateway:0"], "clusters[a].nodes: \"0\""),
        (["--pod-cidr", "a=10.1.2.3/16"], "write 10.1.0.0/16"),
        (["--scenario", "/nowhere.yaml"], "/nowhere.yaml"),
    ] {
        let output = run(&args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(words), "{message}");
    }
}
