//! A node as a machine: its namespace, and directories that stand for its own disk.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;

use ipnetwork::IpNetwork;
use netlink::Namespace;

use super::{MachineError, Parts, cni};
use crate::addressing::{ClusterLayout, Layout, NodeLayout, PodLayout, ROOT, underlay_gateway};
use crate::apis::FIRST_PORT;
use crate::isolate::NETNS_DIRECTORY;
use crate::objects::CONTROL_NODE;
use crate::scenario::CONTROL;

/// How pods of a machine are wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wiring {
    /// `bridge` and `host-local`, called as flannel's plugin would.
    Flannel,
    /// `ptp`: the root namespace is no node of a mesh.
    PointToPoint,
}

/// A node.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) cluster: String,
    /// Name of its Node object.
    pub(super) node: String,
    pub(super) place: String,
    pub(super) namespace: Namespace,
    /// What is on its disk, as far as it is its own.
    pub(super) directory: PathBuf,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) wiring: Wiring,
    /// Where its pods are told that the API server is.
    pub(super) api_server: (IpAddr, u16),
    /// Where the CNI plugins are.
    pub(super) plugins: Vec<PathBuf>,
}

impl Machine {
    /// A directory on its disk, which is made.
    pub(super) fn make_directory(&self, name: &str) -> Result<PathBuf, MachineError> {
        let path = self.directory.join(name);
        std::fs::create_dir_all(&path).map_err(MachineError::file(&path))?;
        Ok(path)
    }

    /// Where flannel says which pods are here.
    pub(super) fn subnet_file(&self) -> PathBuf {
        self.directory.join("run/flannel/subnet.env")
    }
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Machines(Vec<Machine>);

impl Machines {
    pub(super) fn new(parts: &Parts<'_>) -> Result<Self, MachineError> {
        let make = |cluster: &str, node: &str, place: &str| {
            let namespace = parts.namespaces.get(place).cloned();
            let machine = Machine {
                cluster: cluster.to_owned(),
                node: node.to_owned(),
                place: place.to_owned(),
                namespace: namespace.ok_or_else(|| MachineError::Place(place.to_owned()))?,
                directory: parts.state.path().join("machines").join(place),
                addresses: vec![underlay_gateway(api::Family::V4)],
                wiring: Wiring::PointToPoint,
                api_server: (underlay_gateway(api::Family::V4), FIRST_PORT),
                plugins: cni::plugin_directories(),
            };
            machine.make_directory("run/flannel")?;
            machine.make_directory("var/lib/cni")?;
            Ok::<_, MachineError>(machine)
        };
        let mut machines = vec![make(CONTROL, CONTROL_NODE, ROOT)?];
        for (cluster, node) in parts.layout.nodes() {
            machines.push(Machine {
                addresses: node.underlay.clone(),
                wiring: Wiring::Flannel,
                api_server: (service_of_the_api_server(cluster), 443),
                ..make(&cluster.name, &node.name, &node.place)?
            });
        }
        Ok(Machines(machines))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Machine> {
        self.0.iter()
    }

    /// The node of a cluster.
    pub(super) fn find(&self, cluster: &str, node: &str) -> Option<usize> {
        self.0.iter().position(|machine| machine.cluster == cluster && machine.node == node)
    }

    pub(super) fn get(&self, index: usize) -> &Machine {
        &self.0[index]
    }

    /// Wires the pods of the layout, each node's one after another, and looks whether they got the layout's addresses.
    pub(super) fn wire_world(&self, layout: &Layout) -> Result<(), MachineError> {
        thread::scope(|scope| {
            let wiring: Vec<_> = layout
                .nodes()
                .filter_map(|(cluster, node)| Some((self.find(&cluster.name, &node.name)?, node)))
                .map(|(index, node)| scope.spawn(move || wire_node(self.get(index), node)))
                .collect();
            wiring.into_iter().try_for_each(|thread| thread.join().expect("it reports its errors"))
        })
    }
}

fn wire_node(machine: &Machine, node: &NodeLayout) -> Result<(), MachineError> {
    node.pods.iter().try_for_each(|pod| wire(machine, pod))
}

fn wire(machine: &Machine, pod: &PodLayout) -> Result<(), MachineError> {
    let request = cni::Request {
        id: &pod.place,
        namespace: "default",
        name: &pod.place,
        netns: &Path::new(NETNS_DIRECTORY).join(&pod.place),
    };
    let got = cni::add(machine, &request)?;
    if got == pod.addresses {
        return Ok(());
    }
    let list =
        |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(MachineError::Address { pod: pod.place.clone(), got: list(&got), expected: list(&pod.addresses) })
}

/// kube-apiserver takes the first address of its first Service CIDR.
fn service_of_the_api_server(cluster: &ClusterLayout) -> IpAddr {
    let first = |cidr: &IpNetwork| cidr.iter().nth(1);
    cluster
        .service_cidrs
        .first()
        .and_then(first)
        .expect("a layout's service CIDRs have 16 addresses at least")
}
