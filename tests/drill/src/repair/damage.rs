//! What a vandal does to a node, in the words of the tools that an administrator has.

use crate::random::Random;

/// What is looked at to see the repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// Devices, addresses, routes and all else that netlink tells.
    Netlink,
    /// Our nftables table and our accept in the host's own chain.
    Filter,
    /// Both.
    Everything,
}

/// One kind of damage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Damage {
    /// Its name.
    pub(super) name: &'static str,
    /// A shell script; `$D` is one of our devices, `$N` a random number.
    script: &'static str,
    /// What shows it.
    pub(super) watched: Watched,
    /// Whether nothing but objects goes: then writes can be counted.
    pub(super) countable: bool,
}

const fn netlink(name: &'static str, script: &'static str) -> Damage {
    Damage { name, script, watched: Watched::Netlink, countable: true }
}

const fn device(name: &'static str, script: &'static str) -> Damage {
    Damage { name, script, watched: Watched::Netlink, countable: false }
}

const fn filter(name: &'static str, script: &'static str) -> Damage {
    Damage { name, script, watched: Watched::Filter, countable: false }
}

/// Deletes every route of our first table in one family.
macro_rules! empty {
    ($family:expr) => {
        concat!(
            "ip ", $family, " route show table 200 proto 193 | grep metric | ",
            "sed -E 's/^(unreachable )?([^ ]+) .*metric ([0-9]+).*/route del \\1\\2 metric \\3 table 200/' | ip ", $family, " -batch -"
        )
    };
}

/// Every route of our first table, in one go (`ip route flush` does not understand routes through nexthop objects).
const EMPTY: &str = concat!(empty!("-4"), "; ", empty!("-6"));

/// One line of the output before, chosen by `$N`.
macro_rules! pick {
    ($list:expr) => {
        concat!("set -- $(", $list, "); shift $((N % $#)); ")
    };
}

/// Everything that is tried, one at a time.
pub(super) const DAMAGES: &[Damage] = &[
    device("device deleted", "ip link del $D"),
    device("device set down", "ip link set $D down"),
    device("device's MTU changed", "ip link set $D mtu 1300"),
    device("device's MAC changed", "ip link set $D address 02:00:00:00:00:77"),
    device("device's alias removed", "ip link set $D alias ''"),
    device("device renamed", "ip link set $D down; ip link set $D name vx-stolen; ip link set vx-stolen up"),
    device(
        "device re-created as another",
        "ip link del $D; ip link add $D type vxlan id 99 dstport 4999 dev eth0 nolearning; ip link set $D alias clusterlink up",
    ),
    netlink("address deleted", "ip -6 addr del $(ip -o -6 addr show dev $D scope global | awk 'NR==1{print $4}') dev $D 2>/dev/null || ip addr flush dev $D"),
    device("addresses flushed", "ip addr flush dev $D"),
    netlink("address added", "ip addr add 192.0.2.77/32 dev $D"),
    netlink(
        "route deleted",
        concat!(pick!("ip -4 route show table 200 proto 193 | awk '/^[0-9a-f]+[.:].* dev .*metric 1024/{print $1}'"), "ip route del $1 table 200 metric 1024"),
    ),
    netlink(
        "route replaced",
        concat!(pick!("ip -4 route show table 200 proto 193 | awk '/^[0-9a-f]+[.:].* dev .*metric 1024/{print $1}'"), "ip route replace blackhole $1 table 200 proto 193 metric 1024"),
    ),
    netlink("route added as ours", "ip route add 10.66.$((N % 250)).0/24 dev eth0 table 200 proto 193"),
    netlink("IPv6 route deleted", concat!(pick!("ip -6 route show table 200 proto 193 | awk '/^[0-9a-f]+[.:].* dev .*metric 1024/{print $1}'"), "ip -6 route del $1 table 200 metric 1024")),
    device("table emptied", EMPTY),
    netlink("rule deleted", "ip rule del pref 200"),
    netlink("IPv6 rule deleted", "ip -6 rule del pref 200"),
    netlink("rule added as ours", "ip rule add pref 66 lookup 200 protocol 193"),
    device("nexthop deleted", concat!(pick!("ip nexthop show proto 193 | awk '/dev/{print $2}'"), "ip nexthop del id $1")),
    device("nexthops flushed", "ip nexthop flush proto 193"),
    netlink("neighbour deleted", concat!(pick!("ip neigh show dev $D nud permanent | awk '{print $1}'"), "ip neigh del $1 dev $D")),
    netlink(
        "neighbour altered",
        concat!(pick!("ip neigh show dev $D nud permanent | awk '{print $1}'"), "ip neigh replace $1 lladdr 02:00:00:00:00:66 dev $D nud permanent"),
    ),
    netlink("FDB entry deleted", concat!(pick!("bridge fdb show dev $D | awk '/dst/{print $1}'"), "bridge fdb del $1 dev $D self")),
    netlink("FDB entry added", "bridge fdb append 00:00:00:00:00:00 dev $D dst $FAR self permanent"),
    netlink("FDB entry altered", concat!(pick!("bridge fdb show dev $D | awk '/dst/{print $1}'"), "bridge fdb replace $1 dev $D dst $FAR self permanent")),
    filter("nftables table deleted", "nft delete table inet clusterlink"),
    filter("nftables table flushed", "nft flush table inet clusterlink"),
    filter("nftables chain emptied", "nft flush chain inet clusterlink mesh"),
    filter("nftables rule inserted", "nft insert rule inet clusterlink mesh meta l4proto udp drop"),
    filter("accept deleted from FORWARD", "iptables-nft -D FORWARD 1"),
    filter("FORWARD flushed", "others=$(iptables-nft-save -t filter | grep -v clusterlink); iptables-nft -F FORWARD; printf '%s\\n' \"$others\" | iptables-nft-restore"),
    // what goes with it depends on the node, and may be nothing of ours
    Damage {
        name: "underlay set down and up",
        script: "r=$(ip -4 route show dev eth0 | grep -v 'proto kernel'); a=$(ip -o -6 addr show dev eth0 scope global | awk '{print $4}'); s=$(ip -6 route show dev eth0 | grep -v 'proto kernel' | grep -v '^fe80')
         echo 1 > /proc/sys/net/ipv6/conf/eth0/keep_addr_on_down
         ip link set eth0 down; ip link set eth0 up; for x in $a; do ip addr replace $x dev eth0 nodad; done
         echo \"$r\" | while read x; do [ -z \"$x\" ] || ip route replace $x dev eth0; done
         echo \"$s\" | while read x; do [ -z \"$x\" ] || ip -6 route replace $x dev eth0; done",
        watched: Watched::Everything,
        countable: false,
    },
    Damage {
        name: "all at once",
        script: "for d in $(ip -o link | grep -o 'vx-[a-z6-]*'); do ip link del $d; done; ip rule del pref 200; ip -6 rule del pref 200; ip nexthop flush proto 193; nft delete table inet clusterlink; iptables-nft -D FORWARD 1",
        watched: Watched::Everything,
        countable: false,
    },
    device("rp_filter changed", "v=$(cat /proc/sys/net/ipv4/conf/$D/rp_filter); echo $(( (v + 1) % 3 )) > /proc/sys/net/ipv4/conf/$D/rp_filter"),
];

impl Damage {
    /// The script for one of these devices.
    pub(super) fn script(&self, devices: &[String], random: &mut Random) -> String {
        let device = random.pick(devices);
        let far = if device.ends_with("-6") { "fd00:ac1f::66:66" } else { "172.31.66.66" };
        format!("D={device}; N={}; FAR={far}; {}", random.below(1 << 20), self.script)
    }
}
