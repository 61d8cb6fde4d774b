//! What somebody else deletes or changes comes back, and nothing else is written.

use crate::world::{Agent, GATEWAY, on_host, spec, until};

/// What is done, and how many objects have to be written for it: with a device goes all that hangs on it.
const VANDALISM: [(&str, usize); 19] = [
    // With its last IPv4 address a device loses its IPv4 neighbours.
    ("ip addr del 241.31.1.1/32 dev vx-bridge", 2),
    ("ip addr add 192.0.2.77/24 dev vx-local", 1),
    ("ip neigh del 241.31.2.1 dev vx-bridge", 1),
    ("ip neigh replace 241.31.2.1 lladdr 02:00:00:00:00:66 dev vx-bridge nud permanent", 1),
    ("ip neigh add 241.31.77.1 lladdr 02:00:00:00:00:66 dev vx-bridge nud permanent", 1),
    ("bridge fdb del 02:54:ac:1f:02:01 dev vx-bridge dst 172.31.2.1 self", 1),
    ("bridge fdb replace 02:54:ac:1f:02:01 dev vx-bridge dst 172.31.66.66 self permanent", 1),
    ("bridge fdb append 00:00:00:00:00:00 dev vx-bridge dst 172.31.66.66 self permanent", 1),
    ("ip route del 10.3.1.0/24 table 200", 1),
    ("ip route replace 10.3.1.0/24 via 172.31.66.66 dev eth0 table 200 proto 193 metric 2424", 1),
    ("ip route del unreachable 10.3.0.0/16 table 200 metric 1048576", 1),
    ("ip route add 10.66.0.0/16 via 172.31.66.66 table 200 proto 193", 1),
    ("ip rule del pref 200", 1),
    ("ip rule add pref 66 lookup 200 protocol 193", 1),
    ("ip link set vx-bridge mtu 1300", 1),
    ("ip link set vx-local alias ''", 1),
    ("echo 0 > /proc/sys/net/ipv4/conf/vx-local/rp_filter", 1),
    ("nft delete table inet clusterlink", 1),
    ("nft insert rule inet clusterlink mesh ip saddr 10.0.0.0/8 drop", 1),
];

#[test]
fn each_kind_of_damage_is_repaired_and_only_that() {
    on_host(|host| {
        host.sh("iptables-nft -P FORWARD DROP");
        let config = spec(GATEWAY);
        host.apply(&config);
        let whole = host.dump();
        for (damage, writes) in VANDALISM {
            host.sh(damage);
            let report = host.apply(&config);
            assert_eq!(report.changed, writes, "{damage}");
            assert_eq!(host.dump(), whole, "{damage}");
        }
    });
}

#[test]
fn what_goes_with_a_device_comes_back_with_it_in_one_pass() {
    on_host(|host| {
        let config = spec(GATEWAY);
        host.apply(&config);
        let normal = |text: String| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let whole = normal(host.dump());
        for damage in [
            "ip link del vx-bridge",
            "ip link set vx-bridge down",
            "ip link set vx-bridge address 02:00:00:00:00:77",
            "ip nexthop flush proto 193",
            "ip link del vx-bridge; ip link add vx-bridge type vxlan id 99 dstport 4999 dev eth0 nolearning; ip link set vx-bridge alias clusterlink",
        ] {
            host.sh(damage);
            host.apply(&config);
            assert_eq!(normal(host.dump()), whole, "{damage}");
            assert_eq!(host.apply(&config).changed, 0, "{damage}");
        }
    });
}

#[test]
fn a_foreign_route_of_the_same_key_is_left_and_named() {
    on_host(|host| {
        host.sh("ip route add 10.3.1.0/24 via 172.31.66.66 table 200 proto 42 metric 2424");
        let report = host.pass(&spec(GATEWAY));
        let named: Vec<String> = report.differing.iter().map(ToString::to_string).collect();
        assert_eq!(named.len(), 1, "{named:?}");
        assert!(named[0].starts_with("route 10.3.1.0/24 in table 200"), "{named:?}");
        assert!(named[0].contains("EEXIST"), "{named:?}");
        assert!(host.sh("ip route show table 200 proto 42").contains("172.31.66.66"));
    });
}

fn children(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect()
}

fn is_monitor(process: u32) -> bool {
    std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| line == b"nft\0monitor\0")
}

/// The reading of every minute would repair them too, after `until` has given up.
#[test]
fn settings_come_back_when_the_kernel_tells_of_them() {
    on_host(|host| {
        let _agent = Agent::watching(GATEWAY);
        until("data plane", || host.sh("ip rule").contains("lookup 200").then_some(()));
        let setting = "/proc/sys/net/ipv4/conf/vx-local/rp_filter";
        // The first time the rest of the beginning may repair it in passing, the last time nothing else is new.
        for round in 1..=4 {
            until("rp_filter", || (host.sh(&format!("cat {setting}")).trim() == "2").then_some(()));
            if round < 4 {
                host.sh(&format!("echo 0 > {setting}"));
            }
        }
    });
}

#[test]
fn an_agent_that_is_killed_leaves_no_program_behind_and_the_data_plane_as_it_is() {
    on_host(|host| {
        let agent = Agent::watching(GATEWAY);
        let monitor =
            until("nft monitor", || children(agent.id()).into_iter().find(|child| is_monitor(*child)));
        until("data plane", || host.sh("ip rule").contains("lookup 200").then_some(()));
        drop(agent);
        until("end of nft monitor", || (!is_monitor(monitor)).then_some(()));
        assert!(host.sh("ip route show table 200").contains("10.2.0.0/16"));
    });
}
