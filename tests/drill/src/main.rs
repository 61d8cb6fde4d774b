//! `clusterlink-drill`: every scenario with all its rounds, and the table.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is the answer, progress goes beside it"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use drill::figures::{Row, table};
use drill::scenario::{ALL, Drill, Scenario};
use drill::world::{CLUSTERS, World};
use serde::Serialize;

/// Disturbs whole clusters while probes run, and prints what it cost.
#[derive(Debug, Parser)]
#[command(name = "clusterlink-drill", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// What the drill starts inside of a node.
    #[command(subcommand)]
    inside: Option<Inside>,
    /// Only these scenarios, separated by commas [default: all].
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The rounds of a test instead of those of a drill.
    #[arg(long)]
    few: bool,
    /// So many rounds of each scenario.
    #[arg(long, conflicts_with = "few")]
    rounds: Option<u32>,
    /// Every decision depends on it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Packets per second of each flow and direction.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Another version of clusterlink-agent, for the upgrades.
    #[arg(long)]
    old_agent: Option<PathBuf>,
    /// Rows as JSON, one on each line.
    #[arg(long)]
    json: bool,
    /// Print the scenarios.
    #[arg(long)]
    list: bool,
}

/// A part that runs in a node's namespace.
#[derive(Debug, Subcommand)]
enum Inside {
    /// Break what the agent has made, and tell how long each repair took, as JSON.
    #[command(hide = true)]
    Repair(Rounds),
    /// Print everything of ours, a line for each object.
    #[command(hide = true)]
    Shown,
    /// Fight with the agent over one thing after another, and tell how it behaves, as JSON.
    #[command(hide = true)]
    Fight {
        #[command(flatten)]
        rounds: Rounds,
        /// For how long each fight is watched once the agent does not fight back.
        #[arg(long)]
        seconds: u64,
    },
}

/// What is done in a node's namespace, and against whom.
#[derive(Debug, Clone, Copy, Args)]
struct Rounds {
    /// How often.
    #[arg(long)]
    rounds: u32,
    /// Every decision depends on it.
    #[arg(long)]
    seed: u64,
    /// The agent's process.
    #[arg(long)]
    agent: i32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(inside) = &arguments.inside {
        return within(inside).map(|()| true);
    }
    if arguments.list {
        for scenario in ALL {
            println!("{:<20} {:>4} rounds  {}", scenario.name, scenario.full, scenario.what);
        }
        return Ok(true);
    }
    let chosen = chosen(&arguments.only)?;
    if let Some(why) = drill::captures::missing() {
        eprintln!("skipped: nobody looks for leaks: {why}");
    }
    eprintln!("seed {} (--seed {} makes the same decisions again)", arguments.seed, arguments.seed);
    let mut rows = Vec::new();
    let mut world = World::up("drill", &CLUSTERS, arguments.rate)?;
    if let Some(old) = &arguments.old_agent {
        world.old_agent.clone_from(old);
    }
    for scenario in chosen {
        let rounds = arguments.rounds.unwrap_or(if arguments.few { scenario.few } else { scenario.full });
        eprintln!("{}: {rounds} rounds: {}", scenario.name, scenario.what);
        if rounds > 0 {
            rows.extend(one(&world, scenario, rounds, arguments.seed));
        }
    }
    if arguments.json {
        rows.iter().try_for_each(|row| serde_json::to_string(row).map(|text| println!("{text}")))?;
    } else {
        print!("{}", table(&rows));
    }
    Ok(rows.iter().all(Row::is_good))
}

fn within(inside: &Inside) -> Result<()> {
    match *inside {
        Inside::Repair(Rounds { rounds, seed, agent }) => drill::repair::rounds(rounds, seed, agent, tell),
        Inside::Shown => drill::repair::shown()?.iter().try_for_each(|line| {
            println!("{line}");
            Ok(())
        }),
        Inside::Fight { rounds: Rounds { rounds, seed, agent }, seconds } => {
            drill::repair::fights(rounds, seed, agent, Duration::from_secs(seconds), tell)
        }
    }
}

fn tell(what: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}

/// What fails is a row too: the others go on.
fn one(world: &World, scenario: &Scenario, rounds: u32, seed: u64) -> Vec<Row> {
    let mut drill = Drill::new(world, scenario, rounds, seed);
    (scenario.run)(&mut drill).unwrap_or_else(|error| {
        let problems = vec![format!("{error:#}")];
        vec![Row { problems, ..Row::of(scenario.name, "-", rounds) }]
    })
}

fn chosen(only: &[String]) -> Result<Vec<&'static Scenario>> {
    if let Some(unknown) = only.iter().find(|name| ALL.iter().all(|scenario| scenario.name != *name)) {
        let known: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        bail!("--only {unknown}: no such scenario; there are {}", known.join(", "));
    }
    Ok(ALL
        .iter()
        .filter(|scenario| only.is_empty() || only.iter().any(|name| name == scenario.name))
        .collect())
}
