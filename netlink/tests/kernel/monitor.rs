//! Changes are told, to those who did not make them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink::{
    Address, Event, Family, FdbEntry, Hop, LinkChange, Monitor, Neighbour, Nexthop, Op, Route, Rule, Via,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::world::{PROTOCOL, apply, in_new_netns, mac, with_device};

const SOON: Duration = Duration::from_millis(200);

fn events(monitor: &mut Monitor) -> BTreeSet<Event> {
    let mut events = BTreeSet::new();
    while let Some(event) = monitor.next(SOON).expect("the subscription lives") {
        events.insert(event);
    }
    events
}

fn neighbour(device: u32) -> Neighbour {
    Neighbour::permanent(device, "241.0.0.2".parse().unwrap(), mac(2), PROTOCOL)
}

fn fdb(device: u32) -> FdbEntry {
    FdbEntry::permanent(device, mac(2), "192.0.2.2".parse().unwrap())
}

fn changes(device: u32) -> Vec<Op> {
    let gateway = "241.0.0.2".parse().unwrap();
    vec![
        Op::ChangeLink(LinkChange { alias: Some("changed".to_owned()), ..LinkChange::of(device) }),
        Op::add(Address::plain(device, "241.0.0.1/8".parse().unwrap())),
        Op::add(neighbour(device)),
        Op::add(fdb(device)),
        Op::add(Nexthop::hop(7, PROTOCOL, Hop::onlink(device, gateway))),
        Op::add(Route::unicast("10.0.0.0/8".parse().unwrap(), 100_054, PROTOCOL, Via::Nexthop(7))),
        Op::add(Rule::lookup(Family::V6, 200, 100_054, PROTOCOL)),
    ]
}

fn expected(device: u32) -> BTreeSet<Event> {
    BTreeSet::from([
        Event::Link { index: device, name: "vx-test".to_owned() },
        Event::Address { device },
        Event::Neighbour { device, entry: Some(neighbour(device)), present: true },
        Event::Fdb { device, entry: Some(fdb(device)), present: true },
        Event::Nexthop { id: 7 },
        Event::Route { family: Family::V4, table: 100_054, protocol: PROTOCOL },
        Event::Rule { family: Family::V6, priority: 200 },
    ])
}

#[test]
fn every_kind_of_change_is_told() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let mut monitor = Monitor::open().unwrap();
        apply(&mut netlink, &changes(device));
        let mut ready = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::from(1000_u16)), Ok(1), "its descriptor is readable");
        let told = events(&mut monitor);
        assert!(told.is_superset(&expected(device)), "{told:?}");
        assert_eq!(monitor.next(Duration::ZERO).unwrap(), None);
    });
}

#[test]
fn ones_own_changes_can_be_left_out() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let mut monitor = Monitor::open().unwrap();
        monitor.ignore(netlink.port());
        apply(&mut netlink, &changes(device));
        let told = events(&mut monitor);
        for own in [
            Event::Nexthop { id: 7 },
            Event::Route { family: Family::V4, table: 100_054, protocol: PROTOCOL },
            Event::Rule { family: Family::V6, priority: 200 },
        ] {
            assert!(!told.contains(&own), "{told:?}");
        }
        let mut stranger = netlink::Netlink::open().unwrap();
        apply(&mut stranger, &[Op::DeleteLink(device)]);
        assert!(
            events(&mut monitor)
                .iter()
                .any(|event| matches!(event, Event::Link { index, .. } if *index == device))
        );
    });
}

#[test]
fn lost_events_are_told_too() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let mut monitor = Monitor::open().unwrap();
        // Some 30,000 events of 1 KiB each are more than the buffer holds.
        for round in 0..30_u16 {
            let entries = (0..1000_u16).map(|n| {
                let address = Ipv4Addr::from(0xf100_0000 + u32::from(round) * 1000 + u32::from(n));
                Op::add(Neighbour::permanent(device, address.into(), mac(n), PROTOCOL))
            });
            apply(&mut netlink, &entries.collect::<Vec<_>>());
        }
        assert!(events(&mut monitor).contains(&Event::Overrun));
        // And it goes on afterwards.
        apply(&mut netlink, &[Op::add(Rule::lookup(Family::V4, 200, 300, PROTOCOL))]);
        assert!(events(&mut monitor).contains(&Event::Rule { family: Family::V4, priority: 200 }));
    });
}
