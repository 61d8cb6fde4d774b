//! What is done to the world while the probes run.

mod booted;
mod control;
mod elsewhere;
mod fought;
mod gateways;
mod killed;
mod leftovers;
mod memory;
mod owned;
mod repaired;
mod underlay;
mod upgraded;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use netperf::wire::clock_us;

use crate::captures;
use crate::figures::{Mark, Row, Told, leaks, rows};
use crate::probes::{Seen, Way};
use crate::random::Random;
use crate::world::World;

/// Before the first and after the last disturbance.
const CALM: Duration = Duration::from_millis(300);

/// A disturbance.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens, in one line.
    pub what: &'static str,
    /// Rounds of a test.
    pub few: u32,
    /// Rounds of a drill.
    pub full: u32,
    /// Does it.
    pub run: fn(&mut Drill<'_>) -> Result<Vec<Row>>,
}

/// Every scenario, in the order in which they run.
pub const ALL: &[Scenario] = &[
    killed::AGENT_KILLED,
    upgraded::AGENT_UPGRADED,
    memory::MEMORY_UNFIT,
    control::APIS_GONE,
    control::CONTROLLERS_KILLED,
    elsewhere::ELSEWHERE,
    underlay::MTU_CHANGED,
    underlay::UNDERLAY_MOVED,
    gateways::GATEWAY_MOVED,
    gateways::MODE_CHANGED,
    gateways::GATEWAY_LOST,
    booted::COLD_BOOT,
    leftovers::LEFTOVERS,
    owned::FOREIGN_KEPT,
    repaired::REPAIRED,
    fought::FOUGHT_OVER,
    // the last one: an agent whose own address went hears of nothing until its connections time out
    underlay::UNDERLAY_JUMPED,
];

/// A scenario that is under way.
pub struct Drill<'a> {
    /// Where.
    pub world: &'a World,
    /// Its name.
    pub name: &'static str,
    /// How often.
    pub rounds: u32,
    /// What its decisions depend on.
    pub seed: u64,
    /// Its decisions.
    pub random: Random,
    /// What was done, and when.
    pub marks: Vec<Mark>,
}

impl<'a> Drill<'a> {
    /// A scenario before its first round.
    pub fn new(world: &'a World, scenario: &Scenario, rounds: u32, seed: u64) -> Self {
        let random = Random::new(seed, scenario.name);
        Drill { world, name: scenario.name, rounds, seed, random, marks: Vec::new() }
    }

    /// Notes what is done now, to be named with the losses that follow.
    pub fn mark(&mut self, what: impl Into<String>) {
        self.marks.push(Mark { at_us: clock_us(), what: what.into(), excused: BTreeMap::new() });
    }

    /// What was marked last may break these connections (by the asker's port), until something else is done.
    pub fn excuse(&mut self, ports: BTreeSet<u16>, why: &str) {
        if let Some(mark) = self.marks.last_mut() {
            mark.excused.extend(ports.into_iter().map(|port| (port, why.to_owned())));
        }
    }

    /// Runs the rounds while the probes run; any loss and any connection that breaks is a problem.
    ///
    /// # Errors
    /// A round cannot be carried out.
    pub fn lossless(&mut self, round: impl FnMut(&mut Self, u32) -> Result<()>) -> Result<Vec<Row>> {
        let ways = self.world.ways()?;
        self.probed(&ways, None, round)
    }

    /// Runs the rounds while the probes and the captures run.
    ///
    /// # Errors
    /// A round cannot be carried out.
    pub fn probed(
        &mut self,
        ways: &[Way],
        loss_expected: Option<&str>,
        mut round: impl FnMut(&mut Self, u32) -> Result<()>,
    ) -> Result<Vec<Row>> {
        self.captured(|drill| {
            let probes = drill.world.probes(ways)?;
            std::thread::sleep(CALM);
            for number in 0..drill.rounds {
                round(drill, number)?;
            }
            drill.mark("the last round");
            std::thread::sleep(CALM);
            Ok(drill.told(&probes.stop()?, loss_expected))
        })
    }

    /// Looks for packets that leave a node outside of a tunnel, from before the first probe until after the last one.
    ///
    /// # Errors
    /// A capture does not start, or what is done meanwhile fails.
    pub fn captured(&mut self, run: impl FnOnce(&mut Self) -> Result<Vec<Row>>) -> Result<Vec<Row>> {
        if let Some(why) = captures::missing() {
            let mut rows = run(self)?;
            for row in &mut rows {
                row.notes.push(format!("skipped: nobody looked for leaks: {why}"));
            }
            return Ok(rows);
        }
        let captures = self.world.captures()?;
        let mut rows = run(self)?;
        leaks::add(&mut rows, &captures.stop()?, &self.marks);
        Ok(rows)
    }

    /// What the probes have seen as rows, a loss with what was done before it.
    pub fn told(&self, seen: &Seen, loss_expected: Option<&str>) -> Vec<Row> {
        let told = Told { marks: &self.marks, loss_expected };
        rows(self.name, self.rounds, seen, &told)
    }
}
