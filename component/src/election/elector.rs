//! Who leads, decided from what a Lease says; pure, but for its own memory.
//!
//! The rules are those of client-go's leaderelection. Times in a Lease are for people: whether somebody else's lease has
//! run out is judged by how long it has not changed under our own monotonic clock, and our own ends counted from the
//! moment at which its last renewal was *sent*. The leader therefore stops ([`RENEW_DEADLINE`]) before anybody
//! may begin ([`LEASE_DURATION`]), however slow the API server is and whatever the clocks say.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::api::ObjectMeta;
use tokio::time::Instant;

/// For how long a lease that does not change is another's; this and what follows as everywhere in Kubernetes.
pub(crate) const LEASE_DURATION: Duration = Duration::from_secs(15);
/// For how long a leader leads without a renewal.
pub(crate) const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two attempts.
pub(crate) const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// What to ask the API server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Read,
    Create(Lease),
    /// Only if it is still the version that was read.
    Replace(Lease),
}

/// One candidate's memory.
#[derive(Debug)]
pub(crate) struct Elector {
    identity: String,
    /// The lease as it was seen last, and when it was first seen like that.
    seen: Option<(LeaseSpec, Instant)>,
    /// The lease as we wrote it last, while nothing speaks against its being so still.
    ours: Option<Lease>,
    leads_until: Option<Instant>,
}

impl Elector {
    pub(crate) fn new(identity: String) -> Self {
        Elector { identity, seen: None, ours: None, leads_until: None }
    }

    /// Until when this candidate leads, unless it renews.
    pub(crate) fn leads_until(&self) -> Option<Instant> {
        self.leads_until
    }

    /// Who holds the lease, as far as is known.
    pub(crate) fn holder(&self) -> Option<&str> {
        holder(&self.seen.as_ref()?.0)
    }

    /// What to ask first: a leader renews at once, anybody else looks.
    pub(crate) fn begin(&self, now: Instant, wall: Timestamp) -> Request {
        match &self.ours {
            Some(lease) if self.leads_until.is_some_and(|until| now < until) => {
                Request::Replace(self.held(lease.clone(), wall))
            }
            _ => Request::Read,
        }
    }

    /// Takes in what was read. What to write, where the lease is free, has run out, or bears our name.
    pub(crate) fn read(&mut self, live: Option<Lease>, now: Instant, wall: Timestamp) -> Option<Request> {
        let Some(live) = live else { return self.absent(now, wall) };
        let spec = live.spec.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let is_anothers = holder(&spec).is_some_and(|holder| holder != self.identity);
        if is_anothers {
            // Whoever wrote it has forgotten ours.
            self.leads_until = None;
        }
        if is_anothers && now < since + lasts(&spec) {
            return None;
        }
        Some(Request::Replace(self.held(live, wall)))
    }

    /// There is no lease. Where somebody deleted it, whoever held it does not know yet.
    fn absent(&mut self, now: Instant, wall: Timestamp) -> Option<Request> {
        let is_anothers = |spec: &LeaseSpec| holder(spec).is_some_and(|holder| holder != self.identity);
        let still_held =
            |(spec, since): &(LeaseSpec, Instant)| is_anothers(spec) && now < *since + lasts(spec);
        if self.seen.as_ref().is_some_and(still_held) {
            return None;
        }
        self.seen = None;
        Some(Request::Create(self.held(Lease::default(), wall)))
    }

    /// A lease of ours was written, with a request that was sent at `sent`.
    pub(crate) fn wrote(&mut self, lease: Lease, sent: Instant) {
        self.seen = lease.spec.clone().map(|spec| (spec, sent));
        self.leads_until = Some(sent + RENEW_DEADLINE);
        self.ours = Some(lease);
    }

    /// A request failed, or nobody knows whether it did: what stands in the API now has to be read.
    pub(crate) fn failed(&mut self) {
        self.ours = None;
    }

    /// Leads no more, by its own will. What to write so that others need not wait.
    pub(crate) fn resign(&mut self, wall: Timestamp) -> Option<Request> {
        self.leads_until = None;
        let mut lease = self.ours.take()?;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(wall));
        Some(Request::Replace(lease))
    }

    /// The lease in our hands.
    fn held(&self, mut lease: Lease, wall: Timestamp) -> Lease {
        let spec = lease.spec.get_or_insert_default();
        if holder(spec) != Some(&self.identity) {
            spec.acquire_time = Some(MicroTime(wall));
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
            spec.holder_identity = Some(self.identity.clone());
        }
        let seconds = LEASE_DURATION.as_secs();
        spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        spec.renew_time = Some(MicroTime(wall));
        // Who wrote what is nobody's business on the way back, and a burden.
        lease.metadata = ObjectMeta { managed_fields: None, ..lease.metadata };
        lease
    }
}

fn lasts(spec: &LeaseSpec) -> Duration {
    let said = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    said.map_or(LEASE_DURATION, Duration::from_secs)
}

fn holder(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

#[cfg(test)]
mod tests;
