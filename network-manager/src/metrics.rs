//! What is counted, under `clusterlink_network_manager_`.

use std::{collections::BTreeMap, time::Duration};

use component::Registry;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};

use crate::index::Resource;

/// One label whose values are words of ours.
type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];

/// From a mesh of two nodes to one that is too large.
const PLAN_SECONDS: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 2.0, 10.0];

/// What a network-manager counts. Clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    plan_seconds: Histogram,
    plans: Counter,
    writes: Family<Two, Counter>,
    rejected: Family<One, Gauge>,
    watch_restarts: Family<One, Counter>,
}

impl Metrics {
    /// Nothing was counted yet.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            plan_seconds: Histogram::new(PLAN_SECONDS),
            plans: Counter::default(),
            writes: Family::default(),
            rejected: Family::default(),
            watch_restarts: Family::default(),
        };
        registry.register("plans", "Plans of the whole mesh that were computed", metrics.plans.clone());
        let seconds = "How long it took to compute a plan and to compare it with what is there";
        registry.register("plan_duration_seconds", seconds, metrics.plan_seconds.clone());
        let writes = "Writes by resource and result: ok, refused (the API server said no) or failed";
        registry.register("writes", writes, metrics.writes.clone());
        let rejected = "Objects of which something, or all, is not acted on; their conditions say why";
        registry.register("rejected_objects", rejected, metrics.rejected.clone());
        let restarts = "Watches that had to begin anew";
        registry.register("watch_restarts", restarts, metrics.watch_restarts.clone());
        metrics
    }

    pub(crate) fn planned(&self, took: Duration, rejected: &BTreeMap<Resource, usize>) {
        self.plans.inc();
        self.plan_seconds.observe(took.as_secs_f64());
        for (resource, count) in rejected {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.rejected.get_or_create(&[("resource", resource.as_str())]).set(count);
        }
    }

    pub(crate) fn wrote(&self, resource: Resource, result: &'static str) {
        self.writes.get_or_create(&[("resource", resource.as_str()), ("result", result)]).inc();
    }

    pub(crate) fn watch_restarted(&self, resource: Resource) {
        self.watch_restarts.get_or_create(&[("resource", resource.as_str())]).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::register(&mut Registry::default())
    }
}
