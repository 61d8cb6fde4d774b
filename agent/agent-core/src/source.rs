//! Which source address the host's own packets to other clusters have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::Family;
use ipnetwork::IpNetwork;

use crate::actual::{Host, HostLink};
use crate::spec::FirewallSpec;

/// The sources of one host; they are looked for once, and not for each route.
pub(crate) struct Sources<'a> {
    hints: BTreeMap<Family, IpAddr>,
    refused: Vec<&'a (IpNetwork, IpNetwork)>,
}

impl<'a> Sources<'a> {
    pub(crate) fn of(host: &Host, firewall: &'a FirewallSpec) -> Self {
        let hint = |family| Some((family, hint(host, &firewall.node_pods, family)?));
        let hints: BTreeMap<Family, IpAddr> = [Family::V4, Family::V6].into_iter().filter_map(hint).collect();
        let concerns = |from: &IpNetwork| hints.values().any(|hint| from.contains(*hint));
        let refused = firewall.refused.iter().filter(|(from, _)| concerns(from)).collect();
        Sources { hints, refused }
    }

    /// The source of the host's own packets to a destination. Where the answer to a pod address is refused, it is the
    /// device's: an overlay address can be answered all the same.
    pub(crate) fn towards(&self, destination: IpNetwork) -> Option<IpAddr> {
        let hint = *self.hints.get(&Family::of_network(destination))?;
        let overlap =
            |to: &IpNetwork| to.contains(destination.network()) || destination.contains(to.network());
        let refused = self.refused.iter().any(|(from, to)| from.contains(hint) && overlap(to));
        (!refused).then_some(hint)
    }
}

/// The host's own address among its pods: host traffic is then ordinary pod traffic to everybody else.
/// The CNI's bridge before other devices, then by index.
fn hint(host: &Host, node_pods: &[IpNetwork], family: Family) -> Option<IpAddr> {
    let mut links: Vec<(&u32, &HostLink)> = host.links.iter().collect();
    links.sort_by_key(|(index, link)| (!link.bridge, **index));
    let addresses = links.into_iter().flat_map(|(_, link)| &link.addresses);
    addresses
        .filter(|address| address.global)
        .map(|address| address.network.ip())
        .find(|ip| Family::of(*ip) == family && node_pods.iter().any(|pods| pods.contains(*ip)))
}
