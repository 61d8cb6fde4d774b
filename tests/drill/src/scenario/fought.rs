//! Somebody else who does not give up.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::{NodeConfig, condition};

use super::{Drill, Scenario};
use crate::figures::{Repairs, Row};
use crate::repair::{FIGHTS_COUNT, Fought, Told};
use crate::world::World;

/// One object of ours is rewritten again and again, while others are broken once.
pub(super) const FOUGHT_OVER: Scenario = Scenario {
    name: "fought-over",
    what: "somebody rewrites one object of ours again and again, while others are broken once",
    few: 1,
    full: FIGHTS_COUNT,
    run: fought_over,
};

/// How long a fight is watched: in a drill longer than the minute in which an agent counts.
const WATCHED: [u64; 2] = [4, 75];

fn fought_over(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let (world, name, rounds, seed) = (drill.world, drill.name, drill.rounds, drill.seed);
    let few = rounds < FIGHTS_COUNT;
    let nodes = [("a1", "gateway", "a", "a-node1"), ("c1", "p2p", "c", "c-node1")];
    world.rest()?;
    let rows = std::thread::scope(|scope| {
        let rows = nodes.map(|(place, mode, cluster, config)| {
            scope.spawn(move || {
                let mut row = Row::of(name, mode, rounds);
                let node = Node { world, place, cluster, config, few };
                let fought = node.fights(rounds, seed, &mut row)?;
                judge(&fought, &mut row);
                Ok(row)
            })
        });
        rows.map(|row| row.join().expect("it returns what fails")).into_iter().collect::<Result<Vec<_>>>()
    })?;
    world.settle()?;
    Ok(rows)
}

struct Node<'a> {
    world: &'a World,
    place: &'static str,
    cluster: &'static str,
    config: &'static str,
    few: bool,
}

impl Node<'_> {
    fn fights(&self, rounds: u32, seed: u64, row: &mut Row) -> Result<Vec<Fought>> {
        let processes = self.world.sandbox.status()?.processes;
        let agent = processes.into_iter().find(|process| process.name == format!("agent-{}", self.place));
        let agent =
            agent.and_then(|agent| agent.pid).with_context(|| format!("{} has no agent", self.place))?;
        let seconds = WATCHED[usize::from(!self.few)];
        let argv = [
            crate::programs::own()?.display().to_string(),
            "fight".to_owned(),
            format!("--rounds={rounds}"),
            format!("--seed={seed}"),
            format!("--agent={agent}"),
            format!("--seconds={seconds}"),
        ];
        let piped = Stdio::piped;
        let mut command = self.world.sandbox.command(self.place, argv);
        let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn()?;
        let mut input = child.stdin.take().context("its input is a pipe")?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let mut fought = Vec::new();
        for line in BufReader::new(output).lines() {
            match serde_json::from_str(&line?)? {
                Told::Resting { name, object, repairs } => {
                    row.notes.push(format!("{name}: the agent stopped after {repairs} repairs"));
                    if let Err(error) = self.says(&object) {
                        row.problems.push(format!("{name}: {error:#}"));
                    }
                    writeln!(input)?;
                }
                Told::Over(over) => {
                    let last = fought.len() + 1 == rounds as usize;
                    if let Err(error) = self.says_no_more(self.few && last) {
                        row.problems.push(format!("{}: {error:#}", over.name));
                    }
                    fought.push(over);
                    writeln!(input)?;
                }
            }
        }
        drop(input);
        let ended = child.wait_with_output()?;
        if !ended.status.success() {
            row.problems.push(String::from_utf8_lossy(&ended.stderr).trim().to_owned());
        }
        Ok(fought)
    }

    /// Reason and message of the condition of what was applied, and whether it is true.
    fn applied(&self) -> Result<(bool, String, String)> {
        let config: NodeConfig = self.world.apis.get(self.cluster, self.config)?;
        let conditions = config.status.map(|status| status.conditions).unwrap_or_default();
        let applied = conditions.into_iter().find(|condition| condition.type_ == condition::APPLIED);
        let applied = applied.context("there is no condition Applied")?;
        Ok((applied.status == "True", applied.reason, applied.message))
    }

    /// Waits until the condition names what is fought over.
    fn says(&self, object: &str) -> Result<()> {
        self.world.eventually(|| {
            let (applied, reason, message) = self.applied()?;
            if !applied && reason == "Contended" && message.contains(object) {
                return Ok(());
            }
            bail!("the condition does not name {object}: {applied} {reason}: {message}")
        })
    }

    /// Waits until everything is applied, and nothing speaks of the fight any more, unless that may go on for its minute.
    fn says_no_more(&self, still_named: bool) -> Result<()> {
        self.world.eventually(|| {
            let (applied, reason, message) = self.applied()?;
            if applied && (still_named || reason != "Contended") {
                return Ok(());
            }
            bail!("the fight is over, and the condition is {applied} {reason}: {message}")
        })
    }
}

fn judge(fought: &[Fought], row: &mut Row) {
    let mut times: Vec<Duration> = Vec::new();
    let mut slowest: Option<(Duration, String)> = None;
    for Fought { name, repairs: (repairs, most), others, right_after_us, left } in fought {
        if repairs > most {
            row.problems.push(format!("{name}: repaired {repairs} times where {most} are enough"));
        }
        for (other, took) in others {
            match took {
                Some(micros) => {
                    let took = Duration::from_micros(*micros);
                    times.push(took);
                    slowest = slowest.max(Some((took, format!("{other} while {name}"))));
                }
                None => row.problems.push(format!("{name}: {other} was not repaired meanwhile")),
            }
        }
        match right_after_us {
            Some(micros) => row.notes.push(format!(
                "{name}: {repairs} repairs while it was watched, right {:.1} s after the end",
                *micros as f64 / 1e6
            )),
            None => row.problems.push(format!("{name}: it is not right after the end: {left:?}")),
        }
    }
    row.repair = Repairs::of(&times);
    let slowest = slowest.map(|(took, what)| format!(", at most {} ms: {what}", took.as_millis()));
    row.notes.push(format!(
        "the times are those of the other things that were broken meanwhile{}",
        slowest.unwrap_or_default()
    ));
}
