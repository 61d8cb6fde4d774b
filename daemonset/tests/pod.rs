//! The agent's container on a real kernel: with the capabilities and mounts of the DaemonSet the agent's work succeeds,
//! without any one of them it does not.
//!
//! Each case is a new network and mount namespace, prepared by root, in which the example `one_pass` runs with the
//! capabilities of the case.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; what is skipped is said")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use manifests::{MEMBER, objects};
use serde_json::Value;

/// A host with an underlay and a chain of iptables-legacy that drops, as the container sees it: `/proc/sys` cannot be
/// written, what is mounted from `/proc/sys/net` can.
const HOST: &str = r#"set -e
mount --make-rprivate /
ip link set lo up
ip link add eth0 type veth peer name other
ip address add 172.31.3.101/16 dev eth0
ip link set eth0 up
ip link set other up
iptables-legacy -w -P FORWARD DROP
mount --bind /proc/sys/net "$1"
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
shift
exec "$@"
"#;

fn container() -> Value {
    let agent = objects(MEMBER).unwrap().into_iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    agent["spec"]["template"]["spec"]["containers"][0].clone()
}

/// What the DaemonSet adds to nothing.
fn capabilities() -> Vec<String> {
    let add = container()["securityContext"]["capabilities"]["add"].clone();
    add.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_lowercase()).collect()
}

/// cargo builds examples with the tests, but not for `--test pod` alone.
fn one_pass() -> PathBuf {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let program = deps.parent().unwrap().join("examples/one_pass");
    assert!(program.is_file(), "{}: cargo build -p manifests --examples", program.display());
    program
}

/// Runs one pass with these capabilities and these settings; `None`: it was said why that cannot be done here.
fn run(capabilities: &[String], settings: Option<&str>) -> Option<Output> {
    let directory = tempfile::tempdir().unwrap();
    let mounted = directory.path().join("net");
    fs::create_dir(&mounted).unwrap();
    let bounding: Vec<String> = capabilities.iter().map(|name| format!("+{name}")).collect();
    let output = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", HOST, "sh"])
        .arg(&mounted)
        .args(["setpriv", "--inh-caps=-all", "--no-new-privs"])
        .arg(format!("--bounding-set=-all,{}", bounding.join(",")))
        .arg(one_pass())
        .arg(settings.map_or(mounted.as_path(), Path::new))
        .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    if String::from_utf8_lossy(&output.stdout).contains("began") {
        return Some(output);
    }
    println!("skipped: no such namespace here: {}", String::from_utf8_lossy(&output.stderr));
    assert!(std::env::var_os("CI").is_none(), "skipped in CI");
    None
}

/// What is not as it should be, after the work of an agent.
fn differences(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("desired: "), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| line.strip_prefix("differs: ")).map(str::to_owned).collect()
}

#[test]
fn the_capabilities_and_the_mount_of_the_daemonset_are_enough() {
    let Some(output) = run(&capabilities(), None) else { return };
    assert_eq!(differences(&output), Vec::<String>::new());
}

#[test]
fn each_capability_is_needed() {
    for without in capabilities() {
        let others: Vec<String> = capabilities().into_iter().filter(|name| *name != without).collect();
        let Some(output) = run(&others, None) else { return };
        assert_ne!(differences(&output), Vec::<String>::new(), "nothing is missing without {without}");
    }
}

#[test]
fn the_mount_is_needed() {
    let Some(output) = run(&capabilities(), Some("/proc/sys/net")) else { return };
    let missing = differences(&output);
    assert!(
        missing.iter().all(|difference| difference.contains("sysctl")) && !missing.is_empty(),
        "{missing:?}"
    );
}
