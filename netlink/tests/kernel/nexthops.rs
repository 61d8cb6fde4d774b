//! Nexthop objects: what we write by hand, the kernel and `ip` understand.

use std::collections::BTreeMap;
use std::time::Duration;

use netlink::{Family, Hop, Nexthop, NexthopKind, Op, Resilience, Route, Via};

use crate::world::{PROTOCOL, answer, apply, in_new_netns, output, with_device};

fn onlink(device: u32, gateway: &str) -> Hop {
    Hop::onlink(device, gateway.parse().unwrap())
}

fn resilience() -> Resilience {
    let idle_timer = Duration::from_secs(60);
    Resilience { buckets: 64, idle_timer, unbalanced_timer: Duration::ZERO }
}

fn objects(device: u32) -> Vec<Nexthop> {
    let weighted = NexthopKind::Group(BTreeMap::from([(11, 1), (12, 5)]), None);
    vec![
        Nexthop::hop(11, PROTOCOL, onlink(device, "241.0.0.11")),
        Nexthop::hop(12, PROTOCOL, onlink(device, "241.0.0.12")),
        Nexthop::hop(16, PROTOCOL, onlink(device, "fd11::16")),
        Nexthop { id: 17, protocol: PROTOCOL, kind: NexthopKind::Hop(Family::V6, Hop::device(device)) },
        Nexthop { id: 18, protocol: PROTOCOL, kind: NexthopKind::Blackhole(Family::V4) },
        Nexthop::group(1000, PROTOCOL, [11, 12], Some(resilience())),
        Nexthop { id: 1001, protocol: PROTOCOL, kind: weighted },
    ]
}

#[test]
fn nexthops_come_back_as_they_went_in() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let expected = objects(device);
        apply(&mut netlink, &expected.iter().cloned().map(Op::add).collect::<Vec<_>>());
        assert_eq!(netlink.nexthops().unwrap(), expected);
        apply(&mut netlink, &expected.iter().cloned().map(Op::replace).collect::<Vec<_>>());
        assert_eq!(netlink.nexthops().unwrap(), expected);

        let Some(shown) = output("ip", &["-d", "nexthop", "show"]) else {
            return skip::skip("there is no `ip` program");
        };
        for line in [
            "id 11 via 241.0.0.11 dev vx-test scope link proto 158 onlink",
            "id 16 via fd11::16 dev vx-test scope link proto 158 onlink",
            "id 18 scope global blackhole proto 158",
            "id 1000 group 11/12 type resilient buckets 64 idle_timer 60 unbalanced_timer 0 unbalanced_time 0 scope global proto 158",
            "id 1001 group 11/12,5 scope global proto 158",
        ] {
            let words: Vec<_> = line.split(' ').collect();
            let found = shown.lines().any(|shown| shown.split_whitespace().collect::<Vec<_>>() == words);
            assert!(found, "{line}\nnot in\n{shown}");
        }
        let delete: Vec<_> = expected.iter().rev().cloned().map(Op::delete).collect();
        apply(&mut netlink, &delete);
        assert_eq!(netlink.nexthops().unwrap(), []);
        assert!(answer(&mut netlink, delete[0].clone()).unwrap_err().is_absent());
    });
}

#[test]
fn what_ip_writes_we_read() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        for command in [
            "nexthop add id 11 via 241.0.0.11 dev vx-test onlink proto 158",
            "nexthop add id 12 via 241.0.0.12 dev vx-test onlink proto 158",
            "nexthop add id 16 via fd11::16 dev vx-test onlink proto 158",
            "nexthop add id 17 dev vx-test proto 158",
            "nexthop add id 18 blackhole proto 158",
            "nexthop add id 1000 group 11/12 type resilient buckets 64 idle_timer 60 unbalanced_timer 0 proto 158",
            "nexthop add id 1001 group 11/12,5 proto 158",
        ] {
            if output("ip", &command.split(' ').collect::<Vec<_>>()).is_none() {
                return skip::skip("there is no `ip` program");
            }
        }
        let mut expected = objects(device);
        // `ip` takes IPv4 for a nexthop without a gateway.
        expected[3].kind = NexthopKind::Hop(Family::V4, Hop::device(device));
        assert_eq!(netlink.nexthops().unwrap(), expected);

        // And back: it cannot tell our objects from its own.
        let shown = output("ip", &["-d", "nexthop", "show"]);
        apply(&mut netlink, &expected.iter().rev().cloned().map(Op::delete).collect::<Vec<_>>());
        apply(&mut netlink, &expected.into_iter().map(Op::add).collect::<Vec<_>>());
        assert_eq!(output("ip", &["-d", "nexthop", "show"]), shown);
    });
}

#[test]
fn a_group_loses_and_regains_a_member_under_its_routes() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let routes: Vec<_> = (0..50_u8)
            .map(|n| {
                let destination = format!("10.{n}.0.0/16").parse().unwrap();
                Route::unicast(destination, 300, PROTOCOL, Via::Nexthop(1000))
            })
            .collect();
        let both = Nexthop::group(1000, PROTOCOL, [11, 12], Some(resilience()));
        let one = Nexthop::group(1000, PROTOCOL, [11], Some(resilience()));
        apply(&mut netlink, &objects(device)[..2].iter().cloned().map(Op::add).collect::<Vec<_>>());
        apply(&mut netlink, &[Op::add(both.clone())]);
        apply(&mut netlink, &routes.iter().cloned().map(Op::add).collect::<Vec<_>>());
        for group in [one, both] {
            apply(&mut netlink, &[Op::replace(group.clone())]);
            assert!(netlink.nexthops().unwrap().contains(&group));
            assert_eq!(netlink.routes(Family::V4, Some(300)).unwrap(), routes);
        }
    });
}

#[test]
fn the_kernel_says_what_is_wrong_with_a_nexthop() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let empty = answer(&mut netlink, Op::add(Nexthop::group(5, PROTOCOL, [404], None))).unwrap_err();
        assert_eq!(empty.to_string(), "Invalid nexthop id (EINVAL)");
        apply(&mut netlink, &objects(device).into_iter().map(Op::add).collect::<Vec<_>>());
        let plain =
            answer(&mut netlink, Op::replace(Nexthop::group(1000, PROTOCOL, [11], None))).unwrap_err();
        let words = "Can not replace a nexthop group with one of a different type.";
        assert_eq!(plain.message.as_deref(), Some(words));
    });
}
