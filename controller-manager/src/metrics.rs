//! What is counted, under `clusterlink_controller_manager_`.

use std::{collections::BTreeMap, time::Duration};

use component::Registry;
use jiff::Timestamp;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};

use crate::index::{Index, Kind, Side, Target};

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];
type Three = [(&'static str, &'static str); 3];

const BUILD_SECONDS: [f64; 8] = [0.0005, 0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 2.0];

/// What a controller-manager counts. Clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    builds: Counter,
    build_seconds: Histogram,
    writes: Family<Three, Counter>,
    rejected: Family<Two, Gauge>,
    watch_restarts: Family<One, Counter>,
    uplink_connected: Gauge,
    token_expiry: Gauge,
    renewals: Family<One, Counter>,
}

impl Metrics {
    /// Nothing was counted yet.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            builds: Counter::default(),
            build_seconds: Histogram::new(BUILD_SECONDS),
            writes: Family::default(),
            rejected: Family::default(),
            watch_restarts: Family::default(),
            uplink_connected: Gauge::default(),
            token_expiry: Gauge::default(),
            renewals: Family::default(),
        };
        registry.register(
            "builds",
            "Times that everything was looked at and compared",
            metrics.builds.clone(),
        );
        let seconds = "How long it took to look at everything and to compare it with what is there";
        registry.register("build_duration_seconds", seconds, metrics.build_seconds.clone());
        let writes = "Writes by API, kind and result: ok, refused (the API server said no) or failed";
        registry.register("writes", writes, metrics.writes.clone());
        let rejected = "Objects that cannot be read, or that an API server does not accept";
        registry.register("rejected_objects", rejected, metrics.rejected.clone());
        let restarts = "Watches that had to list everything anew";
        registry.register("watch_restarts", restarts, metrics.watch_restarts.clone());
        metrics
    }

    /// What only a member has whose control cluster is another.
    pub fn register_uplink(&self, registry: &mut Registry) {
        let connected = "1 where the control cluster answered what was asked of it last";
        registry.register("uplink_connected", connected, self.uplink_connected.clone());
        let expiry = "When the token for the control cluster runs out; 0 where it does not";
        registry.register("uplink_token_expiry_timestamp_seconds", expiry, self.token_expiry.clone());
        let renewals =
            "Renewals of that token by result: ok, failed, or unkept (renewed, but not kept in the Secret)";
        registry.register("uplink_token_renewals", renewals, self.renewals.clone());
    }

    pub(crate) fn built(&self, took: Duration, index: &Index) {
        self.builds.inc();
        self.build_seconds.observe(took.as_secs_f64());
        let sides = [(Side::Member, &index.member), (Side::Control, &index.control)];
        let mut counts: BTreeMap<(Side, Kind), i64> = BTreeMap::new();
        for (side, resources) in sides {
            counts.extend(Kind::ALL.map(|kind| ((side, kind), 0)));
            for (kind, _) in resources.unreadable.keys() {
                *counts.entry((side, *kind)).or_default() += 1;
            }
        }
        for target in index.troubles.keys() {
            *counts.entry((target.side, target.kind)).or_default() += 1;
        }
        for ((side, kind), count) in counts {
            self.rejected.get_or_create(&[of_side(side), of_kind(kind)]).set(count);
        }
    }

    pub(crate) fn wrote(&self, target: &Target, result: &'static str) {
        self.writes.get_or_create(&[of_side(target.side), of_kind(target.kind), ("result", result)]).inc();
    }

    pub(crate) fn listed_again(&self, side: Side) {
        self.watch_restarts.get_or_create(&[of_side(side)]).inc();
    }

    pub(crate) fn uplink(&self, connected: bool, expires: Option<Timestamp>) {
        self.uplink_connected.set(connected.into());
        self.token_expiry.set(expires.map_or(0, Timestamp::as_second));
    }

    pub(crate) fn renewed(&self, result: &'static str) {
        self.renewals.get_or_create(&[("result", result)]).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::register(&mut Registry::default())
    }
}

fn of_side(side: Side) -> (&'static str, &'static str) {
    (
        "api",
        match side {
            Side::Member => "member",
            Side::Control => "control",
        },
    )
}

fn of_kind(kind: Kind) -> (&'static str, &'static str) {
    (
        "kind",
        match kind {
            Kind::Cluster => "Cluster",
            Kind::ClusterNode => "ClusterNode",
            Kind::NodeConfig => "NodeConfig",
        },
    )
}
