//! What the ways cost: round-trip times of pods that take turns, each across clusters beside one within the cluster.

use std::fmt;

use anyhow::{Context, Result};
use netperf::rtt::{RttComparison, RttOptions};
use netperf::target::{Protocol, Target};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use sandbox::Sandbox;
use sandbox::paths::{Comparison, Way, comparisons};

/// Rounds, in each of which every target is asked once.
const ROUNDS: u32 = 1000;

/// All comparisons.
pub(crate) struct Report(Vec<(Comparison, RttComparison)>);

/// Measures one comparison after another: echo requests are answered by the kernel, and asker and path stay on one CPU.
pub(crate) fn measure(sandbox: &Sandbox) -> Result<Report> {
    let measure = |comparison: Comparison| {
        let result = sandbox.netperf(&comparison.from, &options(&comparison).to_args());
        let result = result.with_context(|| format!("round-trip times from {}", comparison.from))?;
        Ok((comparison, result))
    };
    Ok(Report(comparisons(sandbox.layout()).into_iter().map(measure).collect::<Result<_>>()?))
}

fn options(comparison: &Comparison) -> RttOptions {
    let targets =
        [&comparison.within, &comparison.across].map(|(place, address)| Target::new(place, *address));
    RttOptions { protocol: Protocol::Icmp, count: ROUNDS, cpu: a_cpu(), ..RttOptions::new(targets.to_vec()) }
}

/// The first one that this program may use.
fn a_cpu() -> Option<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
    (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu).unwrap_or(false))
}

fn way(way: Way) -> &'static str {
    match way {
        Way::Within => "within the cluster",
        Way::Direct => "across, node to node (P2P)",
        Way::Gateways => "across, by two gateways",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nRound-trip times, {ROUNDS} turns each, one CPU (ICMP; ratio of medians with its 95 % interval):\n"
        )?;
        for (comparison, result) in &self.0 {
            for (index, report) in result.reports.iter().enumerate() {
                let name = if index == 0 { way(Way::Within) } else { way(comparison.way) };
                let pair = format!("{} → {}", comparison.from, report.target);
                write!(
                    f,
                    "{}  {name:<27}  {pair:<19}  {:>6.1} µs",
                    comparison.family, report.quantiles.p50_us
                )?;
                match result.ratios.get(index.wrapping_sub(1)) {
                    Some(ratio) => {
                        let ratio = ratio.ratio;
                        writeln!(f, "  × {:.2} [{:.2} {:.2}]", ratio.ratio, ratio.low, ratio.high)?;
                    }
                    None => writeln!(f)?,
                }
            }
        }
        Ok(())
    }
}
