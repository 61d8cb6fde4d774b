//! What stands in the kernel after a pass, as the system's own tools show it.

use serde_json::{Value, json};

use crate::world::{GATEWAY, Host, P2P, on_host, spec};

/// The fields that a test is about, of each object of a list.
fn fields(list: &Value, names: &[&str]) -> Vec<Value> {
    let object = |object: &Value| names.iter().map(|name| object[*name].clone()).collect::<Value>();
    list.as_array().unwrap().iter().map(object).collect()
}

#[test]
fn a_gateways_devices_are_as_their_node_config_says() {
    on_host(|host| {
        host.apply(&spec(GATEWAY));
        let links = host.json("ip -j -d link show type vxlan");
        assert_eq!(
            fields(&links, &["ifname", "address", "mtu", "ifalias", "operstate"]),
            [
                json!(["vx-bridge", "02:54:f1:1f:01:01", 1450, "clusterlink", "UNKNOWN"]),
                json!(["vx-local", "02:55:f2:1f:01:01", 1450, "clusterlink", "UNKNOWN"]),
            ]
        );
        let vxlan = &links[0]["linkinfo"]["info_data"];
        assert_eq!(vxlan["id"], 54);
        assert_eq!(vxlan["port"], 4876);
        assert_eq!(vxlan["local"], "172.31.1.1");
        assert_eq!(vxlan["link"], "eth0");
        assert_eq!(vxlan["learning"], false);
        let addresses = host.json("ip -j -4 addr show dev vx-bridge");
        assert_eq!(
            fields(&addresses[0]["addr_info"], &["local", "prefixlen", "noprefixroute"]),
            [json!(["241.31.1.1", 32, true])]
        );
        assert_eq!(
            fields(&host.json("ip -j -4 route show table main dev vx-bridge"), &["dst"]),
            Vec::<Value>::new()
        );
        assert_eq!(
            fields(&host.json("bridge -j fdb show dev vx-bridge"), &["mac", "dst", "state"]),
            [json!(["02:54:ac:1f:02:01", "172.31.2.1", "permanent"])]
        );
        assert_eq!(
            fields(&host.json("ip -j -4 neigh show dev vx-bridge"), &["dst", "lladdr", "state"]),
            [json!(["241.31.2.1", "02:54:ac:1f:02:01", ["PERMANENT"]])]
        );
        let sysctl = |key: &str| host.sh(&format!("cat /proc/sys/net/{key}")).trim().to_owned();
        assert_eq!(sysctl("ipv4/conf/vx-local/rp_filter"), "2");
        assert_eq!(sysctl("ipv4/conf/vx-bridge/forwarding"), "1");
        assert_eq!(sysctl("ipv6/conf/vx-bridge/disable_ipv6"), "0");
        // Never the host's own.
        assert_eq!(sysctl("ipv4/ip_forward"), "0");
    });
}

#[test]
fn a_gateways_routes_go_by_groups_with_an_unreachable_route_behind() {
    on_host(|host| {
        host.apply(&spec(GATEWAY));
        let routes = host.json("ip -j -4 route show table 200");
        assert_eq!(
            fields(&routes, &["type", "dst", "protocol", "prefsrc", "metric"]),
            [
                json!([null, "10.2.0.0/16", "193", "10.1.1.1", 1024]),
                json!(["unreachable", "10.2.0.0/16", "193", null, 1_048_576]),
                json!(["unreachable", "10.3.0.0/16", "193", null, 1_048_576]),
                json!([null, "10.3.1.0/24", "193", "10.1.1.1", 2424]),
                json!([null, "10.92.0.0/16", "193", "10.1.1.1", 1024]),
                json!(["unreachable", "241.0.0.0/8", "193", null, 1_048_576]),
            ]
        );
        assert_eq!(routes[3]["metrics"], json!([{"mtu": 1400}]));
        let nexthops = host.json("ip -j nexthop");
        let group =
            nexthops.as_array().unwrap().iter().find(|nexthop| nexthop.get("group").is_some()).unwrap();
        assert_eq!(group["type"], "resilient");
        assert_eq!(group["resilient_args"]["buckets"], 64);
        assert_eq!(group["resilient_args"]["idle_timer"], 120);
        let gateway = |member: &Value| {
            let by_id = nexthops.as_array().unwrap().iter().find(|nexthop| nexthop["id"] == member["id"]);
            by_id.unwrap()["gateway"].as_str().unwrap().to_owned()
        };
        let members: Vec<String> = group["group"].as_array().unwrap().iter().map(gateway).collect();
        assert_eq!(members, ["241.31.2.1", "241.31.2.1", "241.31.2.2", "241.31.2.2"]);
        let rules = host.json("ip -j rule");
        assert_eq!(
            fields(&rules, &["priority", "iif", "table", "protocol"])[1..3],
            [json!([199, "vx-bridge", "201", "193"]), json!([200, null, "200", "193"])]
        );
        assert_eq!(fields(&host.json("ip -j -6 rule"), &["priority", "table"])[1], json!([200, "200"]));
        let get = host.json("ip -j route get 10.2.3.4");
        assert_eq!(fields(&get, &["dev", "prefsrc"]), [json!(["vx-bridge", "10.1.1.1"])]);
        let inside = host.json("ip -j route get 10.1.3.4 from 10.2.3.4 iif vx-bridge");
        assert_eq!(fields(&inside, &["gateway", "dev"]), [json!(["242.31.1.3", "vx-local"])]);
        let leak = host.try_sh("ip route get 10.3.9.9");
        assert!(!leak.status.success(), "what has no route must not take the default route");
    });
}

#[test]
fn a_p2p_node_has_no_transit() {
    on_host(|host| {
        host.apply(&spec(P2P));
        let table = host.sh("nft list table inet clusterlink");
        assert!(!table.contains("notrack"), "{table}");
        assert!(table.contains("snat ip prefix to ip saddr map { 10.1.0.0/16 : 10.1.0.0/16 }"), "{table}");
        assert!(table.contains("ct original ip daddr @services4 masquerade"), "{table}");
        let singles = host.json("ip -j nexthop");
        let of_b: Vec<&Value> =
            singles.as_array().unwrap().iter().filter(|nexthop| nexthop["gateway"] == "241.31.2.1").collect();
        // A gateway that stands alone needs one object.
        assert_eq!(of_b.len(), 1);
    });
}

#[test]
fn a_second_pass_of_a_new_process_writes_nothing() {
    on_host(|host: &Host| {
        host.sh("iptables-nft -P FORWARD DROP");
        for yaml in [GATEWAY, P2P] {
            host.apply(&spec(yaml));
            let (before, ruleset) = (host.dump(), host.sh("nft -a list ruleset"));
            let events = host.events(|| {
                let report = host.apply(&spec(yaml));
                assert_eq!(report.changed, 0);
            });
            assert_eq!(events, []);
            assert_eq!(host.dump(), before);
            // Handles are new wherever something was written.
            assert_eq!(host.sh("nft -a list ruleset"), ruleset);
        }
    });
}

#[test]
fn an_ipv6_underlay_carries_both_families() {
    on_host(|host| {
        let config = "
devices:
- {type: vxlan, name: vx-bridge-6, addr: 'fd41::1/128', mac: '02:64:00:00:00:01', bindDev: eth0, id: 64, port: 4866, extraAddrs: [241.31.1.1/32]}
routes:
- {cidr: 'fd02::/48', gw: 'fd41::2', dev: vx-bridge-6, gws: ['fd41::2', 'fd41::3']}
- {cidr: 10.2.0.0/16, gw: 241.31.2.1, dev: vx-bridge-6}
unreachable: ['fd02::/48']
fdbs: [{ip: 'fc00:31::2', mac: '02:64:00:00:00:02', dev: vx-bridge-6}]
arps: [{ip: 'fd41::2', mac: '02:64:00:00:00:02', dev: vx-bridge-6}, {ip: 241.31.2.1, mac: '02:64:00:00:00:02', dev: vx-bridge-6}]
";
        host.apply(&spec(config));
        let link = host.json("ip -j -d link show dev vx-bridge-6");
        assert_eq!(link[0]["mtu"], 1430);
        assert_eq!(link[0]["linkinfo"]["info_data"]["local6"], "fc00:31::1");
        let get = host.json("ip -j -6 route get fd02::7");
        assert_eq!(get[0]["dev"], "vx-bridge-6");
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["dev"], "vx-bridge-6");
        assert_eq!(host.apply(&spec(config)).changed, 0);
    });
}
