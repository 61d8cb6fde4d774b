//! A node that reboots while no API server answers.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::control::{block, unblock};
use super::{Drill, Scenario};
use crate::figures::{Repairs, Row};
use crate::processes::Running;
use crate::world::World;

/// Every kernel object of ours on a node goes as with a reboot, and its agent starts anew, with no API server.
pub(super) const COLD_BOOT: Scenario = Scenario {
    name: "cold-boot",
    what: "a node boots while no API server answers: its overlay comes from the last good file",
    few: 1,
    full: 20,
    run: cold_boot,
};

/// The nodes that boot: a gateway and a P2P node.
const NODES: [&str; 2] = ["a1", "c1"];
/// As a boot leaves it: nothing of ours.
const WIPE: &str = "for d in $(ip -o link | grep -o 'vx-[a-z6-]*'); do ip link del $d; done; \
    for f in -4 -6; do while ip $f rule del pref 200 2>/dev/null; do :; done; while ip $f rule del pref 199 2>/dev/null; do :; done; \
    ip $f route flush table 200 2>/dev/null; ip $f route flush table 201 2>/dev/null; done; \
    ip nexthop flush proto 193; nft delete table inet clusterlink; iptables-nft -D FORWARD 1; ip6tables-nft -D FORWARD 1; true";
const PATIENCE: Duration = Duration::from_secs(60);

fn cold_boot(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let mut row = Row::of(drill.name, "both", drill.rounds);
    let mut times = Vec::new();
    for _ in 0..drill.rounds {
        drill.world.rest()?;
        let before = shown(drill.world)?;
        let devices = device_numbers(drill.world)?;
        block(drill.world, "drop")?;
        let booted = boot(drill.world, &before);
        unblock(drill.world)?;
        times.extend(booted?);
        drill.world.settle()?;
        if device_numbers(drill.world)?.iter().zip(&devices).any(|(now, before)| now == before) {
            row.problems.push("the devices are those from before the boot".to_owned());
        }
        if shown(drill.world)? != before {
            row.problems.push("the node is another one once the API servers are back".to_owned());
        }
    }
    row.repair = Repairs::of(&times);
    row.notes.push("the times are from the start of the agent to the whole overlay".to_owned());
    Ok(vec![row])
}

fn shown(world: &World) -> Result<Vec<Vec<String>>> {
    NODES.iter().map(|place| world.shown(place)).collect()
}

/// The kernel gives no number twice: a device that has another one was made anew.
fn device_numbers(world: &World) -> Result<Vec<String>> {
    NODES.iter().map(|place| world.sh(place, "ip -o link show vx-bridge | cut -d: -f1")).collect()
}

/// Wipes the kernels while the agents are held, so that none is started anew among what is still there, kills them, and waits
/// for the overlay.
fn boot(world: &World, before: &[Vec<String>]) -> Result<Vec<Duration>> {
    let agents: Vec<Running> = NODES.iter().map(|place| world.agent(place)).collect::<Result<_>>()?;
    agents.iter().for_each(|agent| agent.signal(Signal::SIGSTOP));
    let wiped = NODES.iter().try_for_each(|place| world.sh(place, WIPE).map(drop));
    agents.iter().for_each(|agent| agent.signal(Signal::SIGKILL));
    wiped?;
    agents.iter().try_for_each(|agent| agent.wait_restarted(&world.sandbox))?;
    let start = Instant::now();
    NODES.iter().zip(before).map(|(place, before)| whole_again(world, place, before, start)).collect()
}

fn whole_again(world: &World, place: &str, before: &[String], start: Instant) -> Result<Duration> {
    loop {
        let now = world.shown(place)?;
        if now == before {
            return Ok(start.elapsed());
        }
        if start.elapsed() > PATIENCE {
            let lacks: Vec<&String> = before.iter().filter(|line| !now.contains(line)).take(5).collect();
            let more: Vec<&String> = now.iter().filter(|line| !before.contains(line)).take(5).collect();
            bail!("{place} is another one without an API server; it lacks {lacks:?} and has {more:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
