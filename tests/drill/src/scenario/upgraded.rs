//! Agents that are replaced by another version.

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{Drill, Scenario};
use crate::figures::Row;
use crate::processes::running;
use crate::programs::AGENT;

/// The program is replaced, every agent ends in order and the other version starts: to and fro.
pub(super) const AGENT_UPGRADED: Scenario = Scenario {
    name: "agent-upgraded",
    what: "the agent's program is replaced by another version, and every agent started anew",
    few: 1,
    full: 20,
    run: agent_upgraded,
};

fn agent_upgraded(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let (current, old) = (drill.world.built_agent.clone(), drill.world.old_agent.clone());
    let mut rows = drill.lossless(|drill, round| {
        let world = drill.world;
        let (word, program) = if round % 2 == 0 { ("old", &old) } else { ("new", &current) };
        world.programs.replace(AGENT, program)?;
        let agents = running(&world.sandbox, "agent-")?;
        drill.mark(format!("round {round}: the {word} agent takes over"));
        for agent in &agents {
            agent.signal(Signal::SIGTERM);
        }
        for agent in &agents {
            agent.wait_restarted(&world.sandbox)?;
        }
        world.settle()
    });
    drill.world.programs.replace(AGENT, &current)?;
    if old == current
        && let Ok(rows) = &mut rows
    {
        let note = "no other version was given (--old-agent): the same one took over";
        rows.iter_mut().for_each(|row| row.notes.push(note.to_owned()));
    }
    rows
}
