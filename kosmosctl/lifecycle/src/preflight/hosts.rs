//! The hosts: their kernels, the UDP ports that have to be open, and who else wants these ports.

use std::collections::BTreeMap;

use api::{Cluster, NetworkType, Vtep};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};

use super::{Check, Findings, Mesh, observe::Seen};
use crate::{connect::Connection, manifest::NAMESPACE};

/// Nexthop objects came with it.
const OLDEST: (u32, u32) = (5, 3);
/// Resilient nexthop groups came with it.
const RESILIENT: (u32, u32) = (5, 13);
/// What CNIs use for their own VXLAN.
const OF_CNIS: [(u16, &str); 2] = [(8472, "flannel's and Cilium's VXLAN"), (4789, "Calico's VXLAN")];

pub(super) async fn check(
    member: &Connection,
    candidate: &Cluster,
    seen: &Seen,
    findings: &mut Findings,
) -> Result<(), kube::Error> {
    kernels(seen, findings);
    let ports = ports(candidate);
    say_ports(&candidate.name_any(), &ports, findings);
    let pods = Api::<Pod>::all(member.client.clone()).list(&ListParams::default()).await?;
    for (port, device) in &ports {
        let users = pods
            .iter()
            .filter(|pod| wants(pod, *port))
            .map(|pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()));
        if let Some(user) = users.into_iter().next() {
            findings.fail(
                Check::Ports,
                format!("UDP port {port}, which is {device}'s, is a host port of pod {user}: give --port {device}=PORT, the same in every cluster of the mesh"),
            );
        }
    }
    Ok(())
}

fn kernels(seen: &Seen, findings: &mut Findings) {
    let mut by_kernel: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in &seen.nodes {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        let kernel = info.map(|info| info.kernel_version.clone()).unwrap_or_default();
        by_kernel.entry(kernel).or_default().push(node.name_any());
    }
    if by_kernel.is_empty() {
        findings
            .warn(Check::Kernel, "the member cluster has no Node: there is nothing to join yet".to_owned());
    }
    for (kernel, nodes) in by_kernel {
        let nodes = nodes.join(", ");
        match parse(&kernel) {
            None => findings.warn(Check::Kernel, format!("the kernel of {nodes} is not known ({kernel:?}): it must be Linux 5.3 or newer")),
            Some(version) if version < OLDEST => findings.fail(
                Check::Kernel,
                format!("Linux {kernel} on {nodes} has no nexthop objects, which came with 5.3: upgrade it, or label these Nodes {}=true", api::EXCLUDE_LABEL),
            ),
            Some(version) if version < RESILIENT => findings.warn(
                Check::Kernel,
                format!("Linux {kernel} on {nodes} has no resilient nexthop groups, which came with 5.13: when a gateway comes or goes, some connections move"),
            ),
            Some(_) => findings.ok(Check::Kernel, format!("Linux {kernel} on {nodes}")),
        }
    }
}

fn parse(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The UDP ports of the cluster's tunnels, by their devices.
fn ports(candidate: &Cluster) -> Vec<(u16, &'static str)> {
    let options = candidate.spec.cluster_link_options.clone().unwrap_or_default();
    let given = options.ports.unwrap_or_default();
    let used = Vtep::ALL.into_iter().filter(|vtep| {
        options.network_type == NetworkType::Gateway || vtep.plane() == api::vtep::Plane::Bridge
    });
    let port = |vtep: Vtep| match vtep {
        Vtep::Bridge => given.bridge,
        Vtep::Local => given.local,
        Vtep::Bridge6 => given.bridge6,
        Vtep::Local6 => given.local6,
    };
    used.map(|vtep| (port(vtep).unwrap_or(vtep.default_port()), vtep.name())).collect()
}

fn say_ports(cluster: &str, ports: &[(u16, &'static str)], findings: &mut Findings) {
    let list = |wanted: &str| -> String {
        let texts: Vec<String> = ports
            .iter()
            .filter(|(_, device)| device.starts_with(wanted))
            .map(|(port, device)| format!("{port} ({device})"))
            .collect();
        texts.join(" and ")
    };
    let mut message = format!(
        "these must be open, which nothing here can measure: UDP {} between the nodes of all clusters that have tunnels between clusters",
        list("vx-bridge")
    );
    let local = list("vx-local");
    if !local.is_empty() {
        message.push_str(&format!("; UDP {local} among the nodes of cluster {cluster:?}"));
    }
    findings.ok(Check::Ports, message);
    for (port, device) in ports {
        if let Some((_, whose)) = OF_CNIS.iter().find(|(known, _)| known == port) {
            findings.warn(
                Check::Ports,
                format!("UDP port {port} of {device} is {whose}: choose another one where that CNI is used"),
            );
        }
    }
}

/// Whether a pod, of somebody else, holds this UDP port of its host.
fn wants(pod: &Pod, port: u16) -> bool {
    let Some(spec) = &pod.spec else { return false };
    if pod.namespace().as_deref() == Some(NAMESPACE) {
        return false;
    }
    let hosts_network = spec.host_network == Some(true);
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    ports.filter(|held| held.protocol.as_deref() == Some("UDP")).any(|held| {
        let on_host = if hosts_network { Some(held.container_port) } else { held.host_port };
        on_host == Some(i32::from(port))
    })
}

/// What the agents of a cluster that is joined already have measured.
pub(super) fn capabilities(mesh: &Mesh, candidate: &Cluster, findings: &mut Findings) {
    let name = candidate.name_any();
    let own = mesh.nodes.iter().filter(|node| node.spec.cluster_name.as_deref() == Some(name.as_str()));
    for node in own {
        let Some(status) = &node.status else { continue };
        let missing: Vec<&str> = NEEDED
            .into_iter()
            .filter(|needed| {
                !status.capabilities.is_empty() && !status.capabilities.iter().any(|has| has == needed)
            })
            .collect();
        if !missing.is_empty() {
            findings.warn(
                Check::Kernel,
                format!(
                    "ClusterNode {}: its kernel lacks {}, as its agent found",
                    node.name_any(),
                    missing.join(", ")
                ),
            );
        }
    }
}

/// What an agent names where it is there.
const NEEDED: [&str; 2] = ["resilient-nexthops", "nftables"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::preflight::Level;

    fn of(kernel: &str) -> Level {
        let node = serde_json::json!({"metadata": {"name": "n1"}, "status": {"nodeInfo": {
            "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": kernel,
            "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
            "systemUUID": ""}}});
        let nodes = vec![serde_json::from_value(node).unwrap()];
        let seen = Seen { nodes, pods: Default::default(), services: Default::default() };
        let mut findings = Findings::default();
        kernels(&seen, &mut findings);
        findings.0[0].level
    }

    #[test]
    fn kernels_are_judged_by_what_they_lack() {
        assert_eq!(of("6.1.0-27-amd64"), Level::Ok);
        assert_eq!(of("5.4.17-2136.el8uek.x86_64"), Level::Warning);
        assert_eq!(of("4.18.0-553.el8.x86_64"), Level::Failure);
        assert_eq!(of(""), Level::Warning);
    }

    #[test]
    fn a_host_port_of_somebody_else_is_found() {
        let pod = |spec| -> Pod {
            serde_json::from_value(
                serde_json::json!({"metadata": {"name": "p", "namespace": "x"}, "spec": spec}),
            )
            .unwrap()
        };
        let ports = |port: serde_json::Value| serde_json::json!([{"name": "c", "ports": [port]}]);
        let held = pod(
            serde_json::json!({"containers": ports(serde_json::json!({"containerPort": 9, "hostPort": 4876, "protocol": "UDP"}))}),
        );
        assert!(wants(&held, 4876) && !wants(&held, 4877));
        let inside = pod(
            serde_json::json!({"containers": ports(serde_json::json!({"containerPort": 4876, "protocol": "UDP"}))}),
        );
        assert!(!wants(&inside, 4876));
        let host = pod(
            serde_json::json!({"hostNetwork": true, "containers": ports(serde_json::json!({"containerPort": 4876, "protocol": "UDP"}))}),
        );
        assert!(wants(&host, 4876));
    }
}
