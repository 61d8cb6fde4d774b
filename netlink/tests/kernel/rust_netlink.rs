//! What the `rtnetlink` client writes, we read: a second opinion besides `ip`, and in the same messages.

use std::net::Ipv4Addr;

use netlink::{FdbEntry, Hop, LinkKind, Neighbour, Netlink, Route, Via, Vxlan};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{Handle, LinkVxlan, RouteMessageBuilder};

use crate::world::{PROTOCOL, in_new_netns, link, mac, with_device};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(241, 0, 0, 2);
const UNDERLAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

#[test]
fn we_read_what_rtnetlink_writes() {
    in_new_netns(|| {
        let (mut netlink, _) = with_device();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let device = runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            write(&handle, &mut netlink).await.unwrap()
        });
        assert_eq!(netlink.fdb(device).unwrap(), [FdbEntry::permanent(device, mac(2), UNDERLAY.into())]);
        let neighbours = netlink.neighbours(device).unwrap();
        assert!(
            neighbours.contains(&Neighbour::permanent(device, GATEWAY.into(), mac(2), 0)),
            "{neighbours:?}"
        );
        let via = Via::Hop(Hop::onlink(device, GATEWAY.into()));
        let route = Route {
            metric: 50,
            source: Some("127.0.0.1".parse().unwrap()),
            ..Route::unicast("10.0.0.0/8".parse().unwrap(), 100_054, PROTOCOL, via)
        };
        assert_eq!(netlink.routes(netlink::Family::V4, Some(100_054)).unwrap(), [route]);
    });
}

/// Creates one of each through the other client and returns the index of the device.
async fn write(handle: &Handle, netlink: &mut Netlink) -> Result<u32, rtnetlink::Error> {
    let new = LinkVxlan::new("vx-theirs", 77).port(4789).local(UNDERLAY).learning(false).up().build();
    handle.link().add(new).execute().await?;
    let created = link(netlink, "vx-theirs");
    let settings = Vxlan { vni: 77, port: 4789, local: Some(UNDERLAY.into()), parent: None, learning: false };
    assert_eq!((created.up, created.kind), (true, LinkKind::Vxlan(settings)));
    let device = created.index;
    let neighbours = handle.neighbours();
    let entry = neighbours.add(device, GATEWAY.into()).link_layer_address(&mac(2).0);
    entry.state(NeighbourState::Permanent).execute().await?;
    let entry = neighbours.add_bridge(device, &mac(2).0).destination(UNDERLAY.into());
    entry.flags(NeighbourFlags::Own).state(NeighbourState::Other(0xc0)).execute().await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::new(10, 0, 0, 0), 8)
        .gateway(GATEWAY)
        .output_interface(device)
        .onlink()
        .table_id(100_054)
        .priority(50)
        .pref_source(Ipv4Addr::LOCALHOST)
        .protocol(RouteProtocol::Other(PROTOCOL));
    handle.route().add(route.build()).execute().await?;
    Ok(device)
}
