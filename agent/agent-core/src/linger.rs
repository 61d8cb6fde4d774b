//! What stays for a while although only an older NodeConfig asked for it.
//!
//! The nodes of a mesh hear of a new plan one after another. Who has heard still gets packets from those who have not:
//! they come in by a device that is not wanted any more, look into tables and translations that are not, and are
//! answered by routes that are not. So what is new is done at once, and what only received, forwarded and answered
//! goes some seconds later.
//!
//! Nothing lingers that would take a packet from what the new NodeConfig says of it:
//!
//! | of what is not wanted | goes at once |
//! |---|---|
//! | routes | where a wanted route leads to the whole of their destination; where the destination must not be routed on this host; those that lead nowhere |
//! | rules | where a wanted one leads the same packets to the same table |
//! | FDB entries | where their MAC is wanted elsewhere |
//! | addresses, and devices that bear them | where the address is wanted elsewhere |
//! | the packet filter | whatever refuses or translates; its sets hold the addresses of both, and transit stays untracked |

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::actual::{Actual, ActualNexthop, Owner};
use crate::desired::Desired;
use crate::firewall;
use crate::model::{Route, RouteKey, Rule, Setting, Sysctl, TABLE};
use crate::refusal::Protected;
use crate::step::{ChangeSet, Step};

/// Which objects (by [`Step::object`], or as a [`firewall::Spare`] is told) may linger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spared {
    /// These: they linger already, and what else is not wanted came from somebody else.
    Only(BTreeSet<String>),
    /// All but these, which have had their time.
    AllBut(BTreeSet<String>),
}

impl Spared {
    fn holds(&self, object: &str) -> bool {
        match self {
            Spared::Only(objects) => objects.contains(object),
            Spared::AllBut(objects) => !objects.contains(object),
        }
    }
}

/// What lingers, in a kernel that was just read.
pub(crate) struct Lingering<'a> {
    pub(crate) spared: &'a Spared,
    pub(crate) actual: &'a Actual,
    pub(crate) protected: Protected<'a>,
}

impl Lingering<'_> {
    /// Has the new NodeConfig's objects serve what lingers. Returns those that do so.
    pub(crate) fn widen(&self, desired: &mut Desired) -> BTreeSet<String> {
        for (vtep, device) in &self.actual.devices {
            if device.owner == Owner::Ours && self.may_stay(&Step::DeleteDevice(*vtep), desired) {
                // What comes in by it may be answered by another device now.
                let sysctl = Sysctl { device: *vtep, setting: Setting::RpFilter };
                desired.sysctls.insert(sysctl, sysctl.setting.ours());
            }
        }
        let (Some(wanted), Some(present)) = (&mut desired.firewall, &self.actual.firewall.table) else {
            return BTreeSet::new();
        };
        let mut spare = firewall::spare(&wanted.table, present);
        spare.retain(|spare| self.spared.holds(&spare.to_string()));
        firewall::widen(&mut wanted.table, &spare);
        spare.iter().map(ToString::to_string).collect()
    }

    /// Forgets the deletions of what may stay, and says of what.
    pub(crate) fn withhold(&self, changes: &mut ChangeSet, desired: &Desired) -> BTreeSet<String> {
        let mut lingering = BTreeSet::new();
        changes.retain(|step| {
            let stays = self.may_stay(step, desired);
            lingering.extend(stays.then(|| step.object()));
            !stays
        });
        lingering
    }

    fn may_stay(&self, step: &Step, desired: &Desired) -> bool {
        self.harms_nothing(step, desired) && self.spared.holds(&step.object())
    }

    fn harms_nothing(&self, step: &Step, desired: &Desired) -> bool {
        match step {
            Step::DeleteRule(rule) => !desired.rules.iter().any(|other| leads_there(other, rule)),
            Step::DeleteRoute(key) => self.is_only_way(key, desired),
            Step::DeleteNexthop(id) => matches!(self.actual.nexthops.get(id), Some(ActualNexthop::Ours(_))),
            Step::DeleteFdb(vtep, mac, _) => !desired.fdb.contains_key(&(*vtep, *mac)),
            Step::DeleteNeighbour(vtep, address) => {
                self.actual.neighbours.get(&(*vtep, *address)).is_some_and(Option::is_some)
            }
            Step::DeleteAddress(_, address) => !is_elsewhere(address.ip(), desired),
            Step::DeleteDevice(vtep) => {
                let wanted = desired.devices.contains_key(vtep);
                let mut addresses = self.actual.addresses.iter().filter(|(on, _)| on == vtep);
                !wanted && addresses.all(|(_, address)| !is_elsewhere(address.ip(), desired))
            }
            Step::DeleteAccept(_) | Step::DeleteTable | Step::ResetSysctl(..) => true,
            _ => false,
        }
    }

    /// Whether a route leads where the new NodeConfig has no way to, and may.
    fn is_only_way(&self, key: &RouteKey, desired: &Desired) -> bool {
        let leads = matches!(self.actual.routes.get(key), Some(Some(Route::Via { .. })));
        let forbidden = key.table == TABLE && self.protected.objection(key.destination).is_some();
        let (network, prefix) = (key.destination.network(), key.destination.prefix());
        let serves = |(other, route): (&RouteKey, &Route)| {
            let whole = other.destination.prefix() <= prefix && other.destination.contains(network);
            other.table == key.table && whole && *route != Route::Unreachable
        };
        leads && !forbidden && !desired.routes.iter().any(serves)
    }
}

fn leads_there(one: &Rule, other: &Rule) -> bool {
    (one.family, &one.input, one.table) == (other.family, &other.input, other.table)
}

/// Whether an address of ours is another node's by now: what is local is delivered here, whatever routes say.
fn is_elsewhere(address: IpAddr, desired: &Desired) -> bool {
    let is_peer = desired.neighbours.keys().any(|(_, other)| *other == address);
    let led =
        |(key, route): (&RouteKey, &Route)| *route != Route::Unreachable && key.destination.contains(address);
    is_peer || desired.routes.iter().any(led)
}
