//! What is right in itself and must not be done on this host.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::actual::{Host, HostRoute};

/// An entry that is not programmed, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
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
    routes: Vec<&'a HostRoute>,
    endpoints: BTreeSet<IpAddr>,
}

impl<'a> Protected<'a> {
    pub(crate) fn new(host: &'a Host, endpoints: BTreeSet<IpAddr>) -> Self {
        let mut routes: Vec<&HostRoute> = host.routes.iter().collect();
        routes.sort_by_key(|route| (route.destination.network(), route.destination.prefix()));
        Protected { routes, endpoints }
    }

    /// Why a destination must not be routed, if so.
    pub(crate) fn objection(&self, destination: IpNetwork) -> Option<String> {
        let (first, last) = (destination.network(), destination.broadcast());
        if let Some(endpoint) = self.endpoints.range(first..=last).next() {
            return Some(format!(
                "it covers {endpoint}, an underlay address that tunnels use: their packets would enter the tunnel again"
            ));
        }
        let from = self.routes.partition_point(|route| route.destination.network() < first);
        let within = self.routes[from..].iter().take_while(|route| route.destination.network() <= last);
        let shadowed = within.into_iter().find(|route| route.destination.prefix() >= destination.prefix())?;
        let device = shadowed.device.as_ref().map(|device| format!(" on {device}")).unwrap_or_default();
        Some(format!(
            "it would shadow the host's own route to {}{device} (protocol {}); delete that route or leave this CIDR out of the mesh",
            shadowed.destination, shadowed.protocol
        ))
    }
}
