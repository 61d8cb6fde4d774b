//! What runs on every node and beside every control plane: flanneld, kube-proxy, kube-scheduler.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::Family;
use serde_json::json;

use super::machine::{Machine, Machines};
use super::planes::{Plane, Planes};
use super::{MachineError, Parts};
use crate::addressing::{ClusterLayout, ROOT};
use crate::processes::ProcessSpec;
use crate::scenario::{CONTROL, Firewall, Proxy};
use crate::world::UPLINK;

/// How long flannel may take to say which pods a node has.
const SUBNET_TIMEOUT: Duration = Duration::from_secs(60);

/// The user that flanneld is.
pub(super) const FLANNEL: &str = "flannel";

/// Starts all, and waits until flannel has a subnet on every node.
pub(super) fn start(
    parts: &Parts<'_>,
    programs: &::kubernetes::Binaries,
    planes: &Planes,
    machines: &Machines,
) -> Result<(), MachineError> {
    for plane in planes.iter() {
        run(parts, scheduler(plane, programs.optional("kube-scheduler")?)?)?;
    }
    let flanneld = programs.flanneld()?;
    let kube_proxy = programs.optional("kube-proxy")?;
    for cluster in &parts.layout.clusters {
        let plane = planes.of(&cluster.name);
        for machine in machines.iter().filter(|machine| machine.cluster == cluster.name) {
            run(parts, flannel(parts, plane, (cluster, machine), &flanneld)?)?;
            run(parts, proxy(parts, plane, (cluster, machine), &kube_proxy)?)?;
        }
    }
    let until = Instant::now() + SUBNET_TIMEOUT;
    let members = machines.iter().filter(|machine| machine.cluster != CONTROL);
    members.into_iter().try_for_each(|machine| wait_for_subnet(machine, until))
}

fn run(parts: &Parts<'_>, spec: ProcessSpec) -> Result<(), MachineError> {
    let namespace =
        parts.namespaces.get(&spec.place).ok_or_else(|| MachineError::Place(spec.place.clone()))?;
    let (name, log) = (spec.name.clone(), parts.state.log(&spec.name));
    parts.processes.start(spec, namespace, &log).map_err(|source| MachineError::Process { name, source })
}

fn scheduler(plane: &Plane, program: PathBuf) -> Result<ProcessSpec, MachineError> {
    let kubeconfig = plane.control_plane.kubeconfig_for("system:kube-scheduler", &[])?;
    Ok(ProcessSpec {
        name: format!("kube-scheduler-{}", plane.cluster),
        place: ROOT.to_owned(),
        program,
        arguments: vec![
            flag("kubeconfig", kubeconfig.display()),
            flag("leader-elect", false),
            flag("secure-port", 0),
            flag("profiling", false),
        ],
        environment: Vec::new(),
    })
}

fn flannel(
    parts: &Parts<'_>,
    plane: &Plane,
    (cluster, machine): (&ClusterLayout, &Machine),
    program: &Path,
) -> Result<ProcessSpec, MachineError> {
    let kubeconfig = plane.control_plane.kubeconfig_for(FLANNEL, &[])?;
    let file = machine.make_directory("etc/kube-flannel")?.join("net-conf.json");
    let text = net_conf(cluster, parts.layout.firewall);
    std::fs::write(&file, text).map_err(MachineError::file(&file))?;
    Ok(ProcessSpec {
        name: format!("flannel-{}", machine.place),
        place: machine.place.clone(),
        program: program.to_owned(),
        arguments: vec![
            flag("kube-subnet-mgr", true),
            flag("kubeconfig-file", kubeconfig.display()),
            flag("net-config-path", file.display()),
            flag("subnet-file", machine.subnet_file().display()),
            flag("iface", UPLINK),
            flag("ip-masq", true),
            // The host's own rules accept the cluster's traffic, and nothing else: flannel would accept whatever is from or
            // for one of its pods.
            flag("iptables-forward-rules", false),
        ],
        environment: vec![("NODE_NAME".to_owned(), machine.node.clone())],
    })
}

fn net_conf(cluster: &ClusterLayout, firewall: Firewall) -> String {
    let mut conf = json!({"EnableNFTables": firewall == Firewall::Nft, "Backend": {"Type": "vxlan"}});
    for &cidr in &cluster.pod_cidrs {
        let (network, enable) = match Family::of_network(cidr) {
            Family::V4 => ("Network", "EnableIPv4"),
            Family::V6 => ("IPv6Network", "EnableIPv6"),
        };
        conf[network] = cidr.to_string().into();
        conf[enable] = true.into();
    }
    conf.to_string()
}

fn proxy(
    parts: &Parts<'_>,
    plane: &Plane,
    (cluster, machine): (&ClusterLayout, &Machine),
    program: &Path,
) -> Result<ProcessSpec, MachineError> {
    let kubeconfig = plane.control_plane.kubeconfig_for("system:kube-proxy", &[])?;
    let mode = match parts.layout.proxy {
        Proxy::Iptables => "iptables",
        Proxy::Nftables => "nftables",
    };
    let mut arguments = vec![
        flag("kubeconfig", kubeconfig.display()),
        flag("hostname-override", &machine.node),
        flag("proxy-mode", mode),
        // The host's conntrack table is the host's.
        flag("conntrack-max-per-core", 0),
        flag("conntrack-tcp-timeout-established", "0s"),
        flag("conntrack-tcp-timeout-close-wait", "0s"),
        flag("profiling", false),
    ];
    if parts.layout.proxy_cluster_cidr {
        let cidrs: Vec<String> = cluster.pod_cidrs.iter().map(ToString::to_string).collect();
        arguments.push(flag("cluster-cidr", cidrs.join(",")));
    }
    if parts.layout.proxy == Proxy::Nftables {
        // By default the nftables mode answers node ports at the node's first address only, not at overlay addresses.
        arguments.push(flag("nodeport-addresses", "0.0.0.0/0,::/0"));
    }
    Ok(ProcessSpec {
        name: format!("kube-proxy-{}", machine.place),
        place: machine.place.clone(),
        program: program.to_owned(),
        arguments,
        environment: Vec::new(),
    })
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn wait_for_subnet(machine: &Machine, until: Instant) -> Result<(), MachineError> {
    let file = machine.subnet_file();
    while !file.is_file() {
        if Instant::now() > until {
            return Err(MachineError::Late {
                what: format!("flannel gave node {} no subnet", machine.place),
                seconds: SUBNET_TIMEOUT.as_secs(),
                log: format!("flannel-{}", machine.place),
            });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
