//! Batches of many sizes and kinds, with and without refusals, and reading while others write.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use netlink::{Error, Family, FdbEntry, Hop, Namespace, Neighbour, Netlink, Nexthop, Op, Route, Rule, Via};

use crate::world::{PROTOCOL, apply, in_new_netns, mac, with_device};

const TABLE: u32 = 300;

fn address(base: [u8; 2], n: u32) -> IpAddr {
    let [_, _, high, low] = n.to_be_bytes();
    Ipv4Addr::new(base[0], base[1], high, low).into()
}

fn route(n: u32, via: Via) -> Route {
    Route::unicast(address([10, 1], n).into(), TABLE, PROTOCOL, via)
}

#[test]
fn ten_thousand_of_each_kind_go_in_and_come_back() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let mut ops = Vec::new();
        for n in 0..10_000 {
            let mac = mac(u16::try_from(n).unwrap());
            ops.push(Op::add(Neighbour::permanent(device, address([241, 0], n), mac, PROTOCOL)));
            ops.push(Op::add(FdbEntry::permanent(device, mac, address([192, 168], n))));
            let hop = Hop::onlink(device, address([241, 0], n));
            ops.push(Op::add(Nexthop::hop(n + 1, PROTOCOL, hop)));
            ops.push(Op::add(route(n, Via::Nexthop(n + 1))));
        }
        apply(&mut netlink, &ops);
        let neighbours = netlink.neighbours(device).unwrap();
        assert_eq!(neighbours.iter().filter(|n| n.protocol == PROTOCOL).count(), 10_000);
        assert_eq!(netlink.fdb(device).unwrap().len(), 10_000);
        assert_eq!(netlink.nexthops().unwrap().len(), 10_000);
        let routes = netlink.routes(Family::V4, Some(TABLE)).unwrap();
        assert_eq!(routes, (0..10_000).map(|n| route(n, Via::Nexthop(n + 1))).collect::<Vec<_>>());
    });
}

#[test]
fn ten_thousand_failing_adds_are_all_reported() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let ops: Vec<_> = (0..10_000).map(|n| Op::add(route(n, Via::Hop(Hop::device(device))))).collect();
        apply(&mut netlink, &ops);
        let results = netlink.apply(&ops).unwrap();
        assert_eq!(results.len(), ops.len());
        for (place, result) in results.into_iter().enumerate() {
            let refusal = result.unwrap_err();
            assert!(refusal.is_present() && refusal.index == place, "{place}: {refusal:?}");
        }
    });
}

#[test]
fn one_refusal_stops_nothing() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let impossible = |n: u32| n % 3 == 1;
        let ops: Vec<_> = (0..3_000)
            .map(|n| {
                let via = if impossible(n) { Via::Nexthop(9_999_999) } else { Via::Hop(Hop::device(device)) };
                Op::replace(route(n, via))
            })
            .collect();
        let results = netlink.apply(&ops).unwrap();
        for (n, result) in (0..).zip(&results) {
            match result {
                Ok(()) => assert!(!impossible(n)),
                Err(refusal) => {
                    assert!(impossible(n));
                    assert_eq!(refusal.to_string(), "Nexthop id does not exist (EINVAL)");
                }
            }
        }
        assert_eq!(netlink.routes(Family::V4, Some(TABLE)).unwrap().len(), 2_000);
    });
}

#[test]
fn a_mixed_batch_runs_in_its_order() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let hop = Nexthop::hop(1, PROTOCOL, Hop::onlink(device, address([241, 0], 1)));
        let rule = Rule::lookup(Family::V4, 200, TABLE, PROTOCOL);
        apply(
            &mut netlink,
            &[
                Op::add(hop.clone()),
                Op::add(route(1, Via::Nexthop(1))),
                Op::add(rule.clone()),
                Op::delete(rule),
                Op::delete(route(1, Via::Nexthop(1))),
                Op::delete(hop),
            ],
        );
        assert_eq!(netlink.nexthops().unwrap(), []);
        assert_eq!(netlink.apply(&[]).unwrap(), []);
    });
}

#[test]
fn a_reading_is_whole_while_others_write() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let stable: Vec<_> = (0..3_000).map(|n| route(n, Via::Hop(Hop::device(device)))).collect();
        apply(&mut netlink, &stable.iter().cloned().map(Op::add).collect::<Vec<_>>());
        let mut writer = Namespace::current().unwrap().netlink().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| churn(&mut writer, device, &stop));
            for _ in 0..30 {
                match netlink.routes(Family::V4, Some(TABLE)) {
                    Ok(found) => {
                        let found: Vec<_> =
                            found.into_iter().filter(|r| r.destination < churned(0)).collect();
                        assert_eq!(found, stable);
                    }
                    Err(error) => assert!(matches!(error, Error::Interrupted { .. }), "{error}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}

fn churned(n: u32) -> ipnetwork::IpNetwork {
    address([10, 200], n).into()
}

fn churn(netlink: &mut Netlink, device: u32, stop: &AtomicBool) {
    let via = Via::Hop(Hop::device(device));
    let routes: Vec<_> = (0..20).map(|n| Route::unicast(churned(n), TABLE, PROTOCOL, via.clone())).collect();
    while !stop.load(Ordering::Relaxed) {
        apply(netlink, &routes.iter().cloned().map(Op::add).collect::<Vec<_>>());
        apply(netlink, &routes.iter().cloned().map(Op::delete).collect::<Vec<_>>());
    }
}
