//! NodeConfigs as Kosmos's own network-manager writes them: they apply, what is not acted upon is said, packets pass.

use crate::packets::{Space, apply, attach_pod, can_send};
use crate::world::{Host, on_host, spec};

/// Of a P2P node: a whole /8 on the device, flooding entries, free text for iptables.
fn p2p(own: u8, other: u8) -> String {
    format!(
        "apiVersion: kosmos.io/v1alpha1
kind: NodeConfig
metadata:
  name: member{own}-node1
spec:
  devices:
    - type: vxlan
      name: vx-bridge
      addr: 220.31.{own}.1/8
      mac: 02:00:00:00:00:0{own}
      bindDev: eth0
      id: 54
      port: 4876
  routes:
    - cidr: 10.{other}.0.0/16
      gw: 220.31.{other}.1
      dev: vx-bridge
  iptables:
    - table: nat
      chain: POSTROUTING
      rule: -s 220.0.0.0/8 -j MASQUERADE
  fdbs:
    - ip: 172.31.{other}.1
      mac: 02:00:00:00:00:0{other}
      dev: vx-bridge
    - ip: 172.31.{other}.1
      mac: 00:00:00:00:00:00
      dev: vx-bridge
  arps:
    - ip: 220.31.{other}.1
      mac: 02:00:00:00:00:0{other}
      dev: vx-bridge
"
    )
}

/// What Kosmos's own agent leaves: devices without an alias, with connected routes, flooding.
fn leftovers(host: &Host) {
    host.sh("ip link add vx-bridge type vxlan id 54 dstport 4876 local 172.31.1.1 dev eth0 nolearning
         ip link set vx-bridge address 02:00:00:00:00:01 up
         bridge fdb append 00:00:00:00:00:00 dev vx-bridge dst 172.31.2.1 self permanent
         ip neigh add 220.31.2.1 lladdr 02:00:00:00:00:02 dev vx-bridge nud permanent");
}

#[test]
fn pods_reach_each_other_by_kosmoss_own_node_configs() {
    if !can_send() {
        return;
    }
    on_host(|host| {
        let (far, pod, far_pod) = (Space::new(), Space::new(), Space::new());
        host.sh(&format!("ip link set wire netns {}; sysctl -qw net.ipv4.ip_forward=1", far.id()));
        far.sh(
            host,
            "ip link set lo up; ip link set wire name eth0; ip addr add 172.31.2.1/16 dev eth0; ip link set eth0 up
             ip link add cni0 type bridge; ip addr add 10.2.1.1/24 dev cni0; ip link set cni0 up
             sysctl -qw net.ipv4.ip_forward=1",
        );
        attach_pod(host, None, &pod, 1);
        attach_pod(host, Some(&far), &far_pod, 2);
        leftovers(host);
        // Its exit status is that of success.
        let said = apply(host, None, &p2p(1, 2));
        apply(host, Some(&far), &p2p(2, 1));
        assert!(said.contains("notice: iptables: 1 free-text rule(s) are ignored"), "{said}");
        assert!(said.contains("notice: fdbs: 1 entry(ies) for 00:00:00:00:00:00 are ignored"), "{said}");
        pod.sh(host, "ping -c1 -W5 10.2.1.2");
        far_pod.sh(host, "ping -c1 -W5 -s 4000 10.1.1.2");
        // The /8 is an address, not a network: the host still reaches the real one by its default route.
        assert_eq!(host.sh("ip route show table main dev vx-bridge"), "");
        assert!(!host.sh("bridge fdb show dev vx-bridge").contains("00:00:00:00:00:00"));
    });
}

#[test]
fn a_gateway_of_kosmos_takes_what_its_nodes_send_although_it_looks_for_them_elsewhere() {
    on_host(|host| {
        let mut config = spec(&p2p(1, 2));
        let mut local = config.devices[0].clone();
        (local.name, local.addr) = ("vx-local".to_owned(), "210.31.1.1/8".to_owned());
        (local.id, local.port) = (55, 4877);
        config.devices.push(local);
        let report = host.apply(&config);
        assert_eq!(report.unsupported.len(), 2);
        assert_eq!(host.sh("cat /proc/sys/net/ipv4/conf/vx-local/rp_filter").trim(), "2");
    });
}
