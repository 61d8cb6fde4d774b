//! What is told of changes while they are made is what a dump says afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use netlink::{Family, FdbEntry, Hop, Neighbour, Nexthop, Object, Op, Resilience, Route, Told, Via, Witness};

use crate::world::{PROTOCOL, apply, in_new_netns, mac, with_device};

const TABLE: u32 = 100_054;

fn objects(device: u32) -> Vec<Object> {
    let gateway = |last: u8| format!("241.0.0.{last}").parse().unwrap();
    let timers = Duration::from_secs(120);
    let resilience = Resilience { buckets: 64, idle_timer: timers, unbalanced_timer: Duration::ZERO };
    let v6 = Hop::onlink(device, "fd41::2".parse().unwrap());
    vec![
        Object::Neighbour(Neighbour::permanent(device, gateway(2), mac(2), PROTOCOL)),
        Object::Neighbour(Neighbour::permanent(device, "fd41::2".parse().unwrap(), mac(2), PROTOCOL)),
        Object::Fdb(FdbEntry::permanent(device, mac(2), "192.0.2.2".parse().unwrap())),
        Object::Nexthop(Nexthop::hop(7, PROTOCOL, Hop::onlink(device, gateway(2)))),
        Object::Nexthop(Nexthop::hop(8, PROTOCOL, Hop::onlink(device, gateway(3)))),
        Object::Nexthop(Nexthop::hop(6, PROTOCOL, v6)),
        Object::Nexthop(Nexthop::group(9, PROTOCOL, [7, 8], Some(resilience))),
        Object::Route(Route {
            mtu: Some(1380),
            metric: 1024,
            ..Route::unicast("10.1.0.0/16".parse().unwrap(), TABLE, PROTOCOL, Via::Nexthop(9))
        }),
        Object::Route(Route {
            metric: 1024,
            ..Route::unicast("fd01::/48".parse().unwrap(), TABLE, PROTOCOL, Via::Nexthop(6))
        }),
        Object::Route(Route::unreachable("10.0.0.0/8".parse().unwrap(), TABLE, PROTOCOL, 1 << 20)),
    ]
}

fn described(told: &[Told], present: bool) -> BTreeSet<Object> {
    told.iter().filter(|told| told.present == present).map(|told| told.object.clone()).collect()
}

#[test]
fn what_is_told_is_what_a_dump_says() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let mut witness = Witness::open().unwrap();
        let objects = objects(device);
        witness.attend().unwrap();
        apply(&mut netlink, &objects.iter().cloned().map(Op::Replace).collect::<Vec<_>>());
        let told = described(&witness.testify().unwrap(), true);

        let mut dumped: BTreeSet<Object> = BTreeSet::new();
        // Those of multicast are the kernel's own, for what it sends by itself some time after a device is up.
        let neighbours = netlink.neighbours(device).unwrap().into_iter();
        dumped.extend(neighbours.filter(|found| !found.address.is_multicast()).map(Object::Neighbour));
        dumped.extend(netlink.fdb(device).unwrap().into_iter().map(Object::Fdb));
        dumped.extend(netlink.nexthops().unwrap().into_iter().map(Object::Nexthop));
        for family in [Family::V4, Family::V6] {
            dumped.extend(netlink.routes(family, Some(TABLE)).unwrap().into_iter().map(Object::Route));
        }
        assert_eq!(dumped.len(), objects.len());
        assert!(told.is_superset(&dumped), "told {told:#?}\ndumped {dumped:#?}");

        // In between nobody listens.
        apply(
            &mut netlink,
            &[Op::replace(Neighbour::permanent(device, "241.0.0.9".parse().unwrap(), mac(9), 0))],
        );
        witness.attend().unwrap();
        let backwards: Vec<Op> = objects.iter().rev().cloned().map(Op::Delete).collect();
        apply(&mut netlink, &backwards);
        let testimony = witness.testify().unwrap();
        let gone: BTreeSet<String> = described(&testimony, false).iter().map(ToString::to_string).collect();
        for object in &dumped {
            // A neighbour that goes has lost its MAC.
            let name = object.to_string();
            let name = name.split(" at ").next().unwrap();
            assert!(gone.iter().any(|gone| gone.starts_with(name)), "{name} in {gone:#?}");
        }
        assert!(!testimony.iter().any(|told| told.object.to_string().contains("241.0.0.9")));
    });
}

#[test]
fn what_does_not_fit_is_an_error_and_the_next_testimony_is_whole() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let mut witness = Witness::open().unwrap();
        let many = |first: u32, count: u32| -> Vec<Op> {
            (first..first + count)
                .map(|n| {
                    let address = std::net::Ipv4Addr::from(0xf100_0000 + n);
                    Op::replace(Neighbour::permanent(device, address.into(), mac(3), PROTOCOL))
                })
                .collect()
        };
        witness.attend().unwrap();
        apply(&mut netlink, &many(1, 60_000));
        assert!(matches!(witness.testify(), Err(netlink::Error::Overrun)));
        witness.attend().unwrap();
        apply(&mut netlink, &many(70_000, 5));
        assert_eq!(witness.testify().unwrap().len(), 5);
    });
}
