//! The kernel of the namespace that this thread is in, read and written through netlink, `/proc/sys/net`, `nft` and
//! `iptables`.

mod confirm;
mod echoes;
mod firewall;
mod iptables;
pub(crate) mod parts;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use agent_core::{Actual, Host, Kernel, KernelError, Reading, Refusal, Stage, Step};
use netlink::{Netlink, Op, Witness};

use firewall::Filter;
use parts::{Doubts, Parts};
use read::Devices;

/// Of more steps at once than this, a dump is the cheaper and the surer word.
const MOST_WITNESSED: usize = 1000;

/// Where the settings are.
pub const PROC_SYS_NET: &str = "/proc/sys/net";

/// A kernel. It belongs to the namespace of the thread that opened it and must stay on that thread: settings and
/// programs belong to the namespace of the thread that touches them.
#[derive(Debug)]
pub struct RealKernel {
    netlink: Netlink,
    settings: PathBuf,
    filter: Filter,
    witness: Witness,
    /// What is known of the kernel: what was read, and what it told of our own steps since.
    actual: Actual,
    devices: Devices,
    doubts: Doubts,
}

impl RealKernel {
    /// Opens the calling thread's namespace.
    pub fn open() -> Result<Self, netlink::Error> {
        Self::open_with(Path::new(PROC_SYS_NET))
    }

    /// Opens the calling thread's namespace, with its settings below another directory than `/proc/sys/net`: in a
    /// container that one is often read-only.
    pub fn open_with(proc_sys_net: &Path) -> Result<Self, netlink::Error> {
        Ok(RealKernel {
            settings: proc_sys_net.to_owned(),
            netlink: Netlink::open()?,
            filter: Filter::default(),
            witness: Witness::open()?,
            actual: Actual::default(),
            devices: Devices::default(),
            doubts: Doubts::default(),
        })
    }

    /// The address of its netlink socket, by which its own changes are told from those of others.
    pub fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// The indexes of our devices, as last seen.
    pub fn devices(&self) -> BTreeSet<u32> {
        self.devices.indexes.values().copied().collect()
    }

    /// Where whoever hears of other people's changes says so. Without anybody who does, only a reading of everything is
    /// good for more than one pass.
    pub(crate) fn doubts(&self) -> Doubts {
        self.doubts.clone()
    }

    /// The host's devices and addresses, without the rest of a full reading.
    pub(crate) fn host(&mut self) -> Result<Host, KernelError> {
        read::host(&mut self.netlink)
    }

    /// The names of what this node can do, for its ClusterNode.
    pub(crate) fn capabilities(&self) -> BTreeSet<String> {
        let known = [("resilient-nexthops", read::has_resilient_groups()), ("nftables", self.filter.works())];
        known.into_iter().filter(|(_, can)| *can).map(|(name, _)| name.to_owned()).collect()
    }

    /// Sends the messages of all steps at once; the first refusal of a step is its answer.
    fn send(&mut self, stage: Stage, steps: &[Step]) -> Result<Vec<Result<(), Refusal>>, KernelError> {
        let mut ops: Vec<Op> = Vec::with_capacity(steps.len());
        // For each step: where its messages begin, or why there are none.
        let mut places = Vec::with_capacity(steps.len());
        for step in steps {
            let messages = write::messages(step, &self.devices.indexes);
            places.push(messages.map(|messages| {
                let first = ops.len();
                ops.extend(messages);
                first..ops.len()
            }));
        }
        let broken = |error: netlink::Error| KernelError::Write { stage, reason: error.to_string() };
        let mut results = self.netlink.apply(&ops).map_err(broken)?;
        let mut answer = |at: usize| match std::mem::replace(&mut results[at], Ok(())) {
            Err(refusal) if stage.deletes() && refusal.is_absent() => Ok(()),
            Err(refusal) => Err(Refusal { errno: Some(refusal.errno), message: refusal.to_string() }),
            Ok(()) => Ok(()),
        };
        Ok(places.into_iter().map(|place| place?.try_for_each(&mut answer)).collect())
    }

    /// As [`RealKernel::send`], and takes what the kernel tells of it into what is known.
    fn send_witnessed(
        &mut self,
        stage: Stage,
        steps: &[Step],
    ) -> Result<Vec<Result<(), Refusal>>, KernelError> {
        let parts = Parts::of_stage(stage);
        if steps.len() > MOST_WITNESSED || self.doubts.holds(parts) {
            self.doubts.add(parts);
            return self.send(stage, steps);
        }
        let attends = self.witness.attend();
        let answers = self.send(stage, steps);
        // It must end listening in any case.
        let told = self.witness.testify();
        let doubts = match (attends, told, &answers) {
            (Ok(()), Ok(told), Ok(answers)) => {
                let confirmed = confirm::confirm(&mut self.actual, &self.devices, steps, answers, told);
                self.doubts.account(confirmed.echoes);
                confirmed.doubts
            }
            _ => parts,
        };
        self.doubts.add(doubts);
        answers
    }

    fn find_devices(&mut self) -> Result<(), netlink::Error> {
        let links = self.netlink.links()?;
        let named = links.iter().filter_map(|link| Some((api::Vtep::named(&link.name)?, link.index)));
        self.devices.indexes = named.collect();
        Ok(())
    }

    fn refresh(&mut self, parts: Parts) -> Result<(), KernelError> {
        read::refresh(&mut self.netlink, &self.settings, parts, &mut self.actual, &mut self.devices)?;
        if parts.has(Parts::FIREWALL) {
            self.actual.firewall = self.filter.read();
        }
        self.doubts.set_ours(self.devices());
        Ok(())
    }
}

impl Kernel for RealKernel {
    fn read(&mut self, how: Reading) -> Result<(), KernelError> {
        let parts = self.doubts.take(how == Reading::Whole);
        // What failed half-way is known of nothing.
        self.refresh(parts).inspect_err(|_| self.doubts.add(Parts::ALL))
    }

    fn actual(&self) -> &Actual {
        &self.actual
    }

    fn apply(&mut self, stage: Stage, steps: &[Step]) -> Result<Vec<Result<(), Refusal>>, KernelError> {
        match stage {
            Stage::Sysctls | Stage::ResetSysctls => {
                Ok(steps.iter().map(|step| write::sysctl(step, &self.settings)).collect())
            }
            Stage::Firewall | Stage::Accepts | Stage::DeleteAccepts | Stage::DeleteFirewall => {
                self.doubts.add(Parts::FIREWALL);
                Ok(steps.iter().map(|step| self.filter.apply(step)).collect())
            }
            Stage::Devices | Stage::ClearDevices => {
                self.doubts.add(Parts::ALL);
                let answers = self.send(stage, steps);
                // Whatever comes next needs the index of what was made just now.
                self.find_devices()
                    .map_err(|error| KernelError::Read { what: "devices", reason: error.to_string() })?;
                answers
            }
            Stage::Addresses
            | Stage::DeleteAddresses
            | Stage::DeleteDevices
            | Stage::Rules
            | Stage::DeleteRules => {
                self.doubts.add(Parts::of_stage(stage));
                self.send(stage, steps)
            }
            Stage::Fdb
            | Stage::Neighbours
            | Stage::Nexthops
            | Stage::NexthopGroups
            | Stage::Routes
            | Stage::UnreachableRoutes
            | Stage::DeleteRoutes
            | Stage::DeleteNexthopGroups
            | Stage::DeleteNexthops
            | Stage::DeleteNeighbours
            | Stage::DeleteFdb => self.send_witnessed(stage, steps),
        }
    }
}
