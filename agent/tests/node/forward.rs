//! Where a chain of somebody else drops what is forwarded, our accept stands in it, in the backend that holds it.

use crate::world::{GATEWAY, Host, on_host, spec};

const OURS: &str = "-A FORWARD -m mark --mark 0x20000/0x20000 -m comment --comment clusterlink -j ACCEPT";

fn rules(host: &Host, program: &str) -> Vec<String> {
    host.sh(&format!("{program} -w -S FORWARD")).lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn in_iptables_of_nft() {
    on_host(|host| {
        host.sh(
            "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -m conntrack --ctstate INVALID -j DROP
             ip6tables-nft -A FORWARD -j REJECT",
        );
        host.apply(&spec(GATEWAY));
        assert_eq!(rules(host, "iptables-nft")[0], OURS);
        assert_eq!(rules(host, "ip6tables-nft")[0], OURS);
        assert_eq!(host.sh("cat /proc/thread-self/net/ip_tables_names 2>/dev/null || true"), "");
    });
}

#[test]
fn in_iptables_legacy() {
    on_host(|host| {
        // Its lock is one file for all namespaces.
        host.sh("iptables-legacy -w -P FORWARD DROP; iptables-legacy -w -N DOCKER
             iptables-legacy -w -A FORWARD -j DOCKER");
        host.apply(&spec(GATEWAY));
        assert_eq!(rules(host, "iptables-legacy")[0], OURS);
        // The other backend holds nothing, and gets nothing.
        assert!(!host.sh("nft list tables").contains("table ip filter"));
        host.cleanup();
        assert_eq!(rules(host, "iptables-legacy"), ["-A FORWARD -j DOCKER"]);
    });
}

#[test]
fn in_a_firewall_of_nft() {
    on_host(|host| {
        host.sh(
            "nft add table inet firewall
             nft add chain inet firewall check
             nft add rule inet firewall check ct state invalid drop
             nft add chain inet firewall transit '{ type filter hook forward priority 0; policy accept; }'
             nft add rule inet firewall transit ct state vmap '{ established : accept, invalid : jump check }'
             nft add chain inet firewall quiet '{ type filter hook forward priority 3; policy accept; }'
             nft add table ip kube-proxy
             nft add chain ip kube-proxy filter-forward '{ type filter hook forward priority -101; policy drop; }'",
        );
        host.apply(&spec(GATEWAY));
        let chain = host.sh("nft list chain inet firewall transit");
        let rule = chain.lines().nth(3).unwrap().trim();
        assert_eq!(rule, "meta mark & 0x00020000 == 0x00020000 accept comment \"clusterlink\"");
        // Where nothing drops nothing is needed, and an engine's own drops are meant.
        assert!(!host.sh("nft list chain inet firewall quiet").contains("clusterlink"));
        assert!(!host.sh("nft list table ip kube-proxy").contains("clusterlink"));
    });
}

#[test]
fn it_is_moved_before_a_drop_repaired_and_follows_the_mark() {
    on_host(|host| {
        let mut config = spec(GATEWAY);
        host.sh("iptables-nft -P FORWARD DROP");
        host.apply(&config);
        host.sh("iptables-nft -I FORWARD 1 -s 192.0.2.0/24 -j DROP");
        assert_eq!(host.apply(&config).changed, 1);
        assert_eq!(rules(host, "iptables-nft"), [OURS, "-A FORWARD -s 192.0.2.0/24 -j DROP"]);
        host.sh("iptables-nft -F FORWARD");
        assert_eq!(host.apply(&config).changed, 1);
        assert_eq!(rules(host, "iptables-nft"), [OURS]);
        config.firewall.as_mut().unwrap().mark = Some(0x40_0000);
        host.apply(&config);
        assert_eq!(rules(host, "iptables-nft"), [OURS.replace("0x20000", "0x400000")]);
    });
}

#[test]
fn it_stands_behind_an_engine_of_network_policy() {
    on_host(|host| {
        host.sh("iptables-nft -N cali-FORWARD; iptables-nft -A cali-FORWARD -j DROP
             iptables-nft -A FORWARD -j cali-FORWARD; iptables-nft -A FORWARD -j DROP");
        host.apply(&spec(GATEWAY));
        assert_eq!(rules(host, "iptables-nft"), ["-A FORWARD -j cali-FORWARD", OURS, "-A FORWARD -j DROP"]);
    });
}
