//! Agents that are killed at random points of an apply.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use api::{NodeConfig, NodeId};
use netlink::{Event, Monitor, Namespace};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Drill, Scenario};
use crate::figures::Row;
use crate::processes::running;
use crate::world::World;
use sandbox::addressing::{ClusterLayout, NodeLayout};

/// Every agent of the world is killed in every round, each at its own moment of an apply.
pub(super) const AGENT_KILLED: Scenario = Scenario {
    name: "agent-killed",
    what: "kill -9 of every agent at random points of an apply, and its restart",
    few: 1,
    full: 200,
    run: agent_killed,
};

/// How long an apply may let itself be waited for; then the agent is killed where it is.
const WITHIN: Duration = Duration::from_secs(2);
/// Peers that are added so that there is an apply.
const PEERS: u8 = 40;
/// The kernel objects of such a peer: neighbour, FDB entry, nexthop, route.
const OBJECTS: u32 = 4;

fn agent_killed(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let before = first_changes(drill)?.len();
    let mut rows = drill.lossless(|drill, round| {
        let world = drill.world;
        let agents = running(&world.sandbox, "agent-")?;
        let applies = applies(drill, round)?;
        let whole = u64::from(PEERS) * u64::from(OBJECTS);
        let kills: Vec<u64> = agents.iter().map(|_| drill.random.below(whole)).collect();
        let told = agents.iter().zip(&kills).map(|(agent, at)| format!("{} after {at}", agent.name));
        drill.mark(format!("round {round}: kill -9 of {} objects", told.collect::<Vec<_>>().join(", ")));
        thread::scope(|scope| {
            let rounds = applies.iter().zip(&agents).zip(kills).map(|((apply, agent), at)| {
                scope.spawn(move || {
                    let watched = Namespace::open(format!("/proc/{}/ns/net", agent.pid));
                    let monitor = watched.ok().and_then(|namespace| namespace.monitor().ok());
                    let changed = apply.change(world);
                    wait_for(monitor, at);
                    agent.signal(Signal::SIGKILL);
                    changed
                })
            });
            let rounds: Vec<_> = rounds.collect();
            rounds.into_iter().try_for_each(|round| round.join().expect("it returns what fails"))
        })?;
        for agent in &agents {
            agent.wait_restarted(&world.sandbox)?;
        }
        world.settle()
    })?;
    let whole = u32::from(PEERS) * OBJECTS;
    let first = first_changes(drill)?;
    let cut = first[before..].iter().filter(|changed| (1..whole).contains(*changed)).count();
    for row in &mut rows {
        row.notes.push(format!("{cut} of {} applies were cut in the middle", first.len() - before));
    }
    Ok(rows)
}

/// Waits until so many objects were changed in the node's kernel. Where its namespace cannot be watched from here (that
/// needs root), the moment is one of chance.
fn wait_for(monitor: Option<Monitor>, objects: u64) {
    let Some(mut monitor) = monitor else {
        thread::sleep(Duration::from_millis(objects));
        return;
    };
    let until = Instant::now() + WITHIN;
    let mut seen = 0;
    while seen <= objects && Instant::now() < until {
        match monitor.next(Duration::from_millis(100)) {
            Ok(Some(
                Event::Neighbour { .. } | Event::Fdb { .. } | Event::Nexthop { .. } | Event::Route { .. },
            )) => seen += 1,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// What each agent found to do first after each of its restarts: the part of an apply that its former life had done, or
/// had not.
fn first_changes(drill: &Drill<'_>) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for process in drill.world.sandbox.status()?.processes {
        if !process.name.starts_with("agent-") {
            continue;
        }
        let log = std::fs::read_to_string(&process.log)?;
        for life in log.split("following the NodeConfig").skip(2) {
            let changed = life.split("changed=").nth(1).and_then(|rest| rest.split_whitespace().next());
            found.push(changed.and_then(|number| number.parse().ok()).unwrap_or(0));
        }
    }
    Ok(found)
}

/// A change of a mirrored NodeConfig that nobody has planned: the agent applies it, the controller-manager takes it away
/// again, and the agent applies that.
struct Apply {
    cluster: String,
    name: String,
    patch: Value,
}

impl Apply {
    fn change(&self, world: &World) -> Result<()> {
        world.apis.patch::<NodeConfig>(&self.cluster, &self.name, &self.patch)
    }
}

/// One for each node, in the order of the agents' names.
fn applies(drill: &Drill<'_>, round: u32) -> Result<Vec<Apply>> {
    let layout = drill.world.sandbox.layout();
    let apply = |(cluster, node): (&ClusterLayout, &NodeLayout)| {
        let name = NodeId::new(&cluster.name, &node.name).object_name();
        let config: NodeConfig = drill.world.apis.get(&cluster.name, &name)?;
        let patch = json!({"spec": with_strangers(&config, round)?});
        Ok(Apply { cluster: cluster.name.clone(), name, patch })
    };
    layout.nodes().map(apply).collect()
}

/// The same with routes, neighbours and FDB entries of peers that do not exist.
fn with_strangers(config: &NodeConfig, round: u32) -> Result<Value> {
    let mut spec = serde_json::to_value(&config.spec)?;
    let high = u8::try_from(round % 250).unwrap_or(0);
    for number in 1..=PEERS {
        let gateway = Ipv4Addr::new(241, 250, high, number);
        let mac = format!("02:54:f1:fa:{high:02x}:{number:02x}");
        let entries = [
            ("arps", json!({"ip": gateway, "mac": mac, "dev": "vx-bridge"})),
            ("fdbs", json!({"ip": Ipv4Addr::new(172, 31, 250, number), "mac": mac, "dev": "vx-bridge"})),
            ("routes", json!({"cidr": format!("198.18.{number}.0/24"), "gw": gateway, "dev": "vx-bridge"})),
        ];
        for (list, entry) in entries {
            match spec[list].as_array_mut() {
                Some(entries) => entries.push(entry),
                None => spec[list] = json!([entry]),
            }
        }
    }
    Ok(spec)
}
