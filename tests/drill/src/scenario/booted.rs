//! A node that reboots while no API server answers.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::control::{block, unblock};
use super::{Drill, Scenario};
use crate::figures::{Repairs, Row};
use crate::processes::{Running, running};
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
/// What is in the kernel, without what a boot makes new. Of a route its destination: a group that has lost all but one of its
/// gateways stays a group for the sake of its flows, while an empty kernel gets a plain nexthop.
const SHOW: &str = "for f in -4 -6; do for t in 200 201; do ip $f route show table $t 2>/dev/null | grep -v '^.nexthop' | \
    sed -E 's/^((unreachable )?[^ ]+).*/\\1 '$t'/' | sort; done; ip $f rule; done; \
    ip -o link | grep -o 'vx-[a-z6-]*: .*mtu [0-9]*' | sort; ip neigh show nud permanent | sort; \
    nft -s list table inet clusterlink; iptables-nft -S FORWARD; ip6tables-nft -S FORWARD";
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

fn shown(world: &World) -> Result<Vec<String>> {
    NODES.iter().map(|place| world.sh(place, SHOW)).collect()
}

/// The kernel gives no number twice: a device that has another one was made anew.
fn device_numbers(world: &World) -> Result<Vec<String>> {
    NODES.iter().map(|place| world.sh(place, "ip -o link show vx-bridge | cut -d: -f1")).collect()
}

/// Kills the agents, wipes the kernels while they are away, and waits for the overlay.
fn boot(world: &World, before: &[String]) -> Result<Vec<Duration>> {
    let agents: Vec<Running> = NODES
        .iter()
        .map(|place| {
            let found = running(&world.sandbox, &format!("agent-{place}"))?;
            found.into_iter().next().with_context(|| format!("there is no agent on {place}"))
        })
        .collect::<Result<_>>()?;
    agents.iter().for_each(|agent| agent.signal(Signal::SIGKILL));
    NODES.iter().try_for_each(|place| world.sh(place, WIPE).map(drop))?;
    agents.iter().try_for_each(|agent| agent.wait_restarted(&world.sandbox))?;
    let start = Instant::now();
    NODES.iter().zip(before).map(|(place, before)| whole_again(world, place, before, start)).collect()
}

fn whole_again(world: &World, place: &str, before: &str, start: Instant) -> Result<Duration> {
    loop {
        let now = world.sh(place, SHOW)?;
        if now == before {
            return Ok(start.elapsed());
        }
        if start.elapsed() > PATIENCE {
            let lines: Vec<&str> = now.lines().collect();
            let lacks: Vec<&str> = before.lines().filter(|line| !lines.contains(line)).take(5).collect();
            bail!("{place} has no overlay without an API server; it lacks {lacks:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
