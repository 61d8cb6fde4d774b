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
        host.sh("iptables-nft -P FORWARD DROP; iptables-legacy -w -P FORWARD DROP; iptables-legacy -w -A FORWARD -j DROP");
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

#[test]
fn what_nobody_expects_on_a_host_does_not_stop_the_reading() {
    on_host(|host| {
        // Each of them where this kernel has it.
        let exotic = [
            "ip link add bond7 type bond",
            "ip link add link eth0 name eth0.7 type vlan id 7",
            "ip link add link eth0 name mv7 type macvlan mode bridge",
            "ip link add gre7 type gretap local 172.31.1.1 remote 172.31.9.9",
            "ip tuntap add dev tun7 mode tun; ip addr add 192.0.2.1 peer 192.0.2.2/32 dev tun7; ip link set tun7 up",
            "ip link add vrf7 type vrf table 77; ip link set vrf7 up",
            "ip link add vxd7 type vxlan dstport 4790 external; ip link set vxd7 up",
            "ip route add 198.51.100.0/24 nexthop via 172.31.0.1 weight 3 nexthop via 172.31.0.2",
            "ip route add 198.51.101.0/24 via inet6 fc00:31::9 dev eth0",
            "ip route add 198.51.102.0/24 encap ip id 7 dst 172.31.9.9 dev eth0",
            "ip route add 198.51.103.0/24 nexthop encap ip id 7 dst 172.31.9.9 dev eth0 nexthop via 172.31.0.2",
            "ip route add 198.51.104.0/24 via 172.31.0.1 mtu lock 1300 advmss 1000 congctl cubic initcwnd 20",
            "ip route add 198.51.105.0/24 via 172.31.0.1 tos 0x10 realm 5",
            "ip -6 route add 2001:db8:7::/48 encap seg6 mode encap segs fc00:31::7 dev eth0",
            "ip -6 route add 2001:db8:8::/48 from 2001:db8:9::/48 via fc00:31::9 dev eth0",
            "ip -6 route add 2001:db8:a::/48 nexthop via fc00:31::9 dev eth0 nexthop via fc00:31::a dev eth0",
            "ip route add prohibit 198.51.106.0/24; ip route add throw 198.51.107.0/24; ip route add blackhole 198.51.108.0/24",
            "ip nexthop add id 7 blackhole; ip nexthop add id 8 via 172.31.0.1 fdb; ip nexthop add id 9 group 8 fdb",
            "ip nexthop add id 10 encap ip id 7 dst 172.31.9.9 dev eth0; ip route add 198.51.109.0/24 nhid 10",
            "ip rule add pref 50 fwmark 7/7 uidrange 0-99 ipproto tcp sport 7 dport 7-9 suppress_prefixlength 0 lookup main",
            "ip rule add pref 51 not from 198.51.100.0/24 goto 60; ip rule add pref 60 nop; ip rule add pref 61 l3mdev",
            "ip neigh add proxy 198.51.100.7 dev eth0; ip neigh add 172.31.0.77 dev eth0 nud noarp",
            "ip addr add 127.7.7.7/8 dev lo scope host label lo:seven; ip maddr add 33:33:00:00:00:77 dev eth0",
            "bridge fdb add 02:00:00:00:00:77 dev vxd7 dst 172.31.9.9 src_vni 7 vni 8 self",
        ];
        let made = exotic.into_iter().filter(|command| host.try_sh(command).status.success()).count();
        assert!(made > exotic.len() / 2, "{made} of {}", exotic.len());
        host.apply(&spec(GATEWAY));
        assert_eq!(host.apply(&spec(GATEWAY)).changed, 0);
        host.cleanup();
    });
}
