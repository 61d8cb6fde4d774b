//! Packets between the pods of two P2P clusters, on hosts that masquerade, drop and filter strictly.

use std::process::{Child, Command, Stdio};

use crate::world::{Host, on_host};

/// A namespace, as long as a process sleeps in it.
pub(crate) struct Space(Child);

impl Space {
    pub(crate) fn new() -> Self {
        let child = Command::new("unshare")
            .args(["-n", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare of util-linux");
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", child.id());
        // The process is there before its namespace is.
        while std::fs::read_link(&path).is_ok_and(|link| link == own) {
            std::thread::yield_now();
        }
        Space(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn sh(&self, host: &Host, script: &str) -> String {
        host.sh(&format!("nsenter -t {} -n sh -ec '{script}'", self.id()))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // It sleeps; whether it was killed or had ended is the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const FIREWALL: &str = "
sysctl -qw net.ipv4.ip_forward=1
for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done
iptables-nft -P FORWARD DROP
iptables-nft -A FORWARD -m conntrack --ctstate INVALID -j DROP
iptables-nft -t nat -A POSTROUTING ! -o cni0 -j MASQUERADE";

fn config(own: u8, other: u8) -> String {
    format!(
        "devices:
- {{type: vxlan, name: vx-bridge, addr: 241.31.{own}.1/32, mac: '02:54:f1:1f:0{own}:01', bindDev: eth0, id: 54, port: 4876}}
routes:
- {{cidr: 10.{other}.0.0/16, gw: 241.31.{other}.1, dev: vx-bridge}}
- {{cidr: 10.9{other}.0.0/16, gw: 241.31.{other}.1, dev: vx-bridge}}
- {{cidr: 241.31.{other}.1/32, gw: 241.31.{other}.1, dev: vx-bridge}}
unreachable: [10.{other}.0.0/16]
fdbs: [{{ip: 172.31.{other}.1, mac: '02:54:f1:1f:0{other}:01', dev: vx-bridge}}]
arps: [{{ip: 241.31.{other}.1, mac: '02:54:f1:1f:0{other}:01', dev: vx-bridge}}]
firewall:
  podCIDRs: [10.{own}.0.0/16]
  nodePodCIDRs: [10.{own}.1.0/24]
  serviceCIDRs: [10.9{own}.0.0/16]
  overlayCIDRs: [241.31.{own}.1/32]
  remoteCIDRs: [10.{other}.0.0/16, 10.9{other}.0.0/16, 241.31.{other}.1/32]
"
    )
}

pub(crate) fn attach_pod(host: &Host, node: Option<&Space>, pod: &Space, cluster: u8) {
    let plug = format!(
        "ip link add plug type veth peer name eth0 netns {}
         ip link set plug master cni0; ip link set plug up",
        pod.id()
    );
    match node {
        Some(node) => node.sh(host, &plug),
        None => host.sh(&plug),
    };
    pod.sh(
        host,
        &format!(
            "ip link set lo up; ip addr add 10.{cluster}.1.2/24 dev eth0; ip link set eth0 up
             ip route add default via 10.{cluster}.1.1
             nft add table ip seen
             nft add chain ip seen in \"{{ type filter hook input priority 0; }}\"
             nft add rule ip seen in ip saddr 10.0.0.0/8 icmp type echo-request counter"
        ),
    );
}

pub(crate) fn apply(host: &Host, node: Option<&Space>, yaml: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let agent = format!("{} --config {}", env!("CARGO_BIN_EXE_clusterlink-agent"), file.path().display());
    match node {
        Some(node) => node.sh(host, &agent),
        None => host.sh(&agent),
    }
}

/// Whether the programs are there that this takes.
pub(crate) fn can_send() -> bool {
    let missing = ["ping", "nsenter"].into_iter().find(|tool| Command::new(tool).arg("-V").output().is_err());
    if let Some(tool) = missing {
        skip::skip(format!("{tool} is not installed"));
    }
    missing.is_none()
}

/// The other host, a pod here and a pod there.
fn two_hosts(host: &Host) -> [Space; 3] {
    let (far, pod, far_pod) = (Space::new(), Space::new(), Space::new());
    host.sh(&format!("ip link set wire netns {}; {FIREWALL}", far.id()));
    far.sh(
        host,
        "ip link set lo up; ip link set wire name eth0; ip addr add 172.31.2.1/16 dev eth0; ip link set eth0 up
         ip link add cni0 type bridge; ip addr add 10.2.1.1/24 dev cni0; ip link set cni0 up",
    );
    far.sh(host, FIREWALL);
    attach_pod(host, None, &pod, 1);
    attach_pod(host, Some(&far), &far_pod, 2);
    apply(host, None, &config(1, 2));
    apply(host, Some(&far), &config(2, 1));
    [far, pod, far_pod]
}

/// Every kind of change that needs no other device, each on the way of living packets.
fn changes() -> Vec<String> {
    let plain = config(1, 2);
    let route = "cidr: 10.2.0.0/16, gw: 241.31.2.1, dev: vx-bridge";
    let arp = "{ip: 241.31.2.1, mac: '02:54:f1:1f:02:01', dev: vx-bridge}";
    let two_gateways = plain
        .replace(route, &format!("{route}, gws: [241.31.2.1, 241.31.2.2]"))
        .replace(arp, &format!("{arp}, {}", arp.replace("241.31.2.1", "241.31.2.2")));
    vec![
        two_gateways.clone(),
        two_gateways.replace("[241.31.2.1, 241.31.2.2]", "[241.31.2.2]"),
        two_gateways,
        plain.clone(),
        plain.replace(route, &format!("{route}, mtu: 1300")),
        plain.replace("id: 54,", "id: 54, mtu: 1400,"),
        plain.replace("addr: 241.31.1.1/32", "addr: 241.31.1.9/32"),
        format!("{plain}  refused: [{{from: 10.1.0.0/16, to: 10.78.0.0/16}}]\n"),
        plain.replace("remoteCIDRs: [", "remoteCIDRs: [10.79.0.0/16, "),
        format!("{plain}rulePriority: 150\n"),
        plain.replace("unreachable: [10.2.0.0/16]", "unreachable: [10.77.0.0/16]"),
        plain,
    ]
}

#[test]
fn a_change_on_the_way_of_packets_loses_none() {
    if !can_send() {
        return;
    }
    on_host(|host| {
        let [_far, pod, _far_pod] = two_hosts(host);
        pod.sh(host, "ping -c1 -W5 10.2.1.2");
        for change in changes() {
            let pings = Command::new("nsenter")
                .args([
                    "-t",
                    &pod.id().to_string(),
                    "-n",
                    "ping",
                    "-q",
                    "-i",
                    "0.001",
                    "-c",
                    "600",
                    "-W",
                    "1",
                ])
                .arg("10.2.1.2")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            apply(host, None, &change);
            let said = String::from_utf8(pings.wait_with_output().unwrap().stdout).unwrap();
            assert!(said.contains(" 0% packet loss"), "{said}\n{change}");
        }
    });
}

#[test]
fn pods_hosts_and_services_reach_each_other_with_their_own_addresses() {
    if !can_send() {
        return;
    }
    on_host(|host| {
        let [far, pod, far_pod] = two_hosts(host);
        far.sh(host, "iptables-nft -t nat -A PREROUTING -d 10.92.0.10 -j DNAT --to 10.2.1.2");
        pod.sh(host, "ping -c1 -W5 10.2.1.2");
        let seen = |from: &str| {
            far_pod
                .sh(host, &format!("nft add rule ip seen in ip saddr {from} icmp type echo-request counter"))
        };
        seen("10.1.1.2");
        pod.sh(host, "ping -c1 -W5 10.2.1.2");
        let counters = far_pod.sh(host, "nft list chain ip seen in");
        assert!(
            counters.contains("ip saddr 10.1.1.2 icmp type echo-request counter packets 1 "),
            "{counters}"
        );
        // A whole segment each way, in spite of the smaller tunnel: fragments.
        pod.sh(host, "ping -c1 -W5 -s 4000 10.2.1.2");
        // The host itself, to a pod, to a host by its node address, and a pod to a service.
        host.sh("ping -c1 -W5 10.2.1.2");
        host.sh("ping -c1 -W5 241.31.2.1");
        pod.sh(host, "ping -c1 -W5 241.31.2.1");
        pod.sh(host, "ping -c1 -W5 10.92.0.10");
        far_pod.sh(host, "ping -c1 -W5 10.1.1.2");
        // Without the overlay there is nothing.
        host.cleanup();
        assert!(!host.try_sh(&format!("nsenter -t {} -n ping -c1 -W1 10.2.1.2", pod.id())).status.success());
    });
}

#[test]
fn what_came_by_a_tunnel_for_nobody_here_does_not_leave_by_the_default_route() {
    if !can_send() {
        return;
    }
    on_host(|host| {
        let [far, pod, _far_pod] = two_hosts(host);
        let beyond = Space::new();
        far.sh(host, &format!("ip link add out type veth peer name eth0 netns {}", beyond.id()));
        beyond.sh(
            host,
            "ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up; ip route add default via 192.0.2.1",
        );
        far.sh(
            host,
            "iptables-nft -P FORWARD ACCEPT
             ip addr add 192.0.2.1/24 dev out; ip link set out up; ip route add default via 192.0.2.2
             ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev out
             iptables-nft -t nat -A PREROUTING -d 10.92.0.11 -j DNAT --to 192.0.2.9
             nft add table ip seen; nft add chain ip seen out \"{ type filter hook forward priority 100; }\"
             nft add chain ip seen raw \"{ type filter hook prerouting priority -310; }\"
             nft add rule ip seen raw ip daddr 10.77.0.10 notrack
             nft add rule ip seen out oifname out ip daddr 10.77.0.0/16 counter
             nft add rule ip seen out oifname out ip daddr 192.0.2.9 counter",
        );
        // This node believes that a network is behind the far one, which knows nothing of it.
        let believed = "- {cidr: 10.77.0.0/16, gw: 241.31.2.1, dev: vx-bridge}\nunreachable:";
        let config = config(1, 2).replace("unreachable:", believed);
        apply(host, None, &config.replace("remoteCIDRs: [", "remoteCIDRs: [10.77.0.0/16, "));
        let ping = |to: &str| pod.sh(host, &format!("ping -c3 -i 0.01 -W1 {to} || true"));
        let told = ping("10.77.0.9");
        let told_untracked = ping("10.77.0.10");
        // A service whose backend is outside of the mesh is none of ours.
        ping("10.92.0.11");
        let seen = far.sh(host, "nft list chain ip seen out");
        assert!(seen.contains("ip daddr 10.77.0.0/16 counter packets 0 "), "{seen}");
        assert!(seen.contains("ip daddr 192.0.2.9 counter packets 3 "), "{seen}");
        // Nor is what a host beside the far one has asked through it.
        beyond.sh(host, "ping -c1 -W5 10.1.1.2");
        for told in [told, told_untracked] {
            assert!(told.contains("Destination Net Unreachable"), "{told}");
        }
    });
}
