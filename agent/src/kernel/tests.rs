//! What is heard of a real kernel while it is changed by us and by others.

use std::process::Command;
use std::time::Duration;

use agent_core::{Known, Pass, Reading, Spec};
use api::NodeConfigSpec;
use api::node_config::{Arp, Device, Fdb, Route};
use netlink::Monitor;
use nix::sched::{CloneFlags, unshare};

use super::RealKernel;

fn sh(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

/// One peer and a network behind it: its overlay address, its MAC, its underlay address.
fn config(overlay: &str, mac: &str, ip: &str) -> NodeConfigSpec {
    let dev = || "vx-bridge".to_owned();
    NodeConfigSpec {
        devices: vec![Device {
            kind: "vxlan".to_owned(),
            name: dev(),
            addr: "241.31.1.1/32".to_owned(),
            mac: "02:54:ff:00:00:01".to_owned(),
            bind_dev: "eth0".to_owned(),
            id: 54,
            port: 4876,
            ..Device::default()
        }],
        routes: vec![Route {
            cidr: "10.2.0.0/16".to_owned(),
            gw: overlay.to_owned(),
            dev: dev(),
            ..Route::default()
        }],
        arps: vec![Arp { ip: overlay.to_owned(), mac: mac.to_owned(), dev: dev() }],
        fdbs: vec![Fdb { ip: ip.to_owned(), mac: mac.to_owned(), dev: dev() }],
        ..NodeConfigSpec::default()
    }
}

fn keep(kernel: &mut RealKernel, config: &NodeConfigSpec) -> usize {
    let (spec, known) = (Spec::validate(config), Known::default());
    let report = Pass { reading: Reading::Current, ..Pass::new(&spec, &known) }.run(kernel).unwrap();
    assert_eq!(report.differing, []);
    report.changed
}

/// Takes what the kernel told until now, all of it: it is queued before a change is acknowledged.
fn hear(monitor: &mut Monitor, kernel: &RealKernel) {
    while let Some(event) = monitor.next(Duration::ZERO).unwrap() {
        kernel.doubts.hear(&event);
    }
}

fn on_a_host(test: impl FnOnce() + Send + 'static) {
    let run = || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            return skip::skip(format!("no network namespace: {error}"));
        }
        // Until nothing more happens by itself: no link-local addresses, which are told of seconds later, carriers settled.
        sh("echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode
            ip link set lo up; ip link add eth0 type veth peer name wire; ip addr add 172.31.1.1/16 dev eth0
            ip link set eth0 up; ip link set wire up
            for link in eth0 wire; do
                until ip link show $link | grep -q 'state UP'; do sleep 0.01; done
            done");
        test();
    };
    std::thread::spawn(run).join().unwrap();
}

#[test]
fn own_changes_of_a_peer_bring_nothing_into_doubt_and_strangers_do() {
    on_a_host(|| {
        let mut kernel = RealKernel::open().unwrap();
        let mut monitor = Monitor::open().unwrap();
        monitor.ignore(kernel.port());
        kernel.doubts.listen();
        let [first, moved, another] = [
            config("241.31.2.1", "02:54:00:00:00:01", "172.31.2.1"),
            config("241.31.2.1", "02:54:00:00:00:01", "172.31.2.2"),
            config("241.31.2.2", "02:54:00:00:00:02", "172.31.2.2"),
        ];
        keep(&mut kernel, &first);
        hear(&mut monitor, &kernel);
        keep(&mut kernel, &first);
        for (config, writes) in [(&moved, 1), (&another, 7), (&first, 7)] {
            assert_eq!(keep(&mut kernel, config), writes);
            hear(&mut monitor, &kernel);
            assert!(!kernel.doubts.any(), "{config:?}");
        }
        for damage in [
            "bridge fdb replace 02:54:00:00:00:01 dev vx-bridge dst 172.31.66.66 self permanent",
            "bridge fdb del 02:54:00:00:00:01 dev vx-bridge dst 172.31.2.1 self",
            "bridge fdb append 02:54:00:00:00:03 dev vx-bridge dst 172.31.2.1 self permanent",
            "ip neigh del 241.31.2.1 dev vx-bridge",
        ] {
            sh(damage);
            hear(&mut monitor, &kernel);
            assert!(kernel.doubts.any(), "{damage}");
            assert_eq!(keep(&mut kernel, &first), 1, "{damage}");
            hear(&mut monitor, &kernel);
            assert!(!kernel.doubts.any(), "after {damage}");
        }
    });
}
