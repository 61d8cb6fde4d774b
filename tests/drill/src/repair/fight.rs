//! Somebody else rewrites one thing of ours again and again; meanwhile other things are broken once.

use std::io::BufRead;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use serde::{Deserialize, Serialize};

use super::damage::{DAMAGES, Watched};
use super::state::State;
use super::{GIVEN_UP, INTERVAL, QUIET, Vandal, Whole, do_it, filter, key, micros};
use crate::random::Random;

/// Between two acts of the other writer.
const PAUSE: Duration = Duration::from_millis(70);
/// How long an agent may fight back before it is said not to stop.
const STUBBORN: Duration = Duration::from_secs(60);
/// How often the agent repairs what is fought over (docs/design/agent.md).
const TRUCE: Duration = Duration::from_secs(10);
/// What may happen at the edges of the time in which writes are counted.
const EDGES: u64 = 2;

/// One thing that is fought over.
struct Fight {
    name: &'static str,
    /// Prints which one it is: `$X` below.
    which: &'static str,
    /// Breaks it, and fails where it is broken already. `$N` counts.
    act: &'static str,
    /// What the agent calls it.
    called: fn(&str) -> String,
    /// It is changed also where it is broken already.
    blind: bool,
    watched: Watched,
    /// What is broken once meanwhile.
    others: [&'static str; 3],
}

const ROUTE: &str =
    "ip -4 route show table 200 proto 193 | awk '/^[0-9a-f]+[.:].* dev .*metric 1024/{print $1; exit}'";

const FIGHTS: &[Fight] = &[
    Fight {
        name: "route deleted",
        which: ROUTE,
        act: "ip route del $X table 200 metric 1024",
        called: |x| format!("route {x} in table 200"),
        blind: false,
        watched: Watched::Netlink,
        others: ["rule deleted", "neighbour deleted", "nftables chain emptied"],
    },
    Fight {
        name: "nftables chain emptied",
        which: "echo mesh",
        act: "nft list chain inet clusterlink $X | grep -q mark && nft flush chain inet clusterlink $X",
        called: |_| "nftables table inet clusterlink".to_owned(),
        blind: false,
        watched: Watched::Filter,
        others: ["rule deleted", "route deleted", "FDB entry deleted"],
    },
    Fight {
        name: "route rewritten",
        which: ROUTE,
        act: "k=blackhole; [ $((N % 2)) = 0 ] || k=unreachable; ip route replace $k $X table 200 proto 193 metric 1024",
        called: |x| format!("route {x} in table 200"),
        blind: true,
        watched: Watched::Netlink,
        others: ["IPv6 rule deleted", "FDB entry altered", "nftables table deleted"],
    },
    Fight {
        name: "rule deleted",
        which: "echo 200",
        act: "ip rule del pref $X",
        called: |x| format!("IPv4 rule {x}"),
        blind: false,
        watched: Watched::Netlink,
        others: ["route deleted", "IPv6 rule deleted", "accept deleted from FORWARD"],
    },
    Fight {
        name: "neighbour altered",
        which: "ip neigh show dev vx-bridge nud permanent | awk '{print $1; exit}'",
        act: "ip neigh show $X dev vx-bridge | grep -q 02:00:00:00:00:66 && exit 1; ip neigh replace $X lladdr 02:00:00:00:00:66 dev vx-bridge nud permanent",
        called: |x| format!("neighbour {x} on vx-bridge"),
        blind: false,
        watched: Watched::Netlink,
        others: ["rule deleted", "route deleted", "FDB entry deleted"],
    },
    Fight {
        name: "FDB entry deleted",
        which: "bridge fdb show dev vx-bridge | awk '/dst/{print $1; exit}'",
        act: "bridge fdb del $X dev vx-bridge self",
        called: |x| format!("FDB entry {x}"),
        blind: false,
        watched: Watched::Netlink,
        others: ["rule deleted", "route deleted", "neighbour deleted"],
    },
    Fight {
        name: "nexthop deleted",
        which: "ip -4 nexthop show proto 193 | awk '/dev vx-bridge/{print $2; exit}'",
        act: "ip nexthop del id $X",
        called: |_| "nexthop via".to_owned(),
        blind: false,
        watched: Watched::Netlink,
        others: ["rule deleted", "neighbour deleted", "nftables chain emptied"],
    },
    Fight {
        name: "device deleted",
        which: "echo vx-bridge",
        act: "ip link del $X",
        called: |x| format!("device {x}"),
        blind: false,
        watched: Watched::Netlink,
        others: ["rule deleted", "IPv6 rule deleted", "nftables chain emptied"],
    },
];

/// How many there are.
pub(crate) const FIGHTS_COUNT: u32 = FIGHTS.len() as u32;

/// What is told while it goes on; each is to be answered with a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Told {
    /// The agent has stopped fighting back.
    Resting {
        /// What was done to it.
        name: String,
        /// What the agent calls it.
        object: String,
        /// How often it was repaired before.
        repairs: u64,
    },
    /// The other writer has stopped, and what came of it.
    Over(Fought),
}

/// One fight.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fought {
    /// What was done to which object.
    pub name: String,
    /// Repairs of it while writes were counted, and how many there may be.
    pub repairs: (u64, u64),
    /// From damage to repair of each of the others; `None`: it was not repaired.
    pub others: Vec<(String, Option<u64>)>,
    /// From the end of the other writer until everything was right; `None`: it never was.
    pub right_after_us: Option<u64>,
    /// What was still wrong then.
    pub left: Vec<String>,
}

/// Fights over one thing after another; each is watched for so long after the agent has stopped fighting back.
///
/// # Errors
/// The namespace cannot be read, an act cannot be done, or the agent never stops.
pub fn fights(
    rounds: u32,
    seed: u64,
    agent: i32,
    watched: Duration,
    mut tell: impl FnMut(&Told) -> Result<()>,
) -> Result<()> {
    let mut random = Random::new(seed, "fight");
    let mut vandal = Vandal::open(agent)?;
    let whole = vandal.whole()?;
    let first = random.below(FIGHTS.len() as u64) as usize;
    // the kinds that few rounds reach are those that netlink and nft tell of
    let first = if rounds < FIGHTS_COUNT { 0 } else { first };
    for round in 0..rounds as usize {
        let fight = &FIGHTS[(first + round) % FIGHTS.len()];
        let over = vandal
            .fight(fight, watched, &whole, &mut random, &mut tell)
            .with_context(|| format!("fight over: {}", fight.name))?;
        tell(&Told::Over(over))?;
        answered()?;
    }
    Ok(())
}

/// The other writer.
struct Writer<'a> {
    fight: &'a Fight,
    which: &'a str,
    acts: AtomicU64,
    stopped: AtomicBool,
}

impl Writer<'_> {
    /// Whether there was something to break.
    fn act(&self) -> Result<bool> {
        let script = format!("X={}; N={}; {}", self.which, self.acts.load(Ordering::Acquire), self.fight.act);
        let Output { status, .. } = Command::new("sh").args(["-c", &script]).output()?;
        if status.success() {
            self.acts.fetch_add(1, Ordering::AcqRel);
        }
        Ok(status.success())
    }

    fn run(&self) -> Result<()> {
        while !self.stopped.load(Ordering::Acquire) {
            self.act()?;
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// What was seen while the other writer went on.
struct Beside {
    repairs: (u64, u64),
    others: Vec<(String, Option<u64>)>,
}

/// What one act makes wrong, and how many notifications it and its repair bring.
struct Reach {
    keys: State,
    act: u64,
    repair: u64,
}

impl Vandal {
    fn fight(
        &mut self,
        fight: &Fight,
        watched: Duration,
        whole: &Whole,
        random: &mut Random,
        tell: &mut impl FnMut(&Told) -> Result<()>,
    ) -> Result<Fought> {
        let which = Command::new("sh").args(["-c", fight.which]).output()?;
        let which = String::from_utf8_lossy(&which.stdout).trim().to_owned();
        let (acts, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        let writer = Writer { fight, which: &which, acts, stopped };
        let reach = self.reach(&writer, whole)?;
        let Beside { repairs, others } = thread::scope(|scope| {
            let running = scope.spawn(|| writer.run());
            let seen = self.beside(&writer, &reach, watched, whole, random, tell);
            writer.stopped.store(true, Ordering::Release);
            running.join().expect("it returns what fails")?;
            seen
        })?;
        let right = self.wait(Watched::Everything, Instant::now(), whole)?;
        let left = if right.is_some() { Vec::new() } else { self.left(whole)? };
        Ok(Fought {
            name: format!("{} ({which})", fight.name),
            repairs,
            others,
            right_after_us: right.map(micros),
            left,
        })
    }

    /// The first act, while the agent is held, and its repair.
    fn reach(&mut self, writer: &Writer<'_>, whole: &Whole) -> Result<Reach> {
        self.rest()?;
        kill(self.agent, Signal::SIGSTOP)?;
        let looked = writer.act().and_then(|acted| Ok((acted, self.settled_state()?)));
        let act = self.drain();
        kill(self.agent, Signal::SIGCONT)?;
        let (acted, damaged) = looked?;
        if !acted {
            bail!("{}: nothing of ours is broken by it", writer.which);
        }
        let keys = whole.netlink.symmetric_difference(&damaged).map(|line| key(line)).collect();
        if self.wait(Watched::Everything, Instant::now(), whole)?.is_none() {
            bail!("{}: it was not even repaired once: {:?}", writer.which, self.left(whole)?);
        }
        thread::sleep(QUIET);
        Ok(Reach { keys, act: act?, repair: self.drain()? })
    }

    /// While the other writer goes on.
    fn beside(
        &mut self,
        writer: &Writer<'_>,
        reach: &Reach,
        watched: Duration,
        whole: &Whole,
        random: &mut Random,
        tell: &mut impl FnMut(&Told) -> Result<()>,
    ) -> Result<Beside> {
        let fight = writer.fight;
        if !rests()? {
            bail!(
                "after {} repairs in {STUBBORN:?} it neither rests nor is right: {:?}",
                writer.acts.load(Ordering::Acquire),
                self.left(whole)?
            );
        }
        let repairs = writer.acts.load(Ordering::Acquire);
        let object = (fight.called)(writer.which);
        tell(&Told::Resting { name: fight.name.to_owned(), object, repairs })?;
        answered()?;
        let repairs = self.repairs(writer, reach, watched)?;
        let most = watched.as_secs() / TRUCE.as_secs() + EDGES;
        let mut others = Vec::new();
        for name in fight.others {
            others.push((name.to_owned(), self.other(name, reach, fight, whole, random)?));
        }
        Ok(Beside { repairs: (repairs, most), others })
    }

    /// How often the agent repairs what is fought over, by the notifications that are not the other writer's; where it breaks
    /// only what is whole, by its acts.
    fn repairs(&mut self, writer: &Writer<'_>, reach: &Reach, watched: Duration) -> Result<u64> {
        self.drain()?;
        let (begun, acts) = (Instant::now(), writer.acts.load(Ordering::Acquire));
        let mut heard = 0;
        while begun.elapsed() < watched {
            thread::sleep(INTERVAL * 10);
            heard += self.drain()?;
        }
        let acts = writer.acts.load(Ordering::Acquire) - acts;
        let ours = heard.saturating_sub(acts * reach.act) / reach.repair.max(1);
        // Where acts say it, the rest are writes in vain; a plan may bring some too.
        Ok(if writer.fight.blind { ours } else { acts.max(ours / 2) })
    }

    /// Breaks something else, and waits for its repair.
    fn other(
        &mut self,
        name: &str,
        reach: &Reach,
        fight: &Fight,
        whole: &Whole,
        random: &mut Random,
    ) -> Result<Option<u64>> {
        let damage = DAMAGES.iter().find(|damage| damage.name == name).context("no such damage")?;
        // what hangs on the fought-over device cannot be broken
        let free: Vec<String> =
            whole.devices.iter().filter(|device| *device != "vx-bridge").cloned().collect();
        let devices = if free.is_empty() { &whole.devices } else { &free };
        let script = damage.script(devices, random);
        let start = Instant::now();
        do_it(damage, &script)?;
        let rest = |state: &State| -> State {
            state.iter().filter(|line| !reach.keys.contains(&key(line))).cloned().collect()
        };
        let wanted = rest(&whole.netlink);
        while start.elapsed() < GIVEN_UP {
            let netlink = self.look.state().is_ok_and(|state| rest(&state) == wanted);
            if netlink && (fight.watched == Watched::Filter || filter()? == whole.filter) {
                return Ok(Some(micros(start.elapsed())));
            }
            thread::sleep(INTERVAL);
        }
        Ok(None)
    }
}

/// Waits until what was told has been looked into.
fn answered() -> Result<()> {
    std::io::stdin().lock().read_line(&mut String::new()).context("nobody answers").map(drop)
}

/// Whether the agent says in time that it leaves something alone.
fn rests() -> Result<bool> {
    let begun = Instant::now();
    let script =
        "curl -s http://127.0.0.1:9870/metrics | grep -q '^clusterlink_agent_contended_objects [1-9]'";
    while begun.elapsed() < STUBBORN {
        if Command::new("sh").args(["-c", script]).status()?.success() {
            return Ok(true);
        }
        thread::sleep(INTERVAL * 30);
    }
    Ok(false)
}
