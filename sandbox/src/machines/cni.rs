//! Calls CNI plugins as a container runtime does (CNI specification 1.0.0): parameters in the environment, configuration on
//! standard input, a result on standard output.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ipnetwork::IpNetwork;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::MachineError;
use super::machine::{Machine, Wiring};
use crate::world::UPLINK;

/// Where distributions put the reference plugins.
const DIRECTORIES: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
/// Pods of the control cluster.
pub(super) const CONTROL_PODS: &str = "10.255.0.0/24";

/// A pod that is to be wired.
pub(super) struct Request<'a> {
    pub(super) id: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// The path of its network namespace.
    pub(super) netns: &'a Path,
}

/// The first plugin that is needed and is not there.
pub(super) fn missing_plugin() -> Option<&'static str> {
    let directories = plugin_directories();
    let there = |plugin: &str| directories.iter().any(|directory| directory.join(plugin).is_file());
    ["bridge", "host-local", "loopback", "ptp"].into_iter().find(|plugin| !there(plugin))
}

/// Where plugins are looked for.
pub(super) fn plugin_directories() -> Vec<PathBuf> {
    DIRECTORIES.map(PathBuf::from).to_vec()
}

/// Wires a pod; returns its addresses.
pub(super) fn add(machine: &Machine, request: &Request<'_>) -> Result<Vec<IpAddr>, MachineError> {
    call(machine, request, "ADD", "lo", &json!({"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}))?;
    let result = call(machine, request, "ADD", UPLINK, &configuration(machine)?)?;
    let ips = result["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
    let address = |ip: &Value| ip["address"].as_str()?.parse::<IpNetwork>().ok();
    Ok(ips.iter().filter_map(address).map(|network| network.ip()).collect())
}

/// Takes a pod's interface away, and gives its addresses back.
pub(super) fn delete(machine: &Machine, request: &Request<'_>) -> Result<(), MachineError> {
    call(machine, request, "DEL", UPLINK, &configuration(machine)?).map(drop)
}

fn configuration(machine: &Machine) -> Result<Value, MachineError> {
    match machine.wiring {
        Wiring::Flannel => {
            let file = machine.subnet_file();
            let text = std::fs::read_to_string(&file).map_err(MachineError::file(&file))?;
            Ok(bridge(&text))
        }
        Wiring::PointToPoint => Ok(json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "ptp",
            "ipam": {
                "type": "host-local", "ranges": [[{"subnet": CONTROL_PODS}]], "routes": [{"dst": "0.0.0.0/0"}],
            },
        })),
    }
}

/// What flannel's plugin makes of the file that flanneld writes, with the options of flannel's manifest: a bridge, and
/// addresses of the node's subnets. (The plugin that can be had as a module knows one family only.)
fn bridge(subnet_env: &str) -> Value {
    let lines: BTreeMap<&str, &str> = subnet_env.lines().filter_map(|line| line.split_once('=')).collect();
    let networks = |keys: [&str; 2]| -> Vec<IpNetwork> {
        let parsed = keys.iter().filter_map(|key| lines.get(key)?.parse().ok());
        // A node's subnet is written with its bridge's address.
        parsed
            .filter_map(|network: IpNetwork| IpNetwork::new(network.network(), network.prefix()).ok())
            .collect()
    };
    let subnets = networks(["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"]);
    let whole = networks(["FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"]);
    json!({
        "cniVersion": "1.0.0", "name": "cbr0", "type": "bridge",
        "mtu": lines.get("FLANNEL_MTU").and_then(|mtu| mtu.parse::<u32>().ok()),
        "hairpinMode": true, "isDefaultGateway": true,
        "ipMasq": lines.get("FLANNEL_IPMASQ") == Some(&"false"),
        "ipam": {
            "type": "host-local",
            "ranges": subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect::<Vec<_>>(),
            "routes": whole.iter().map(|network| json!({"dst": network})).collect::<Vec<_>>(),
        },
    })
}

fn call(
    machine: &Machine,
    request: &Request<'_>,
    command: &str,
    interface: &str,
    configuration: &Value,
) -> Result<Value, MachineError> {
    let plugin = configuration["type"].as_str().unwrap_or_default();
    let wrong = |message: String| MachineError::Cni {
        node: machine.place.clone(),
        plugin: plugin.to_owned(),
        pod: request.name.to_owned(),
        message,
    };
    let found = machine.plugins.iter().map(|directory| directory.join(plugin)).find(|file| file.is_file());
    let program = found.ok_or_else(|| {
        wrong("it is in none of the plugin directories; install containernetworking-plugins".to_owned())
    })?;
    let path = std::env::join_paths(&machine.plugins).map_err(|error| wrong(error.to_string()))?;
    let arguments =
        format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={}", request.namespace, request.name);
    let mut run = Command::new(&program);
    run.env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", request.id)
        .env("CNI_NETNS", request.netns)
        .env("CNI_IFNAME", interface)
        .env("CNI_PATH", path)
        .env("CNI_ARGS", arguments);
    let input = configuration.to_string();
    let disk = machine.directory.join("var/lib");
    let output = machine.namespace.run(|| run_with_disk(run, &input, &disk))?;
    let output = output.map_err(|error| wrong(error.to_string()))?;
    if !output.status.success() {
        // A plugin tells its error on standard output.
        let words = [output.stdout, output.stderr].concat();
        return Err(wrong(String::from_utf8_lossy(&words).trim().to_owned()));
    }
    if output.stdout.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).map_err(|error| wrong(error.to_string()))
}

/// Plugins keep their files below `/var/lib/cni`: each machine's below its own. The calling thread is at its end then.
fn run_with_disk(mut command: Command, input: &str, disk: &Path) -> std::io::Result<Output> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some(disk), "/var/lib", none, MsFlags::MS_BIND, none)?;
    // They look for themselves in /proc, which is still that of the host's PID namespace.
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("its standard input is a pipe");
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    written.map(|()| output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_has_the_subnets_of_both_families_and_flannels_mtu() {
        let file = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.2.1/24\nFLANNEL_IPV6_NETWORK=fd00:10:1::/48\n\
            FLANNEL_IPV6_SUBNET=fd00:10:1:2::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        let bridge = bridge(file);
        assert_eq!(
            bridge["ipam"]["ranges"],
            json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00:10:1:2::/64"}]])
        );
        assert_eq!(bridge["ipam"]["routes"][1]["dst"], "fd00:10:1::/48");
        assert_eq!((&bridge["mtu"], &bridge["ipMasq"]), (&json!(1450), &json!(false)));
    }
}
