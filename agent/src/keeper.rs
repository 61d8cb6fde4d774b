//! Keeps the kernel as the latest NodeConfig says: a pass whenever the NodeConfig or the kernel changes, at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Authority, KernelError, Kind, Known, Reading, Report};
use jiff::Timestamp;
use netlink::Event;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::contention::Contention;
use crate::events::{Urgency, Wake};
use crate::goal::{Goal, Origin, Wanted};
use crate::linger::{Lingering, Remnant};
use crate::pace::{self, Pace, RESYNC, TRUCE, Woken};
use crate::telemetry::{Resync, Telemetry};
use crate::worker::{Order, Passed, Worker};

/// What came of a goal.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The goal.
    pub(crate) goal: Goal,
    /// What was found, or why nothing was.
    pub(crate) result: Result<Report, KernelError>,
    /// Why the pass was made.
    pub(crate) woken: Woken,
    /// When.
    pub(crate) at: Timestamp,
    /// How long the pass took.
    pub(crate) took: Duration,
    /// When the kernel was changed for the last time, since this process started.
    pub(crate) changed_at: Option<Timestamp>,
    /// What somebody else changed and was set right, since this process started.
    pub(crate) repairs: BTreeMap<Kind, usize>,
    /// Objects that somebody else rewrites again and again.
    pub(crate) contended: BTreeSet<String>,
    /// What only an older NodeConfig asked for, and stays for now.
    pub(crate) lingers: Option<Remnant>,
}

impl Outcome {
    /// Whether everything is as the goal says.
    pub(crate) fn is_reached(&self) -> bool {
        self.result.as_ref().is_ok_and(Report::is_applied)
    }

    /// Whether it may be kept for the next boot: the API's latest word, found in the kernel.
    pub(crate) fn is_good(&self) -> bool {
        let of_api = self.goal.wanted().is_some_and(|wanted| wanted.origin == Origin::Api);
        of_api && self.result.as_ref().is_ok_and(Report::is_verified)
    }

    /// The generation that was applied; `None` for a teardown and for a file.
    pub(crate) fn generation(&self) -> Option<i64> {
        self.goal.wanted().and_then(|wanted| wanted.generation)
    }

    /// Whether this is the outcome of [`Goal::Gone`].
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.goal, Goal::Gone)
    }
}

/// The one task that asks for passes.
pub(crate) struct Keeper {
    pub(crate) worker: Worker,
    pub(crate) goal: watch::Receiver<Goal>,
    /// What is known of this host from elsewhere.
    pub(crate) known: watch::Receiver<Known>,
    pub(crate) wakes: UnboundedReceiver<Wake>,
    pub(crate) outcome: watch::Sender<Option<Outcome>>,
    pub(crate) telemetry: Telemetry,
}

/// What one pass leaves for the next.
struct Course {
    /// The indexes of our devices.
    ours: BTreeSet<u32>,
    /// Why the next reading is of everything, where it is.
    resync: Option<Resync>,
    /// When everything was read for the last time. What nobody tells of waits for no more than a minute, whatever else happens.
    looked: Instant,
    /// Whether the NodeConfig from the disk has been found to be no older than the kernel.
    disk_is_current: bool,
    changed_at: Option<Timestamp>,
    repairs: BTreeMap<Kind, usize>,
    /// Objects that are left alone, each until then.
    truces: BTreeMap<String, Instant>,
    lingering: Lingering,
}

impl Course {
    /// What rests now.
    fn resting(&mut self) -> BTreeSet<String> {
        let now = Instant::now();
        self.truces.retain(|_, until| *until > now);
        self.truces.keys().cloned().collect()
    }

    /// What is fought over rests for a while; a truce that lasts is not prolonged.
    fn keep_truces(&mut self, contended: &BTreeSet<String>) {
        let until = Instant::now() + TRUCE;
        for object in contended {
            self.truces.entry(object.clone()).or_insert(until);
        }
    }

    fn authority(&self, wanted: &Wanted) -> Authority {
        match wanted.origin {
            Origin::Disk if !self.disk_is_current => Authority::Additions,
            _ => self.lingering.authority(wanted, Instant::now()),
        }
    }

    fn take(&mut self, outcome: &mut Outcome) {
        match &outcome.result {
            Ok(report) => {
                if report.changed > 0 {
                    self.changed_at = Some(outcome.at);
                }
                if outcome.woken.repairs() {
                    for (kind, count) in &report.changes {
                        *self.repairs.entry(*kind).or_default() += count;
                    }
                }
                self.disk_is_current |= report.withheld == 0;
                self.lingering.take(&outcome.goal, report, (Instant::now(), outcome.at));
                // What could not be done may be so by now.
                self.resync = (!report.is_settled()).then_some(Resync::Doubt);
            }
            Err(_) => self.resync = Some(Resync::Doubt),
        }
        outcome.changed_at = self.changed_at;
        outcome.repairs.clone_from(&self.repairs);
        outcome.lingers = self.lingering.remnant();
    }
}

impl Keeper {
    /// Runs until nobody sets goals any more, or until there is no kernel to keep.
    pub(crate) async fn run(mut self) {
        let mut contention = Contention::default();
        let mut pace = Pace::default();
        let mut woken = Woken::Goal;
        let mut course = Course {
            ours: BTreeSet::new(),
            resync: Some(Resync::Doubt),
            looked: Instant::now(),
            disk_is_current: false,
            changed_at: None,
            repairs: BTreeMap::new(),
            truces: BTreeMap::new(),
            lingering: Lingering::default(),
        };
        loop {
            self.telemetry.liveness.beat();
            let goal = self.goal.borrow_and_update().clone();
            let Some(mut outcome) = self.reach(goal, woken, &mut course).await else {
                if self.await_goal().await.is_err() {
                    return;
                }
                continue;
            };
            if !self.worker.is_alive() {
                tracing::error!("the kernel's thread has ended");
                return;
            }
            course.take(&mut outcome);
            outcome.contended = contention.note(&mut outcome);
            course.keep_truces(&outcome.contended);
            let changed = outcome.result.as_ref().is_ok_and(|report| report.changed > 0);
            let settled = outcome.result.as_ref().is_ok_and(Report::is_settled);
            let rest = pace.after(pace::Result { woken, reached: settled, changed });
            log(&outcome);
            self.telemetry.note(&outcome);
            self.outcome.send_replace(Some(outcome));
            let Ok(by) = self.wait(rest, &mut course).await else { return };
            woken = by;
        }
    }

    /// Nothing is known yet, so nothing that happens matters; nor is it kept until then.
    async fn await_goal(&mut self) -> Result<(), watch::error::RecvError> {
        loop {
            tokio::select! {
                changed = self.goal.changed() => return changed,
                Some(_) = self.wakes.recv() => {}
                () = sleep(RESYNC) => self.telemetry.liveness.beat(),
            }
        }
    }

    async fn reach(&mut self, goal: Goal, woken: Woken, course: &mut Course) -> Option<Outcome> {
        let begun = Instant::now();
        let woken = if woken.repairs() && course.lingering.is_due(begun) { Woken::Due } else { woken };
        let known = self.known.borrow_and_update().clone();
        let result = match &goal {
            Goal::Unknown => return None,
            Goal::Present(wanted) => {
                let resync = course.resync.take();
                if let Some(why) = resync {
                    self.telemetry.resync(why);
                    course.looked = begun;
                }
                let order = Order {
                    spec: Arc::clone(&wanted.spec),
                    known,
                    reading: if resync.is_some() { Reading::Whole } else { Reading::Current },
                    authority: course.authority(wanted),
                    resting: course.resting(),
                };
                self.worker.pass(order).await
            }
            Goal::Gone => {
                course.looked = begun;
                self.worker.cleanup().await
            }
        };
        let result = result.map(|Passed { report, devices }| {
            course.ours = devices;
            report
        });
        Some(Outcome {
            goal,
            result,
            woken,
            at: Timestamp::now(),
            took: begun.elapsed(),
            changed_at: None,
            repairs: BTreeMap::new(),
            contended: BTreeSet::new(),
            lingers: None,
        })
    }

    /// Waits for a new goal, for a change of the kernel that concerns us, or until it is time anyway.
    async fn wait(
        &mut self,
        rest: pace::Rest,
        course: &mut Course,
    ) -> Result<Woken, watch::error::RecvError> {
        let earliest = Instant::now() + rest.shortest;
        let until = (Instant::now() + rest.longest).min(course.looked + RESYNC);
        let truce = course.truces.values().min().copied().unwrap_or(until);
        let due = course.lingering.next(Instant::now()).unwrap_or(until);
        loop {
            let urgency = loop {
                tokio::select! {
                    changed = self.goal.changed() => return changed.map(|()| Woken::Goal),
                    changed = self.known.changed() => return changed.map(|()| Woken::Goal),
                    () = sleep_until(until) => {
                        course.resync.get_or_insert(Resync::Clock);
                        return Ok(Woken::Clock);
                    }
                    () = sleep_until(truce), if truce < until => return Ok(Woken::Clock),
                    () = sleep_until(due), if due < until => return Ok(Woken::Due),
                    Some(wake) = self.wakes.recv() => {
                        let urgency = self.hear(&wake, course);
                        if urgency > Urgency::None {
                            break urgency;
                        }
                    }
                }
            };
            self.coalesce(urgency, earliest, course).await;
            // What was heard may be our own step, or be read by now.
            if self.worker.is_in_doubt() {
                return Ok(Woken::Kernel);
            }
        }
    }

    /// Takes what comes right behind the first change. Never prolonged: a storm must not delay the repair.
    async fn coalesce(&mut self, first: Urgency, earliest: Instant, course: &mut Course) {
        let mut until = earliest.max(Instant::now() + first.delay());
        while let Ok(Some(wake)) = timeout_at(until, self.wakes.recv()).await {
            let urgency = self.hear(&wake, course);
            if urgency > first {
                until = until.min(earliest.max(Instant::now() + urgency.delay()));
            }
        }
    }

    fn hear(&self, wake: &Wake, course: &mut Course) -> Urgency {
        if *wake == Wake::Netlink(Event::Overrun) {
            self.telemetry.overrun();
            course.resync = Some(Resync::Overrun);
        }
        wake.urgency(|index| course.ours.contains(&index))
    }
}

fn log(outcome: &Outcome) {
    match &outcome.result {
        Ok(report) if !report.is_applied() => {
            let first = report.differing.first().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                differing = report.differing.len(),
                changed = report.changed,
                first,
                "the kernel is not as the NodeConfig says"
            );
        }
        Ok(report) if report.changed > 0 => {
            tracing::info!(changed = report.changed, desired = report.desired, "the kernel was changed");
        }
        Ok(report) => tracing::debug!(desired = report.desired, "the kernel is as the NodeConfig says"),
        Err(error) => tracing::warn!(%error, "the pass failed, the kernel is left as it is"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use agent_core::fake::FakeKernel;
    use agent_core::{Actual, HostAddress, HostLink};
    use api::NodeConfigSpec;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tokio::time::advance;

    use super::*;
    use crate::linger::LINGER;

    /// What came of an API's NodeConfig.
    pub(crate) fn outcome(result: Result<Report, KernelError>) -> Outcome {
        let config = Arc::new(NodeConfigSpec::default());
        Outcome {
            goal: Goal::Present(Wanted::new(config, Some(3), Origin::Api)),
            result,
            woken: Woken::Goal,
            at: Timestamp::UNIX_EPOCH,
            took: Duration::ZERO,
            changed_at: None,
            repairs: BTreeMap::new(),
            contended: BTreeSet::new(),
            lingers: None,
        }
    }

    pub(crate) fn gateway() -> NodeConfigSpec {
        let yaml = "
            devices: [{type: vxlan, name: vx-bridge, addr: 241.31.1.1/32, mac: '02:54:00:00:00:01', bindDev: eth0, id: 54, port: 4876}]
            routes: [{cidr: 10.2.0.0/16, gw: 241.31.2.1, dev: vx-bridge}]
            fdbs: [{ip: 172.31.2.1, mac: '02:54:00:00:02:01', dev: vx-bridge}]
            arps: [{ip: 241.31.2.1, mac: '02:54:00:00:02:01', dev: vx-bridge}]";
        crate::config::parse(yaml).unwrap()
    }

    pub(crate) fn host() -> FakeKernel {
        let network = "172.31.1.1/16".parse().unwrap();
        let addresses = vec![HostAddress { network, global: true }];
        let eth0 = HostLink { name: "eth0".to_owned(), mtu: 1500, addresses, ..HostLink::default() };
        let mut state = Actual::default();
        state.host.links.insert(2, eth0);
        FakeKernel::new(state)
    }

    /// A keeper that runs, and the other ends of what it hears and says.
    struct Kept {
        goals: watch::Sender<Goal>,
        outcomes: watch::Receiver<Option<Outcome>>,
        _known: watch::Sender<Known>,
        _wakes: UnboundedSender<Wake>,
    }

    fn kept() -> Kept {
        let (goals, goal) = watch::channel(Goal::Unknown);
        let (_known, known) = watch::channel(Known::default());
        let (_wakes, wakes) = unbounded_channel();
        let (outcome, outcomes) = watch::channel(None);
        let telemetry = Telemetry::default();
        let keeper = Keeper { worker: Worker::over(host()), goal, known, wakes, outcome, telemetry };
        tokio::spawn(keeper.run());
        Kept { goals, outcomes, _known, _wakes }
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_the_older_word_asked_for_goes_in_its_time_and_is_no_repair() {
        let Kept { goals, mut outcomes, _known, _wakes } = kept();
        let mut after = async |generation, config: NodeConfigSpec| {
            goals.send_replace(Goal::Present(Wanted::new(Arc::new(config), Some(generation), Origin::Api)));
            outcomes.changed().await.unwrap();
            let outcome: Outcome = outcomes.borrow_and_update().clone().unwrap();
            (outcome, outcomes.clone())
        };
        let (first, _) = after(1, gateway()).await;
        assert!(first.is_good() && first.lingers.is_none(), "{first:?}");
        let begun = Instant::now();
        let (second, mut outcomes) = after(2, NodeConfigSpec::default()).await;
        assert!(second.is_good() && second.is_reached(), "{second:?}");
        assert!(second.lingers.unwrap().objects > 0);
        outcomes.changed().await.unwrap();
        let last = outcomes.borrow_and_update().clone().unwrap();
        assert_eq!((begun.elapsed().as_secs(), last.woken), (LINGER.as_secs(), Woken::Due));
        assert!(last.lingers.is_none() && last.repairs.is_empty() && last.contended.is_empty(), "{last:?}");
        assert!(last.result.unwrap().changed > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_tells_of_is_looked_for_each_minute_whatever_else_happens() {
        let Kept { goals, mut outcomes, _known, _wakes } = kept();
        // Nothing but the keeper waits for a time while it works: the clock stands still then.
        let mut next = async || {
            outcomes.changed().await.unwrap();
            outcomes.borrow_and_update().clone().unwrap().woken
        };
        let begun = Instant::now();
        for generation in 1..3 {
            let wanted = Wanted::new(Arc::new(gateway()), Some(generation), Origin::Api);
            goals.send_replace(Goal::Present(wanted));
            assert_eq!(next().await, Woken::Goal);
            advance(RESYNC / 3).await;
        }
        assert_eq!((next().await, begun.elapsed()), (Woken::Clock, RESYNC));
        // A node that was torn down is looked at as often, and not all the time.
        goals.send_replace(Goal::Gone);
        assert_eq!((next().await, begun.elapsed()), (Woken::Goal, RESYNC));
        assert_eq!((next().await, begun.elapsed()), (Woken::Clock, RESYNC * 2));
    }
}
