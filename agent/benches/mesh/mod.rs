//! What the benchmarks share: a NodeConfig of any size, and a shell.

use std::process::Command;

use api::NodeConfigSpec;
use api::node_config::{Arp, Device, Fdb, Firewall, Route};

pub(crate) fn overlay(n: u32) -> String {
    format!("241.{}.{}.{}", 1 + n / 62_500, n / 250 % 250, 1 + n % 250)
}

pub(crate) fn mac(n: u32) -> String {
    let [_, a, b, c] = n.to_be_bytes();
    format!("02:54:00:{a:02x}:{b:02x}:{c:02x}")
}

pub(crate) fn cidr(n: u32) -> String {
    format!("10.{}.{}.0/24", 1 + n / 250, n % 250)
}

/// Each entry has a route by one of the gateways, and a neighbour and an FDB entry of its own.
pub(crate) fn config(entries: u32, gateways: u32) -> NodeConfigSpec {
    let dev = || "vx-bridge".to_owned();
    let range = || 0..entries;
    NodeConfigSpec {
        devices: vec![Device {
            kind: "vxlan".to_owned(),
            name: dev(),
            addr: "241.200.0.1/32".to_owned(),
            mac: "02:54:ff:00:00:01".to_owned(),
            bind_dev: "eth0".to_owned(),
            id: 54,
            port: 4876,
            ..Device::default()
        }],
        routes: range()
            .map(|n| Route { cidr: cidr(n), gw: overlay(n % gateways), dev: dev(), ..Route::default() })
            .collect(),
        arps: range().map(|n| Arp { ip: overlay(n), mac: mac(n), dev: dev() }).collect(),
        fdbs: range()
            .map(|n| Fdb { ip: format!("172.29.{}.{}", n / 250, 1 + n % 250), mac: mac(n), dev: dev() })
            .collect(),
        firewall: Some(Firewall { remote_cidrs: vec!["10.0.0.0/8".to_owned()], ..Firewall::default() }),
        ..NodeConfigSpec::default()
    }
}

pub(crate) fn sh(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script}");
}
