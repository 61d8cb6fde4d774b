//! Service addresses in the manner of kube-proxy: DNAT to the backend, a masquerade mark for what does not come from
//! the cluster's pods, and the forward chain with its INVALID drop.

use std::net::{IpAddr, SocketAddr};

use api::Family;
use ipnetwork::IpNetwork;

use crate::addressing::{ClusterLayout, SERVICE_PORT};

/// The service addresses of a cluster, of one family.
pub(super) struct Proxy {
    family: Family,
    /// The pods' CIDR, where kube-proxy has been told: what comes from elsewhere is masqueraded.
    cluster: Option<IpNetwork>,
    /// Service address and backend.
    services: Vec<(IpAddr, IpAddr)>,
}

const PROTOCOLS: [&str; 2] = ["tcp", "udp"];

impl Proxy {
    /// What all nodes of the cluster have.
    pub(super) fn new(cluster: &ClusterLayout, family: Family, pods: Option<IpNetwork>) -> Self {
        let of = |addresses: &[IpAddr]| addresses.iter().copied().find(|&ip| Family::of(ip) == family);
        let pair = |service: &crate::addressing::ServiceLayout| {
            Some((of(&service.addresses)?, of(&service.backend.addresses)?))
        };
        Proxy { family, cluster: pods, services: cluster.services.iter().filter_map(pair).collect() }
    }

    /// Lines of the table `nat` for iptables-restore.
    pub(super) fn iptables_nat(&self) -> Vec<String> {
        let portals = "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
        let mut lines = vec![
            ":KUBE-SERVICES -".to_owned(),
            ":KUBE-MARK-MASQ -".to_owned(),
            ":KUBE-POSTROUTING -".to_owned(),
            format!("-A PREROUTING {portals}"),
            format!("-A OUTPUT {portals}"),
            "-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING"
                .to_owned(),
            "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000".to_owned(),
            "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN".to_owned(),
            "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000".to_owned(),
            "-A KUBE-POSTROUTING -j MASQUERADE --random-fully".to_owned(),
        ];
        for (number, &(address, backend)) in self.services.iter().enumerate() {
            for protocol in PROTOCOLS {
                lines.extend(self.iptables_service(number, address, backend, protocol));
            }
        }
        lines
    }

    fn iptables_service(
        &self,
        number: usize,
        address: IpAddr,
        backend: IpAddr,
        protocol: &str,
    ) -> Vec<String> {
        let chain = format!("KUBE-SVC-{}{number}", protocol.to_uppercase());
        let to = SocketAddr::new(backend, SERVICE_PORT);
        let mut lines = vec![
            format!(":{chain} -"),
            format!(
                "-A KUBE-SERVICES -d {address} -p {protocol} -m {protocol} --dport {SERVICE_PORT} -j {chain}"
            ),
            // The backend that calls its own service would answer itself.
            format!("-A {chain} -s {backend} -j KUBE-MARK-MASQ"),
        ];
        lines.extend(self.cluster.map(|cluster| format!("-A {chain} ! -s {cluster} -j KUBE-MARK-MASQ")));
        lines.push(format!("-A {chain} -p {protocol} -m {protocol} -j DNAT --to-destination {to}"));
        lines
    }

    /// Lines of the table `filter` for iptables-restore.
    pub(super) fn iptables_filter() -> Vec<String> {
        [
            ":KUBE-FORWARD -",
            "-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD",
            "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
            "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
            "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// The table `nat` as a native one.
    pub(super) fn nft(&self) -> String {
        let ip = match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        let mut services = String::new();
        for &(address, backend) in &self.services {
            let to = SocketAddr::new(backend, SERVICE_PORT);
            for protocol in PROTOCOLS {
                let this = format!("{ip} daddr {address} {protocol} dport {SERVICE_PORT}");
                if let Some(cluster) = self.cluster {
                    services +=
                        &format!("    {this} {ip} saddr != {cluster} meta mark set meta mark | 0x4000\n");
                }
                services += &format!("    {this} {ip} saddr {backend} meta mark set meta mark | 0x4000\n");
                services += &format!("    {this} dnat to {to}\n");
            }
        }
        format!(
            "table {ip} kube-proxy {{
  chain services {{
{services}  }}
  chain nat-prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }}
  chain nat-output {{
    type nat hook output priority -100; policy accept;
    jump services
  }}
  chain nat-postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & 0x4000 == 0 return
    meta mark set meta mark ^ 0x4000
    masquerade fully-random
  }}
}}
"
        )
    }
}
