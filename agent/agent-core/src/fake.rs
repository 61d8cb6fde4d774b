//! A kernel in memory, with the rules that matter: what hangs on what, what goes along with what, what is refused.

use std::collections::{BTreeMap, BTreeSet};

use api::Vtep;

use crate::actual::{Actual, ActualDevice, ActualNexthop, Owner};
use crate::firewall::Accept;
use crate::kernel::{Kernel, KernelError, Reading, Refusal};
use crate::model::{Device, Nexthop, Resilience, Route, RouteKey, Sysctl};
use crate::step::{Stage, Step};

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// A kernel in memory.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    /// What it holds.
    pub state: Actual,
    /// Everything that was asked of it, in order.
    pub log: Vec<(Stage, Step)>,
    /// Objects (by [`Step::object`]) whose steps it refuses.
    pub refuses: BTreeMap<String, Refusal>,
    /// Whether reading fails.
    pub unreadable: bool,
    /// Which reading fails, counted from one.
    pub unreadable_at: Option<usize>,
    /// How often it was read.
    pub readings: usize,
    /// Steps, by their place in the log, that it refuses.
    pub fails_at: BTreeMap<usize, Refusal>,
    /// The device that is gone when a stage begins.
    pub vanishes_at: Option<(Stage, Vtep)>,
    /// What it held after each step, where somebody wants to know.
    pub watch: Option<Vec<Actual>>,
    /// The stage in which the conversation breaks off.
    pub breaks_at: Option<Stage>,
    next_index: u32,
}

impl FakeKernel {
    /// A kernel that holds this.
    pub fn new(state: Actual) -> Self {
        let highest = state.host.links.keys().copied().chain(state.devices.values().map(|d| d.index)).max();
        FakeKernel { state, next_index: highest.unwrap_or(0) + 1, ..FakeKernel::default() }
    }

    fn step(&mut self, step: &Step) -> Result<(), Refusal> {
        if let Some(refusal) = self.refuses.get(&step.object()) {
            return Err(refusal.clone());
        }
        match step {
            Step::CreateDevice(vtep, device) => self.create(*vtep, device),
            Step::ClearDevice(vtep) | Step::DeleteDevice(vtep) => {
                self.on_device(*vtep)?;
                self.state.lose_device(*vtep);
                Ok(())
            }
            Step::ChangeDevice(vtep, change) => {
                let device = self.on_device(*vtep)?;
                device.mac = change.mac.or(device.mac);
                device.mtu = change.mtu.unwrap_or(device.mtu);
                device.local = change.local.or(device.local);
                device.up |= change.up;
                if change.mark {
                    device.owner = Owner::Ours;
                }
                if change.mac.is_some() {
                    self.state.lose_neighbours(*vtep);
                }
                Ok(())
            }
            Step::SetSysctl(key, value) | Step::ResetSysctl(key, value) => {
                self.on_device(key.device)?;
                self.state.sysctls.insert(*key, *value);
                Ok(())
            }
            Step::AddAddress(..)
            | Step::DeleteAddress(..)
            | Step::SetNeighbour(..)
            | Step::DeleteNeighbour(..)
            | Step::SetFdb(..)
            | Step::DeleteFdb(..) => self.entry(step),
            Step::SetNexthop(..) | Step::DeleteNexthop(_) => self.nexthop(step),
            Step::AddRoute(..)
            | Step::ReplaceRoute(..)
            | Step::DeleteRoute(_)
            | Step::AddRule(_)
            | Step::DeleteRule(_) => self.route_or_rule(step),
            Step::WriteTable(_) | Step::DeleteTable | Step::InsertAccept(..) | Step::DeleteAccept(_) => {
                self.firewall(step)
            }
        }
    }

    fn create(&mut self, vtep: Vtep, device: &Device) -> Result<(), Refusal> {
        let same = |d: &ActualDevice| (d.vni, d.port) == (device.vni, device.port);
        let of_family = |v: &Vtep| v.underlay() == vtep.underlay();
        let held = self.state.devices.iter().any(|(v, d)| *v == vtep || of_family(v) && same(d))
            || self.state.host.links.values().any(|link| link.vxlan == Some((device.vni, device.port)));
        if held {
            return refused(EEXIST, "a VXLAN device with the specified VNI already exists");
        }
        if !self.state.host.links.contains_key(&device.parent) {
            return refused(ENODEV, "invalid underlay interface");
        }
        let index = self.next_index;
        self.next_index += 1;
        let made = ActualDevice {
            index,
            owner: Owner::Ours,
            renamed: false,
            vni: device.vni,
            port: device.port,
            local: Some(device.local),
            parent: Some(device.parent),
            learning: false,
            mac: Some(device.mac),
            mtu: device.mtu,
            up: true,
        };
        self.state.devices.insert(vtep, made);
        let fresh = self.state.host.defaults.iter();
        let fresh = fresh.map(|(setting, value)| (Sysctl { device: vtep, setting: *setting }, *value));
        self.state.sysctls.extend(fresh);
        Ok(())
    }

    fn on_device(&mut self, vtep: Vtep) -> Result<&mut ActualDevice, Refusal> {
        let missing = || Refusal { errno: Some(ENODEV), message: format!("no device {}", vtep.name()) };
        self.state.devices.get_mut(&vtep).ok_or_else(missing)
    }

    fn entry(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::AddAddress(vtep, address) => {
                self.on_device(*vtep)?;
                added(self.state.addresses.insert((*vtep, *address)))
            }
            Step::DeleteAddress(vtep, address) => found(self.state.addresses.remove(&(*vtep, *address))),
            Step::SetNeighbour(vtep, address, mac) => {
                self.on_device(*vtep)?;
                self.state.neighbours.insert((*vtep, *address), Some(*mac));
                Ok(())
            }
            Step::DeleteNeighbour(vtep, address) => {
                found(self.state.neighbours.remove(&(*vtep, *address)).is_some())
            }
            Step::SetFdb(vtep, mac, to) => {
                self.on_device(*vtep)?;
                // NLM_F_REPLACE changes the first destination of the MAC.
                let first = self.state.fdb.iter().find(|(v, m, _)| (v, m) == (vtep, mac)).copied();
                if let Some(first) = first {
                    self.state.fdb.remove(&first);
                }
                self.state.fdb.insert((*vtep, *mac, *to));
                Ok(())
            }
            // The first one is gone already where it was changed.
            Step::DeleteFdb(vtep, mac, to) => {
                self.state.fdb.remove(&(*vtep, *mac, *to));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn nexthop(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::SetNexthop(id, nexthop) => {
                self.may_set(*id, nexthop)?;
                self.state.nexthops.insert(*id, ActualNexthop::Ours(nexthop.clone()));
                Ok(())
            }
            Step::DeleteNexthop(id) => {
                found(self.state.nexthops.contains_key(id))?;
                self.state.lose_nexthops(BTreeSet::from([*id]));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn may_set(&mut self, id: u32, nexthop: &Nexthop) -> Result<(), Refusal> {
        match nexthop {
            Nexthop::Single { device, .. } => {
                self.on_device(*device)?;
            }
            Nexthop::Group { members, resilience } => {
                if members.is_empty() || members.iter().any(|id| !self.state.nexthops.contains_key(id)) {
                    return refused(EINVAL, "invalid nexthop id");
                }
                if resilience.is_some() && !self.state.host.resilient_groups {
                    return refused(EINVAL, "invalid group type");
                }
                if resilience.is_some_and(|resilience| usize::from(resilience.buckets) < members.len()) {
                    return refused(EINVAL, "fewer buckets than members");
                }
                if let Some(ActualNexthop::Ours(Nexthop::Group { resilience: now, .. })) =
                    self.state.nexthops.get(&id)
                    && now.map(|now| now.buckets) != resilience.map(|wanted: Resilience| wanted.buckets)
                {
                    return refused(EINVAL, "cannot replace a nexthop group with one of a different type");
                }
            }
        }
        match (self.state.nexthops.get(&id), nexthop) {
            (Some(ActualNexthop::Foreign | ActualNexthop::Odd), _) => refused(EINVAL, "the id is taken"),
            (Some(ActualNexthop::Ours(Nexthop::Single { .. })), Nexthop::Group { .. })
            | (Some(ActualNexthop::Ours(Nexthop::Group { .. })), Nexthop::Single { .. }) => {
                refused(EINVAL, "cannot replace a nexthop with a nexthop group")
            }
            _ => Ok(()),
        }
    }

    /// `fib_find_info_nh`: IPv4 routes by one nexthop with one source and one metric share the rest.
    fn sharing(&self, key: &RouteKey, mut route: Route) -> Route {
        let like = |(of, other): (&RouteKey, &Option<Route>)| match (&route, other) {
            (
                Route::Via { nexthop, source, .. },
                Some(Route::Via { nexthop: by, source: from, mtu: shared }),
            ) if (by, from, of.table, of.metric) == (nexthop, source, key.table, key.metric) => Some(*shared),
            _ => None,
        };
        let shared = self.state.routes.iter().filter(|(of, _)| of.destination.is_ipv4()).find_map(like);
        if let (Route::Via { mtu, .. }, Some(shared), true) = (&mut route, shared, key.destination.is_ipv4())
        {
            *mtu = shared;
        }
        route
    }

    fn route_or_rule(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::AddRoute(key, route) | Step::ReplaceRoute(key, route) => {
                let adds = matches!(step, Step::AddRoute(..));
                if adds && self.state.routes.contains_key(key) {
                    return refused(EEXIST, "the route exists");
                }
                if let Route::Via { nexthop, .. } = route
                    && !self.state.nexthops.contains_key(nexthop)
                {
                    return refused(EINVAL, "nexthop id does not exist");
                }
                let route = self.sharing(key, route.clone());
                self.state.routes.insert(*key, Some(route));
                Ok(())
            }
            Step::DeleteRoute(key) => found(self.state.routes.remove(key).is_some()),
            Step::AddRule(rule) => added(self.state.rules.insert(rule.clone())),
            Step::DeleteRule(rule) => found(self.state.rules.remove(rule)),
            _ => Ok(()),
        }
    }

    fn firewall(&mut self, step: &Step) -> Result<(), Refusal> {
        let firewall = &mut self.state.firewall;
        match step {
            Step::WriteTable(table) => firewall.table = Some(table.clone()),
            Step::DeleteTable => firewall.table = None,
            Step::InsertAccept(chain, mark) => {
                let state = firewall.chains.get_mut(chain);
                state.ok_or_else(|| Refusal::without_errno("no such chain"))?.accept = Accept::InPlace(*mark);
            }
            Step::DeleteAccept(chain) => {
                let state = firewall.chains.get_mut(chain);
                state.ok_or_else(|| Refusal::without_errno("no such chain"))?.accept = Accept::Absent;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Kernel for FakeKernel {
    fn read(&mut self, _: Reading) -> Result<(), KernelError> {
        self.readings += 1;
        if self.unreadable || self.unreadable_at == Some(self.readings) {
            return Err(KernelError::Read { what: "devices", reason: "told to fail".to_owned() });
        }
        Ok(())
    }

    fn actual(&self) -> &Actual {
        &self.state
    }

    fn apply(&mut self, stage: Stage, steps: &[Step]) -> Result<Vec<Result<(), Refusal>>, KernelError> {
        if self.breaks_at == Some(stage) {
            return Err(KernelError::Write { stage, reason: "told to break off".to_owned() });
        }
        if let Some((_, vtep)) = self.vanishes_at.take_if(|(at, _)| *at == stage) {
            self.state.lose_device(vtep);
        }
        let mut answers = Vec::with_capacity(steps.len());
        for step in steps {
            let place = self.log.len();
            self.log.push((stage, step.clone()));
            answers.push(match self.fails_at.get(&place) {
                Some(refusal) => Err(refusal.clone()),
                None => self.step(step),
            });
            if let Some(watch) = &mut self.watch {
                watch.push(self.state.clone());
            }
        }
        Ok(answers)
    }
}

fn refused<T>(errno: i32, message: &str) -> Result<T, Refusal> {
    Err(Refusal { errno: Some(errno), message: message.to_owned() })
}

fn added(new: bool) -> Result<(), Refusal> {
    if new { Ok(()) } else { refused(EEXIST, "it exists") }
}

fn found(was_there: bool) -> Result<(), Refusal> {
    if was_there { Ok(()) } else { refused(ENOENT, "it does not exist") }
}
