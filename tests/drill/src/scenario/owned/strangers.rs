//! Others on a host: what they have there, what shows it, and how they load it anew.

/// A host with flannel, Calico, three packet filters that drop what is forwarded, and routes, rules and nexthops beside ours.
pub(super) const STRANGERS: &str = "set -e
ip link add flannel.1 type vxlan id 1 dstport 8472 dev eth0 nolearning
ip link set flannel.1 addrgenmode none; ip addr add 10.250.1.0/32 dev flannel.1; ip link set flannel.1 up
bridge fdb append 02:aa:00:00:00:01 dev flannel.1 dst 172.31.9.9 self permanent
ip neigh add 10.250.9.0 lladdr 02:aa:00:00:00:01 dev flannel.1 nud permanent
ip route add 10.250.9.0/24 via 10.250.9.0 dev flannel.1 onlink
ip link add vxlan.calico type vxlan id 4096 dstport 4789 dev eth0 nolearning
ip link set vxlan.calico addrgenmode none; ip link set vxlan.calico up
for table in 199 200 201 202; do ip route add 198.51.100.0/24 via 172.31.0.1 table $table proto static; done
ip -6 route add 2001:db8:77::/48 via fd00:ac1f::1 table 200 proto static
ip rule add pref 198 from 198.51.100.0/24 lookup 202
ip rule add pref 201 to 203.0.113.0/24 lookup main
ip -6 rule add pref 201 to 2001:db8:77::/48 lookup main
ip nexthop add id 5 via 172.31.0.1 dev eth0
ip nexthop add id 193000003 via 172.31.0.1 dev eth0
nft -f - <<'END'
table inet strangers {
  set theirs { type ipv4_addr; elements = { 192.0.2.9 } }
  chain forward { type filter hook forward priority 5; policy accept; ip daddr @theirs counter drop; }
}
END
iptables-legacy -w -P FORWARD DROP; iptables-legacy -w -A FORWARD -s 192.0.2.0/24 -j DROP
ip6tables-legacy -w -P FORWARD DROP; ip6tables-legacy -w -A FORWARD -j DROP
iptables-nft -A FORWARD -s 192.0.2.0/24 -j REJECT
";
/// Policies need no cipher: also a kernel without ESP has them, where it has xfrm at all.
pub(super) const POLICIES: &str = "
ip xfrm policy add src 192.0.2.1/32 dst 192.0.2.2/32 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 77 mode tunnel
ip xfrm policy add src 192.0.2.2/32 dst 192.0.2.1/32 dir fwd action block
";
/// A packet filter of nftables that drops what it does not know, as its owner loads it.
pub(super) const NATIVE: &str = "nft -f - <<'END'
table ip native { }
delete table ip native
table ip native {
  chain forward {
    type filter hook forward priority filter + 20; policy drop;
    iifname \"lo\" accept
    ip saddr 192.0.2.0/24 counter drop
  }
}
END
";
/// As the service of iptables-legacy and that of iptables-nft load what they had saved.
pub(super) const LEGACY: &str =
    "for s in '' 6; do ip${s}tables-legacy-save | grep -v clusterlink | ip${s}tables-legacy-restore -w; done
";
pub(super) const IPTABLES: &str =
    "for s in '' 6; do ip${s}tables-nft-save -t filter | grep -v clusterlink | ip${s}tables-nft-restore; done
";
/// As firewalld does it: the whole table in one transaction, and a rejection at the end of its chain.
pub(super) const FIREWALLD: &str = "nft -f - <<'END'
table inet firewalld { }
delete table inet firewalld
table inet firewalld {
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state established,related accept
    iifname \"lo\" accept
    reject with icmpx admin-prohibited
  }
}
END
";
/// Of each of them what the dump must show: what it does not show is not compared.
pub(super) const SHOWN: [&str; 19] = [
    "flannel.1: <",
    "vxlan id 4096",
    "10.250.1.0/32",
    "dst 172.31.9.9",
    "10.250.9.0 dev flannel.1 lladdr",
    "198.51.100.0/24 via 172.31.0.1 dev eth0 table 199",
    "198.51.100.0/24 via 172.31.0.1 dev eth0 table 200",
    "2001:db8:77::/48 via",
    "198:",
    "to 203.0.113.0/24",
    "to 2001:db8:77::/48",
    "id 5 via",
    "id 193000003 via",
    "table inet strangers",
    "table inet firewalld",
    "table ip native",
    "-A FORWARD -s 192.0.2.0/24 -j DROP",
    "-A FORWARD -j DROP",
    "eth0 rp_filter",
];
/// As it was before they came.
pub(super) const STRANGERS_GONE: &str = "ip link del flannel.1; ip link del vxlan.calico
for table in 199 200 201 202; do ip route del 198.51.100.0/24 table $table proto static; done
ip -6 route del 2001:db8:77::/48 table 200
ip rule del pref 198; ip rule del pref 201; ip -6 rule del pref 201; ip nexthop del id 5; ip nexthop del id 193000003
nft delete table inet strangers; nft delete table inet firewalld; nft delete table ip native
iptables-legacy -w -F FORWARD; iptables-legacy -w -P FORWARD ACCEPT
ip6tables-legacy -w -F FORWARD; ip6tables-legacy -w -P FORWARD ACCEPT
iptables-nft -D FORWARD -s 192.0.2.0/24 -j REJECT; ip xfrm policy flush 2>/dev/null; true";
/// Everything of a host, without counters, handles and indexes; what ages is nobody's, such as what bridges learn.
pub(super) const DUMP: &str = "ip -o -d link | sed 's/^[0-9]*: //; s/ state [A-Z]* / /; s/@if[0-9]*//; s/link-netnsid [0-9]*//; s/bridge forward_delay.*//; s/bridge_slave.*//; s/numtxqueues.*//'
ip -o address | sed 's/^[0-9]*: //' | grep -v 'valid_lft [0-9]'
for f in -4 -6; do ip $f route show table all; ip $f rule; done | grep -v expires
ip nexthop; ip neigh show nud permanent; bridge fdb | grep permanent | grep -v 33:33 | grep -v '01:00:5e'
nft -s list ruleset; iptables-legacy-save | grep -v '^#' | sed 's/\\[.*\\]//'; ip6tables-legacy-save | grep -v '^#' | sed 's/\\[.*\\]//'
ip xfrm policy 2>/dev/null; ip xfrm state 2>/dev/null
for d in all default eth0 cni0; do for s in rp_filter forwarding; do echo $d $s $(cat /proc/sys/net/ipv4/conf/$d/$s); done; done";
