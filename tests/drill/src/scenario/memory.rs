//! What an agent finds on its disk when it starts and no API answers: other versions, other nodes, damage.

mod kinds;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::{NodeConfig, NodeId};
use nix::sys::signal::Signal;
use sandbox::addressing::{ClusterLayout, NodeLayout};

use super::control::{block, unblock};
use super::{Drill, Scenario};
use crate::figures::Row;
use crate::processes::Running;
use crate::world::World;
use kinds::{KINDS, Kept, Kind, MARKER};

/// Every agent starts with another kind of file, while no API server answers.
pub(super) const MEMORY_UNFIT: Scenario = Scenario {
    name: "memory-unfit",
    what: "agents start with files of other versions and nodes, and damaged ones, while no API server answers",
    few: 1,
    full: 20,
    run: memory_unfit,
};

const FILE: &str = "last-good.json";
/// How long an agent has to do what it must not, once it has looked at its file.
const TEMPTED: Duration = Duration::from_millis(1500);
/// What an agent says of a file that it begins with, and of another one.
const BEGINS: &str = "begins with the last good NodeConfig";
const REFUSES: &str = "was not applied";

/// An agent and what it finds.
struct Node {
    place: String,
    cluster: String,
    config: String,
    agent: Running,
    directory: PathBuf,
    log: PathBuf,
    kind: &'static Kind,
}

fn memory_unfit(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let mut problems = Vec::new();
    let mut rows = drill.lossless(|drill, round| {
        let world = drill.world;
        let nodes = nodes(world, round as usize)?;
        let told: Vec<String> =
            nodes.iter().map(|node| format!("{} {}", node.place, node.kind.name)).collect();
        drill.mark(format!("round {round}: agents start without an API: {}", told.join(", ")));
        block(world, "drop")?;
        let wrong = tempted(world, &nodes);
        drill.mark(format!("round {round}: API servers come back"));
        unblock(world)?;
        problems.extend(wrong?);
        world.settle()?;
        for node in &nodes {
            if let Err(error) = world.eventually(|| node.kept_again(world)) {
                problems.push(format!("{} ({}): {error:#}", node.place, node.kind.name));
            }
            node.tidy();
        }
        Ok(())
    })?;
    if let Some(row) = rows.first_mut() {
        row.problems.extend(problems);
    }
    Ok(rows)
}

/// What they do without an API that they must not.
fn tempted(world: &World, nodes: &[Node]) -> Result<Vec<String>> {
    let begun = nodes.iter().map(|node| node.begin(world)).collect::<Result<Vec<usize>>>()?;
    for (node, log_end) in nodes.iter().zip(&begun) {
        // what it never says is told below
        let _ = world.eventually(|| node.has_looked(*log_end));
    }
    thread::sleep(TEMPTED);
    let mut wrong = Vec::new();
    for (node, log_end) in nodes.iter().zip(begun) {
        if let Err(error) = node.behaves(world, log_end) {
            wrong.push(format!("{} ({}): {error:#}", node.place, node.kind.name));
        }
    }
    Ok(wrong)
}

/// Every node, each with another kind in each round.
fn nodes(world: &World, round: usize) -> Result<Vec<Node>> {
    let processes = world.sandbox.status()?.processes;
    let node = |(number, (cluster, node)): (usize, (&ClusterLayout, &NodeLayout))| {
        let name = format!("agent-{}", node.place);
        let process = processes.iter().find(|process| process.name == name);
        Ok(Node {
            place: node.place.clone(),
            cluster: cluster.name.clone(),
            config: NodeId::new(&cluster.name, &node.name).object_name(),
            agent: world.agent(&node.place)?,
            directory: world.sandbox.state().agent_directory(&node.place),
            log: process.context("there is no such agent")?.log.clone(),
            kind: &KINDS[(number + round) % KINDS.len()],
        })
    };
    world.sandbox.layout().nodes().enumerate().map(node).collect()
}

impl Node {
    /// The agent is held while the file is replaced, and never writes it again. Where its log ended.
    fn begin(&self, world: &World) -> Result<usize> {
        self.agent.signal(Signal::SIGSTOP);
        let replaced = self.replace();
        let end = fs::read(&self.log).map_or(0, |log| log.len());
        self.agent.signal(Signal::SIGKILL);
        self.agent.wait_restarted(&world.sandbox)?;
        replaced.map(|()| end)
    }

    fn replace(&self) -> Result<()> {
        let path = self.directory.join(FILE);
        let bytes = (self.kind.make)(&Kept::read(&path)?);
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(self.kind.mode))?;
        Ok(())
    }

    /// What it has said since.
    fn said(&self, log_end: usize) -> Result<String> {
        let log = fs::read(&self.log)?;
        Ok(String::from_utf8_lossy(log.get(log_end..).unwrap_or_default()).into_owned())
    }

    /// Whether it has looked at its file.
    fn has_looked(&self, log_end: usize) -> Result<()> {
        let said = self.said(log_end)?;
        if said.contains(BEGINS) || said.contains(REFUSES) { Ok(()) } else { bail!("it only says {said}") }
    }

    /// Whether it says what it found, and does nothing that it must not.
    fn behaves(&self, world: &World, log_end: usize) -> Result<()> {
        let said = self.said(log_end)?;
        if !world.sh(&self.place, &format!("ip route show table 200 {MARKER}"))?.is_empty() {
            bail!("the file was applied");
        }
        let Some((word, reason)) = self.kind.aside else {
            if said.contains(BEGINS) {
                return Ok(());
            }
            bail!("the agent does not begin with the file; it says {said}");
        };
        if !said.contains(REFUSES) || !said.contains(reason) {
            bail!("the agent does not say {reason:?}, but {said}");
        }
        if !self.directory.join(format!("{FILE}.{word}")).exists() || self.directory.join(FILE).exists() {
            bail!("the file was not set aside as {FILE}.{word}");
        }
        Ok(())
    }

    /// Whether the condition tells of it, and a good file is there again.
    fn kept_again(&self, world: &World) -> Result<()> {
        let config: NodeConfig = world.apis.get(&self.cluster, &self.config)?;
        let conditions = config.status.map(|status| status.conditions).unwrap_or_default();
        let kept = conditions.into_iter().find(|condition| condition.type_ == "LastGoodKept");
        let kept = kept.context("there is no condition LastGoodKept")?;
        if self.kind.aside.is_some() != kept.message.contains(REFUSES) || kept.status != "True" {
            bail!("the condition says {}: {}", kept.status, kept.message);
        }
        Kept::read(&self.directory.join(FILE)).map(drop)
    }

    fn tidy(&self) {
        if let Some((word, _)) = self.kind.aside {
            // what is not there need not go
            let _ = fs::remove_file(self.directory.join(format!("{FILE}.{word}")));
        }
    }
}
