//! A node's packet filter as its CNI, its kube-proxy and a hardened host leave it: FORWARD drops by policy and accepts
//! the cluster's own traffic only (pods among each other, pods to the underlay, the cluster's nodes to pods). Where a real
//! kube-proxy and a real flannel are, they write their own rules, and only the hardened host's are here.

use std::net::IpAddr;

use api::Family;
use ipnetwork::IpNetwork;

use super::UPLINK;
use super::cni::Masquerade;
use super::proxy::Proxy;
use crate::addressing::{ClusterLayout, Layout, NodeLayout};
use crate::scenario::{ControlPlane, Firewall};

/// Text for a program that loads it as one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Programs that can load it, the first that exists is taken.
    pub programs: &'static [&'static str],
    /// Their arguments.
    pub arguments: &'static [&'static str],
    /// What they read.
    pub text: String,
}

/// What a node's packet filter is loaded with.
pub(super) fn rulesets(layout: &Layout, cluster: &ClusterLayout, node: &NodeLayout) -> Vec<Ruleset> {
    let rules = |(&pods, &own)| Rules {
        cluster,
        pods,
        kubernetes: (layout.control_plane == ControlPlane::Embedded).then(|| KubernetesRules {
            proxy: Proxy::new(cluster, Family::of_network(pods), layout.proxy_cluster_cidr.then_some(pods)),
            masquerade: Masquerade { cluster: pods, node: own, kind: layout.masquerade },
        }),
    };
    let families: Vec<Rules<'_>> = cluster.pod_cidrs.iter().zip(&node.pod_cidrs).map(rules).collect();
    match layout.firewall {
        Firewall::Iptables => families.iter().map(Rules::iptables).collect(),
        Firewall::Nft => {
            let tables: String = families.iter().map(Rules::nft).collect();
            let forward = forward_chain(&families);
            vec![Ruleset { programs: &["nft"], arguments: &["-f", "-"], text: tables + &forward }]
        }
    }
}

/// The rules of one family.
struct Rules<'a> {
    cluster: &'a ClusterLayout,
    pods: IpNetwork,
    kubernetes: Option<KubernetesRules>,
}

/// What kube-proxy and the CNI would write.
struct KubernetesRules {
    proxy: Proxy,
    masquerade: Masquerade,
}

impl Rules<'_> {
    fn family(&self) -> Family {
        Family::of_network(self.pods)
    }

    /// Underlay addresses of the cluster's nodes.
    fn nodes(&self) -> impl Iterator<Item = IpAddr> {
        let family = self.family();
        self.cluster
            .nodes
            .iter()
            .flat_map(|node| &node.underlay)
            .copied()
            .filter(move |&ip| Family::of(ip) == family)
    }

    fn iptables(&self) -> Ruleset {
        let pods = self.pods;
        let mut filter = match &self.kubernetes {
            Some(_) => Proxy::iptables_filter(),
            None => vec!["-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".to_owned()],
        };
        filter.push(format!("-A FORWARD -s {pods} -d {pods} -j ACCEPT"));
        filter.push(format!("-A FORWARD -s {pods} -o {UPLINK} -j ACCEPT"));
        filter.extend(self.nodes().map(|node| format!("-A FORWARD -s {node} -d {pods} -j ACCEPT")));
        let mut text = String::new();
        if let Some(KubernetesRules { proxy, masquerade }) = &self.kubernetes {
            let nat = [proxy.iptables_nat(), masquerade.iptables()].concat();
            text += &restore_table("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"], None, &nat);
        }
        text += &restore_table("filter", &["INPUT", "FORWARD", "OUTPUT"], Some("FORWARD"), &filter);
        let programs: &[&str] = match self.family() {
            Family::V4 => &["iptables-nft-restore", "iptables-restore"],
            Family::V6 => &["ip6tables-nft-restore", "ip6tables-restore"],
        };
        Ruleset { programs, arguments: &[], text }
    }

    fn nft(&self) -> String {
        let tables = |rules: &KubernetesRules| rules.proxy.nft() + &rules.masquerade.nft();
        self.kubernetes.as_ref().map(tables).unwrap_or_default()
    }
}

/// One table of iptables-restore: chains are declared before rules speak of them.
fn restore_table(name: &str, builtin: &[&str], dropping: Option<&str>, lines: &[String]) -> String {
    let policy = |chain: &str| if dropping == Some(chain) { "DROP" } else { "ACCEPT" };
    let mut text = format!("*{name}\n");
    for chain in builtin {
        text += &format!(":{chain} {}\n", policy(chain));
    }
    let (chains, rules): (Vec<&String>, Vec<&String>) = lines.iter().partition(|line| line.starts_with(':'));
    for line in chains.into_iter().chain(rules) {
        text += line;
        text.push('\n');
    }
    text + "COMMIT\n"
}

/// The host's native forward chain, for both families.
fn forward_chain(families: &[Rules<'_>]) -> String {
    let mut accepts = String::new();
    for rules in families {
        let ip = match rules.family() {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        let pods = rules.pods;
        accepts += &format!("    {ip} saddr {pods} {ip} daddr {pods} accept\n");
        accepts += &format!("    {ip} saddr {pods} oifname \"{UPLINK}\" accept\n");
        for node in rules.nodes() {
            accepts += &format!("    {ip} saddr {node} {ip} daddr {pods} accept\n");
        }
    }
    format!(
        "table inet firewall {{
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state invalid drop
    meta mark & 0x4000 == 0x4000 accept
    ct state established,related accept
{accepts}  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn texts(firewall: Firewall) -> Vec<String> {
        of(&Scenario { firewall, ..Scenario::default() })
    }

    fn of(scenario: &Scenario) -> Vec<String> {
        let layout = scenario.layout().unwrap();
        let cluster = &layout.clusters[0];
        rulesets(&layout, cluster, &cluster.nodes[0]).into_iter().map(|ruleset| ruleset.text).collect()
    }

    #[test]
    fn a_real_kube_proxy_and_a_real_cni_find_their_chains_empty() {
        for firewall in [Firewall::Iptables, Firewall::Nft] {
            let texts =
                of(&Scenario { firewall, control_plane: ControlPlane::Kubernetes, ..Scenario::default() });
            for text in &texts {
                assert!(
                    !text.contains("KUBE") && !text.contains("kube-proxy") && !text.contains("MASQ"),
                    "{text}"
                );
                assert!(text.contains("FORWARD DROP") || text.contains("policy drop"), "{text}");
            }
            assert!(!texts.is_empty());
        }
    }

    #[test]
    fn without_a_cluster_cidr_only_the_cnis_masquerade_is_left() {
        for firewall in [Firewall::Iptables, Firewall::Nft] {
            let scenario = Scenario {
                firewall,
                proxy_cluster_cidr: false,
                masquerade: crate::scenario::Masquerade::Outgoing,
                ..Scenario::default()
            };
            let text = of(&scenario).concat();
            for entering in [
                "! -s 10.1.0.0/16 -j KUBE-MARK-MASQ",
                "! -s 10.1.0.0/16 -d 10.1.0.0/16",
                "saddr != 10.1.0.0/16 m",
            ] {
                assert!(!text.contains(entering), "{text}");
            }
            assert!(
                text.contains("10.1.0.0/16 ! -d 224.") || text.contains("10.1.0.0/16 ip daddr != 224."),
                "{text}"
            );
        }
    }

    #[test]
    fn iptables_drops_by_policy_and_declares_chains_first() {
        let texts = texts(Firewall::Iptables);
        assert_eq!(texts.len(), 2);
        for text in &texts {
            assert!(text.contains(":FORWARD DROP") && text.contains(":POSTROUTING ACCEPT"));
            for table in text.split("COMMIT\n").filter(|table| !table.is_empty()) {
                let (_, rules) = table.split_once("\n-A").unwrap();
                assert!(!rules.contains("\n:"), "a chain after a rule in {table}");
            }
        }
        assert!(
            texts[0].contains("-d 10.101.0.10 -p tcp")
                && texts[0].contains("DNAT --to-destination 10.1.1.2:8889")
        );
        assert!(texts[1].contains("DNAT --to-destination [fd00:10:1:1::2]:8889"));
    }

    #[test]
    fn nft_has_the_same_rules_in_one_transaction() {
        let texts = texts(Firewall::Nft);
        assert_eq!(texts.len(), 1);
        for part in [
            "policy drop",
            "ct state invalid drop",
            "ip daddr 10.101.0.11 udp dport 8889 dnat to 10.1.3.2:8889",
            "table ip6 flannel-ipv6",
            "ip saddr 172.31.1.3 ip daddr 10.1.0.0/16 accept",
        ] {
            assert!(texts[0].contains(part), "no {part:?} in {}", texts[0]);
        }
    }
}
