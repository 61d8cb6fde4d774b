//! A vandal on a gateway and on a P2P node.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use api::NodeConfig;

use super::{Drill, Scenario};
use crate::figures::{Repairs, Row};
use crate::repair::{KINDS, Repair};
use crate::world::World;

/// Everything of ours is deleted or altered, one kind at a time and all at once.
pub(super) const REPAIRED: Scenario = Scenario {
    name: "repaired",
    what: "a vandal deletes and alters everything of ours, one at a time and all at once",
    few: KINDS,
    full: 500,
    run: repaired,
};

/// The kinds of damage that took longest are named.
const SLOWEST: usize = 5;

fn repaired(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let (world, name, rounds, seed) = (drill.world, drill.name, drill.rounds, drill.seed);
    let victims = [("a1", "gateway", "a", "a-node1"), ("c1", "p2p", "c", "c-node1")];
    // both at once: they have nothing to do with each other
    world.rest()?;
    let rows = std::thread::scope(|scope| {
        let rows = victims.map(|(place, mode, cluster, config)| {
            scope.spawn(move || {
                let mut row = Row::of(name, mode, 0);
                let counted = metric(world, place).ok();
                let repairs = vandal(world, place, rounds, seed, &mut row)?;
                judge(&repairs, &mut row);
                counts(world, place, counted, &mut row);
                let object: NodeConfig = world.apis.get(cluster, config)?;
                if object.status.and_then(|status| status.last_change_time).is_none() {
                    row.problems.push(format!("the status of {config} tells of no change"));
                }
                Ok(row)
            })
        });
        rows.map(|row| row.join().expect("it returns what fails")).into_iter().collect::<Result<Vec<_>>>()
    })?;
    world.settle()?;
    Ok(rows)
}

/// Runs this program inside of the node.
fn vandal(world: &World, place: &str, rounds: u32, seed: u64, row: &mut Row) -> Result<Vec<Repair>> {
    let agent = world.sandbox.status()?.processes.into_iter().find(|p| p.name == format!("agent-{place}"));
    let agent = agent.and_then(|agent| agent.pid).with_context(|| format!("there is no agent on {place}"))?;
    let program = crate::programs::own()?;
    let argv = [
        program.display().to_string(),
        "repair".to_owned(),
        format!("--rounds={rounds}"),
        format!("--seed={seed}"),
        format!("--agent={agent}"),
    ];
    let mut child = world
        .sandbox
        .command(place, argv)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("its output is a pipe")?;
    let lines = BufReader::new(output).lines();
    let repairs: Vec<Repair> = lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_>>()?;
    let ended = child.wait_with_output()?;
    if !ended.status.success() {
        row.problems.push(String::from_utf8_lossy(&ended.stderr).trim().to_owned());
    }
    Ok(repairs)
}

fn judge(repairs: &[Repair], row: &mut Row) {
    row.rounds = u32::try_from(repairs.len()).unwrap_or(u32::MAX);
    let timed = repairs.iter().filter(|repair| repair.counted.is_none());
    let times: Vec<Duration> =
        timed.clone().filter_map(|repair| repair.took_us.map(Duration::from_micros)).collect();
    row.repair = Repairs::of(&times);
    let mut slowest: BTreeMap<&str, u64> = BTreeMap::new();
    for repair in timed {
        let longest = slowest.entry(&repair.damage).or_default();
        *longest = (*longest).max(repair.took_us.unwrap_or(u64::MAX));
    }
    let mut slowest: Vec<(&str, u64)> = slowest.into_iter().collect();
    slowest.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    let told = slowest.iter().take(SLOWEST).map(|(name, took)| format!("{name} {} ms", took / 1000));
    row.notes.push(format!("slowest: {}", told.collect::<Vec<_>>().join(", ")));
    for repair in repairs.iter().filter(|repair| repair.took_us.is_none()) {
        row.problems.push(format!("{} was not repaired: {:?}", repair.damage, repair.left));
    }
    let mut exact = 0;
    for repair in repairs {
        match repair.counted {
            Some((wrong, written)) if written > wrong => row.problems.push(format!(
                "{}: {wrong} objects were wrong, the repair brought {written} notifications",
                repair.damage
            )),
            Some(_) => exact += 1,
            None => {}
        }
    }
    if exact > 0 {
        row.notes.push(format!("{exact} repairs were counted: nothing but what was wrong was written"));
    }
}

/// The agent's own count, as it tells it on its node.
fn metric(world: &World, place: &str) -> Result<u64> {
    let text = world.sh(place, "curl -s http://127.0.0.1:9870/metrics")?;
    let counts = text.lines().filter_map(|line| line.strip_prefix("clusterlink_agent_drift_repairs_total{"));
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

fn counts(world: &World, place: &str, before: Option<u64>, row: &mut Row) {
    match (before, metric(world, place)) {
        (Some(before), Ok(after)) if after >= before + u64::from(row.rounds) => {
            row.notes.push(format!("the agent counted {} repaired objects", after - before));
        }
        (Some(before), Ok(after)) => row.problems.push(format!(
            "the agent counted {} repaired objects in {} rounds",
            after.saturating_sub(before),
            row.rounds
        )),
        (_, Err(error)) => row.notes.push(format!("the agent's own count cannot be read: {error:#}")),
        (None, Ok(_)) => row.notes.push("the agent began to count meanwhile".to_owned()),
    }
}
