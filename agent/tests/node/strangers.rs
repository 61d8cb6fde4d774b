//! What is not ours is byte for byte the same after an apply, a change and a cleanup.

use crate::world::{GATEWAY, Host, P2P, on_host, spec, without_counters};

/// A host with flannel, firewalls of three kinds, and routes and nexthops of somebody.
fn strangers(host: &Host) {
    host.sh("ip link add flannel.1 type vxlan id 1 dstport 8472 local 172.31.1.1 dev eth0 nolearning
         ip link set flannel.1 addrgenmode none
         ip addr add 10.1.1.0/32 dev flannel.1; ip link set flannel.1 up
         bridge fdb append 02:aa:00:00:00:01 dev flannel.1 dst 172.31.9.9 self permanent
         ip neigh add 10.1.9.0 lladdr 02:aa:00:00:00:01 dev flannel.1 nud permanent
         ip route add 10.1.9.0/24 via 10.1.9.0 dev flannel.1 onlink
         ip route add 192.0.2.0/24 via 172.31.0.1
         ip route add 198.51.100.0/24 via 172.31.0.1 table 200 proto static
         ip route add 198.51.100.0/24 via 172.31.0.1 table 77
         ip rule add pref 77 from 198.51.100.0/24 lookup 77
         ip rule add pref 201 to 203.0.113.0/24 lookup main
         ip nexthop add id 193000001 via 172.31.0.1 dev eth0
         ip nexthop add id 5 via 172.31.0.1 dev eth0 protocol 193
         nft add table inet strangers
         nft add chain inet strangers c '{ type filter hook forward priority 5; policy accept; }'
         nft add rule inet strangers c counter
         iptables-nft -t nat -A POSTROUTING -s 10.1.0.0/16 -j MASQUERADE
         iptables-nft -A FORWARD -s 10.1.0.0/16 -j ACCEPT");
}

#[test]
fn cleanup_leaves_the_host_as_it_was() {
    on_host(|host| {
        strangers(host);
        host.sh("iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -j DROP");
        host.sh("nft add chain inet strangers d '{ type filter hook forward priority 6; policy drop; }'");
        let before = host.dump();
        host.apply(&spec(GATEWAY));
        assert_ne!(host.dump(), before);
        host.apply(&spec(P2P));
        host.cleanup();
        assert_eq!(host.dump(), before);
        assert_eq!(host.cleanup().changed, 0);
    });
}

#[test]
fn an_apply_touches_nothing_of_strangers() {
    on_host(|host| {
        strangers(host);
        let look = || {
            let text =
                host.sh("ip -d link show flannel.1; ip addr show flannel.1; bridge fdb show dev flannel.1
                 ip neigh show dev flannel.1 nud permanent
                 ip route; ip route show table 77; ip route show table 200 proto static
                 ip rule | grep -v 'proto 193'; ip nexthop show id 193000001; ip nexthop show id 5
                 nft -a list table inet strangers; nft -a list table ip nat; nft -a list table ip filter");
            text.lines().map(without_counters).collect::<Vec<_>>()
        };
        let before = look();
        host.apply(&spec(GATEWAY));
        assert_eq!(look(), before);
        host.apply(&spec(P2P));
        assert_eq!(look(), before);
    });
}

#[test]
fn a_device_of_ours_by_name_only_is_not_ours() {
    on_host(|host| {
        host.sh("ip link add vx-local type bridge; ip link set vx-local alias mine");
        let report = host.pass(&spec(GATEWAY));
        assert_eq!(report.differing.len(), 1, "{:?}", report.differing);
        assert!(report.differing[0].to_string().starts_with("device vx-local: a device of this name exists"));
        host.cleanup();
        assert!(host.sh("ip -d link show vx-local").contains("alias mine"));
    });
}
