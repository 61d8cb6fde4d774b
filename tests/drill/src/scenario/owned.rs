//! Hosts on which others live: what is not ours is the same after everything that happens to an agent, from its installation to
//! its removal, and traffic still passes when others load their packet filters anew.

mod strangers;

use anyhow::{Context, Result, bail};
use api::{Cluster, NodeConfig};
use kube::core::ObjectMeta;
use nix::sys::signal::Signal;

use super::elsewhere::routed;
use super::gateways::{is_gateway, ready};
use super::{Drill, Scenario};
use crate::figures::Row;
use crate::processes::running;
use crate::programs::AGENT;
use crate::world::World;
use strangers::{DUMP, FIREWALLD, IPTABLES, LEGACY, NATIVE, POLICIES, SHOWN, STRANGERS, STRANGERS_GONE};

/// Strangers of every kind on a gateway and on a P2P node.
pub(super) const FOREIGN_KEPT: Scenario = Scenario {
    name: "foreign-kept",
    what: "what others have on a host, through install, repair, reloads, lost gateways, plans, upgrade, cleanup, uninstall",
    few: 1,
    full: 5,
    run: foreign_kept,
};

const NODES: [(&str, &str, &str, &str); 2] =
    [("a1", "gateway", "a", "a-node1"), ("c1", "p2p", "c", "c-node1")];

/// From where to whom packets must pass the filters of both hosts.
const ASKS: (&str, [&str; 2]) = ("c1-pod1", ["a1-pod1", "a3-pod1"]);

fn foreign_kept(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let (world, rounds) = (drill.world, drill.rounds);
    let hosts = NODES.map(|(place, _, cluster, config)| Host { world, place, cluster, config });
    let mut life = Life { drill, hosts, rows: Vec::new(), before: Vec::new() };
    life.rows = NODES.iter().map(|(_, mode, ..)| Row::of(life.drill.name, *mode, rounds)).collect();
    for _ in 0..rounds {
        let lived = life.round();
        for host in &life.hosts {
            world.sh(host.place, STRANGERS_GONE)?;
            // whoever was held goes on, whatever became of the round
            world.agent(host.place)?.signal(Signal::SIGCONT);
            host.controllers(Signal::SIGCONT)?;
        }
        lived?;
    }
    world.settle()?;
    Ok(life.rows)
}

/// Both hosts from nothing of ours to nothing of ours, in step: what happens to the mesh happens to both.
struct Life<'d, 'a> {
    drill: &'d Drill<'a>,
    hosts: [Host<'a>; 2],
    rows: Vec<Row>,
    before: Vec<Vec<String>>,
}

impl Life<'_, '_> {
    fn round(&mut self) -> Result<()> {
        let world = self.drill.world;
        self.before.clear();
        for host in &self.hosts {
            world.cleanup(host.place)?;
            self.before.push(host.moved_in()?);
        }
        self.step("install", |host| world.agent(host.place).map(|agent| agent.signal(Signal::SIGCONT)))?;
        self.step("repair", |host| {
            let damage =
                "ip link del vx-bridge; ip route flush table 200 proto 193; nft delete table inet clusterlink";
            world.sh(host.place, damage).map(drop)
        })?;
        self.reloads()?;
        self.mesh("the loss of a gateway", || {
            ready(world, "node2", false)?;
            is_gateway(world, "node2", false)
        })?;
        self.mesh("its return", || {
            ready(world, "node2", true)?;
            is_gateway(world, "node2", true)
        })?;
        self.mesh("other plans", || another_plan(world))?;
        self.upgrades()?;
        self.step("restart", |host| host.restart())?;
        for (number, host) in self.hosts.iter().enumerate() {
            world.cleanup(host.place)?;
            self.rows[number].problems.extend(host.gone("cleanup", &self.before[number])?);
        }
        self.step("another install", |host| {
            world.agent(host.place).map(|agent| agent.signal(Signal::SIGCONT))
        })?;
        for (number, host) in self.hosts.iter().enumerate() {
            host.uninstall()?;
            self.rows[number].problems.extend(host.gone("uninstall", &self.before[number])?);
        }
        Ok(())
    }

    /// Something happens on each host; then the overlay is there, and nothing of others is gone.
    fn step(&mut self, after: &str, happens: impl Fn(&Host<'_>) -> Result<()>) -> Result<()> {
        self.hosts.iter().try_for_each(&happens)?;
        self.look(after)
    }

    /// The same of something that happens in the mesh.
    fn mesh(&mut self, after: &str, happens: impl FnOnce() -> Result<()>) -> Result<()> {
        happens()?;
        self.look(after)
    }

    fn look(&mut self, after: &str) -> Result<()> {
        for (number, host) in self.hosts.iter().enumerate() {
            host.installed().with_context(|| format!("after {after}"))?;
            self.rows[number].problems.extend(host.missing(after, &self.before[number])?);
        }
        Ok(())
    }

    /// Each packet filter is loaded anew by its owner, without our accepts, and packets pass afterwards.
    fn reloads(&mut self) -> Result<()> {
        let world = self.drill.world;
        let few = self.drill.rounds < FOREIGN_KEPT.full;
        let reloads = [
            ("firewalld", FIREWALLD),
            ("nftables", NATIVE),
            ("iptables-nft", IPTABLES),
            ("iptables-legacy", LEGACY),
        ];
        for (owner, reload) in reloads {
            // nobody tells of iptables-legacy: that takes up to a minute
            if few && reload == LEGACY {
                continue;
            }
            let after = format!("a reload of {owner}");
            self.step(&after, |host| world.sh(host.place, reload).map(drop))?;
            if let Err(error) = world.eventually(|| asked(world)) {
                self.rows[0].problems.push(format!("after {after} no packets pass: {error:#}"));
            }
        }
        Ok(())
    }

    fn upgrades(&mut self) -> Result<()> {
        let world = self.drill.world;
        let upgraded = [("an older version", &world.old_agent), ("an upgrade", &world.built_agent)];
        for (after, program) in upgraded {
            world.programs.replace(AGENT, program)?;
            self.step(after, |host| host.restart())?;
        }
        Ok(())
    }
}

/// A cluster leaves and comes back.
fn another_plan(world: &World) -> Result<()> {
    let mut cluster: Cluster = world.apis.get("control", "e")?;
    world.apis.delete::<Cluster>("control", "e")?;
    let gone = routed(world, "10.5.1.0/24", false);
    cluster.metadata = ObjectMeta { name: Some("e".to_owned()), ..Default::default() };
    cluster.status = None;
    world.apis.create("control", &cluster)?;
    gone.and_then(|()| routed(world, "10.5.1.0/24", true))
}

/// Packets pass from one host to the other and beyond it.
fn asked(world: &World) -> Result<()> {
    let (from, to) = ASKS;
    let mut command =
        format!("{} reach --retries 0 --timeout 1s", world.programs.path("clusterlink-netperf").display());
    for pod in to {
        for address in world.pod(pod)? {
            command.push_str(&format!(" --target {pod}={address}"));
        }
    }
    world.sh(from, &command).map(drop)
}

struct Host<'a> {
    world: &'a World,
    place: &'static str,
    cluster: &'static str,
    config: &'static str,
}

impl Host<'_> {
    fn dump(&self) -> Result<Vec<String>> {
        Ok(self.world.sh(self.place, DUMP)?.lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// Strangers move in; what the host is like with them.
    fn moved_in(&self) -> Result<Vec<String>> {
        self.world.sh(self.place, &format!("{STRANGERS}{FIREWALLD}{NATIVE}"))?;
        let xfrm = self.world.sh(self.place, POLICIES).is_ok();
        let before = self.dump()?;
        let mut shown = SHOWN.iter().chain(xfrm.then_some(&"dir fwd action block"));
        let missing = shown.find(|words| !before.iter().any(|line| line.contains(**words)));
        match missing {
            Some(missing) => bail!("{}: the dump does not show {missing:?} of the strangers", self.place),
            None => Ok(before),
        }
    }

    fn restart(&self) -> Result<()> {
        let agent = self.world.agent(self.place)?;
        agent.signal(Signal::SIGTERM);
        agent.wait_restarted(&self.world.sandbox)
    }

    fn controllers(&self, signal: Signal) -> Result<()> {
        let name = format!("controller-manager-{}", self.cluster);
        running(&self.world.sandbox, &name)?.iter().for_each(|controller| controller.signal(signal));
        Ok(())
    }

    /// As `unjoin` does it: the NodeConfig is deleted, and the agent lets it go when the host is clean. Whoever would make it
    /// again is held.
    fn uninstall(&self) -> Result<()> {
        self.controllers(Signal::SIGSTOP)?;
        self.world.apis.delete::<NodeConfig>(self.cluster, self.config)?;
        self.world.eventually(|| match self.world.apis.get::<NodeConfig>(self.cluster, self.config) {
            Err(error) if format!("{error:#}").contains("not found") => Ok(()),
            Err(error) => Err(error),
            Ok(config) => {
                bail!("NodeConfig {} is still there: {:?}", self.config, config.metadata.finalizers)
            }
        })
    }

    /// Waits until the overlay is there, with an accept in every chain that drops.
    fn installed(&self) -> Result<()> {
        self.world.eventually(|| {
            let routes = self.world.sh(self.place, "ip route show table 200 proto 193")?;
            let table = self.world.sh(self.place, "nft list table inet clusterlink")?;
            let accepts = [
                "nft list table inet firewalld",
                "nft list table ip native",
                "iptables-legacy -S FORWARD",
                "ip6tables-legacy -S FORWARD",
                "iptables-nft -S FORWARD",
                "ip6tables-nft -S FORWARD",
            ];
            for chain in accepts {
                if !self.world.sh(self.place, chain)?.contains("clusterlink") {
                    bail!("{}: `{chain}` shows no accept of ours", self.place);
                }
            }
            if routes.contains("dev vx-bridge") && table.contains("mesh") {
                Ok(())
            } else {
                bail!("{}: the overlay is not there: {routes}", self.place)
            }
        })
    }

    /// What of others is not there any more.
    fn missing(&self, after: &str, before: &[String]) -> Result<Option<String>> {
        let now = self.dump()?;
        let gone: Vec<&String> = before.iter().filter(|line| !now.contains(line)).take(5).collect();
        Ok((!gone.is_empty()).then(|| format!("{}: after {after} these are gone: {gone:?}", self.place)))
    }

    /// That, and what of ours still is.
    fn gone(&self, after: &str, before: &[String]) -> Result<Vec<String>> {
        let now = self.dump()?;
        let left: Vec<&String> = now.iter().filter(|line| !before.contains(line)).take(5).collect();
        let left = (!left.is_empty()).then(|| format!("{}: {after} leaves {left:?}", self.place));
        Ok(self.missing(after, before)?.into_iter().chain(left).collect())
    }
}
