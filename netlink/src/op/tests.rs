//! What we write is what we read: without a kernel, for any value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use proptest::prelude::*;

use super::*;
use crate::attributes::Malformed;
use crate::link::Link;
use crate::transport::{Frame, frames};
use crate::{
    Family, FdbEntry, Hop, Mac, NeighbourState, NexthopKind, Resilience, RouteKind, RuleAction, Scope, Via,
};

type Decode<T> = fn(&Frame<'_>) -> Result<Option<T>, Malformed>;

/// The message as a dump would bring it back.
fn read_back<T>(request: &Request, decode: Decode<T>) -> Option<T> {
    let length = u32::try_from(16 + request.body.len()).unwrap();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(request.message_type.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(&request.body);
    let frame = frames(&message).next().expect("one message").expect("a whole one");
    decode(&frame).expect("well formed")
}

fn ip(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
        Family::V6 => any::<[u8; 16]>().prop_map(IpAddr::from).boxed(),
    }
}

fn family() -> impl Strategy<Value = Family> + Clone {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    family().prop_flat_map(ip)
}

/// A prefix as the kernel stores it, without host bits.
fn prefix(family: Family) -> impl Strategy<Value = IpNetwork> {
    let longest = if family == Family::V4 { 32_u8 } else { 128 };
    (ip(family), 0..=longest).prop_map(|(ip, length)| {
        let network = IpNetwork::new(ip, length).unwrap();
        IpNetwork::new(network.network(), length).unwrap()
    })
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn hop(family: Family) -> impl Strategy<Value = Hop> {
    let gateway = proptest::option::of(prop_oneof![ip(family), any_ip()]);
    (1..u32::MAX, gateway, any::<bool>()).prop_map(|(device, gateway, onlink)| Hop {
        device,
        gateway,
        onlink,
    })
}

fn via(family: Family) -> impl Strategy<Value = Via> {
    prop_oneof![
        hop(family).prop_map(Via::Hop),
        (1..u32::MAX).prop_map(Via::Nexthop),
        proptest::collection::vec((hop(family), 1..=256_u16), 1..5).prop_map(Via::Multipath),
    ]
}

prop_compose! {
    fn route()(family in family())(
        destination in prefix(family),
        table in 1..u32::MAX,
        protocol in any::<u8>(),
        metric in any::<u32>(),
        via in via(family),
        source in proptest::option::of(ip(family)),
        mtu in proptest::option::of(1..u32::MAX),
        drops in any::<bool>(),
    ) -> Route {
        let (kind, via) = if drops { (RouteKind::Blackhole, Via::Nothing) } else { (RouteKind::Unicast, via) };
        Route { destination, table, protocol, metric, kind, via, source, mtu }
    }
}

prop_compose! {
    fn rule()(family in family())(
        family in Just(family),
        priority in any::<u32>(),
        to in proptest::option::of(prefix(family)),
        from in proptest::option::of(prefix(family)),
        input in proptest::option::of("[a-z0-9.-]{1,15}"),
        output in proptest::option::of("[a-z0-9.-]{1,15}"),
        mark in proptest::option::of(any::<(u32, u32)>()),
        table in proptest::option::of(1..u32::MAX),
        protocol in any::<u8>(),
    ) -> Rule {
        let action = table.map_or(RuleAction::Prohibit, RuleAction::Lookup);
        Rule { family, priority, to, from, input, output, mark, action, protocol }
    }
}

fn nexthop_kind() -> impl Strategy<Value = NexthopKind> {
    let resilience =
        (any::<u16>(), 0..1_000_000_u64, 0..1_000_000_u64).prop_map(|(buckets, idle, unbalanced)| {
            let time = |ticks: u64| Duration::from_millis(ticks * 10);
            Resilience { buckets, idle_timer: time(idle), unbalanced_timer: time(unbalanced) }
        });
    let members = proptest::collection::btree_map(1..u32::MAX, 1..=u16::MAX, 1..20);
    prop_oneof![
        family().prop_flat_map(|family| hop(family).prop_map(move |hop| NexthopKind::Hop(family, hop))),
        family().prop_map(NexthopKind::Blackhole),
        (members, proptest::option::of(resilience))
            .prop_map(|(members, resilience)| NexthopKind::Group(members, resilience)),
    ]
}

proptest! {
    #[test]
    fn routes(route in route()) {
        prop_assert_eq!(read_back(&Op::add(route.clone()).request(), Route::decode), Some(route));
    }

    #[test]
    fn rules(rule in rule()) {
        prop_assert_eq!(read_back(&Op::add(rule.clone()).request(), Rule::decode), Some(rule));
    }

    #[test]
    fn nexthops(id in 1..u32::MAX, protocol: u8, kind in nexthop_kind()) {
        let nexthop = Nexthop { id, protocol, kind };
        prop_assert_eq!(read_back(&Op::add(nexthop.clone()).request(), Nexthop::decode), Some(nexthop));
    }

    #[test]
    fn addresses(device: u32, address in any_ip(), scope: u8, no_prefix_route: bool, no_dad: bool) {
        let scope = match scope {
            0 => Scope::Universe,
            253 => Scope::Link,
            254 => Scope::Host,
            number => Scope::Other(number),
        };
        let address = Address { device, address: address.into(), scope, no_prefix_route, no_dad };
        prop_assert_eq!(read_back(&Op::add(address.clone()).request(), Address::decode), Some(address));
    }

    #[test]
    fn neighbours(device: u32, address in any_ip(), mac in proptest::option::of(mac()), protocol: u8) {
        let neighbour = Neighbour { device, address, mac, state: NeighbourState::Permanent, protocol };
        prop_assert_eq!(read_back(&Op::add(neighbour.clone()).request(), Neighbour::decode), Some(neighbour));
    }

    #[test]
    fn forwarding_entries(device: u32, mac in mac(), destination in proptest::option::of(any_ip()), state: u16) {
        let entry = FdbEntry { device, mac, destination, state };
        prop_assert_eq!(read_back(&Op::add(entry.clone()).request(), FdbEntry::decode), Some(entry));
    }

    /// Whatever stands in a message, reading it ends without a panic.
    #[test]
    fn any_message_is_read(
        message_type in prop_oneof![Just(16_u16), Just(20), Just(24), Just(28), Just(32), Just(104)],
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let frame = Frame { message_type, flags: 0, sequence: 0, port: 0, payload: &body };
        let _ = Link::decode(&frame);
        let _ = Address::decode(&frame);
        let _ = Route::decode(&frame);
        let _ = Neighbour::decode(&frame);
        let _ = FdbEntry::decode(&frame);
        let _ = Rule::decode(&frame);
        let _ = Nexthop::decode(&frame);
    }

    /// The same for a well-formed message with one byte changed.
    #[test]
    fn any_damaged_message_is_read(route in route(), kind in nexthop_kind(), at: prop::sample::Index, byte: u8) {
        let nexthop = Nexthop { id: 1, protocol: 1, kind };
        for op in [Op::add(route), Op::add(nexthop)] {
            let mut request = op.request();
            let at = at.index(request.body.len());
            request.body[at] = byte;
            let payload = &request.body;
            let frame = Frame { message_type: request.message_type, flags: 0, sequence: 0, port: 0, payload };
            let _ = Route::decode(&frame);
            let _ = Nexthop::decode(&frame);
        }
    }
}

#[test]
fn each_change_says_what_it_is_about() {
    let hop = Hop::onlink(3, "241.0.0.2".parse().unwrap());
    let route = Route::unicast("10.0.0.0/8".parse().unwrap(), 300, 158, Via::Hop(hop));
    let members = BTreeMap::from([(11, 1), (12, 1)]);
    let group = Nexthop { id: 1000, protocol: 158, kind: NexthopKind::Group(members, None) };
    let entry = FdbEntry::permanent(3, Mac([2, 0, 0, 0, 0, 1]), "192.0.2.1".parse().unwrap());
    for (op, text) in [
        (Op::replace(route), "replace route 10.0.0.0/8 in table 300 metric 0 via 241.0.0.2 device 3"),
        (Op::add(group), "add nexthop group 1000 of [11, 12]"),
        (Op::delete(entry), "delete FDB entry 02:00:00:00:00:01 on device 3 to 192.0.2.1"),
        (Op::DeleteLink(3), "delete device 3"),
    ] {
        assert_eq!(op.to_string(), text);
    }
}
