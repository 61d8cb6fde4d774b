//! Real Kubernetes on the sandbox's nodes: for each cluster a control plane of its own, on each node flannel and kube-proxy,
//! and a small kubelet that makes Pods processes with exactly the rights that their specs give.
//!
//! | what | where it runs |
//! |---|---|
//! | etcd, kube-apiserver, kube-controller-manager, kube-scheduler | root namespace, one set for each cluster and `control` |
//! | flanneld, kube-proxy | each node's namespace |
//! | CNI plugins | each node's namespace, once for each pod |
//! | ClusterLink, as `daemonset/*.yaml` say | where the scheduler and the DaemonSet controller put its pods |
//!
//! The world's own pods (those that answer) are wired by the CNI plugins too, before any other, so that they get the
//! addresses of the [`Layout`]; their processes stay the supervisor's.

mod apply;
mod cni;
mod daemons;
mod error;
mod forward;
mod install;
mod kubelet;
mod machine;
mod planes;
mod world;

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::addressing::Layout;
use crate::apis::HostListener;
use crate::components::Binaries;
use crate::processes::Processes;
use crate::progress::Progress;
use crate::state::{ApiStatus, StateDir};
use crate::world::Namespaces;

pub use error::MachineError;
use kubelet::Kubelet;
use machine::Machines;
use planes::Planes;

/// What this machine lacks for real clusters; nothing when they can be had.
pub fn missing() -> Option<String> {
    let programs = match ::kubernetes::Binaries::find() {
        Ok(programs) => programs,
        Err(missing) => return Some(missing.to_string()),
    };
    let on_nodes =
        [programs.optional("kube-proxy"), programs.optional("kube-scheduler"), programs.flanneld()];
    if let Some(missing) = on_nodes.into_iter().find_map(Result::err) {
        return Some(missing.to_string());
    }
    if let Some(plugin) = cni::missing_plugin() {
        return Some(format!("CNI plugin {plugin} is not installed: install containernetworking-plugins"));
    }
    if !nix::unistd::geteuid().is_root() {
        return Some("real nodes need root: their pods run as several users".to_owned());
    }
    let filter = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    (!filter.exists()).then(|| "flannel needs bridge netfilter: modprobe br_netfilter".to_owned())
}

/// What the clusters are made of.
pub struct Parts<'a> {
    /// Every address.
    pub layout: &'a Layout,
    /// The sandbox's directory.
    pub state: &'a StateDir,
    /// The namespaces of all nodes and pods.
    pub namespaces: &'a Namespaces,
    /// Who keeps daemons running and knows how they are.
    pub processes: &'a Arc<Processes>,
    /// ClusterLink's programs.
    pub binaries: &'a Binaries,
}

/// Running clusters. They end with the PID namespace.
pub struct Clusters {
    planes: Arc<Planes>,
}

impl Clusters {
    /// Starts the control planes, makes the nodes ready, and wires the world's pods.
    pub fn start(
        parts: &Parts<'_>,
        listeners: Vec<HostListener>,
        runtime: &Runtime,
    ) -> Result<Self, MachineError> {
        if let Some(missing) = missing() {
            return Err(MachineError::Missing(missing));
        }
        let programs = ::kubernetes::Binaries::find()?;
        Progress::step(format!("{} control planes", parts.layout.clusters.len() + 1));
        let mut planes = Planes::start(parts, &programs)?;
        runtime.block_on(planes.forward(listeners, parts.state))?;
        Progress::step("nodes, services, flannel and kube-proxy");
        runtime.block_on(world::create(parts.layout, &planes))?;
        let machines = Arc::new(Machines::new(parts)?);
        daemons::start(parts, &programs, &planes, &machines)?;
        Progress::step("pods, wired by the CNI plugins");
        machines.wire_world(parts.layout)?;
        runtime.block_on(world::populate(parts.layout, &planes))?;
        runtime.block_on(Kubelet::start(&planes, &machines, parts))?;
        let planes = Arc::new(planes);
        Planes::keep(&planes, parts)?;
        Ok(Clusters { planes })
    }

    /// Installs ClusterLink from its manifests, and joins every member.
    pub fn install(&self, parts: &Parts<'_>, runtime: &Runtime) -> Result<(), MachineError> {
        runtime.block_on(install::install(parts.layout, &self.planes))
    }

    /// Where the API servers are, the control cluster's first.
    pub fn statuses(&self) -> Vec<ApiStatus> {
        self.planes.statuses()
    }
}
