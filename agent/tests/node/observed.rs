//! What is known of the kernel from its own words about our steps is what a reading of everything finds.

use agent::{Known, RealKernel, Spec};
use agent_core::{Kernel, Pass, Reading, Report};
use api::NodeConfigSpec;

use crate::world::{GATEWAY, Host, P2P, on_host, spec};

fn keep(kernel: &mut RealKernel, config: &NodeConfigSpec) -> Report {
    let (spec, known) = (Spec::validate(config), Known::default());
    Pass { reading: Reading::Current, ..Pass::new(&spec, &known) }.run(kernel).unwrap()
}

/// Compares what one kernel knows with what another, without memory, reads.
fn same_as_fresh(kernel: &RealKernel, step: usize) {
    let mut fresh = RealKernel::open().unwrap();
    fresh.read(Reading::Whole).unwrap();
    let (known, read) = (kernel.actual(), fresh.actual());
    assert_eq!(known.neighbours, read.neighbours, "step {step}");
    assert_eq!(known.fdb, read.fdb, "step {step}");
    assert_eq!(known.nexthops, read.nexthops, "step {step}");
    assert_eq!(known.routes, read.routes, "step {step}");
    assert_eq!(known, read, "step {step}");
}

/// NodeConfigs that differ from each other in every kind of entry.
fn configs() -> Vec<NodeConfigSpec> {
    let gateway = spec(GATEWAY);
    let mut fewer = gateway.clone();
    for route in &mut fewer.routes {
        route.gws.retain(|gateway| gateway != "241.31.2.2");
        route.mtu = Some(1380);
    }
    fewer.fdbs[0].ip = "172.31.66.66".to_owned();
    fewer.arps[0].mac = "02:54:ac:1f:66:66".to_owned();
    fewer.unreachable.pop();
    let mut none = gateway.clone();
    none.routes.clear();
    none.inbound_routes.clear();
    none.unreachable.clear();
    none.arps.clear();
    none.fdbs.clear();
    let mut moved = gateway.clone();
    moved.devices[0].mac = "02:54:f1:1f:01:99".to_owned();
    moved.devices[0].addr = "241.31.1.9/32".to_owned();
    vec![gateway.clone(), fewer, gateway.clone(), none, gateway.clone(), moved, spec(P2P), gateway]
}

#[test]
fn after_each_change_what_is_known_is_what_is_there() {
    on_host(|host: &Host| {
        let mut kernel = RealKernel::open().unwrap();
        for (step, config) in configs().iter().enumerate() {
            let report = keep(&mut kernel, config);
            assert_eq!(report.differing, [], "step {step}");
            same_as_fresh(&kernel, step);
            assert_eq!(keep(&mut kernel, config).changed, 0, "step {step}");
        }
        assert!(host.sh("ip route show table 200").contains("10.2.0.0/16"));
    });
}

#[test]
fn what_was_answered_and_is_not_so_is_found_by_a_reading() {
    on_host(|host| {
        let mut kernel = RealKernel::open().unwrap();
        let mut config = spec(GATEWAY);
        keep(&mut kernel, &config);
        // Nobody tells this kernel of others: it must not say that all is well after it has met with a refusal.
        host.sh("ip route add 10.9.0.0/16 via 172.31.66.66 table 200 proto 42 metric 1024; ip neigh flush dev vx-bridge nud permanent");
        config.routes.push(api::node_config::Route {
            cidr: "10.9.0.0/16".to_owned(),
            gw: "241.31.2.1".to_owned(),
            dev: "vx-bridge".to_owned(),
            ..Default::default()
        });
        let report = keep(&mut kernel, &config);
        assert!(report.differing.iter().any(|d| d.object.starts_with("route 10.9.0.0/16")), "{report:?}");
        same_as_fresh(&kernel, 0);
        // And what it found meanwhile it repairs.
        host.sh("ip route del 10.9.0.0/16 table 200 proto 42");
        assert_eq!(keep(&mut kernel, &config).differing, []);
        same_as_fresh(&kernel, 1);
    });
}
