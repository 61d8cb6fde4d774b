//! What is right in itself and must not be done on this host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::actual::{Host, HostRoute};
use crate::desired::Known;
use crate::model::Kind;

/// An entry that is not programmed, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// The kind of the object.
    pub kind: Kind,
    /// The object.
    pub object: String,
    /// What stands against it, and what to do.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// What a route of ours must not take: our table is asked before the main one.
pub(crate) struct Protected<'a> {
    routes: BTreeMap<(IpAddr, u8), &'a HostRoute>,
    /// The lengths of their prefixes.
    lengths: BTreeSet<u8>,
    routers: &'a BTreeSet<IpAddr>,
    endpoints: BTreeSet<IpAddr>,
    known: &'a Known,
}

impl<'a> Protected<'a> {
    pub(crate) fn new(host: &'a Host, endpoints: BTreeSet<IpAddr>, known: &'a Known) -> Self {
        let key = |route: &HostRoute| (route.destination.network(), route.destination.prefix());
        let routes: BTreeMap<_, _> = host.routes.iter().map(|route| (key(route), route)).collect();
        let lengths = routes.keys().map(|(_, length)| *length).collect();
        Protected { routes, lengths, routers: &host.routers, endpoints, known }
    }

    /// Why a destination must not be routed, if so.
    pub(crate) fn objection(&self, destination: IpNetwork) -> Option<String> {
        let (first, last) = (destination.network(), destination.broadcast());
        if let Some(endpoint) = self.endpoints.range(first..=last).next() {
            return Some(format!(
                "it covers {endpoint}, an underlay address that tunnels use: their packets would enter the tunnel again"
            ));
        }
        let servers = [(&self.known.api_servers, "the"), (&self.known.api_endpoints, "an endpoint of the")];
        let mut covered = servers.into_iter().filter_map(|(servers, what)| {
            servers.range(first..=last).next().map(|server| format!("{server}, {what}"))
        });
        if let Some(server) = covered.next() {
            return Some(format!(
                "it covers {server} API server of this cluster: the agent could not be told anything any more; leave this CIDR out of the mesh"
            ));
        }
        let mut within = self.routes.range((first, 0)..=(last, u8::MAX));
        if let Some((_, shadowed)) = within.find(|((_, length), _)| *length >= destination.prefix()) {
            return Some(format!(
                "it would shadow the host's own route to {shadowed}; delete that route or leave this CIDR out of the mesh"
            ));
        }
        let router = self.routers.range(first..=last).next()?;
        Some(format!(
            "it covers {router}, the router of routes of this host; leave this CIDR out of the mesh or give that router another address"
        ))
    }

    /// The closest route of the host of which a destination is a part.
    pub(crate) fn part_of(&self, destination: IpNetwork) -> Option<&'a HostRoute> {
        self.lengths.range(..destination.prefix()).rev().find_map(|length| {
            let whole = IpNetwork::new(destination.ip(), *length).ok()?;
            self.routes.get(&(whole.network(), *length)).copied()
        })
    }
}

impl fmt::Display for HostRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(device) = &self.device {
            write!(f, " on {device}")?;
        }
        write!(f, " (protocol {})", self.protocol)
    }
}
