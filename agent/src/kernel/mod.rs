//! The kernel of the namespace that this thread is in, read and written through netlink, `/proc/sys/net`, `nft` and
//! `iptables`.

mod firewall;
mod iptables;
mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use agent_core::{Actual, Host, Kernel, KernelError, Reading, Refusal, Stage, Step};
use api::Vtep;
use netlink::{Netlink, Op};

use firewall::Filter;

/// Where the settings are.
pub const PROC_SYS_NET: &str = "/proc/sys/net";

/// A kernel. It belongs to the namespace of the thread that opened it and must stay on that thread: settings and
/// programs belong to the namespace of the thread that touches them.
#[derive(Debug)]
pub struct RealKernel {
    netlink: Netlink,
    settings: PathBuf,
    filter: Filter,
    actual: Actual,
    indexes: BTreeMap<Vtep, u32>,
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
            actual: Actual::default(),
            indexes: BTreeMap::new(),
        })
    }

    /// The address of its netlink socket, by which its own changes are told from those of others.
    pub fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// The indexes of our devices, as last seen.
    pub fn devices(&self) -> BTreeSet<u32> {
        self.indexes.values().copied().collect()
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
            let messages = write::messages(step, &self.indexes);
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

    fn find_devices(&mut self) -> Result<(), netlink::Error> {
        let links = self.netlink.links()?;
        self.indexes = links.iter().filter_map(|link| Some((Vtep::named(&link.name)?, link.index))).collect();
        Ok(())
    }
}

impl Kernel for RealKernel {
    fn read(&mut self, _: Reading) -> Result<(), KernelError> {
        let mut actual = read::read(&mut self.netlink, &self.settings)?;
        actual.firewall = self.filter.read();
        self.indexes = actual.devices.iter().map(|(vtep, device)| (*vtep, device.index)).collect();
        self.actual = actual;
        Ok(())
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
                Ok(steps.iter().map(|step| self.filter.apply(step)).collect())
            }
            Stage::Devices | Stage::ClearDevices => {
                let answers = self.send(stage, steps);
                // Whatever comes next needs the index of what was made just now.
                self.find_devices()
                    .map_err(|error| KernelError::Read { what: "devices", reason: error.to_string() })?;
                answers
            }
            _ => self.send(stage, steps),
        }
    }
}
