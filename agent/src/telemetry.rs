//! What the agent tells of itself over HTTP: liveness, readiness, and metrics. All of it comes from what was read.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::{Counts, Kind};
use component::{Liveness, Readiness, Registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::keeper::Outcome;

const PREFIX: &str = "clusterlink_agent";
/// A pass waits for programs and locks, each for some seconds at most; between two passes there is a minute at most.
const LONGEST_TURN: Duration = Duration::from_secs(180);

type Label = [(&'static str, &'static str); 1];

/// What is counted. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    pub(crate) liveness: Liveness,
    pub(crate) readiness: Readiness,
    desired: Family<Label, Gauge>,
    actual: Family<Label, Gauge>,
    failed: Family<Label, Gauge>,
    repairs: Family<Label, Counter>,
    apply: Histogram,
    errors: Family<Label, Counter>,
    resyncs: Family<Label, Counter>,
    last_good_apply: Gauge,
    contended: Gauge,
    lingering: Gauge,
}

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry {
            liveness: Liveness::within(LONGEST_TURN),
            readiness: Readiness::waiting_for("the first NodeConfig of this node"),
            desired: Family::default(),
            actual: Family::default(),
            failed: Family::default(),
            repairs: Family::default(),
            // From a millisecond to half a minute.
            apply: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            errors: Family::default(),
            resyncs: Family::default(),
            last_good_apply: Gauge::default(),
            contended: Gauge::default(),
            lingering: Gauge::default(),
        }
    }
}

/// Why the kernel is read as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resync {
    /// Nothing is known yet, or it was not what it should be.
    Doubt,
    /// Notifications were lost.
    Overrun,
    /// A minute is over.
    Clock,
}

impl Telemetry {
    /// The metrics, to be served.
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        let mut entries = |name: &str, help: &str, family: &Family<Label, Gauge>| {
            registry.register(name, help, family.clone());
        };
        entries("desired_entries", "Kernel objects that the NodeConfig asks for", &self.desired);
        entries("actual_entries", "Kernel objects of ours, as last read", &self.actual);
        entries("failed_entries", "Kernel objects that are not as the NodeConfig says", &self.failed);
        registry.register(
            "drift_repairs",
            "Kernel objects that somebody else changed, and that were set right",
            self.repairs.clone(),
        );
        registry.register(
            "apply_duration_seconds",
            "How long passes took that wrote something, with the reading afterwards",
            self.apply.clone(),
        );
        registry.register("netlink_errors", "Conversations with the kernel that failed", self.errors.clone());
        registry.register("netlink_resyncs", "Readings of everything, by reason", self.resyncs.clone());
        registry.register(
            "last_good_apply_timestamp_seconds",
            "When the kernel was last found as the NodeConfig says",
            self.last_good_apply.clone(),
        );
        registry.register(
            "contended_objects",
            "Kernel objects that somebody else rewrites again and again",
            self.contended.clone(),
        );
        registry.register(
            "lingering_objects",
            "Kernel objects that only an older NodeConfig asked for, and that stay for some seconds",
            self.lingering.clone(),
        );
        registry
    }

    pub(crate) fn resync(&self, why: Resync) {
        let reason = match why {
            Resync::Doubt => "doubt",
            Resync::Overrun => "overrun",
            Resync::Clock => "clock",
        };
        self.resyncs.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn overrun(&self) {
        self.errors.get_or_create(&[("during", "notification")]).inc();
    }

    /// Counts what a pass came to.
    pub(crate) fn note(&self, outcome: &Outcome) {
        self.readiness.set(not_ready(outcome));
        let report = match &outcome.result {
            Ok(report) => report,
            // What breaks off while it is written costs its steps and not the pass.
            Err(_) => {
                self.errors.get_or_create(&[("during", "read")]).inc();
                return;
            }
        };
        if report.broken > 0 {
            let broken = u64::try_from(report.broken).unwrap_or(u64::MAX);
            self.errors.get_or_create(&[("during", "write")]).inc_by(broken);
        }
        self.entries(&report.kinds);
        if report.changed > 0 {
            self.apply.observe(outcome.took.as_secs_f64());
        }
        if outcome.woken.repairs() {
            for (kind, count) in &report.changes {
                let count = u64::try_from(*count).unwrap_or(u64::MAX);
                self.repairs.get_or_create(&[("kind", kind.word())]).inc_by(count);
            }
        }
        if outcome.is_reached() {
            self.last_good_apply.set(outcome.at.as_second());
        }
        self.contended.set(number(outcome.contended.len()));
        self.lingering.set(number(report.lingering.len()));
    }

    fn entries(&self, kinds: &BTreeMap<Kind, Counts>) {
        for (kind, counts) in kinds {
            let label = [("kind", kind.word())];
            self.desired.get_or_create(&label).set(number(counts.desired));
            self.actual.get_or_create(&label).set(number(counts.actual));
            self.failed.get_or_create(&label).set(number(counts.failed));
        }
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// In one line, why the kernel does not equal the NodeConfig.
fn not_ready(outcome: &Outcome) -> Option<String> {
    let report = match &outcome.result {
        Ok(report) => report,
        Err(error) => return Some(error.to_string()),
    };
    if let Some(first) = report.differing.first() {
        let more = report.differing.len() - 1;
        let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
        return Some(format!("{first}{rest}"));
    }
    (report.withheld > 0).then(|| {
        format!(
            "{} kernel objects are not as the last good NodeConfig says; only an API may decide about them",
            report.withheld
        )
    })
}

#[cfg(test)]
mod tests {
    use agent_core::{KernelError, Report};
    use jiff::Timestamp;
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::keeper::tests::outcome;
    use crate::pace::Woken;

    fn text(telemetry: &Telemetry) -> String {
        let mut text = String::new();
        encode(&mut text, &telemetry.registry()).unwrap();
        text
    }

    #[test]
    fn numbers_are_those_of_the_report_and_only_drift_counts_as_repair() {
        let telemetry = Telemetry::default();
        let counts = Counts { desired: 5, actual: 4, failed: 1 };
        let report = Report {
            kinds: BTreeMap::from([(Kind::Route, counts)]),
            changes: BTreeMap::from([(Kind::Route, 3)]),
            changed: 3,
            ..Report::default()
        };
        let mut outcome = outcome(Ok(report));
        outcome.at = Timestamp::from_second(1_700_000_000).unwrap();
        telemetry.note(&outcome);
        outcome.woken = Woken::Kernel;
        telemetry.note(&outcome);
        telemetry.resync(Resync::Clock);
        let said = text(&telemetry);
        for line in [
            "clusterlink_agent_desired_entries{kind=\"route\"} 5",
            "clusterlink_agent_actual_entries{kind=\"route\"} 4",
            "clusterlink_agent_failed_entries{kind=\"route\"} 1",
            "clusterlink_agent_drift_repairs_total{kind=\"route\"} 3",
            "clusterlink_agent_apply_duration_seconds_count 2",
            "clusterlink_agent_last_good_apply_timestamp_seconds 1700000000",
            "clusterlink_agent_netlink_resyncs_total{reason=\"clock\"} 1",
        ] {
            assert!(said.contains(line), "{line} in\n{said}");
        }
        assert_eq!(telemetry.readiness.not_ready(), None);
    }

    #[test]
    fn what_differs_is_why_it_is_not_ready() {
        let telemetry = Telemetry::default();
        assert!(telemetry.readiness.not_ready().is_some());
        let error = KernelError::Read { what: "routes", reason: "overrun".to_owned() };
        telemetry.note(&outcome(Err(error)));
        assert_eq!(telemetry.readiness.not_ready().as_deref(), Some("cannot read routes: overrun"));
        assert!(text(&telemetry).contains("netlink_errors_total{during=\"read\"} 1"));
    }

    #[test]
    fn what_a_file_may_not_decide_and_what_broke_off_is_told() {
        let telemetry = Telemetry::default();
        telemetry.note(&outcome(Ok(Report { withheld: 2, broken: 3, ..Report::default() })));
        let said = telemetry.readiness.not_ready().unwrap();
        assert!(said.starts_with("2 kernel objects are not as the last good NodeConfig says"), "{said}");
        assert!(text(&telemetry).contains("netlink_errors_total{during=\"write\"} 3"));
    }

    #[test]
    fn a_node_that_was_torn_down_holds_nothing_up() {
        use crate::goal::Goal;

        let telemetry = Telemetry::default();
        let gone = Outcome { goal: Goal::Gone, ..outcome(Ok(Report::default())) };
        telemetry.note(&gone);
        assert_eq!(telemetry.readiness.not_ready(), None);
    }
}
