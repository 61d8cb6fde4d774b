//! Routes of every shape, in their tables.

use netlink::{Address, Family, Hop, Netlink, Nexthop, Op, Route, RouteKind, Via};

use crate::world::{PROTOCOL, answer, apply, in_new_netns, output, with_device};

const TABLE: u32 = 100_054;

fn unicast(destination: &str, via: Via) -> Route {
    Route { metric: 50, ..Route::unicast(destination.parse().unwrap(), TABLE, PROTOCOL, via) }
}

fn onlink(device: u32, gateway: &str) -> Hop {
    Hop::onlink(device, gateway.parse().unwrap())
}

/// Every shape that we write, in both families.
fn shapes(device: u32) -> Vec<Route> {
    let several = |a, b| Via::Multipath(vec![(onlink(device, a), 1), (onlink(device, b), 3)]);
    let mut routes = vec![
        unicast("10.1.0.0/16", Via::Hop(onlink(device, "241.0.0.2"))),
        unicast("10.2.0.0/16", Via::Hop(Hop::device(device))),
        unicast("10.3.0.1/32", Via::Nexthop(7)),
        unicast("10.4.0.0/16", several("241.0.0.2", "241.0.0.3")),
        unicast("10.5.0.0/16", Via::Hop(onlink(device, "fd11::2"))),
        unicast("fd01::/64", Via::Hop(onlink(device, "fd11::2"))),
        unicast("fd02::/64", Via::Hop(Hop::device(device))),
        unicast("fd03::1/128", Via::Nexthop(8)),
        unicast("0.0.0.0/0", Via::Hop(Hop::device(device))),
        unicast("::/0", Via::Hop(Hop::device(device))),
        Route {
            mtu: Some(1400),
            source: Some("241.0.0.1".parse().unwrap()),
            ..unicast("10.6.0.0/16", Via::Hop(onlink(device, "241.0.0.2")))
        },
        Route {
            mtu: Some(1400),
            source: Some("fd11::1".parse().unwrap()),
            ..unicast("fd06::/64", Via::Hop(onlink(device, "fd11::2")))
        },
    ];
    for destination in ["10.1.0.0/16", "fd01::/64"] {
        routes.push(Route::unreachable(destination.parse().unwrap(), TABLE, PROTOCOL, 60));
    }
    for (kind, destination) in [
        (RouteKind::Blackhole, "10.7.0.0/16"),
        (RouteKind::Prohibit, "10.8.0.0/16"),
        (RouteKind::Throw, "10.9.0.0/16"),
        (RouteKind::Blackhole, "fd07::/64"),
    ] {
        routes.push(Route { kind, ..unicast(destination, Via::Nothing) });
    }
    routes.sort();
    routes
}

fn prepared() -> (Netlink, u32) {
    let (mut netlink, device) = with_device();
    apply(
        &mut netlink,
        &[
            Op::add(Address::plain(device, "241.0.0.1/8".parse().unwrap())),
            Op::add(Address::plain(device, "fd11::1/64".parse().unwrap())),
            Op::add(Nexthop::hop(7, PROTOCOL, onlink(device, "241.0.0.9"))),
            Op::add(Nexthop::hop(8, PROTOCOL, onlink(device, "fd11::9"))),
        ],
    );
    (netlink, device)
}

fn table(netlink: &mut Netlink) -> Vec<Route> {
    let mut found = netlink.routes(Family::V4, Some(TABLE)).unwrap();
    found.extend(netlink.routes(Family::V6, Some(TABLE)).unwrap());
    found.sort();
    found
}

#[test]
fn routes_come_back_as_they_went_in() {
    in_new_netns(|| {
        let (mut netlink, device) = prepared();
        let expected = shapes(device);
        apply(&mut netlink, &expected.iter().cloned().map(Op::add).collect::<Vec<_>>());
        assert_eq!(table(&mut netlink), expected);

        // A second writing changes nothing, and all of them can be taken back one by one.
        apply(&mut netlink, &expected.iter().cloned().map(Op::replace).collect::<Vec<_>>());
        assert_eq!(table(&mut netlink), expected);
        for route in &expected {
            apply(&mut netlink, &[Op::delete(route.clone())]);
            assert!(!table(&mut netlink).contains(route), "{route}");
        }
        assert_eq!(table(&mut netlink), []);
    });
}

#[test]
fn a_deletion_takes_exactly_its_own_route() {
    in_new_netns(|| {
        let (mut netlink, device) = prepared();
        let route = unicast("10.1.0.0/16", Via::Hop(onlink(device, "241.0.0.2")));
        apply(&mut netlink, &[Op::add(route.clone())]);
        for other in [
            Route { protocol: 3, ..route.clone() },
            Route { metric: 51, ..route.clone() },
            Route { via: Via::Hop(onlink(device, "241.0.0.3")), ..route.clone() },
            Route { kind: RouteKind::Unreachable, via: Via::Nothing, ..route.clone() },
        ] {
            assert!(answer(&mut netlink, Op::delete(other.clone())).unwrap_err().is_absent(), "{other}");
        }
        assert_eq!(table(&mut netlink), [route]);
    });
}

#[test]
fn a_replacement_changes_where_a_route_leads() {
    in_new_netns(|| {
        let (mut netlink, device) = prepared();
        for (destination, first, second, id) in
            [("10.1.0.0/16", "241.0.0.2", "241.0.0.3", 7), ("fd01::/64", "fd11::2", "fd11::3", 8)]
        {
            let route = unicast(destination, Via::Hop(onlink(device, first)));
            apply(&mut netlink, &[Op::replace(route.clone())]);
            assert!(answer(&mut netlink, Op::add(route.clone())).unwrap_err().is_present());
            for via in [Via::Hop(onlink(device, second)), Via::Nexthop(id), Via::Hop(onlink(device, first))] {
                let changed = Route { via, ..route.clone() };
                apply(&mut netlink, &[Op::replace(changed.clone())]);
                assert_eq!(netlink.routes(route.family(), Some(TABLE)).unwrap(), [changed]);
            }
        }
    });
}

#[test]
fn a_table_is_read_alone_and_may_not_exist() {
    in_new_netns(|| {
        let (mut netlink, device) = prepared();
        assert_eq!(netlink.routes(Family::V4, Some(4711)).unwrap(), []);
        assert_eq!(netlink.routes(Family::V6, Some(4711)).unwrap(), []);
        let ours = unicast("10.1.0.0/16", Via::Hop(Hop::device(device)));
        let other = Route { table: 17, ..ours.clone() };
        apply(&mut netlink, &[Op::add(ours.clone()), Op::add(other.clone())]);
        assert_eq!(netlink.routes(Family::V4, Some(17)).unwrap(), std::slice::from_ref(&other));
        let all = netlink.routes(Family::V4, None).unwrap();
        assert!(all.contains(&ours) && all.contains(&other));
        assert!(all.iter().any(|route| route.table == 255), "the kernel's local table too");
    });
}

#[test]
fn other_programs_see_the_same() {
    in_new_netns(|| {
        let (mut netlink, device) = prepared();
        apply(&mut netlink, &shapes(device).into_iter().map(Op::add).collect::<Vec<_>>());
        let table = TABLE.to_string();
        let Some(shown) = output("ip", &["-4", "-d", "route", "show", "table", &table]) else {
            return skip::skip("there is no `ip` program");
        };
        for line in [
            "unicast 10.1.0.0/16 via 241.0.0.2 dev vx-test proto 158 scope global metric 50 onlink",
            "unicast 10.2.0.0/16 dev vx-test proto 158 scope link metric 50",
            "unicast 10.3.0.1 nhid 7 via 241.0.0.9 dev vx-test proto 158 scope global metric 50 onlink",
            "unicast 10.6.0.0/16 via 241.0.0.2 dev vx-test proto 158 scope global src 241.0.0.1 metric 50 onlink mtu 1400",
            "unreachable 10.1.0.0/16 proto 158 scope global metric 60",
        ] {
            assert!(shown.lines().any(|found| words(found) == words(line)), "{line}\nnot in\n{shown}");
        }
    });
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
