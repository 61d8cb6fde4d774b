//! Addresses with and without what the kernel adds of its own accord.

use netlink::{Address, Family, Op, Scope};

use crate::world::{answer, apply, in_new_netns, with_device};

#[test]
fn addresses_come_back_as_they_went_in() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let mut expected = vec![
            Address::plain(device, "241.1.2.3/8".parse().unwrap()),
            Address { scope: Scope::Link, ..Address::plain(device, "10.9.8.7/24".parse().unwrap()) },
            Address {
                no_dad: false,
                no_prefix_route: false,
                ..Address::plain(device, "198.18.0.1/32".parse().unwrap())
            },
            Address::plain(device, "fd11::1/64".parse().unwrap()),
            Address { no_prefix_route: false, ..Address::plain(device, "fd12::1/64".parse().unwrap()) },
        ];
        expected.sort();
        apply(&mut netlink, &expected.iter().cloned().map(Op::add).collect::<Vec<_>>());
        let ours = |address: &Address| address.device == device && !link_local(address);
        let mut found: Vec<_> = netlink.addresses().unwrap().into_iter().filter(ours).collect();
        found.sort();
        assert_eq!(found, expected);

        assert!(answer(&mut netlink, Op::add(expected[0].clone())).unwrap_err().is_present());
        apply(&mut netlink, &expected.iter().cloned().map(Op::replace).collect::<Vec<_>>());
        apply(&mut netlink, &expected.iter().cloned().map(Op::delete).collect::<Vec<_>>());
        assert!(!netlink.addresses().unwrap().iter().any(ours));
        assert!(answer(&mut netlink, Op::delete(expected[0].clone())).unwrap_err().is_absent());
    });
}

fn link_local(address: &Address) -> bool {
    matches!(address.address.ip(), std::net::IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[test]
fn no_prefix_route_means_that_main_stays_as_it_was() {
    in_new_netns(|| {
        let (mut netlink, device) = with_device();
        let before = netlink.routes(Family::V4, Some(254)).unwrap();
        apply(&mut netlink, &[Op::add(Address::plain(device, "241.1.2.3/8".parse().unwrap()))]);
        assert_eq!(netlink.routes(Family::V4, Some(254)).unwrap(), before);
        let with_route =
            Address { no_prefix_route: false, ..Address::plain(device, "10.1.2.3/8".parse().unwrap()) };
        apply(&mut netlink, &[Op::add(with_route)]);
        assert_eq!(netlink.routes(Family::V4, Some(254)).unwrap().len(), before.len() + 1);
    });
}
