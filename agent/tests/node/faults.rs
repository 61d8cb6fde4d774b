//! Failures that a real kernel makes by itself: no rights, no programs, objects that vanish, dumps that are interrupted.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use agent::{Known, RealKernel, Spec};
use agent_core::{Cause, Kernel, Pass, Reading};

use crate::world::{GATEWAY, Host, on_host, spec};

#[test]
fn without_the_right_each_object_says_so_and_nothing_is_half_done() {
    on_host(|host| {
        if Command::new("setpriv").arg("--version").output().is_err() {
            return skip::skip("setpriv is not installed");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), GATEWAY).unwrap();
        let before = host.dump();
        let output = Command::new("setpriv")
            .args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"])
            .args([env!("CARGO_BIN_EXE_clusterlink-agent"), "--config"])
            .arg(file.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success());
        assert!(text.contains("device vx-bridge: cannot create: Operation not permitted (EPERM)"), "{text}");
        assert!(
            text.contains("IPv4 rule 200 lookup 200: cannot add: Operation not permitted (EPERM)"),
            "{text}"
        );
        assert_eq!(host.dump(), before);
    });
}

#[test]
fn without_any_program_all_that_needs_none_is_kept_and_repaired() {
    on_host(|host| {
        let tools = tempfile::tempdir().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), GATEWAY).unwrap();
        let once = || {
            Command::new(env!("CARGO_BIN_EXE_clusterlink-agent"))
                .env("PATH", tools.path())
                .arg("--config")
                .arg(file.path())
                .output()
                .unwrap()
        };
        for damage in ["true", "ip rule del pref 200; ip neigh del 241.31.2.1 dev vx-bridge"] {
            host.sh(damage);
            let text = String::from_utf8_lossy(&once().stdout).into_owned();
            assert!(text.contains("firewall: cannot find `nft`"), "{text}");
            assert!(text.contains(" 1 differing"), "{text}");
            assert!(host.sh("ip rule").contains("lookup 200"));
            assert!(host.sh("ip neigh show 241.31.2.1 dev vx-bridge").contains("PERMANENT"));
        }
    });
}

/// Does something again and again while something else is done.
fn while_somebody(does: impl Fn(&Host) + Send + Sync, host: &Host, work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                does(host);
            }
        });
        // Also where the work fails.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_kernel_that_changes_under_every_dump_loses_nothing() {
    on_host(|host| {
        let config = spec(GATEWAY);
        host.apply(&config);
        let whole = host.dump();
        // Routes, neighbours and nexthops of strangers, in the tables that are read.
        let churn = |host: &Host| {
            host.sh("for n in 1 2 3 4 5 6 7 8 9; do
                ip route add 10.66.$n.0/24 via 172.31.66.66 table 200 proto 42
                ip neigh add 172.31.77.$n lladdr 02:00:00:00:00:66 dev eth0 nud permanent
                ip nexthop add id $n via 172.31.66.66 dev eth0
                done
                ip route flush table 200 proto 42; ip neigh flush dev eth0 nud permanent
                for n in 1 2 3 4 5 6 7 8 9; do ip nexthop del id $n; done");
        };
        while_somebody(churn, host, || {
            let mut kernel = RealKernel::open().unwrap();
            let (spec, known) = (Spec::validate(&config), Known::default());
            for _ in 0..50 {
                match Pass::new(&spec, &known).run(&mut kernel) {
                    Ok(report) => assert_eq!((report.changed, report.differing), (0, Vec::new())),
                    // That is no reading, and no reading is no reason to write.
                    Err(error) => assert!(error.to_string().contains("interrupted by changes"), "{error}"),
                }
            }
        });
        host.sh("for n in 1 2 3 4 5 6 7 8 9; do ip nexthop del id $n 2>/dev/null || true; done");
        assert_eq!(host.dump(), whole);
    });
}

#[test]
fn a_device_that_vanishes_again_and_again_is_named_and_comes_back() {
    on_host(|host| {
        let config = spec(GATEWAY);
        let (spec, known) = (Spec::validate(&config), Known::default());
        let vanish = |host: &Host| drop(host.try_sh("ip link del vx-bridge; ip link del vx-local"));
        while_somebody(vanish, host, || {
            let mut kernel = RealKernel::open().unwrap();
            for _ in 0..50 {
                // Whatever is missing, it is named, and it is the kernel's answer or the other one's doing.
                let report = Pass::new(&spec, &known).run(&mut kernel).unwrap();
                for difference in &report.differing {
                    assert_eq!(difference.cause, Cause::Failed, "{difference}");
                    let said = difference.problem.starts_with("cannot ")
                        || difference.problem.starts_with("differs again");
                    assert!(said, "{difference}");
                }
            }
        });
        host.apply(&config);
        let mut fresh = RealKernel::open().unwrap();
        fresh.read(Reading::Whole).unwrap();
        assert_eq!(fresh.actual().devices.len(), 2);
    });
}
