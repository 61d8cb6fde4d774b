//! From a scenario to its layout: every field is looked at once, here, and what is wrong is named.

use std::collections::BTreeSet;

use api::{Family, NetworkType};
use ipnetwork::IpNetwork;

use super::{
    ClusterLayout, Layout, NodeLayout, OUTSIDE, PodLayout, ROOT, ServiceLayout, default_pod_cidr,
    default_service_cidr, host, outside_network, overlap, subnet, underlay_address, underlay_network,
};
use crate::scenario::{CONTROL, ClusterScenario, ControlPlane, Scenario, ScenarioError};

/// Prefix length of a node's pod CIDR: as kube-controller-manager cuts them by default.
const NODE_PREFIX_V4: u8 = 24;
const NODE_PREFIX_V6: u8 = 64;
const MAX_CLUSTERS: usize = 99;
const MAX_NODES: u16 = 250;
const MAX_PODS: u16 = 200;

impl Scenario {
    /// Everything with its addresses, or the first field that cannot be built.
    pub fn layout(&self) -> Result<Layout, ScenarioError> {
        if self.clusters.is_empty() || self.clusters.len() > MAX_CLUSTERS {
            let problem = format!("a sandbox has from 1 to {MAX_CLUSTERS} clusters");
            return Err(ScenarioError::new("clusters", self.clusters.len(), problem));
        }
        check_range("podsPerNode", self.pods_per_node, 1, MAX_PODS)?;
        let clusters: Vec<ClusterLayout> = (1..)
            .zip(&self.clusters)
            .map(|(index, cluster)| ClusterPlan { scenario: self, cluster, index }.layout())
            .collect::<Result<_, _>>()?;
        let layout = Layout {
            firewall: self.firewall,
            control_plane: self.control_plane,
            proxy: self.proxy,
            proxy_cluster_cidr: self.proxy_cluster_cidr,
            masquerade: self.masquerade,
            clusters,
        };
        check_places(&layout)?;
        Ok(layout)
    }
}

/// Two clusters of one name, or of names that make the same place.
fn check_places(layout: &Layout) -> Result<(), ScenarioError> {
    let mut seen = BTreeSet::from([ROOT.to_owned(), OUTSIDE.to_owned()]);
    for (cluster, node) in layout.nodes() {
        let field = format!("clusters[{}].name", cluster.name);
        let places = std::iter::once(&node.place).chain(node.pods.iter().map(|pod| &pod.place));
        for place in places {
            if !seen.insert(place.clone()) {
                let problem = format!("another cluster makes the place {place:?} too; choose another name");
                return Err(ScenarioError::new(field, &cluster.name, problem));
            }
        }
    }
    Ok(())
}

fn check_range<T: PartialOrd + std::fmt::Display>(
    field: impl Into<String>,
    value: T,
    least: T,
    most: T,
) -> Result<(), ScenarioError> {
    if value < least || value > most {
        return Err(ScenarioError::new(field, value, format!("write a number from {least} to {most}")));
    }
    Ok(())
}

/// One cluster on its way from text to addresses.
struct ClusterPlan<'a> {
    scenario: &'a Scenario,
    cluster: &'a ClusterScenario,
    index: u16,
}

impl ClusterPlan<'_> {
    fn field(&self, name: &str) -> String {
        format!("clusters[{}].{name}", self.cluster.name)
    }

    fn layout(&self) -> Result<ClusterLayout, ScenarioError> {
        self.check_name()?;
        check_range(self.field("nodes"), self.cluster.nodes, 1, MAX_NODES)?;
        let families = self.families("families", self.cluster.families.as_ref())?;
        let underlay = self.families("underlay", self.cluster.underlay.as_ref())?;
        self.check_for_kubernetes(&families, &underlay)?;
        let mtu = self.cluster.mtu.unwrap_or(self.scenario.mtu);
        check_range(self.field("mtu"), mtu, 1280, 65_000)?;
        let (pod_cidrs, service_cidrs) = self.cidrs(&families)?;
        let gateways = self.gateways()?;
        let nodes: Vec<NodeLayout> =
            (1..=self.cluster.nodes).map(|n| self.node(n, gateways, &underlay, &pod_cidrs)).collect();
        let services = services(&nodes, &service_cidrs);
        Ok(ClusterLayout {
            name: self.cluster.name.clone(),
            index: self.index,
            mode: self.cluster.mode,
            gateways,
            families,
            mtu,
            pod_cidrs,
            service_cidrs,
            nodes,
            services,
        })
    }

    /// API servers are reached over IPv4, and flannel carries a family over an underlay of that family.
    fn check_for_kubernetes(&self, families: &[Family], underlay: &[Family]) -> Result<(), ScenarioError> {
        if self.scenario.control_plane == ControlPlane::Embedded {
            return Ok(());
        }
        let list =
            |families: &[Family]| families.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        if !families.contains(&Family::V4) {
            let problem =
                "with a real control plane a cluster has IPv4: add ipv4, or choose the embedded one";
            return Err(ScenarioError::new(self.field("families"), list(families), problem));
        }
        if families.iter().any(|family| !underlay.contains(family)) {
            let problem = "flannel needs an underlay of every family of the pods: add it, or choose the embedded control plane";
            return Err(ScenarioError::new(self.field("underlay"), list(underlay), problem));
        }
        Ok(())
    }

    fn check_name(&self) -> Result<(), ScenarioError> {
        let name = &self.cluster.name;
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = (1..=20).contains(&name.len())
            && name.chars().all(inner)
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-');
        if !valid || name == CONTROL {
            let problem = format!(
                "write up to 20 lower-case letters, digits and dashes, a letter first, and not {CONTROL:?}"
            );
            return Err(ScenarioError::new("clusters[].name", name, problem));
        }
        Ok(())
    }

    fn families(&self, field: &str, own: Option<&Vec<Family>>) -> Result<Vec<Family>, ScenarioError> {
        let (field, families) = match own {
            Some(own) => (self.field(field), own),
            None => ("families".to_owned(), &self.scenario.families),
        };
        let sorted: BTreeSet<Family> = families.iter().copied().collect();
        if sorted.is_empty() || sorted.len() != families.len() {
            let value = families.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            return Err(ScenarioError::new(field, value, "write ipv4, ipv6, or both, each once"));
        }
        Ok(sorted.into_iter().collect())
    }

    fn gateways(&self) -> Result<u16, ScenarioError> {
        let (nodes, wanted) = (self.cluster.nodes, self.cluster.gateways);
        match (self.cluster.mode, wanted) {
            (NetworkType::P2p, None) => Ok(0),
            (NetworkType::P2p, Some(n)) => Err(ScenarioError::new(
                self.field("gateways"),
                n,
                "a cluster in P2P mode has none: leave it out",
            )),
            (NetworkType::Gateway, None) => Ok(nodes.min(2)),
            (NetworkType::Gateway, Some(n)) => {
                check_range(self.field("gateways"), n, 1, nodes.min(32)).map(|()| n)
            }
        }
    }

    fn cidrs(&self, families: &[Family]) -> Result<(Vec<IpNetwork>, Vec<IpNetwork>), ScenarioError> {
        let pods = self.parse("podCIDRs", &self.cluster.pod_cidrs, families, default_pod_cidr)?;
        let services =
            self.parse("serviceCIDRs", &self.cluster.service_cidrs, families, default_service_cidr)?;
        for &cidr in &pods {
            self.check_pod_cidr(cidr)?;
        }
        for &cidr in &services {
            let room = Family::of_network(cidr).bits() - cidr.prefix();
            if room < 4 {
                let problem = "too small for services: write a prefix with at least 16 addresses";
                return Err(ScenarioError::new(self.field("serviceCIDRs"), cidr, problem));
            }
            if let Some(pod) = pods.iter().find(|&&pod| overlap(pod, cidr)) {
                let problem = format!("overlaps the cluster's own pod CIDR {pod}");
                return Err(ScenarioError::new(self.field("serviceCIDRs"), cidr, problem));
            }
        }
        Ok((pods, services))
    }

    /// One CIDR for each family, in the families' order.
    fn parse(
        &self,
        name: &str,
        given: &[String],
        families: &[Family],
        default: fn(Family, u16) -> IpNetwork,
    ) -> Result<Vec<IpNetwork>, ScenarioError> {
        let wrong = |value: &str, problem: String| ScenarioError::new(self.field(name), value, problem);
        let mut parsed: Vec<IpNetwork> = Vec::new();
        for text in given {
            let cidr: IpNetwork =
                text.parse().map_err(|_| wrong(text, "not a CIDR such as 10.1.0.0/16".to_owned()))?;
            let family = Family::of_network(cidr);
            if cidr.ip() != cidr.network() {
                return Err(wrong(
                    text,
                    format!("has host bits set: write {}/{}", cidr.network(), cidr.prefix()),
                ));
            }
            if !families.contains(&family) {
                return Err(wrong(text, format!("the cluster has no {family}: add it to its families")));
            }
            if parsed.iter().any(|&other| Family::of_network(other) == family) {
                return Err(wrong(text, format!("the second {family} CIDR: write one for each family")));
            }
            let reserved = [underlay_network(family), outside_network(family)];
            if let Some(taken) = reserved.into_iter().find(|&taken| overlap(taken, cidr)) {
                return Err(wrong(text, format!("overlaps {taken}, which the sandbox itself uses")));
            }
            parsed.push(cidr);
        }
        let of = |family| parsed.iter().copied().find(|&cidr| Family::of_network(cidr) == family);
        Ok(families.iter().map(|&family| of(family).unwrap_or_else(|| default(family, self.index))).collect())
    }

    fn check_pod_cidr(&self, cidr: IpNetwork) -> Result<(), ScenarioError> {
        let node = node_prefix(cidr);
        if cidr.prefix() > node || capacity(cidr) < u32::from(self.cluster.nodes) {
            let nodes = self.cluster.nodes;
            let problem =
                format!("too small: {nodes} nodes with a /{node} each do not fit; write a shorter prefix");
            return Err(ScenarioError::new(self.field("podCIDRs"), cidr, problem));
        }
        Ok(())
    }

    fn node(&self, number: u16, gateways: u16, underlay: &[Family], pod_cidrs: &[IpNetwork]) -> NodeLayout {
        let place = self.place(number);
        let cut = |&cidr: &IpNetwork| {
            // Node 1 has subnet 1, so that addresses read like names, where there is room to leave subnet 0.
            let roomy = capacity(cidr) > u32::from(self.cluster.nodes);
            subnet(cidr, node_prefix(cidr), if roomy { number } else { number - 1 })
        };
        let own: Vec<IpNetwork> = pod_cidrs.iter().map(cut).collect();
        let pods = (1..=self.scenario.pods_per_node).map(|pod| PodLayout {
            place: format!("{place}-pod{pod}"),
            addresses: own.iter().map(|&cidr| host(cidr, 1 + u32::from(pod))).collect(),
        });
        NodeLayout {
            pods: pods.collect(),
            name: format!("node{number}"),
            number,
            gateway: number <= gateways,
            underlay: underlay.iter().map(|&family| underlay_address(family, self.index, number)).collect(),
            bridge: own.iter().map(|&cidr| host(cidr, 1)).collect(),
            pod_cidrs: own,
            place,
        }
    }

    /// `a1`, and `az1-1` where the cluster's name ends in a digit.
    fn place(&self, number: u16) -> String {
        let name = &self.cluster.name;
        let dash = if name.ends_with(|c: char| c.is_ascii_digit()) { "-" } else { "" };
        format!("{name}{dash}{number}")
    }
}

fn node_prefix(cidr: IpNetwork) -> u8 {
    match Family::of_network(cidr) {
        Family::V4 => NODE_PREFIX_V4,
        Family::V6 => NODE_PREFIX_V6,
    }
}

/// How many nodes' CIDRs fit.
fn capacity(cidr: IpNetwork) -> u32 {
    1 << node_prefix(cidr).saturating_sub(cidr.prefix()).min(16)
}

/// One service with its backend on the first node (a gateway, in gateway mode), one with its backend on the last.
fn services(nodes: &[NodeLayout], cidrs: &[IpNetwork]) -> Vec<ServiceLayout> {
    let ends = [("first", nodes.first()), ("last", nodes.last())];
    let ends = ends.into_iter().take(nodes.len().min(2));
    let service = |(index, (name, node)): (u32, (&str, Option<&NodeLayout>))| {
        let node = node?;
        Some(ServiceLayout {
            name: name.to_owned(),
            addresses: cidrs.iter().map(|&cidr| host(cidr, index)).collect(),
            node: node.number,
            backend: node.pods.first()?.clone(),
        })
    };
    (10..).zip(ends).filter_map(service).collect()
}
