//! Devices: created whole, changed in place, moved, renamed, deleted.

use netlink::{Link, LinkChange, LinkKind, Namespace, Netlink, NewLink, NewLinkKind, Op, VethPeer, Vxlan};

use crate::world::{answer, apply, in_new_netns, link, mac, vxlan, with_device};

fn veth(name: &str, peer: VethPeer) -> Op {
    Op::CreateLink(NewLink::new(name, NewLinkKind::Veth(peer)))
}

#[test]
fn a_vxlan_device_is_born_with_all_that_was_asked() {
    in_new_netns(|| {
        let mut netlink = Netlink::open().unwrap();
        apply(&mut netlink, &[veth("underlay0", VethPeer::new("underlay1"))]);
        let parent = link(&mut netlink, "underlay0").index;
        for (local, name) in [("192.0.2.7", "vx4"), ("2001:db8::7", "vx6")] {
            let settings = Vxlan {
                vni: 64,
                port: 4866,
                local: Some(local.parse().unwrap()),
                parent: Some(parent),
                learning: false,
            };
            let new = NewLink {
                mac: Some(mac(7)),
                mtu: Some(1380),
                alias: Some("owner=test".to_owned()),
                up: true,
                ..NewLink::new(name, NewLinkKind::Vxlan(settings.clone()))
            };
            apply(&mut netlink, &[Op::CreateLink(new)]);
            let found = link(&mut netlink, name);
            let expected = Link {
                index: found.index,
                name: name.to_owned(),
                mac: Some(mac(7)),
                mtu: 1380,
                up: true,
                carrier: found.carrier,
                alias: Some("owner=test".to_owned()),
                kind: LinkKind::Vxlan(settings),
                master: None,
                parent: found.parent,
            };
            assert_eq!(found, expected);
            assert!(netlink.links().unwrap().contains(&expected));
            apply(&mut netlink, &[Op::DeleteLink(found.index)]);
            assert_eq!(netlink.link(name).unwrap(), None);
        }
    });
}

#[test]
fn learning_is_a_setting() {
    in_new_netns(|| {
        let mut netlink = Netlink::open().unwrap();
        let settings = Vxlan { vni: 9, port: 4789, local: None, parent: None, learning: true };
        apply(&mut netlink, &[Op::CreateLink(NewLink::new("vx", NewLinkKind::Vxlan(settings.clone())))]);
        assert_eq!(link(&mut netlink, "vx").vxlan(), Some(&settings));
    });
}

#[test]
fn a_device_is_changed_in_place() {
    in_new_netns(|| {
        let (mut netlink, index) = with_device();
        apply(&mut netlink, &[Op::CreateLink(NewLink::new("bridge0", NewLinkKind::Bridge))]);
        let bridge = link(&mut netlink, "bridge0");
        assert_eq!(bridge.kind, LinkKind::Bridge);
        let change = LinkChange {
            mac: Some(mac(99)),
            mtu: Some(1300),
            alias: Some("owner=other".to_owned()),
            master: Some(bridge.index),
            ..LinkChange::of(index)
        };
        apply(
            &mut netlink,
            &[
                Op::ChangeLink(change),
                Op::ChangeLink(LinkChange { up: Some(false), ..LinkChange::of(index) }),
                Op::ChangeLink(LinkChange { name: Some("vx-renamed".to_owned()), ..LinkChange::of(index) }),
            ],
        );
        let found = link(&mut netlink, "vx-renamed");
        assert_eq!((found.index, found.mac, found.mtu, found.up), (index, Some(mac(99)), 1300, false));
        assert_eq!((found.alias.as_deref(), found.master), (Some("owner=other"), Some(bridge.index)));

        let back = LinkChange {
            up: Some(true),
            alias: Some(String::new()),
            master: Some(0),
            ..LinkChange::of(index)
        };
        apply(&mut netlink, &[Op::ChangeLink(back)]);
        let found = link(&mut netlink, "vx-renamed");
        assert_eq!((found.up, found.alias, found.master), (true, None, None));
    });
}

#[test]
fn the_local_address_of_a_vxlan_device_changes_in_place() {
    in_new_netns(|| {
        let mut netlink = Netlink::open().unwrap();
        let settings = Vxlan {
            vni: 54,
            port: 4876,
            local: Some("192.0.2.1".parse().unwrap()),
            parent: None,
            learning: false,
        };
        apply(&mut netlink, &[Op::CreateLink(NewLink::new("vx", NewLinkKind::Vxlan(settings.clone())))]);
        let index = link(&mut netlink, "vx").index;
        let local = Some("192.0.2.2".parse().unwrap());
        apply(&mut netlink, &[Op::ChangeLink(LinkChange { vxlan_local: local, ..LinkChange::of(index) })]);
        let found = link(&mut netlink, "vx");
        assert_eq!(found.index, index);
        assert_eq!(found.vxlan(), Some(&Vxlan { local, ..settings }));
    });
}

#[test]
fn a_cable_reaches_into_another_namespace_and_an_end_can_move() {
    in_new_netns(|| {
        let mut here = Netlink::open().unwrap();
        let other = Namespace::create().unwrap();
        let mut there = other.netlink().unwrap();
        let peer = VethPeer {
            mac: Some(mac(2)),
            mtu: Some(1400),
            namespace: Some(other.clone()),
            ..VethPeer::new("inside")
        };
        apply(&mut here, &[veth("outside", peer)]);
        let inside = link(&mut there, "inside");
        assert_eq!((&inside.kind, inside.mac, inside.mtu), (&LinkKind::Veth, Some(mac(2)), 1400));
        assert_eq!(here.link("inside").unwrap(), None);

        apply(&mut here, &[veth("a", VethPeer::new("b"))]);
        let index = link(&mut here, "b").index;
        let change = LinkChange { namespace: Some(other), ..LinkChange::of(index) };
        apply(&mut here, &[Op::ChangeLink(change)]);
        assert_eq!(here.link("b").unwrap(), None);
        assert_eq!(link(&mut there, "b").kind, LinkKind::Veth);
    });
}

#[test]
fn what_the_kernel_refuses_is_said_in_its_words() {
    in_new_netns(|| {
        let (mut netlink, index) = with_device();
        let same_name = answer(&mut netlink, Op::CreateLink(vxlan("vx-test", 77))).unwrap_err();
        assert!(same_name.is_present(), "{same_name}");
        let same_vni = answer(&mut netlink, Op::CreateLink(vxlan("vx-other", 54))).unwrap_err();
        assert_eq!(same_vni.errno, 17);
        assert!(same_vni.message.as_deref().is_some_and(|m| m.contains("VNI")), "{same_vni}");
        let too_large = LinkChange { mtu: Some(1_000_000), ..LinkChange::of(index) };
        let too_large = answer(&mut netlink, Op::ChangeLink(too_large)).unwrap_err();
        assert_eq!(too_large.to_string(), "mtu greater than device maximum (EINVAL)");
        let gone = answer(&mut netlink, Op::DeleteLink(4711)).unwrap_err();
        assert!(gone.is_absent(), "{gone}");
    });
}

#[test]
fn a_stranger_with_our_name_does_not_get_our_alias() {
    in_new_netns(|| {
        let (mut netlink, _) = with_device();
        let ours = NewLink { alias: Some("owner=us".to_owned()), ..vxlan("vx-test", 77) };
        assert!(answer(&mut netlink, Op::CreateLink(ours)).unwrap_err().is_present());
        assert_eq!(link(&mut netlink, "vx-test").alias, None);
    });
}

#[test]
fn a_kind_without_settings_goes_by_its_name() {
    in_new_netns(|| {
        let mut netlink = Netlink::open().unwrap();
        let kind = NewLinkKind::Plain("bridge".to_owned());
        apply(&mut netlink, &[Op::CreateLink(NewLink::new("plain0", kind))]);
        assert_eq!(link(&mut netlink, "plain0").kind, LinkKind::Bridge);
        let unknown = NewLinkKind::Plain("no-such-kind".to_owned());
        let refusal = answer(&mut netlink, Op::CreateLink(NewLink::new("plain1", unknown))).unwrap_err();
        assert!(refusal.is_unsupported(), "{refusal}");
        assert_eq!(refusal.to_string(), "Unknown device type (EOPNOTSUPP)");
    });
}
