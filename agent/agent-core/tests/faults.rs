//! Every operation of a pass fails in every way once: the rest is done, the failure has a name, the next pass heals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use std::collections::BTreeSet;

use agent_core::fake::FakeKernel;
use agent_core::{Cause, Kind, Known, Refusal, Report, Spec, Stage, Step, cleanup, pass};
use api::{NodeConfigSpec, Vtep};
use world::{gateway, host, meaning, strangers};

const ERRORS: [(i32, &str); 9] = [
    (1, "EPERM"),
    (2, "ENOENT"),
    (3, "ESRCH"),
    (4, "EINTR"),
    (12, "ENOMEM"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (19, "ENODEV"),
    (105, "ENOBUFS"),
];

/// A NodeConfig that differs from `gateway()` in every kind of thing.
fn changed() -> NodeConfigSpec {
    let mut config = gateway();
    config.devices[0].mtu = Some(1400);
    config.devices[1].extra_addrs = world::list(&["fd42::9/128"]);
    config.devices.push(world::device(Vtep::Bridge6, "fd41::1/128", 7, 64, "eth0"));
    config.routes[0].gws = world::list(&["241.31.2.2", "241.31.2.3"]);
    config.routes[0].gw = "241.31.2.2".to_owned();
    config.routes.remove(2);
    config.routes.push(world::route("10.7.0.0/16", "vx-bridge", &["241.31.7.1"]));
    config.routes.push(world::route("fd02::/48", "vx-bridge-6", &["fd41::2"]));
    config.unreachable.remove(1);
    config.fdbs[0].ip = "172.31.2.9".to_owned();
    config.arps[0].mac = "02:54:ac:1f:02:09".to_owned();
    config.rule_priority = Some(150);
    config.firewall.as_mut().unwrap().remote_cidrs.push("10.7.0.0/16".to_owned());
    config
}

/// A kernel between two NodeConfigs.
fn before(first: Option<&Spec>) -> FakeKernel {
    let mut kernel = FakeKernel::new(host());
    if let Some(first) = first {
        assert!(pass(&mut kernel, first, &Known::default()).unwrap().is_applied());
        kernel.log.clear();
    }
    kernel.readings = 0;
    kernel
}

fn refusal((errno, name): (i32, &str)) -> Refusal {
    Refusal { errno: Some(errno), message: format!("refused by the test ({name})") }
}

/// From nothing, from one to the other, and away with it.
fn changes() -> [(Option<Spec>, Option<Spec>); 4] {
    let (old, new) = (Spec::validate(&gateway()), Spec::validate(&changed()));
    [
        (None, Some(old.clone())),
        (Some(old.clone()), Some(new.clone())),
        (Some(new), Some(old.clone())),
        (Some(old), None),
    ]
}

fn run(kernel: &mut FakeKernel, wanted: Option<&Spec>) -> Report {
    match wanted {
        Some(spec) => pass(kernel, spec, &Known::default()).unwrap(),
        None => cleanup(kernel).unwrap(),
    }
}

fn objects(log: &[(Stage, Step)]) -> BTreeSet<String> {
    // A nexthop gets its number anew in a second round.
    let steps = log.iter().map(|(_, step)| step).filter(|step| step.kind() != Kind::Nexthop);
    steps.map(Step::object).collect()
}

#[test]
fn any_refused_step_is_named_with_its_operation_and_error_and_the_next_pass_heals() {
    for (first, wanted) in changes() {
        let mut straight = before(first.as_ref());
        assert!(run(&mut straight, wanted.as_ref()).is_applied());
        let steps = straight.log.clone();
        let foreign = strangers(&straight.state);
        for (place, (_, failing)) in steps.iter().enumerate() {
            for error in ERRORS {
                let mut kernel = before(first.as_ref());
                kernel.fails_at.insert(place, refusal(error));
                let report = run(&mut kernel, wanted.as_ref());
                let case = format!("{failing} fails with {}", error.1);
                assert_eq!(strangers(&kernel.state), foreign, "{case}");
                let named = report.differing.iter().find(|d| d.object == failing.object());
                // A second round may have done it already.
                let healed =
                    kernel.log.iter().filter(|(_, step)| step.object() == failing.object()).count() > 1;
                match named {
                    Some(named) => {
                        assert_eq!((named.cause, named.kind), (Cause::Failed, failing.kind()), "{case}");
                        assert!(named.problem.contains(error.1), "{case}: {}", named.problem);
                        assert!(
                            named.problem.starts_with(&format!("cannot {}", failing.operation())),
                            "{case}: {}",
                            named.problem
                        );
                        assert!(report.kinds[&failing.kind()].failed > 0, "{case}");
                    }
                    None => assert!(healed || gone(&kernel, &straight), "{case}: {report:?}"),
                }
                // Nothing was done that the straight way does not do.
                assert!(objects(&kernel.log).is_subset(&objects(&steps)), "{case}");
                kernel.fails_at.clear();
                let last = run(&mut kernel, wanted.as_ref());
                assert!(last.is_applied(), "{case}: {:?}", last.differing);
                assert_eq!(meaning(&kernel.state), meaning(&straight.state), "{case}");
                assert_eq!(run(&mut kernel, wanted.as_ref()).changed, 0, "{case}");
            }
        }
    }
}

/// What was refused went along with something else.
fn gone(kernel: &FakeKernel, straight: &FakeKernel) -> bool {
    meaning(&kernel.state) == meaning(&straight.state)
}

#[test]
fn a_permanent_failure_costs_what_hangs_on_it_and_nothing_else() {
    let spec = Spec::validate(&gateway());
    let mut straight = before(None);
    run(&mut straight, Some(&spec));
    for (_, failing) in straight.log.clone() {
        let mut kernel = before(None);
        kernel.refuses.insert(failing.object(), refusal((16, "EBUSY")));
        let first = run(&mut kernel, Some(&spec));
        let writes = kernel.log.len();
        let again = run(&mut kernel, Some(&spec));
        // It does not thrash: again only what failed is tried, and it ends where it was.
        assert!(again.changed == 0, "{failing}: {:?}", again.written);
        assert_eq!(first.differing, again.differing, "{failing}");
        assert!(kernel.log.len() - writes <= 2 * first.differing.len(), "{failing}");
    }
}

#[test]
fn a_reading_that_fails_or_is_cut_short_deletes_nothing() {
    for (first, wanted) in changes() {
        let mut straight = before(first.as_ref());
        run(&mut straight, wanted.as_ref());
        for reading in 1..=straight.readings {
            let mut kernel = before(first.as_ref());
            kernel.unreadable_at = Some(reading);
            let ended = match &wanted {
                Some(spec) => pass(&mut kernel, spec, &Known::default()),
                None => cleanup(&mut kernel),
            };
            assert!(ended.is_err());
            if reading == 1 {
                assert!(kernel.log.is_empty(), "written without having read");
            }
            kernel.unreadable_at = None;
            assert!(run(&mut kernel, wanted.as_ref()).is_applied());
            assert_eq!(meaning(&kernel.state), meaning(&straight.state));
        }
    }
}

#[test]
fn a_conversation_that_breaks_off_anywhere_is_taken_up_again() {
    for (first, wanted) in changes() {
        let mut straight = before(first.as_ref());
        run(&mut straight, wanted.as_ref());
        let stages: BTreeSet<Stage> = straight.log.iter().map(|(stage, _)| *stage).collect();
        for stage in stages {
            let mut kernel = before(first.as_ref());
            kernel.breaks_at = Some(stage);
            let report = run(&mut kernel, wanted.as_ref());
            assert!(!report.is_applied() || gone(&kernel, &straight), "{stage}");
            kernel.breaks_at = None;
            assert!(run(&mut kernel, wanted.as_ref()).is_applied(), "{stage}");
            assert_eq!(meaning(&kernel.state), meaning(&straight.state), "{stage}");
        }
    }
}

#[test]
fn a_device_that_vanishes_under_a_pass_is_back_after_the_next() {
    for (first, wanted) in changes() {
        let Some(wanted) = wanted else { continue };
        let mut straight = before(first.as_ref());
        run(&mut straight, Some(&wanted));
        let stages: BTreeSet<Stage> = straight.log.iter().map(|(stage, _)| *stage).collect();
        for stage in stages {
            for vtep in straight.state.devices.keys() {
                let mut kernel = before(first.as_ref());
                kernel.vanishes_at = Some((stage, *vtep));
                run(&mut kernel, Some(&wanted));
                let report = run(&mut kernel, Some(&wanted));
                assert!(report.is_applied(), "{vtep:?} at {stage}: {:?}", report.differing);
                assert_eq!(meaning(&kernel.state), meaning(&straight.state), "{vtep:?} at {stage}");
            }
        }
    }
}
