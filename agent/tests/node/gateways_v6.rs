//! Packets of IPv6 between pods of two clusters in gateway mode, over an IPv6 underlay: pod, node, gateway, gateway,
//! node, pod.

use crate::packets::{Space, apply, can_send};
use crate::world::{Host, on_host};

const HOSTILE: &str = "
sysctl -qw net.ipv6.conf.all.forwarding=1
ip6tables-nft -P FORWARD DROP
ip6tables-nft -A FORWARD -m conntrack --ctstate INVALID -j DROP
ip6tables-nft -t nat -A POSTROUTING ! -o cni0 -j MASQUERADE";

/// Node 1 of each cluster is its gateway.
fn node(host: &Host, cluster: u8, number: u8) -> Space {
    let node = Space::new();
    host.sh(&format!(
        "ip link add port{cluster}{number} type veth peer name eth0 netns {}
         ip link set port{cluster}{number} master switch up",
        node.id()
    ));
    node.sh(
        host,
        &format!(
            "for which in all default eth0; do echo 0 > /proc/sys/net/ipv6/conf/$which/accept_dad; done
             ip link set lo up; ip link set eth0 up; ip addr add fc00:31::{cluster}{number}/64 dev eth0
             ip link add cni0 type bridge; ip addr add fd0{cluster}:{number}::1/64 dev cni0; ip link set cni0 up
             {HOSTILE}"
        ),
    );
    node
}

fn pod(host: &Host, node: &Space, cluster: u8, number: u8) -> Space {
    let pod = Space::new();
    pod.sh(host, "for which in all default; do echo 0 > /proc/sys/net/ipv6/conf/$which/accept_dad; done");
    node.sh(
        host,
        &format!(
            "ip link add plug type veth peer name eth0 netns {}; ip link set plug master cni0 up",
            pod.id()
        ),
    );
    pod.sh(
        host,
        &format!(
            "ip link set lo up; ip link set eth0 up; ip addr add fd0{cluster}:{number}::2/64 dev eth0
             ip route add default via fd0{cluster}:{number}::1
             nft add table ip6 seen
             nft add chain ip6 seen in \"{{ type filter hook input priority 0; }}\"
             nft add rule ip6 seen in ip6 saddr fd01:2::2 icmpv6 type echo-request counter"
        ),
    );
    pod
}

fn device(name: &str, plane: u8, cluster: u8, number: u8) -> String {
    let (id, port) = (60 + plane, 4862 + u16::from(plane));
    let pool = plane - 3;
    format!(
        "- {{type: vxlan, name: {name}, addr: \"fd4{pool}::{cluster}{number}/128\", mac: \"02:6{plane}:00:00:0{cluster}:0{number}\", bindDev: eth0, id: {id}, port: {port}}}\n"
    )
}

/// How to reach a node by a plane: its FDB entry and its neighbour entry.
fn peer(name: &str, plane: u8, cluster: u8, number: u8) -> (String, String) {
    let mac = format!("02:6{plane}:00:00:0{cluster}:0{number}");
    let pool = plane - 3;
    (
        format!("- {{ip: \"fc00:31::{cluster}{number}\", mac: \"{mac}\", dev: {name}}}\n"),
        format!("- {{ip: \"fd4{pool}::{cluster}{number}\", mac: \"{mac}\", dev: {name}}}\n"),
    )
}

fn firewall(own: u8, other: u8, number: u8, transit: bool) -> String {
    format!(
        "firewall:
  podCIDRs: [\"fd0{own}::/16\"]
  nodePodCIDRs: [\"fd0{own}:{number}::/64\"]
  overlayCIDRs: [\"fd41::{own}1/128\", \"fd42::{own}1/128\", \"fd42::{own}2/128\"]
  remoteCIDRs: [\"fd0{other}::/16\", \"fd41::{other}1/128\"]
  transit: {transit}\n"
    )
}

fn gateway(own: u8, other: u8) -> String {
    let (bridge, local) = (device("vx-bridge-6", 4, own, 1), device("vx-local-6", 5, own, 1));
    let (far, near) = (peer("vx-bridge-6", 4, other, 1), peer("vx-local-6", 5, own, 2));
    format!(
        "devices:\n{bridge}{local}routes:
- {{cidr: \"fd0{other}::/16\", gw: \"fd41::{other}1\", dev: vx-bridge-6}}
inboundRoutes:
- {{cidr: \"fd0{own}:2::/64\", gw: \"fd42::{own}2\", dev: vx-local-6}}
unreachable: [\"fd0{other}::/16\"]
fdbs:\n{}{}arps:\n{}{}{}",
        far.0,
        near.0,
        far.1,
        near.1,
        firewall(own, other, 1, true)
    )
}

fn internal(own: u8, other: u8) -> String {
    let (local, near) = (device("vx-local-6", 5, own, 2), peer("vx-local-6", 5, own, 1));
    format!(
        "devices:\n{local}routes:
- {{cidr: \"fd0{other}::/16\", gw: \"fd42::{own}1\", dev: vx-local-6}}
fdbs:\n{}arps:\n{}{}",
        near.0,
        near.1,
        firewall(own, other, 2, false)
    )
}

#[test]
fn pods_behind_gateways_reach_each_other_with_their_own_addresses() {
    if !can_send() {
        return;
    }
    on_host(|host| {
        host.sh("ip link add switch type bridge; ip link set switch up");
        let nodes = [(1, 1), (1, 2), (2, 1), (2, 2)].map(|(cluster, number)| node(host, cluster, number));
        let [gateway_1, node_1, gateway_2, node_2] = &nodes;
        let (near, far) = (pod(host, node_1, 1, 2), pod(host, node_2, 2, 2));
        let (gateway_pod, far_gateway_pod) = (pod(host, gateway_1, 1, 1), pod(host, gateway_2, 2, 1));
        apply(host, Some(gateway_1), &gateway(1, 2));
        apply(host, Some(node_1), &internal(1, 2));
        apply(host, Some(gateway_2), &gateway(2, 1));
        apply(host, Some(node_2), &internal(2, 1));

        near.sh(host, "ping -c1 -W5 fd02:2::2");
        let counters = far.sh(host, "nft list chain ip6 seen in");
        assert!(counters.contains("ip6 saddr fd01:2::2") && counters.contains("packets 1 "), "{counters}");
        near.sh(host, "ping -c1 -W5 -s 4000 fd02:2::2");
        near.sh(host, "ping -c1 -W5 fd02:1::2");
        gateway_pod.sh(host, "ping -c1 -W5 fd02:2::2");
        far_gateway_pod.sh(host, "ping -c1 -W5 fd01:1::2");
        // Hosts, by their addresses among their pods.
        node_1.sh(host, "ping -c1 -W5 fd02:2::2");
        gateway_1.sh(host, "ping -c1 -W5 fd02:2::2");
        // What only passes is not tracked on the way.
        let table = gateway_1.sh(host, "nft list chain inet clusterlink prerouting");
        assert!(table.contains("notrack"), "{table}");
    });
}
