//! Somebody breaks what the agent has made, and the time is taken until it is whole again. Runs inside of a node's
//! namespace, beside its agent.

mod damage;
mod fight;
mod state;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netlink::{Monitor, SettingsMonitor};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::random::Random;
use damage::{DAMAGES, Damage, Watched};
use state::{Look, State};

pub(crate) use fight::FIGHTS_COUNT;
pub use fight::{Fought, Told, fights};

/// How long a repair may take before it counts as none.
const GIVEN_UP: Duration = Duration::from_secs(75);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(3);
/// How many differences are named.
const MOST_NAMED: usize = 4;
/// How long nothing may happen before a round begins.
const QUIET: Duration = Duration::from_millis(150);

/// One damage and its repair.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Repair {
    /// What was done.
    pub damage: String,
    /// From before it was done until everything was whole; `None`: it was not repaired.
    pub took_us: Option<u64>,
    /// Objects that were wrong, and notifications of ours that the repair brought, where both could be counted: the agent
    /// was held while the damage was looked at.
    pub counted: Option<(u64, u64)>,
    /// What was still wrong.
    pub left: Vec<String>,
}

/// How many kinds of damage there are: so many rounds do each of them once.
pub(crate) const KINDS: u32 = DAMAGES.len() as u32;

/// Breaks and waits, round after round, each kind of damage in turn; every second time the agent is held (SIGSTOP) while the
/// damage is counted, and the next time through all kinds it is the others'. Each repair is told at once.
///
/// # Errors
/// The namespace cannot be read, or a damage cannot be done, or is none.
pub fn rounds(rounds: u32, seed: u64, agent: i32, mut tell: impl FnMut(&Repair) -> Result<()>) -> Result<()> {
    let mut random = Random::new(seed, "repair");
    let mut vandal = Vandal::open(agent)?;
    let whole = vandal.whole()?;
    for round in 0..rounds as usize {
        let damage = &DAMAGES[round % DAMAGES.len()];
        let held = damage.countable && (round / DAMAGES.len() + round) % 2 == 1;
        let script = damage.script(&whole.devices, &mut random);
        let repair = if held {
            vandal.count(damage, &script, &whole)?
        } else {
            vandal.time(damage, &script, &whole)?
        };
        tell(&repair)?;
        vandal.rest()?;
        if repair.took_us.is_none() {
            vandal.undo(&whole)?;
        }
        // an underlay that was away for a moment may bring plans, and those pass
        if vandal.wait(Watched::Everything, Instant::now(), &whole)?.is_none() {
            bail!("{}: the node is not as it was: {:?}", damage.name, vandal.left(&whole)?);
        }
    }
    Ok(())
}

/// Everything of ours in this namespace, a line for each object, and the packet filter's own lines.
///
/// # Errors
/// The namespace cannot be read.
pub fn shown() -> Result<Vec<String>> {
    let Whole { netlink, filter, .. } = Vandal::open(0)?.whole()?;
    Ok(netlink.into_iter().chain(filter.lines().map(|line| line.trim_end().to_owned())).collect())
}

/// The node as it must be.
#[derive(Debug, PartialEq)]
struct Whole {
    netlink: State,
    filter: String,
    devices: Vec<String>,
}

/// What the second one lacks or has too much: how much of it, and the first few.
fn differences(whole: &Whole, now: &Whole) -> Vec<String> {
    let gone = whole.netlink.difference(&now.netlink).map(|line| format!("gone: {line}"));
    let new = now.netlink.difference(&whole.netlink).map(|line| format!("new: {line}"));
    let filter = (whole.filter != now.filter).then(|| "the packet filter".to_owned());
    let all: Vec<String> = filter.into_iter().chain(new).chain(gone).collect();
    let more = all.len().saturating_sub(MOST_NAMED);
    let rest = (more > 0).then(|| format!("and {more} more"));
    all.into_iter().take(MOST_NAMED).chain(rest).collect()
}

struct Vandal {
    look: Look,
    monitor: Monitor,
    settings: SettingsMonitor,
    agent: Pid,
}

impl Vandal {
    fn open(agent: i32) -> Result<Self> {
        Ok(Vandal {
            look: Look::open()?,
            monitor: Monitor::open()?,
            settings: SettingsMonitor::open()?,
            agent: Pid::from_raw(agent),
        })
    }

    fn whole(&mut self) -> Result<Whole> {
        let netlink = self.settled_state()?;
        let device = |line: &String| Some(line.strip_prefix("device ")?.split(' ').next()?.to_owned());
        let devices = netlink.iter().filter_map(device).collect();
        Ok(Whole { netlink, filter: filter()?, devices })
    }

    /// A dump may be interrupted by the very change that it shows.
    fn settled_state(&mut self) -> Result<State> {
        let mut last = None;
        for _ in 0..20 {
            match self.look.state() {
                Ok(state) => return Ok(state),
                Err(error) => last = Some(error),
            }
            thread::sleep(INTERVAL);
        }
        Err(last.context("the kernel was never read")?)
    }

    /// How long the repair takes.
    fn time(&mut self, damage: &Damage, script: &str, whole: &Whole) -> Result<Repair> {
        let start = Instant::now();
        do_it(damage, script)?;
        let took = self.wait(damage.watched, start, whole)?;
        // the repair may have been over before anybody looked, but what netlink watches cannot change without a word
        if self.drain()? == 0 && damage.watched == Watched::Netlink {
            bail!("{}: {script}: nothing of ours has changed", damage.name);
        }
        let left = if took.is_some() { Vec::new() } else { self.left(whole)? };
        Ok(Repair { damage: damage.name.to_owned(), took_us: took.map(micros), counted: None, left })
    }

    /// How much the repair writes. The agent sleeps until the damage has been looked at.
    fn count(&mut self, damage: &Damage, script: &str, whole: &Whole) -> Result<Repair> {
        kill(self.agent, Signal::SIGSTOP)?;
        let looked = do_it(damage, script).and_then(|()| self.settled_state());
        self.drain()?;
        let start = Instant::now();
        kill(self.agent, Signal::SIGCONT)?;
        let damaged = looked?;
        let took = self.wait(damage.watched, start, whole)?;
        thread::sleep(QUIET);
        let written = self.drain()?;
        let wrong =
            whole.netlink.symmetric_difference(&damaged).map(|line| key(line)).collect::<State>().len()
                as u64;
        if wrong == 0 {
            bail!("{}: {script}: nothing of ours is wrong", damage.name);
        }
        let left = if took.is_some() { Vec::new() } else { self.left(whole)? };
        Ok(Repair {
            damage: damage.name.to_owned(),
            took_us: took.map(micros),
            counted: Some((wrong, written)),
            left,
        })
    }

    fn wait(&mut self, watched: Watched, start: Instant, whole: &Whole) -> Result<Option<Duration>> {
        loop {
            let netlink =
                watched == Watched::Filter || self.look.state().is_ok_and(|state| state == whole.netlink);
            let whole_again = netlink && (watched == Watched::Netlink || filter()? == whole.filter);
            let elapsed = start.elapsed();
            if whole_again {
                return Ok(Some(elapsed));
            }
            if elapsed > GIVEN_UP {
                return Ok(None);
            }
            thread::sleep(INTERVAL);
        }
    }

    /// What was not repaired must not stop the other rounds: a device with a name of the vandal's is the one thing that keeps
    /// an agent from making its own.
    fn undo(&mut self, whole: &Whole) -> Result<()> {
        let _ = Command::new("sh").args(["-c", "ip link del vx-stolen 2>/dev/null"]).status();
        match self.wait(Watched::Everything, Instant::now(), whole)? {
            Some(_) => Ok(()),
            None => bail!("the node does not become whole again: {:?}", self.left(whole)?),
        }
    }

    fn left(&mut self, whole: &Whole) -> Result<Vec<String>> {
        Ok(differences(whole, &self.whole()?))
    }

    /// Takes all pending notifications, and counts those of ours.
    fn drain(&mut self) -> Result<u64> {
        let mut count = 0;
        while let Some(event) = self.monitor.next(Duration::ZERO)? {
            count += u64::from(self.look.concerns_us(&event));
        }
        while let Some(changed) = self.settings.next(Duration::ZERO)? {
            count += u64::from(self.look.settings_concern_us(changed));
        }
        Ok(count)
    }

    /// Waits until nothing of ours changes any more.
    fn rest(&mut self) -> Result<()> {
        loop {
            thread::sleep(QUIET);
            if self.drain()? == 0 {
                return Ok(());
            }
        }
    }
}

/// Of two lines about one object the part that says which: an altered object is one thing to repair, not two.
fn key(line: &str) -> String {
    let words = match line.split(' ').next() {
        Some("neighbour" | "address" | "sysctl") => 3,
        Some("fdb") => 4,
        Some("device") => 2,
        Some("route") => 6,
        _ => usize::MAX,
    };
    line.split(' ').take(words).collect::<Vec<_>>().join(" ")
}

fn do_it(damage: &Damage, script: &str) -> Result<()> {
    let output = Command::new("sh").args(["-c", script]).output().context("cannot run sh")?;
    if !output.status.success() {
        bail!("{}: {script}: {}", damage.name, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Our table and our accepts in the host's chains.
fn filter() -> Result<String> {
    let script = "nft -s list table inet clusterlink; iptables-nft -S FORWARD; ip6tables-nft -S FORWARD";
    let output = Command::new("sh").args(["-c", script]).output().context("cannot run sh")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_object_is_one() {
        let altered = ["neighbour vx-local 242.0.0.1 Some(a)", "neighbour vx-local 242.0.0.1 Some(b)"];
        assert_eq!(key(altered[0]), key(altered[1]));
        assert_ne!(key("neighbour vx-local 242.0.0.1 x"), key("neighbour vx-local 242.0.0.2 x"));
        let routes = [
            "route 10.0.0.0/8 table 200 193 1024 Unicast a",
            "route 10.0.0.0/8 table 200 193 1048576 Unreachable",
        ];
        assert_ne!(key(routes[0]), key(routes[1]));
    }
}
