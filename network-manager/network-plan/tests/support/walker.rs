//! The oracle: a packet's walk over NodeConfigs alone, with the kernel's rules and nothing of the plan's code.
//!
//! At each node: own addresses first (table `local`); then, for what came in over `vx-bridge*`, the inbound table; then table
//! 200 with its longest prefix, where a route beats an unreachable one of the same length; else the node's main table, that
//! is, its CNI. A route's gateway must have a neighbour, the neighbour's MAC an FDB entry, the entry's address an owner, and the
//! owner a device with that MAC, VNI and port.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use api::{Cluster, ClusterNode, NodeConfigSpec, node_config::Route};
use ipnetwork::IpNetwork;

use super::{Configs, Input};

/// Where a packet ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// At this node, which has the address or the pod, or whose CNI brings it there, or which translates the service.
    At { node: String, cluster: String },
    /// Refused by the packet filter of its source.
    Refused,
    /// Answered by an unreachable route.
    Unreachable { node: String },
    /// In the main table of a node whose cluster knows nothing of the address.
    Leaked { node: String },
    /// The tables contradict each other.
    Broken(String),
}

struct Device {
    name: String,
    mac: String,
    vni: i32,
    port: i32,
    addresses: Vec<IpAddr>,
}

struct Hop {
    net: IpNetwork,
    gateways: Vec<IpAddr>,
    device: String,
}

/// A node as its NodeConfig makes it.
struct Kernel {
    cluster: String,
    underlay: Vec<IpAddr>,
    public: Option<IpAddr>,
    blocks: Vec<IpNetwork>,
    devices: Vec<Device>,
    table: Vec<Hop>,
    inbound: Vec<Hop>,
    unreachable: Vec<IpNetwork>,
    neighbours: HashMap<(String, IpAddr), String>,
    fdb: HashMap<(String, String), IpAddr>,
    refused: Vec<(IpNetwork, IpNetwork)>,
}

/// All nodes, and what each cluster knows as its own.
pub struct World {
    nodes: BTreeMap<String, Kernel>,
    pods: BTreeMap<String, Vec<IpNetwork>>,
    services: BTreeMap<String, Vec<IpNetwork>>,
}

fn nets(texts: &[String]) -> Vec<IpNetwork> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Longest prefix.
fn longest(hops: &[Hop], to: IpAddr) -> Option<&Hop> {
    hops.iter().filter(|hop| hop.net.contains(to)).max_by_key(|hop| hop.net.prefix())
}

impl World {
    pub fn new(input: &Input, configs: &Configs) -> Self {
        let status = |cluster: &Cluster| {
            cluster.status.clone().unwrap_or_default().cluster_link_status.unwrap_or_default()
        };
        let name = |cluster: &Cluster| cluster.metadata.name.clone().unwrap();
        let mut pods: BTreeMap<_, _> =
            input.clusters.iter().map(|cluster| (name(cluster), nets(&status(cluster).pod_cidrs))).collect();
        let services = input
            .clusters
            .iter()
            .map(|cluster| (name(cluster), nets(&status(cluster).service_cidrs)))
            .collect();
        let mut nodes = BTreeMap::new();
        for object in &input.nodes {
            let Some(config) = configs.get(object.metadata.name.as_ref().unwrap()) else { continue };
            let kernel = Kernel::new(object, config);
            pods.entry(kernel.cluster.clone()).or_default().extend(kernel.blocks.iter().copied());
            nodes.insert(object.metadata.name.clone().unwrap(), kernel);
        }
        World { nodes, pods, services }
    }

    /// A node's overlay addresses that it has on some device.
    pub fn addresses(&self, node: &str) -> Vec<IpAddr> {
        self.nodes[node].devices.iter().flat_map(|device| device.addresses.iter().copied()).collect()
    }

    /// Every end of a packet's walk: one for each choice among several gateways.
    pub fn walk(&self, start: &str, from: IpAddr, to: IpAddr) -> BTreeSet<Fate> {
        let mut fates = BTreeSet::new();
        let refused =
            |(source, target): &(IpNetwork, IpNetwork)| source.contains(from) && target.contains(to);
        if self.nodes[start].refused.iter().any(refused) {
            fates.insert(Fate::Refused);
        } else {
            self.visit(start, None, to, &mut Vec::new(), &mut fates);
        }
        fates
    }

    fn visit(
        &self,
        at: &str,
        came_by: Option<&str>,
        to: IpAddr,
        path: &mut Vec<String>,
        fates: &mut BTreeSet<Fate>,
    ) {
        let step = format!("{at} by {}", came_by.unwrap_or("itself"));
        if path.contains(&step) || path.len() > 8 {
            fates.insert(Fate::Broken(format!(
                "a packet for {to} turns round: {} -> {step}",
                path.join(" -> ")
            )));
            return;
        }
        path.push(step);
        self.forward(at, came_by, to, path, fates);
        path.pop();
    }

    fn forward(
        &self,
        at: &str,
        came_by: Option<&str>,
        to: IpAddr,
        path: &mut Vec<String>,
        fates: &mut BTreeSet<Fate>,
    ) {
        let kernel = &self.nodes[at];
        let here = || Fate::At { node: at.to_owned(), cluster: kernel.cluster.clone() };
        if kernel.devices.iter().any(|device| device.addresses.contains(&to)) {
            fates.insert(here());
            return;
        }
        let translated =
            came_by.is_some() && self.services[&kernel.cluster].iter().any(|net| net.contains(to));
        if translated {
            fates.insert(here());
            return;
        }
        let inbound = came_by
            .filter(|device| device.starts_with("vx-bridge"))
            .and_then(|_| longest(&kernel.inbound, to));
        let hop = inbound.or_else(|| longest(&kernel.table, to));
        let dead = kernel.unreachable.iter().filter(|net| net.contains(to)).map(IpNetwork::prefix).max();
        match hop {
            Some(hop) if inbound.is_some() || dead.is_none_or(|dead| dead <= hop.net.prefix()) => {
                for gateway in &hop.gateways {
                    match self.cross(at, hop, *gateway) {
                        Ok(peer) => self.visit(&peer, Some(&hop.device), to, path, fates),
                        Err(why) => fates.extend([Fate::Broken(format!("{at}: {to}: {why}"))]),
                    }
                }
            }
            _ if dead.is_some() => fates.extend([Fate::Unreachable { node: at.to_owned() }]),
            _ => fates.extend([self.main(at, to)]),
        }
    }

    /// The CNI's part.
    fn main(&self, at: &str, to: IpAddr) -> Fate {
        let cluster = self.nodes[at].cluster.clone();
        let owner = self.nodes.iter().filter(|(_, kernel)| kernel.cluster == cluster);
        let owner = owner.filter_map(|(name, kernel)| {
            let block =
                kernel.blocks.iter().filter(|block| block.contains(to)).map(IpNetwork::prefix).max()?;
            Some((block, name))
        });
        if let Some((_, node)) = owner.max() {
            return Fate::At { node: node.clone(), cluster };
        }
        let own = [&self.pods[&cluster], &self.services[&cluster]];
        if own.into_iter().flatten().any(|net| net.contains(to)) {
            return Fate::At { node: at.to_owned(), cluster };
        }
        Fate::Leaked { node: at.to_owned() }
    }

    /// Through the tunnel to a gateway: who gets the packet.
    fn cross(&self, at: &str, hop: &Hop, gateway: IpAddr) -> Result<String, String> {
        let kernel = &self.nodes[at];
        let device = &hop.device;
        let own = kernel.devices.iter().find(|d| d.name == *device).ok_or(format!("there is no {device}"))?;
        let mac = kernel
            .neighbours
            .get(&(device.clone(), gateway))
            .ok_or(format!("no neighbour {gateway} on {device}"))?;
        let endpoint = *kernel
            .fdb
            .get(&(device.clone(), mac.clone()))
            .ok_or(format!("no FDB entry {mac} on {device}"))?;
        let routed = kernel.table.iter().map(|hop| hop.net).chain(kernel.unreachable.iter().copied());
        if let Some(net) = routed.into_iter().find(|net| net.contains(endpoint)) {
            return Err(format!("{net} swallows the tunnel to {endpoint}"));
        }
        let (name, peer) = self.owner(&kernel.cluster, endpoint)?;
        let theirs = peer.devices.iter().find(|d| d.mac == *mac && d.vni == own.vni && d.port == own.port);
        let theirs =
            theirs.ok_or(format!("{name} has no device {mac} with VNI {} and port {}", own.vni, own.port))?;
        if theirs.name != *device || own.addresses.contains(&gateway) {
            return Err(format!("{device} leads to {} of {name} at {gateway}", theirs.name));
        }
        Ok(name.clone())
    }

    /// Whose an underlay address is, seen from a cluster: its own node's, else the one node that others see by it.
    fn owner(&self, cluster: &str, endpoint: IpAddr) -> Result<(&String, &Kernel), String> {
        let own = self.nodes.iter().find(|(_, k)| k.cluster == cluster && k.underlay.contains(&endpoint));
        if let Some(own) = own {
            return Ok(own);
        }
        let seen = |kernel: &Kernel| match kernel.public {
            Some(public) if public.is_ipv4() == endpoint.is_ipv4() => public == endpoint,
            _ => kernel.underlay.contains(&endpoint),
        };
        let bridges =
            |kernel: &Kernel| kernel.devices.iter().any(|device| device.name.starts_with("vx-bridge"));
        let mut owners = self.nodes.iter().filter(|(_, k)| k.cluster != cluster && bridges(k) && seen(k));
        match (owners.next(), owners.next()) {
            (Some(owner), None) => Ok(owner),
            (None, _) => Err(format!("{endpoint} is nobody's")),
            (Some((one, _)), Some((two, _))) => Err(format!("{endpoint} is {one}'s and {two}'s")),
        }
    }
}

impl Kernel {
    fn new(object: &ClusterNode, config: &NodeConfigSpec) -> Self {
        let spec = &object.spec;
        let address = |text: &Option<String>| text.as_ref().map(|text| text.parse::<IpAddr>().unwrap());
        let hop = |route: &Route| Hop {
            net: route.cidr.parse().unwrap(),
            gateways: route.gateways().map(|gateway| gateway.parse().unwrap()).collect(),
            device: route.dev.clone(),
        };
        let firewall = config.firewall.clone().unwrap_or_default();
        let pair = |pair: &api::node_config::CidrPair| (pair.from.parse().unwrap(), pair.to.parse().unwrap());
        Kernel {
            cluster: spec.cluster_name.clone().unwrap(),
            underlay: [&spec.ip, &spec.ip6].into_iter().filter_map(address).collect(),
            public: address(&spec.public_ip),
            blocks: nets(&spec.pod_cidrs),
            devices: config.devices.iter().map(Device::new).collect(),
            table: config.routes.iter().map(hop).collect(),
            inbound: config.inbound_routes.iter().map(hop).collect(),
            unreachable: nets(&config.unreachable),
            neighbours: config
                .arps
                .iter()
                .map(|arp| ((arp.dev.clone(), arp.ip.parse().unwrap()), arp.mac.clone()))
                .collect(),
            fdb: config
                .fdbs
                .iter()
                // Kosmos's flood entries say nothing of a single peer.
                .filter(|fdb| fdb.mac != "00:00:00:00:00:00")
                .map(|fdb| ((fdb.dev.clone(), fdb.mac.clone()), fdb.ip.parse().unwrap()))
                .collect(),
            refused: firewall.refused.iter().map(pair).collect(),
        }
    }
}

impl Device {
    fn new(device: &api::node_config::Device) -> Self {
        let addresses = std::iter::once(&device.addr).chain(&device.extra_addrs);
        Device {
            name: device.name.clone(),
            mac: device.mac.clone(),
            vni: device.id,
            port: device.port,
            addresses: addresses.map(|text| text.parse::<IpNetwork>().unwrap().ip()).collect(),
        }
    }
}
