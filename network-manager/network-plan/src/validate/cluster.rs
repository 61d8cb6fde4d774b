//! A Cluster in words.

use std::collections::BTreeMap;

use api::{
    Cluster, ClusterLinkOptions, Family, TunnelType, Vtep,
    cluster::{OverlayCidrs, TunnelPorts},
    vtep::Plane,
};
use ipnetwork::IpNetwork;

use super::{Clusters, VTEPS};
use crate::{
    Snapshot,
    rejection::{Problem, Rejection, pool_field},
    span::{self, Span},
    topology::{Member, PerFamily, PerVtep},
};

const POD_CIDRS: &str = "status.clusterLinkStatus.podCIDRs";
const SERVICE_CIDRS: &str = "status.clusterLinkStatus.serviceCIDRs";

/// Room for a handful of nodes at least.
const LONGEST_POOL_V4: u8 = 28;
const LONGEST_POOL_V6: u8 = 120;

/// Every Cluster by name: as a member, or why it is none.
pub(super) fn read_all(snapshot: &Snapshot<'_>, rejections: &mut Vec<Rejection>) -> Clusters {
    let mut by_name: BTreeMap<&str, Vec<&Cluster>> = BTreeMap::new();
    for cluster in &snapshot.clusters {
        by_name.entry(cluster.metadata.name.as_deref().unwrap_or_default()).or_default().push(cluster);
    }
    let mut clusters = Clusters::new();
    for (name, same) in by_name {
        let read = match same.as_slice() {
            [cluster] => read(name, cluster, rejections),
            _ => Err(Problem::DuplicateCluster { name: name.to_owned(), count: same.len() }),
        };
        if let Err(problem) = &read {
            rejections.push(Rejection::cluster(name, problem.clone()));
        }
        clusters.insert(name.to_owned(), read);
    }
    clusters
}

fn read(name: &str, cluster: &Cluster, rejections: &mut Vec<Rejection>) -> Result<Member, Problem> {
    let options = cluster.spec.cluster_link_options.as_ref().ok_or(Problem::NoOptions)?;
    if !options.enable {
        return Err(Problem::Disabled);
    }
    if options.tunnel_type == TunnelType::Ipsec {
        return Err(Problem::IpsecUnsupported);
    }
    let status = cluster.status.as_ref().and_then(|status| status.cluster_link_status.as_ref());
    let mut cidrs = |field, texts: Option<&Vec<String>>| {
        read_cidrs(name, field, texts.map_or(&[], Vec::as_slice), rejections)
    };
    let pods = cidrs(POD_CIDRS, status.map(|status| &status.pod_cidrs));
    let services = cidrs(SERVICE_CIDRS, status.map(|status| &status.service_cidrs));
    let pools = read_pools(options)?;
    check_pools(&pools, &pods, &services)?;
    let ports = read_ports(options.ports.unwrap_or_default())?;
    warn_of_options(name, cluster, options, rejections);
    Ok(Member {
        name: name.to_owned(),
        mode: options.network_type,
        inner: PerFamily(Family::ALL.map(|family| options.ip_family.includes(family))),
        pools,
        ports,
        rule_priority: options.rule_priority,
        mtu: options.mtu,
        pods,
        services: services.clone(),
        routed_services: services,
        withheld: options.global_cidrs_map.keys().filter_map(|from| span::parse_cidr(from)).collect(),
        nodes: 0..0,
        bridges: Vec::new(),
    })
}

/// One bad CIDR never hides the others.
fn read_cidrs(
    cluster: &str,
    field: &'static str,
    texts: &[String],
    rejections: &mut Vec<Rejection>,
) -> Vec<IpNetwork> {
    let mut cidrs = Vec::with_capacity(texts.len());
    for text in texts {
        match span::parse_cidr(text) {
            Some(cidr) => cidrs.push(cidr),
            None => rejections
                .push(Rejection::cluster(cluster, Problem::InvalidCidr { field, value: text.clone() })),
        }
    }
    span::collapse(cidrs)
}

/// The pools where a Cluster names none: class E (RFC 1112) and unique local (RFC 4193), so nobody's public addresses.
fn default_pool(vtep: Vtep) -> &'static str {
    match vtep {
        Vtep::Bridge => "241.0.0.0/8",
        Vtep::Local => "242.0.0.0/8",
        Vtep::Bridge6 => "fd41:6272::/32",
        Vtep::Local6 => "fd42:6c6f::/32",
    }
}

fn read_pools(options: &ClusterLinkOptions) -> Result<PerVtep<IpNetwork>, Problem> {
    let [bridge, local, bridge6, local6] = VTEPS.map(|vtep| read_pool(options, vtep));
    Ok(PerVtep([bridge?, local?, bridge6?, local6?]))
}

fn read_pool(options: &ClusterLinkOptions, vtep: Vtep) -> Result<IpNetwork, Problem> {
    let pools: Option<&OverlayCidrs> = match vtep.plane() {
        Plane::Bridge => options.bridge_cidrs.as_ref(),
        Plane::Local => options.local_cidrs.as_ref(),
    };
    let text = pools.map_or(default_pool(vtep), |pools| match vtep.underlay() {
        Family::V4 => pools.ip.as_str(),
        Family::V6 => pools.ip6.as_str(),
    });
    let (longest, expected) = match vtep.underlay() {
        Family::V4 => (LONGEST_POOL_V4, "an IPv4 CIDR of /28 or wider such as 241.0.0.0/8"),
        Family::V6 => (LONGEST_POOL_V6, "an IPv6 CIDR of /120 or wider such as fd41:6272::/32"),
    };
    span::parse_cidr(text)
        .filter(|pool| Family::of_network(*pool) == vtep.underlay() && (1..=longest).contains(&pool.prefix()))
        .ok_or(Problem::InvalidPool { field: pool_field(vtep), value: text.to_owned(), expected })
}

fn check_pools(
    pools: &PerVtep<IpNetwork>,
    pods: &[IpNetwork],
    services: &[IpNetwork],
) -> Result<(), Problem> {
    for (at, vtep) in VTEPS.into_iter().enumerate() {
        let pool = pools[vtep];
        let own = |other_field: &str, other: &IpNetwork| Problem::PoolOverlap {
            field: pool_field(vtep),
            pool,
            other_field: other_field.to_owned(),
            other: other.to_string(),
        };
        let overlaps = |other: &&IpNetwork| Span::of(pool).overlaps(Span::of(**other));
        for other in &VTEPS[..at] {
            if overlaps(&&pools[*other]) {
                return Err(own(pool_field(*other), &pools[*other]));
            }
        }
        for (field, cidrs) in [(POD_CIDRS, pods), (SERVICE_CIDRS, services)] {
            if let Some(cidr) = cidrs.iter().find(overlaps) {
                return Err(own(field, cidr));
            }
        }
    }
    Ok(())
}

fn read_ports(ports: TunnelPorts) -> Result<PerVtep<u16>, Problem> {
    let given = [ports.bridge, ports.local, ports.bridge6, ports.local6];
    let mut read = PerVtep(VTEPS.map(Vtep::default_port));
    for (vtep, port) in VTEPS.into_iter().zip(given) {
        read[vtep] = port.unwrap_or(read[vtep]);
    }
    for (at, vtep) in VTEPS.into_iter().enumerate() {
        if read[vtep] == 0 {
            return Err(Problem::PortZero { device: vtep.name() });
        }
        if let Some(other) = VTEPS[..at].iter().find(|other| read[**other] == read[vtep]) {
            return Err(Problem::PortClash { port: read[vtep], one: other.name(), two: vtep.name() });
        }
    }
    Ok(read)
}

fn warn_of_options(
    name: &str,
    cluster: &Cluster,
    options: &ClusterLinkOptions,
    rejections: &mut Vec<Rejection>,
) {
    for (from, to) in &options.global_cidrs_map {
        let problem = Problem::GlobalMapUnsupported { from: from.clone(), to: to.clone() };
        rejections.push(Rejection::cluster(name, problem));
    }
    let mut ignored = |field, advice| {
        rejections.push(Rejection::cluster(name, Problem::IgnoredField { field, advice }));
    };
    if cluster.spec.kubeconfig.as_ref().is_some_and(|kubeconfig| !kubeconfig.is_empty()) {
        ignored("spec.kubeconfig", "everybody who may read Clusters reads that credential; remove it");
    }
    if options.use_ip_pool == Some(true) {
        ignored("spec.clusterLinkOptions.useIPPool", "remove it");
    }
}

/// A tunnel between clusters has one port at both ends. Clusters whose bridge ports differ from those of most (of the
/// first by name, where as many use others) stay out.
pub(super) fn agree_on_ports(clusters: &mut Clusters, rejections: &mut Vec<Rejection>) {
    for vtep in [Vtep::Bridge, Vtep::Bridge6] {
        let mut users: BTreeMap<u16, usize> = BTreeMap::new();
        let members = || clusters.values().filter_map(|member| member.as_ref().ok());
        for member in members() {
            *users.entry(member.ports[vtep]).or_default() += 1;
        }
        let most = users.values().max().copied().unwrap_or_default();
        let Some(mesh) = members().map(|member| member.ports[vtep]).find(|port| users[port] == most) else {
            continue;
        };
        for (name, member) in clusters.iter_mut() {
            let Ok(Member { ports, .. }) = member else { continue };
            let port = ports[vtep];
            if port != mesh {
                let problem = Problem::PortMismatch { device: vtep.name(), port, mesh };
                rejections.push(Rejection::cluster(name.as_str(), problem.clone()));
                *member = Err(problem);
            }
        }
    }
}

/// A service CIDR that overlaps the same cluster's pods cannot be told from them.
pub(super) fn separate_services(member: &mut Member, rejections: &mut Vec<Rejection>) {
    let Member { name, pods, routed_services, .. } = member;
    routed_services.retain(|service| {
        let pod = pods.iter().find(|pod| Span::of(**pod).overlaps(Span::of(*service)));
        if let Some(pod) = pod {
            let problem = Problem::ServiceInPods { service: *service, pod: *pod };
            rejections.push(Rejection::cluster(name.as_str(), problem));
        }
        pod.is_none()
    });
}
