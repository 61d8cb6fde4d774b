//! The world of the scenarios: two clusters in gateway mode, two in P2P mode, and one that comes and goes.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::{NetworkType, NodeConfig};
use sandbox::applied::Mesh;
use sandbox::components::Binaries;
use sandbox::scenario::{CONTROL, ClusterScenario, Firewall, Scenario};
use sandbox::{Sandbox, UpOptions};

use crate::apis::Apis;
use crate::captures::Captures;
use crate::probes::{Probes, Way};
use crate::processes::{Running, running};
use crate::programs::{AGENT, Programs};
use nix::sys::signal::Signal;

/// `a` (two gateways) and `b` in gateway mode, `c` and `d` in P2P mode, and `e`, which is elsewhere.
pub const CLUSTERS: [&str; 5] = ["a:gateway:3:2", "b:gateway:2:1", "c:p2p:1", "d:p2p:2", "e:p2p:1"];
/// How long a plan may take to reach every kernel, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long nothing may change: a fact that arrives makes another plan.
const SETTLED: Duration = Duration::from_millis(400);
/// How often an answer is asked for.
const INTERVAL: Duration = Duration::from_millis(50);

/// A sandbox and what is needed to disturb it.
pub struct World {
    /// It.
    pub sandbox: Sandbox,
    /// Its programs, which can be replaced.
    pub programs: Programs,
    /// Its API servers.
    pub apis: Apis,
    /// Packets per second of each flow.
    pub rate: u32,
    /// The agent that was built.
    pub built_agent: PathBuf,
    /// Another version of it, where there is one.
    pub old_agent: PathBuf,
}

/// What an agent says of what it keeps of an older NodeConfig.
const LINGERS: &str = "of an older spec linger";

impl World {
    /// Builds it, and waits until everything is applied.
    ///
    /// # Errors
    /// It cannot be built; the message says why.
    pub fn up(name: &str, clusters: &[&str], rate: u32) -> Result<Self> {
        let programs = Programs::link()?;
        let clusters: Result<Vec<ClusterScenario>, _> = clusters.iter().map(|text| text.parse()).collect();
        let scenario = Scenario { firewall: Firewall::Iptables, clusters: clusters?, ..Scenario::default() };
        let options = UpOptions {
            kosmosctl: Some(programs.path("kosmosctl")),
            ..UpOptions::named(format!("{name}-{}", std::process::id()))
        };
        let sandbox = Sandbox::up(&scenario, &options, |_| {})?;
        let names: Vec<String> = scenario.clusters.iter().map(|cluster| cluster.name.clone()).collect();
        let names = names.iter().map(String::as_str).chain([CONTROL]);
        let apis = Apis::connect(names.map(|name| (name, sandbox.kubeconfig(name))))?;
        let built_agent = Binaries::find().program(AGENT)?;
        let world = World { sandbox, programs, apis, rate, old_agent: built_agent.clone(), built_agent };
        world.settle()?;
        Ok(world)
    }

    /// Waits until every kernel is as its NodeConfig says and no plan comes any more. Processes that a scenario has killed
    /// often are no reason to give up, as they are to [`Sandbox::wait_applied`].
    ///
    /// # Errors
    /// Some are not in time.
    pub fn settle(&self) -> Result<()> {
        let applied = || {
            let mesh = Mesh {
                clusters: self.apis.list(CONTROL)?,
                nodes: self.apis.list(CONTROL)?,
                configs: self.apis.list(CONTROL)?,
            };
            match mesh.problems(self.sandbox.layout()).into_iter().next() {
                Some(problem) => bail!(problem),
                None => Ok(mesh.generations()),
            }
        };
        self.eventually(|| {
            let before = applied()?;
            std::thread::sleep(SETTLED);
            if applied()? == before { Ok(()) } else { bail!("plans still come") }
        })
    }

    /// As [`World::settle`], and waits until nothing is left of older plans: agents let it linger for some seconds.
    ///
    /// # Errors
    /// Something stays.
    pub fn rest(&self) -> Result<()> {
        self.settle()?;
        self.eventually(|| {
            let configs = self.apis.list::<NodeConfig>(CONTROL)?;
            let conditions =
                configs.iter().filter_map(|config| config.status.as_ref()).flat_map(|s| &s.conditions);
            match conditions.map(|condition| &condition.message).find(|message| message.contains(LINGERS)) {
                Some(message) => bail!("{message}"),
                None => Ok(()),
            }
        })
    }

    /// What a shell printed in a place; it must succeed.
    ///
    /// # Errors
    /// It cannot be run, or fails.
    pub fn sh(&self, place: &str, script: &str) -> Result<String> {
        let Output { status, stdout, stderr } = self.sandbox.exec(place, ["sh", "-c", script])?;
        if !status.success() {
            bail!("{place}: {script}: {status}: {}", String::from_utf8_lossy(&stderr).trim());
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// Asks again until the answer is `Ok`.
    ///
    /// # Errors
    /// It never is: the last `Err`.
    pub fn eventually<T>(&self, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
        let until = Instant::now() + PATIENCE;
        loop {
            match ask() {
                Err(_) if Instant::now() < until => std::thread::sleep(INTERVAL),
                answer => return answer,
            }
        }
    }

    /// Everything of ours on a node, a line for each object.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn shown(&self, place: &str) -> Result<Vec<String>> {
        let program = crate::programs::own()?;
        Ok(self.sh(place, &format!("{} shown", program.display()))?.lines().map(str::to_owned).collect())
    }

    /// The agent of a node.
    ///
    /// # Errors
    /// There is none.
    pub fn agent(&self, place: &str) -> Result<Running> {
        let found = running(&self.sandbox, &format!("agent-{place}"))?;
        found.into_iter().next().with_context(|| format!("there is no agent on {place}"))
    }

    /// Takes everything of ours off a node, and its memory, while its agent is held so that it does not repair it.
    ///
    /// # Errors
    /// The agent cannot be held, or `cleanup` fails.
    pub fn cleanup(&self, place: &str) -> Result<()> {
        self.agent(place)?.signal(Signal::SIGSTOP);
        let program = self.programs.path(AGENT).display().to_string();
        let state = self.sandbox.state().agent_directory(place).display().to_string();
        self.sh(place, &format!("{program} cleanup --state-directory {state}")).map(drop)
    }

    /// The places of every node.
    pub fn nodes(&self) -> Vec<String> {
        self.sandbox.layout().nodes().map(|(_, node)| node.place.clone()).collect()
    }

    /// The addresses of a pod.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn pod(&self, place: &str) -> Result<Vec<IpAddr>> {
        let mut pods = self.sandbox.layout().nodes().flat_map(|(_, node)| &node.pods);
        let pod = pods.find(|pod| pod.place == place).with_context(|| format!("there is no pod {place}"))?;
        Ok(pod.addresses.clone())
    }

    /// The ways that every scenario is measured on: from a node that is no gateway to one that is none, and P2P.
    ///
    /// # Errors
    /// The world lacks a pod.
    pub fn ways(&self) -> Result<Vec<Way>> {
        let way = |from: &str, to: &str, mode| {
            anyhow::Ok(Way {
                from: from.to_owned(),
                to: to.to_owned(),
                addresses: self.pod(to)?,
                mode,
                connections: 1,
            })
        };
        Ok(vec![
            way("a3-pod1", "b2-pod1", NetworkType::Gateway)?,
            way("c1-pod1", "d1-pod1", NetworkType::P2p)?,
        ])
    }

    /// Starts the probes.
    ///
    /// # Errors
    /// One does not start.
    pub fn probes(&self, ways: &[Way]) -> Result<Probes> {
        Probes::start(&self.sandbox, &self.programs, ways, self.rate)
    }

    /// Starts a capture on each node.
    ///
    /// # Errors
    /// One does not start.
    pub fn captures(&self) -> Result<Captures> {
        Captures::start(&self.sandbox)
    }
}
