//! How a control plane ends: by its owner's will, by its owner's death, by a flag that it does not know.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kubernetes::{Binaries, ControlPlane, Options, Part};

/// Set in the process that plays the owner.
const OWNER: &str = "KUBERNETES_TEST_OWNER";

fn alive(pid: u32) -> bool {
    // A zombie that nobody has waited for is dead.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn nothing_is_left_of_a_control_plane_that_is_dropped() {
    let Some(binaries) = Binaries::find_or_skip() else { return };
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("plane");
    let options = Options { directory: Some(directory.clone()), ..Options::named("dropped", binaries) };
    let plane = ControlPlane::start(&options).unwrap();
    let pids = [Part::Etcd, Part::ApiServer].map(|part| plane.pid(part).unwrap());
    let again = ControlPlane::start(&options).unwrap_err();
    assert!(again.to_string().contains("plane"), "a directory that is there is not ours: {again}");
    assert!(pids.iter().all(|&pid| alive(pid)) && directory.is_dir());
    drop(plane);
    assert!(!pids.iter().any(|&pid| alive(pid)) && !directory.exists());
}

#[test]
fn nothing_is_left_of_an_owner_that_is_killed() {
    if Binaries::find_or_skip().is_none() {
        return;
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["the_owner", "--exact", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("started ")?.to_owned()));
    let line = line.expect("the owner says what it started");
    let (directory, pids) = line.split_once(' ').unwrap();
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|&pid| alive(pid)) && Path::new(directory).is_dir());
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("the processes die", || !pids.iter().any(|&pid| alive(pid)));
    until("the directory is removed", || !PathBuf::from(directory).exists());
}

/// Not a test by itself: what the one above runs in a process of its own.
#[test]
fn the_owner() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    // A thread that ends must not take the processes with it.
    let start = || ControlPlane::start(&Options::named("killed", Binaries::find().unwrap())).unwrap();
    let plane = std::thread::spawn(start).join().unwrap();
    let pids = [Part::Etcd, Part::ApiServer].map(|part| plane.pid(part).unwrap());
    assert!(pids.iter().all(|&pid| alive(pid)));
    println!("\nstarted {} {} {}", plane.directory().display(), pids[0], pids[1]);
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn a_program_that_ends_at_once_says_why() {
    let Some(binaries) = Binaries::find_or_skip() else { return };
    let mut options = Options::named("wrong", binaries);
    options.api_server_flags = vec!["--no-such-flag".to_owned()];
    let error = ControlPlane::start(&options).unwrap_err().to_string();
    assert!(error.contains("kube-apiserver exited") && error.contains("no-such-flag"), "{error}");
}
