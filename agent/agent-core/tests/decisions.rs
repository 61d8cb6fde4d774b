//! Single decisions, on the small world.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use std::collections::BTreeSet;

use agent_core::fake::FakeKernel;
use agent_core::firewall::Set;
use agent_core::{
    Actual, ActualNexthop, Desired, Known, Nexthop, Pass, Route, RouteKey, Spec, Stage, Step, TABLE, diff,
    pass,
};
use api::node_config::{CidrPair, NodeConfigSpec};
use world::{gateway, host, list, route};

fn kernel_of(config: &NodeConfigSpec) -> FakeKernel {
    let mut kernel = FakeKernel::new(host());
    let report = pass(&mut kernel, &Spec::validate(config), &Known::default()).unwrap();
    assert!(report.is_applied(), "{:?}", report.differing);
    kernel.log.clear();
    kernel
}

fn nexthop_of(actual: &Actual, cidr: &str) -> u32 {
    match &actual.routes[&RouteKey::route(TABLE, cidr.parse().unwrap(), None)] {
        Some(Route::Via { nexthop, .. }) => *nexthop,
        other => panic!("{cidr}: {other:?}"),
    }
}

fn objects(kernel: &FakeKernel) -> Vec<String> {
    kernel.log.iter().map(|(_, step)| step.to_string()).collect()
}

#[test]
fn a_lost_gateway_is_one_message_and_its_return_takes_nothing_from_the_other() {
    let mut both = gateway();
    // The gateways' own addresses: while one is away, the other's has the same gateways as all networks behind them.
    for own in ["241.31.2.1", "241.31.2.2"] {
        both.routes.push(route(&format!("{own}/32"), "vx-bridge", &[own]));
    }
    let mut kernel = kernel_of(&both);
    let group = nexthop_of(&kernel.state, "10.2.0.0/16");
    let mut without = both.clone();
    without.routes.retain(|route| route.gws != ["241.31.2.2"]);
    for route in &mut without.routes {
        route.gws.retain(|gateway| gateway != "241.31.2.2");
    }
    pass(&mut kernel, &Spec::validate(&without), &Known::default()).unwrap();
    let messages = objects(&kernel);
    assert_eq!(messages[0], format!("set nexthop group {group}"));
    // No network's route needs one.
    let own = "replace route 241.31.2.1/32 ";
    let else_done = |message: &&String| !message.starts_with("delete ") && !message.starts_with(own);
    assert_eq!(messages[1..].iter().filter(else_done).count(), 0, "{messages:?}");
    let members = |kernel: &FakeKernel| match &kernel.state.nexthops[&group] {
        ActualNexthop::Ours(Nexthop::Group { members, .. }) => members.clone(),
        other => panic!("{other:?}"),
    };
    let left = members(&kernel);
    // Two objects of one gateway: the kernel goes on telling busy buckets from idle ones.
    assert_eq!(left.len(), 2);
    pass(&mut kernel, &Spec::validate(&both), &Known::default()).unwrap();
    assert_eq!(nexthop_of(&kernel.state, "10.2.0.0/16"), group);
    assert!(members(&kernel).is_superset(&left));
    assert_ne!(nexthop_of(&kernel.state, "241.31.2.1/32"), group);
}

#[test]
fn routes_with_the_same_gateways_share_one_group() {
    let kernel = kernel_of(&gateway());
    let shared = nexthop_of(&kernel.state, "10.2.0.0/16");
    assert_eq!(nexthop_of(&kernel.state, "10.92.0.0/16"), shared);
    assert_ne!(nexthop_of(&kernel.state, "10.3.1.0/24"), shared);
}

#[test]
fn where_the_kernel_has_no_resilient_groups_plain_ones_serve_and_it_is_said() {
    let mut state = host();
    state.host.resilient_groups = false;
    let mut kernel = FakeKernel::new(state);
    let report = pass(&mut kernel, &Spec::validate(&gateway()), &Known::default()).unwrap();
    assert!(report.is_applied(), "{:?}", report.differing);
    assert!(report.notices.iter().any(|notice| notice.starts_with("PlainGroups: ")), "{:?}", report.notices);
}

#[test]
fn the_hosts_own_address_among_its_pods_is_the_source() {
    let source = |actual: &Actual| {
        let desired = Desired::resolve(&Spec::validate(&gateway()), actual, &Known::default());
        match &desired.routes[&RouteKey::route(TABLE, "10.2.0.0/16".parse().unwrap(), None)] {
            Route::Via { source, .. } => source.map(|ip| ip.to_string()),
            Route::Unreachable => panic!("a route with gateways"),
        }
    };
    // Both flannel.1 (index 4) and cni0 (index 5) have one: the bridge is what pods know.
    assert_eq!(source(&host()).as_deref(), Some("10.1.1.1"));
    let mut actual = host();
    actual.host.links.remove(&5);
    assert_eq!(source(&actual).as_deref(), Some("10.1.1.0"));
    actual.host.links.remove(&4);
    assert_eq!(source(&actual), None);
}

#[test]
fn where_an_answer_to_a_pod_address_is_refused_the_device_gives_the_source() {
    let mut config = gateway();
    let pair = CidrPair { from: "10.1.0.0/16".to_owned(), to: "10.2.0.0/16".to_owned() };
    config.firewall.as_mut().unwrap().refused = vec![pair];
    let desired = Desired::resolve(&Spec::validate(&config), &host(), &Known::default());
    let source = |cidr: &str| match &desired.routes[&RouteKey::route(TABLE, cidr.parse().unwrap(), None)] {
        Route::Via { source, .. } => source.map(|ip| ip.to_string()),
        Route::Unreachable => panic!("a route with gateways"),
    };
    assert_eq!(source("10.2.0.0/16"), None);
    assert_eq!(source("10.92.0.0/16").as_deref(), Some("10.1.1.1"));
}

fn known(underlay: &[&str]) -> Known {
    let underlay = underlay.iter().map(|text| text.parse().unwrap()).collect();
    Known { underlay, ..Known::default() }
}

#[test]
fn the_api_server_is_never_sent_into_the_tunnel_and_kube_proxy_by_ipvs_is_told() {
    let mut kernel = FakeKernel::new(host());
    let known = Known { api_servers: ["10.92.0.1".parse().unwrap()].into(), ..Known::default() };
    let report = pass(&mut kernel, &Spec::validate(&gateway()), &known).unwrap();
    let said: Vec<String> = report.differing.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("route 10.92.0.0/16: it covers 10.92.0.1, the API server"), "{said:?}");
    // It is refused, not failed: there is nothing to try again.
    assert!(report.is_verified() && !report.is_applied());
    let known = Known { api_endpoints: ["10.2.0.7".parse().unwrap()].into(), ..Known::default() };
    let report = pass(&mut kernel, &Spec::validate(&gateway()), &known).unwrap();
    let said: Vec<String> = report.differing.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("route 10.2.0.0/16: it covers 10.2.0.7, an endpoint of the API server"),
        "{said:?}"
    );
    let is_routed =
        |cidr: &str| kernel.state.routes.contains_key(&RouteKey::route(TABLE, cidr.parse().unwrap(), None));
    assert!(is_routed("10.92.0.0/16") && !is_routed("10.2.0.0/16"), "{:?}", kernel.state.routes);
    let ipvs = agent_core::HostLink { name: "kube-ipvs0".to_owned(), ..Default::default() };
    kernel.state.host.links.insert(77, ipvs);
    let report = pass(&mut kernel, &Spec::validate(&gateway()), &Known::default()).unwrap();
    assert!(report.notices.iter().any(|notice| notice.starts_with("IpvsProxy:")), "{:?}", report.notices);
}

#[test]
fn the_address_that_peers_send_to_is_the_local_one() {
    let mut actual = host();
    let second = agent_core::HostAddress { network: "172.31.7.7/16".parse().unwrap(), global: true };
    actual.host.links.get_mut(&2).unwrap().addresses.push(second);
    let local = |actual: &Actual, underlay: &[&str]| {
        let desired = Desired::resolve(&Spec::validate(&gateway()), actual, &known(underlay));
        desired.devices[&api::Vtep::Bridge].local.to_string()
    };
    assert_eq!(local(&actual, &[]), "172.31.1.1");
    assert_eq!(local(&actual, &["172.31.7.7"]), "172.31.7.7");
    // Before it is known again, the one in use stays.
    let spec = Spec::validate(&gateway());
    let mut kernel = FakeKernel::new(actual);
    pass(&mut kernel, &spec, &known(&["172.31.7.7"])).unwrap();
    assert_eq!(local(&kernel.state, &[]), "172.31.7.7");
}

#[test]
fn a_route_that_covers_the_host_or_an_underlay_address_is_refused_a_more_specific_one_is_not() {
    let mut config = gateway();
    config.routes.push(route("10.0.0.0/8", "vx-bridge", &["241.31.2.1"]));
    config.routes.push(route("172.31.2.0/24", "vx-bridge", &["241.31.2.1"]));
    config.routes.push(route("172.31.200.0/24", "vx-bridge", &["241.31.2.1"]));
    config.unreachable = list(&["172.31.0.0/16"]);
    let desired = Desired::resolve(&Spec::validate(&config), &host(), &Known::default());
    let refused: Vec<&str> = desired.refused.iter().map(|refused| refused.object.as_str()).collect();
    assert_eq!(refused, ["route 10.0.0.0/8", "route 172.31.2.0/24", "unreachable 172.31.0.0/16"]);
    assert!(desired.routes.contains_key(&RouteKey::route(TABLE, "172.31.200.0/24".parse().unwrap(), None)));
}

#[test]
fn a_part_of_a_foreign_route_is_routed_and_said_what_holds_a_router_is_not() {
    let mut actual = host();
    let route_of = |text: &str, device: &str| agent_core::HostRoute {
        destination: text.parse().unwrap(),
        device: Some(device.to_owned()),
        protocol: 4,
    };
    actual.host.routes.extend([route_of("10.0.0.0/8", "eth1"), route_of("10.3.0.0/16", "eth1")]);
    let mut config = gateway();
    config.routes.push(route("10.6.0.0/24", "vx-bridge", &["241.31.2.1"]));
    config.inbound_routes = vec![route("10.1.3.0/24", "vx-local", &["242.31.1.3"])];
    let mut kernel = FakeKernel::new(actual);
    let report = pass(&mut kernel, &Spec::validate(&config), &Known::default()).unwrap();
    let differing: Vec<String> = report.differing.iter().map(ToString::to_string).collect();
    assert_eq!(differing.len(), 2, "{differing:?}");
    assert!(
        differing[0].starts_with("route 10.6.0.0/24: it covers 10.6.0.1, the router of"),
        "{differing:?}"
    );
    // That one covers the host's more specific route.
    assert!(differing[1].starts_with("unreachable 10.3.0.0/16: it would shadow"), "{differing:?}");
    assert!(kernel.state.routes.contains_key(&RouteKey::route(TABLE, "10.3.1.0/24".parse().unwrap(), None)));
    // One notice for each route of the host, by the closest one; the inbound table takes nothing from anybody.
    assert_eq!(
        report.notices,
        [
            "MoreSpecific: 10.2.0.0/16 is a part of the host's own route to 10.0.0.0/8 on eth1 (protocol 4); it goes into the tunnel now",
            "MoreSpecific: 10.3.1.0/24 is a part of the host's own route to 10.3.0.0/16 on eth1 (protocol 4); it goes into the tunnel now",
        ]
    );
}

#[test]
fn another_mtu_is_another_route_which_comes_before_the_old_one_goes() {
    let mut config = gateway();
    let mut kernel = kernel_of(&config);
    let group = nexthop_of(&kernel.state, "10.2.0.0/16");
    config.routes[0].mtu = Some(1380);
    // With a gateway less at the same time: flows stay in their group.
    for route in &mut config.routes[..2] {
        route.gws.truncate(1);
    }
    let report = pass(&mut kernel, &Spec::validate(&config), &Known::default()).unwrap();
    assert!(report.is_applied(), "{:?}", report.differing);
    let with_mtu = RouteKey::route(TABLE, "10.2.0.0/16".parse().unwrap(), Some(1380));
    assert!(
        matches!(&kernel.state.routes[&with_mtu], Some(Route::Via { nexthop, mtu: Some(1380), .. }) if *nexthop == group)
    );
    let without = nexthop_of(&kernel.state, "10.92.0.0/16");
    assert_eq!(without, group);
}

#[test]
fn a_setting_that_nobody_asks_for_goes_back_to_what_a_new_device_has() {
    let loose = |kernel: &FakeKernel| {
        let setting = agent_core::Setting::RpFilter;
        kernel.state.sysctls[&agent_core::Sysctl { device: api::Vtep::Local, setting }]
    };
    let mut kernel = kernel_of(&gateway());
    assert_eq!(loose(&kernel), 2);
    let mut demoted = gateway();
    demoted.firewall.as_mut().unwrap().transit = false;
    // Not while it is in doubt what is asked for.
    let mut doubtful = demoted.clone();
    doubtful.firewall.as_mut().unwrap().pod_cidrs.push("nonsense".to_owned());
    pass(&mut kernel, &Spec::validate(&doubtful), &Known::default()).unwrap();
    assert_eq!(loose(&kernel), 2);
    pass(&mut kernel, &Spec::validate(&demoted), &Known::default()).unwrap();
    assert_eq!(loose(&kernel), 1);
    // A value that we never write is somebody's decision.
    let setting = agent_core::Setting::RpFilter;
    kernel.state.sysctls.insert(agent_core::Sysctl { device: api::Vtep::Local, setting }, 0);
    pass(&mut kernel, &Spec::validate(&demoted), &Known::default()).unwrap();
    assert_eq!(loose(&kernel), 0);
}

#[test]
fn a_packet_filter_that_cannot_be_read_is_not_clean() {
    let mut kernel = kernel_of(&gateway());
    kernel.state.firewall.unreadable = vec!["nft did not end within 20s and was killed".to_owned()];
    kernel.state.firewall.table_unreadable = true;
    kernel.state.firewall.table = None;
    assert!(!agent_core::cleanup(&mut kernel).unwrap().is_applied());
    // What cannot be there needs no reading.
    kernel.state.firewall.absent = true;
    assert!(agent_core::cleanup(&mut kernel).unwrap().is_applied());
    assert!(!pass(&mut kernel, &Spec::validate(&gateway()), &Known::default()).unwrap().is_applied());
}

#[test]
fn kosmoss_flooding_entries_are_ignored_and_said_to_be() {
    let mut config = gateway();
    config.fdbs.extend(["172.31.2.1", "172.31.3.1"].map(|ip| api::node_config::Fdb {
        ip: ip.to_owned(),
        mac: "00:00:00:00:00:00".to_owned(),
        dev: "vx-bridge".to_owned(),
    }));
    let spec = Spec::validate(&config);
    assert_eq!(spec.invalid, []);
    assert_eq!(spec.unsupported.len(), 1);
    assert!(
        spec.unsupported[0].starts_with("fdbs: 2 entry(ies) for 00:00:00:00:00:00"),
        "{:?}",
        spec.unsupported
    );
    assert_eq!(spec.fdb, Spec::validate(&gateway()).fdb);
}

#[test]
fn an_unreadable_entry_forbids_deletions_of_its_kind_only() {
    let kernel = kernel_of(&gateway());
    let mut config = gateway();
    config.routes[2].cidr = "10.3.1/24".to_owned();
    config.arps.clear();
    config.fdbs[0].ip = "nonsense".to_owned();
    let spec = Spec::validate(&config);
    let desired = Desired::resolve(&spec, &kernel.state, &Known::default());
    let changes = diff(&desired, &kernel.state, &spec.doubtful());
    let stages: Vec<Stage> = changes.stages().map(|(stage, _)| stage).collect();
    assert_eq!(stages, [Stage::DeleteNeighbours]);
    let without_doubt = diff(&desired, &kernel.state, &BTreeSet::new());
    assert!(without_doubt.steps().any(|step| matches!(step, Step::DeleteRoute(_))));
}

#[test]
fn an_invalid_device_is_named_once_not_for_everything_on_it() {
    let mut config = gateway();
    config.devices[0].mac = "01:00:5e:00:00:01".to_owned();
    config.devices[0].port = 70_000;
    let named: Vec<String> = Spec::validate(&config).invalid.iter().map(ToString::to_string).collect();
    assert_eq!(
        named,
        [
            "device vx-bridge: mac \"01:00:5e:00:00:01\": is a multicast address",
            "device vx-bridge: port \"70000\": is not a UDP port from 1 to 65535",
        ]
    );
}

#[test]
fn our_own_former_address_as_a_gateway_takes_a_second_round_of_the_same_pass() {
    let mut kernel = kernel_of(&gateway());
    let mut config = gateway();
    config.devices[0].addr = "241.31.1.9/32".to_owned();
    config.routes[2].gw = "241.31.1.1".to_owned();
    let report = pass(&mut kernel, &Spec::validate(&config), &Known::default()).unwrap();
    assert!(report.is_applied(), "{:?}", report.differing);
    assert_eq!(report.written.first().map(String::as_str), Some("address 241.31.1.9/32 on vx-bridge"));
}

#[test]
fn the_tables_sets_hold_what_the_node_config_says() {
    let desired = Desired::resolve(&Spec::validate(&gateway()), &host(), &Known::default());
    let table = desired.firewall.unwrap().table;
    let ranges = |name: &str| match &table.sets[name] {
        Set::Addresses(_, ranges) => {
            ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect::<Vec<_>>()
        }
        Set::Names(names) => names.iter().cloned().collect(),
    };
    assert_eq!(ranges("own4"), ["10.1.0.0-10.1.255.255", "242.31.1.0-242.31.1.255"]);
    assert_eq!(ranges("here4"), ["10.1.1.0-10.1.1.255", "241.31.1.1-241.31.1.1", "242.31.1.1-242.31.1.1"]);
    assert_eq!(ranges("tunnels").len(), 4);
    assert!(table.chains["prerouting"].rules.len() == 6, "transit is on");
    // What another gateway translated back is passed on as it is.
    for chain in ["prerouting", "mesh"] {
        let is_answer = |rule: &&serde_json::Value| rule.to_string().contains("@services4");
        let answers: Vec<_> = table.chains[chain].rules.iter().filter(is_answer).collect();
        assert_eq!(answers.len(), 1, "{chain}");
        assert!(answers[0].to_string().contains("@remote4"), "{answers:?}");
    }
}

#[test]
fn what_hangs_on_an_object_that_is_fought_over_rests_with_it_and_says_so() {
    let (spec, known) = (Spec::validate(&gateway()), Known::default());
    let whole = kernel_of(&gateway());
    let nexthop = *whole.state.nexthops.keys().next().unwrap();
    type Vandal = fn(&mut Actual, u32);
    let fights: [(&str, Vandal); 2] = [
        ("device vx-bridge", |state, _| state.lose_device(api::Vtep::Bridge)),
        ("nexthop via 241.31.2.1 on vx-bridge", |state, id| state.lose_nexthops(BTreeSet::from([id]))),
    ];
    for (object, break_it) in fights {
        let mut kernel = whole.clone();
        break_it(&mut kernel.state, nexthop);
        // Something that has nothing to do with it is repaired meanwhile.
        kernel.state.rules.pop_first().unwrap();
        let resting = BTreeSet::from([object.to_owned()]);
        let report = Pass { resting: &resting, ..Pass::new(&spec, &known) }.run(&mut kernel).unwrap();
        assert!(report.is_settled() && !report.is_applied(), "{object}: {:?}", report.differing);
        assert_eq!(report.differing[0].object, object);
        assert!(report.differing.len() > 1, "{object}");
        let waits = format!("waits for {object}, which somebody else changes again and again");
        assert!(report.differing[1..].iter().all(|other| other.problem == waits), "{:?}", report.differing);
        assert!(matches!(kernel.log.as_slice(), [(Stage::Rules, Step::AddRule(_))]), "{:?}", kernel.log);
        assert!(pass(&mut kernel, &spec, &known).unwrap().is_applied());
    }
}
