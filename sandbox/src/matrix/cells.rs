//! The cells, from a layout and the nodes' overlay addresses. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use api::{Family, NetworkType};
use ipnetwork::IpNetwork;
use netperf::target::{Protocol, Target};
use serde::{Deserialize, Serialize};

use super::Overlays;
use crate::addressing::{ClusterLayout, Layout, NodeLayout, OUTSIDE, ServiceLayout, outside_link, overlap};

/// What a node is to the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A gateway of a cluster in gateway mode.
    Gateway,
    /// Another node of such a cluster.
    Internal,
    /// A node of a P2P cluster.
    P2p,
    /// Not a node.
    Outside,
}

/// What is at an end of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndKind {
    /// A pod.
    Pod,
    /// A node itself, or a hostNetwork pod on it, by its overlay address.
    Host,
    /// A service, whose backend is on the node that the role speaks of.
    Service,
    /// The rest of the world.
    Outside,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Gateway => "gateway",
            Role::Internal => "internal",
            Role::P2p => "P2P",
            Role::Outside => "outside",
        })
    }
}

impl fmt::Display for EndKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EndKind::Pod => "pod",
            EndKind::Host => "host",
            EndKind::Service => "service",
            EndKind::Outside => "outside",
        })
    }
}

/// One end of a cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct End {
    /// Its cluster; empty for the outside.
    pub cluster: String,
    /// Its node's role.
    pub role: Role,
    /// What it is.
    pub kind: EndKind,
    /// Its place, or `b/first` for a service.
    pub name: String,
}

/// One address that one end asks the other for, over every protocol that it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Who asks.
    pub from: End,
    /// Who is asked.
    pub to: End,
    /// Over which family.
    pub family: Family,
    /// The address, who must answer, and as whom the asker must be seen.
    pub target: Target,
}

/// Which cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Between clusters.
    pub remote: bool,
    /// Within each cluster, pods and services, and to the outside: what ClusterLink must leave as it is.
    pub own: bool,
}

/// All cells, and what is left out with its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The cells, by asker.
    pub probes: Vec<Probe>,
    /// Pairs that cannot be, such as pods of clusters whose CIDRs overlap.
    pub skipped: BTreeSet<String>,
    /// Ends that should have an address and have none.
    pub missing: BTreeSet<String>,
}

/// Every cell of a layout.
pub fn plan(layout: &Layout, overlays: &Overlays, scope: Scope) -> Plan {
    let mut planner = Planner { layout, overlays, plan: Plan::default() };
    for (cluster, node) in layout.nodes() {
        for asker in askers(layout, (cluster, node), overlays) {
            for target in &layout.clusters {
                match target.name == cluster.name {
                    false if scope.remote => planner.remote(&asker, target),
                    true if scope.own => planner.own(&asker),
                    _ => {}
                }
            }
        }
    }
    planner.plan
}

/// Who asks, with its addresses.
struct Asker<'a> {
    cluster: &'a ClusterLayout,
    node: &'a NodeLayout,
    end: End,
    /// As one of which a remote pod or host must see it.
    seen_as: Vec<IpAddr>,
}

fn askers<'a>(
    layout: &Layout,
    (cluster, node): (&'a ClusterLayout, &'a NodeLayout),
    overlays: &Overlays,
) -> Vec<Asker<'a>> {
    let end = |kind, name: &str| End {
        cluster: cluster.name.clone(),
        role: role(cluster, node),
        kind,
        name: name.to_owned(),
    };
    let overlay = overlays.get(&node.place).cloned().unwrap_or_default();
    let host = Asker {
        cluster,
        node,
        end: end(EndKind::Host, &node.place),
        seen_as: node.cni_addresses(layout.control_plane).chain(overlay).collect(),
    };
    let pod = |pod: &crate::addressing::PodLayout| Asker {
        cluster,
        node,
        end: end(EndKind::Pod, &pod.place),
        seen_as: pod.addresses.clone(),
    };
    node.pods.iter().map(pod).chain([host]).collect()
}

fn role(cluster: &ClusterLayout, node: &NodeLayout) -> Role {
    match (cluster.mode, node.gateway) {
        (NetworkType::P2p, _) => Role::P2p,
        (NetworkType::Gateway, true) => Role::Gateway,
        (NetworkType::Gateway, false) => Role::Internal,
    }
}

struct Planner<'a> {
    layout: &'a Layout,
    overlays: &'a Overlays,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn cni_addresses(&self, node: &'a NodeLayout) -> impl Iterator<Item = IpAddr> + 'a {
        node.cni_addresses(self.layout.control_plane)
    }

    /// Everything of another cluster.
    fn remote(&mut self, asker: &Asker<'_>, target: &ClusterLayout) {
        for family in Family::ALL {
            let common = asker.cluster.families.contains(&family) && target.families.contains(&family);
            if !common || !self.answered(asker, target, family) {
                continue;
            }
            for node in &target.nodes {
                self.remote_pods(asker, target, node, family);
                self.remote_host(asker, target, node, family);
            }
            for service in &target.services {
                self.remote_service(asker, target, service, family);
            }
        }
    }

    fn remote_pods(&mut self, asker: &Asker<'_>, cluster: &ClusterLayout, node: &NodeLayout, family: Family) {
        if !self.reachable(asker, cluster, &cluster.pod_cidrs, family) {
            return;
        }
        for pod in &node.pods {
            for address in of(&pod.addresses, family) {
                let target = Target::new(&pod.place, address).seen_as(of(&asker.seen_as, family));
                self.push(asker, end(cluster, node, EndKind::Pod, &pod.place), family, target);
            }
        }
    }

    fn remote_host(&mut self, asker: &Asker<'_>, cluster: &ClusterLayout, node: &NodeLayout, family: Family) {
        let overlay = self.overlays.get(&node.place).map(Vec::as_slice).unwrap_or_default();
        let Some(address) = of(overlay, family).next() else {
            self.plan.missing.insert(format!("{} has no {family} overlay address", node.place));
            return;
        };
        let target = Target::new(&node.place, address).seen_as(of(&asker.seen_as, family));
        self.push(asker, end(cluster, node, EndKind::Host, &node.place), family, target);
    }

    /// A service is translated, and masqueraded, by some node of its cluster: whichever, it must be one of them.
    fn remote_service(
        &mut self,
        asker: &Asker<'_>,
        cluster: &ClusterLayout,
        service: &ServiceLayout,
        family: Family,
    ) {
        if !self.reachable(asker, cluster, &cluster.service_cidrs, family) {
            return;
        }
        let masqueraders = cluster.nodes.iter().flat_map(|node| {
            let overlay = self.overlays.get(&node.place).into_iter().flatten();
            self.cni_addresses(node).chain(node.underlay.iter().chain(overlay).copied())
        });
        let seen_as: Vec<IpAddr> = masqueraders.chain(asker.seen_as.iter().copied()).collect();
        self.service(asker, cluster, service, family, &seen_as);
    }

    fn service(
        &mut self,
        asker: &Asker<'_>,
        cluster: &ClusterLayout,
        service: &ServiceLayout,
        family: Family,
        seen_as: &[IpAddr],
    ) {
        let Some(node) = cluster.nodes.iter().find(|node| node.number == service.node) else { return };
        for address in of(&service.addresses, family) {
            let name = format!("{}/{}", cluster.name, service.name);
            // kube-proxy answers no ICMP at service addresses.
            let target = Target::new(&name, address)
                .answered_by([service.backend.place.clone()])
                .seen_as(of(seen_as, family))
                .only([Protocol::Tcp, Protocol::Udp]);
            self.push(asker, end(cluster, node, EndKind::Service, &name), family, target);
        }
    }

    /// The asker's own cluster, and the outside.
    fn own(&mut self, asker: &Asker<'_>) {
        let (cluster, own) = (asker.cluster, asker.node);
        // Within a cluster a host is seen as any of its addresses, and who masquerades is the CNI's affair.
        let of_node = |node| self.cni_addresses(node).chain(node.underlay.iter().copied());
        let nodes = cluster.nodes.iter().flat_map(of_node);
        let own_addresses = || of_node(own).chain(asker.seen_as.iter().copied());
        let seen_by_pods: Vec<IpAddr> = match asker.end.kind {
            EndKind::Pod => asker.seen_as.clone(),
            _ => own_addresses().collect(),
        };
        let seen_by_backends: Vec<IpAddr> = nodes.chain(own_addresses()).collect();
        for family in Family::ALL {
            for node in &cluster.nodes {
                for pod in &node.pods {
                    for address in of(&pod.addresses, family) {
                        let target = Target::new(&pod.place, address).seen_as(of(&seen_by_pods, family));
                        self.push(asker, end(cluster, node, EndKind::Pod, &pod.place), family, target);
                    }
                }
            }
            for service in &cluster.services {
                self.service(asker, cluster, service, family, &seen_by_backends);
            }
            self.outside(asker, family);
        }
    }

    fn outside(&mut self, asker: &Asker<'_>, family: Family) {
        let spoken = asker.end.kind == EndKind::Host || asker.cluster.families.contains(&family);
        let Some(underlay) = of(&asker.node.underlay, family).next().filter(|_| spoken) else { return };
        let target = Target::new(OUTSIDE, outside_link(family)[1]).seen_as([underlay]);
        let end = End {
            cluster: String::new(),
            role: Role::Outside,
            kind: EndKind::Outside,
            name: OUTSIDE.to_owned(),
        };
        self.push(asker, end, family, target);
    }

    fn push(&mut self, asker: &Asker<'_>, to: End, family: Family, target: Target) {
        self.plan.probes.push(Probe { from: asker.end.clone(), to, family, target });
    }

    /// Whether answers find their way: to a pod by its cluster's pod CIDR, to a host by its overlay address at least.
    fn answered(&mut self, asker: &Asker<'_>, by: &ClusterLayout, family: Family) -> bool {
        let answered = asker.end.kind == EndKind::Host
            || cidr_of(&asker.cluster.pod_cidrs, family)
                .is_some_and(|pods| self.routable(by, asker.cluster, pods));
        if !answered {
            let (from, to) = (&asker.cluster.name, &by.name);
            self.plan
                .skipped
                .insert(format!("pods of {from} to {to} over {family}: {to} cannot route to them"));
        }
        answered
    }

    /// Whether the asker's cluster can route to these CIDRs of another.
    fn reachable(
        &mut self,
        asker: &Asker<'_>,
        to: &ClusterLayout,
        cidrs: &[IpNetwork],
        family: Family,
    ) -> bool {
        let cidr = cidr_of(cidrs, family);
        let reachable = cidr.is_some_and(|cidr| self.routable(asker.cluster, to, cidr));
        if let Some(cidr) = cidr.filter(|_| !reachable) {
            let (from, to) = (&asker.cluster.name, &to.name);
            self.plan.skipped.insert(format!("{from} to {cidr} of {to}: {from} cannot route to it"));
        }
        reachable
    }

    /// As the plan decides it: no overlap with the own CIDRs, nor with those of a third cluster.
    fn routable(&self, at: &ClusterLayout, owner: &ClusterLayout, cidr: IpNetwork) -> bool {
        let clashes = |cluster: &ClusterLayout, other: IpNetwork| {
            cluster.pod_cidrs.iter().chain(&cluster.service_cidrs).any(|&own| overlap(own, other))
        };
        if clashes(at, cidr) {
            return false;
        }
        let third = self.layout.clusters.iter().filter(|c| c.name != at.name && c.name != owner.name);
        let rivals = third.flat_map(|c| c.pod_cidrs.iter().chain(&c.service_cidrs).copied());
        !rivals.filter(|&rival| !clashes(at, rival)).any(|rival| overlap(rival, cidr))
    }
}

fn cidr_of(cidrs: &[IpNetwork], family: Family) -> Option<IpNetwork> {
    cidrs.iter().copied().find(|&cidr| Family::of_network(cidr) == family)
}

fn of(addresses: &[IpAddr], family: Family) -> impl Iterator<Item = IpAddr> {
    addresses.iter().copied().filter(move |&address| Family::of(address) == family)
}

fn end(cluster: &ClusterLayout, node: &NodeLayout, kind: EndKind, name: &str) -> End {
    End { cluster: cluster.name.clone(), role: role(cluster, node), kind, name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    const REMOTE: Scope = Scope { remote: true, own: false };

    fn overlays(layout: &Layout) -> Overlays {
        let address = |node: &NodeLayout| -> Vec<IpAddr> {
            vec![format!("241.0.0.{}", node.number).parse().unwrap(), "fd41::1".parse().unwrap()]
        };
        layout.nodes().map(|(_, node)| (node.place.clone(), address(node))).collect()
    }

    fn scenario(clusters: &[&str]) -> Scenario {
        let clusters = clusters.iter().map(|text| text.parse().unwrap()).collect();
        Scenario { clusters, ..Scenario::default() }
    }

    fn planned(scenario: &Scenario, scope: Scope) -> Plan {
        let layout = scenario.layout().unwrap();
        plan(&layout, &overlays(&layout), scope)
    }

    #[test]
    fn every_kind_on_every_role_asks_every_kind_on_every_role() {
        let plan = planned(&Scenario::default(), REMOTE);
        let classes: BTreeSet<_> =
            plan.probes.iter().map(|p| (p.from.kind, p.from.role, p.to.kind, p.to.role, p.family)).collect();
        // From {pod, host} on three roles to {pod, host, service} on three roles, but P2P has one cluster only; both families.
        assert_eq!(classes.len(), (6 * 9 - 2 * 3) * 2);
        // 16 askers; a and b: 3 nodes each see 5 others' pods and hosts and 4 services; c's two see 6 and 4; both families.
        assert_eq!(plan.probes.len(), (12 * (10 + 4) + 4 * (12 + 4)) * 2);
        assert!(plan.skipped.is_empty() && plan.missing.is_empty());
    }

    #[test]
    fn a_pod_must_be_seen_as_itself_and_a_host_as_its_bridge_or_overlay() {
        let plan = planned(&Scenario::default(), REMOTE);
        let seen = |from: &str, to: &str| {
            let probe =
                plan.probes.iter().find(|p| p.from.name == from && p.to.name == to && p.family == Family::V4);
            probe.unwrap().target.source.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(seen("a3-pod1", "b1-pod1"), ["10.1.3.2"]);
        assert_eq!(seen("a3-pod1", "b1"), ["10.1.3.2"]);
        assert_eq!(seen("a3", "b1-pod1"), ["10.1.3.1", "241.0.0.3"]);
        assert!(seen("a3", "b/last").contains(&"10.2.1.1".to_owned()));
    }

    #[test]
    fn services_take_no_icmp_and_name_their_backend() {
        let plan = planned(&Scenario::default(), REMOTE);
        let probe = plan.probes.iter().find(|p| p.to.kind == EndKind::Service).unwrap();
        assert!(!probe.target.takes(Protocol::Icmp));
        assert_eq!(
            (probe.to.name.as_str(), probe.target.answer.first().map(String::as_str)),
            ("b/first", Some("b1-pod1"))
        );
    }

    #[test]
    fn clusters_that_cannot_answer_each_other_are_left_out_and_said_so() {
        let mut scenario = scenario(&["a:gateway:2", "b:p2p:2"]);
        scenario.clusters[1].pod_cidrs = vec!["10.1.0.0/16".into()];
        let plan = planned(&scenario, REMOTE);
        let over_ipv4 = || plan.probes.iter().filter(|p| p.family == Family::V4);
        assert!(over_ipv4().all(|p| p.from.kind == EndKind::Host && p.to.kind != EndKind::Pod));
        assert!(
            over_ipv4().any(|p| p.to.kind == EndKind::Service)
                && over_ipv4().any(|p| p.to.kind == EndKind::Host)
        );
        for skipped in [
            "pods of a to b over IPv4: b cannot route to them",
            "b to 10.1.0.0/16 of a: b cannot route to it",
        ] {
            assert!(plan.skipped.contains(skipped), "{:?}", plan.skipped);
        }
    }

    #[test]
    fn overlapping_services_leave_pods_and_hosts_reachable() {
        let mut scenario = scenario(&["a:gateway:2", "b:p2p:2"]);
        scenario.families = vec![Family::V4];
        scenario.clusters.iter_mut().for_each(|c| c.service_cidrs = vec!["10.96.0.0/12".into()]);
        let plan = planned(&scenario, REMOTE);
        assert!(plan.probes.iter().all(|p| p.to.kind != EndKind::Service));
        assert!(plan.probes.iter().any(|p| p.to.kind == EndKind::Pod));
        assert!(plan.skipped.contains("a to 10.96.0.0/12 of b: a cannot route to it"), "{:?}", plan.skipped);
    }

    #[test]
    fn a_third_cluster_makes_a_cidr_ambiguous() {
        let mut scenario = scenario(&["a:p2p:1", "b:p2p:1", "c:p2p:1"]);
        scenario.families = vec![Family::V4];
        scenario.clusters[2].pod_cidrs = vec!["10.2.0.0/16".into()];
        let plan = planned(&scenario, REMOTE);
        assert!(
            plan.skipped.contains("pods of b to a over IPv4: a cannot route to them"),
            "{:?}",
            plan.skipped
        );
        assert!(plan.skipped.contains("a to 10.2.0.0/16 of b: a cannot route to it"), "{:?}", plan.skipped);
    }

    #[test]
    fn a_host_without_an_overlay_address_is_reported() {
        let layout = scenario(&["a:p2p:1", "b:p2p:1"]).layout().unwrap();
        let mut overlays = overlays(&layout);
        overlays.remove("b1");
        let plan = plan(&layout, &overlays, REMOTE);
        assert!(plan.missing.contains("b1 has no IPv4 overlay address"));
    }

    #[test]
    fn one_family_in_common_is_what_is_asked() {
        let mut scenario = scenario(&["a:p2p:1", "b:p2p:1"]);
        scenario.clusters[1].families = Some(vec![Family::V6]);
        let plan = planned(&scenario, REMOTE);
        assert!(!plan.probes.is_empty() && plan.probes.iter().all(|p| p.family == Family::V6));
    }

    #[test]
    fn the_own_cluster_and_the_outside_are_asked_on_demand() {
        let plan = planned(&Scenario::default(), Scope { remote: false, own: true });
        assert!(plan.probes.iter().all(|p| p.to.cluster == p.from.cluster || p.to.kind == EndKind::Outside));
        let outside =
            plan.probes.iter().find(|p| p.from.name == "a1-pod1" && p.to.kind == EndKind::Outside).unwrap();
        assert_eq!(outside.target.source.iter().next().unwrap().to_string(), "172.31.1.1");
    }
}
