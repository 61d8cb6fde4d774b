//! Changes of the NodeConfig: in place where the kernel can, with everything that hangs on it where it cannot.

use crate::world::{GATEWAY, on_host, spec};

fn index(host: &crate::world::Host, device: &str) -> serde_json::Value {
    host.json(&format!("ip -j link show dev {device}"))[0]["ifindex"].clone()
}

#[test]
fn mtu_mac_and_address_change_in_place() {
    on_host(|host| {
        let mut config = spec(GATEWAY);
        host.apply(&config);
        let before = index(host, "vx-bridge");
        config.devices[0].mtu = Some(1380);
        config.devices[0].mac = "02:54:f1:1f:01:99".to_owned();
        config.devices[0].addr = "241.31.1.9/32".to_owned();
        host.apply(&config);
        assert_eq!(index(host, "vx-bridge"), before);
        let link = host.json("ip -j addr show dev vx-bridge");
        assert_eq!(link[0]["mtu"], 1380);
        assert_eq!(link[0]["address"], "02:54:f1:1f:01:99");
        assert_eq!(link[0]["addr_info"][0]["local"], "241.31.1.9");
        assert_eq!(host.apply(&config).changed, 0);
    });
}

#[test]
fn another_vni_is_another_device_and_all_that_hangs_on_it_follows_at_once() {
    on_host(|host| {
        let mut config = spec(GATEWAY);
        host.apply(&config);
        let before = index(host, "vx-bridge");
        // Swapped: neither can be made while the other one stands.
        let ports = (config.devices[0].port, config.devices[1].port);
        (config.devices[0].id, config.devices[1].id) = (55, 54);
        (config.devices[0].port, config.devices[1].port) = (ports.1, ports.0);
        host.apply(&config);
        assert_ne!(index(host, "vx-bridge"), before);
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["dev"], "vx-bridge");
        assert_eq!(host.apply(&config).changed, 0);
    });
}

#[test]
fn a_gateway_that_goes_and_comes_back_moves_no_route() {
    on_host(|host| {
        let mut config = spec(GATEWAY);
        host.apply(&config);
        let routes = host.sh("ip route show table 200 | grep -o 'nhid [0-9]*'");
        for route in &mut config.routes {
            route.gws.retain(|gateway| gateway != "241.31.2.2");
        }
        // One message for the group, two deletions of what is in no group any more.
        assert_eq!(host.apply(&config).changed, 3);
        assert_eq!(host.sh("ip route show table 200 | grep -o 'nhid [0-9]*'"), routes);
        assert_eq!(host.apply(&config).changed, 0);
        host.apply(&spec(GATEWAY));
        assert_eq!(host.sh("ip route show table 200 | grep -o 'nhid [0-9]*'"), routes);
    });
}

#[test]
fn the_source_hint_follows_the_cnis_bridge() {
    on_host(|host| {
        let config = spec(GATEWAY);
        host.sh("ip addr del 10.1.1.1/24 dev cni0");
        host.apply(&config);
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["prefsrc"], "241.31.1.1");
        host.sh("ip addr add 10.1.1.1/24 dev cni0");
        host.apply(&config);
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["prefsrc"], "10.1.1.1");
        // The kernel takes the routes along with the address.
        host.sh("ip addr del 10.1.1.1/24 dev cni0");
        host.apply(&config);
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["prefsrc"], "241.31.1.1");
    });
}

#[test]
fn without_its_underlay_a_tunnel_stays_and_says_so() {
    on_host(|host| {
        let config = spec(GATEWAY);
        host.apply(&config);
        host.sh("ip addr flush dev eth0");
        let report = host.pass(&config);
        let problems: Vec<String> = report.differing.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "device vx-bridge: its underlay interface eth0 has no IPv4 address",
                "device vx-local: its underlay interface eth0 has no IPv4 address",
            ]
        );
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["dev"], "vx-bridge");
    });
}

#[test]
fn a_demoted_gateway_is_as_strict_as_a_new_device() {
    on_host(|host| {
        host.sh("echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter");
        let mut config = spec(GATEWAY);
        host.apply(&config);
        let strictness = || host.sh("cat /proc/sys/net/ipv4/conf/vx-local/rp_filter").trim().to_owned();
        assert_eq!(strictness(), "2");
        config.firewall.as_mut().unwrap().transit = false;
        host.apply(&config);
        assert_eq!(strictness(), "1");
        assert_eq!(host.apply(&config).changed, 0);
    });
}

#[test]
fn the_packet_filter_changes_in_place_its_chains_stay_hooked_in() {
    on_host(|host| {
        let mut config = spec(GATEWAY);
        host.apply(&config);
        let handle =
            || host.sh("nft -a list table inet clusterlink | grep -o 'chain forward { # handle [0-9]*'");
        let before = handle();
        let firewall = config.firewall.as_mut().unwrap();
        firewall.remote_cidrs = vec!["10.2.0.0/16".to_owned(), "10.7.0.0/16".to_owned()];
        firewall.refused.clear();
        // On an internal node there is no chain for transit.
        firewall.transit = false;
        host.apply(&config);
        assert_eq!(handle(), before);
        let table = host.sh("nft list table inet clusterlink");
        assert!(table.contains("10.7.0.0/16") && !table.contains("chain prerouting"), "{table}");
        host.apply(&spec(GATEWAY));
        assert_eq!(handle(), before);
    });
}
