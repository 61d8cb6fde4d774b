//! Neighbours and forwarding entries.

use netlink::{FdbEntry, Neighbour, Op};

use crate::world::{PROTOCOL, answer, apply, in_new_netns, link, mac, output, vxlan, with_device};

#[test]
fn neighbours_come_back_as_they_went_in() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        apply(&mut netlink, &[Op::CreateLink(vxlan("vx-other", 55))]);
        let other = link(&mut netlink, "vx-other").index;
        let entry = |device, address: &str, last, protocol| {
            Neighbour::permanent(device, address.parse().unwrap(), mac(last), protocol)
        };
        let mut expected = vec![
            entry(device, "241.0.0.2", 2, PROTOCOL),
            entry(device, "241.0.0.3", 3, 0),
            entry(device, "fd11::2", 2, PROTOCOL),
        ];
        let elsewhere = entry(other, "241.0.0.2", 4, PROTOCOL);
        apply(&mut netlink, &expected.iter().cloned().map(Op::add).collect::<Vec<_>>());
        apply(&mut netlink, &[Op::add(elsewhere.clone())]);
        let ours = |found: Vec<Neighbour>| {
            let mut ours: Vec<_> = found.into_iter().filter(|n| !n.address.is_multicast()).collect();
            ours.sort();
            ours
        };
        expected.sort();
        assert_eq!(ours(netlink.neighbours(device).unwrap()), expected);
        assert_eq!(ours(netlink.neighbours(other).unwrap()), [elsewhere]);

        let moved = entry(device, "241.0.0.2", 9, PROTOCOL);
        assert!(answer(&mut netlink, Op::add(moved.clone())).unwrap_err().is_present());
        apply(&mut netlink, &[Op::replace(moved.clone())]);
        assert!(netlink.neighbours(device).unwrap().contains(&moved));
        apply(&mut netlink, &[Op::delete(moved.clone())]);
        assert!(!netlink.neighbours(device).unwrap().iter().any(|n| n.address == moved.address));
        assert!(answer(&mut netlink, Op::delete(moved)).unwrap_err().is_absent());
    });
}

#[test]
fn forwarding_entries_come_back_as_they_went_in() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        apply(&mut netlink, &[Op::CreateLink(vxlan("vx-other", 55))]);
        let other = link(&mut netlink, "vx-other").index;
        let entry = |device, last, destination: &str| {
            FdbEntry::permanent(device, mac(last), destination.parse().unwrap())
        };
        let mut expected = vec![entry(device, 2, "192.0.2.2"), entry(device, 3, "192.0.2.3")];
        apply(&mut netlink, &expected.iter().cloned().map(Op::add).collect::<Vec<_>>());
        apply(&mut netlink, &[Op::add(entry(other, 2, "192.0.2.2"))]);
        let sorted = |mut found: Vec<FdbEntry>| {
            found.sort();
            found
        };
        assert_eq!(sorted(netlink.fdb(device).unwrap()), expected);
        assert_eq!(netlink.fdb(other).unwrap(), [entry(other, 2, "192.0.2.2")]);

        expected[0] = entry(device, 2, "192.0.2.9");
        assert!(answer(&mut netlink, Op::add(expected[0].clone())).unwrap_err().is_present());
        apply(&mut netlink, &[Op::replace(expected[0].clone())]);
        assert_eq!(sorted(netlink.fdb(device).unwrap()), expected);
        if let Some(shown) = output("bridge", &["fdb", "show", "dev", "vx-test"]) {
            assert!(shown.contains("02:00:5e:00:00:02 dst 192.0.2.9 self permanent"), "{shown}");
        }
        apply(&mut netlink, &expected.iter().cloned().map(Op::delete).collect::<Vec<_>>());
        assert_eq!(netlink.fdb(device).unwrap(), []);
        assert!(answer(&mut netlink, Op::delete(expected[0].clone())).unwrap_err().is_absent());
    });
}

#[test]
fn the_underlay_may_be_ipv6() {
    in_new_netns(|| {
        let (mut netlink, _) = with_device();
        let mut new = vxlan("vx6", 64);
        if let netlink::NewLinkKind::Vxlan(settings) = &mut new.kind {
            settings.local = Some("fd00::1".parse().unwrap());
        }
        apply(&mut netlink, &[Op::CreateLink(new)]);
        let device = link(&mut netlink, "vx6").index;
        let entry = FdbEntry::permanent(device, mac(1), "fd00::2".parse().unwrap());
        apply(&mut netlink, &[Op::add(entry.clone())]);
        assert_eq!(netlink.fdb(device).unwrap(), [entry]);
    });
}
