//! Which parts of what was read are not known to be so any more.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_core::{INBOUND_TABLE, NEXTHOP_IDS, Stage, TABLE};
use api::Vtep;
use netlink::{Changed, Event};

use super::echoes::{Change, Echoes, Entry};

/// A set of parts of the kernel's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts(u16);

impl Parts {
    pub(crate) const NONE: Parts = Parts(0);
    /// Devices and addresses, ours and the host's.
    pub(crate) const LINKS: Parts = Parts(1);
    pub(crate) const NEIGHBOURS: Parts = Parts(1 << 1);
    pub(crate) const FDB: Parts = Parts(1 << 2);
    pub(crate) const NEXTHOPS: Parts = Parts(1 << 3);
    /// Routes of our tables.
    pub(crate) const ROUTES: Parts = Parts(1 << 4);
    /// Routes of the main table.
    pub(crate) const HOST_ROUTES: Parts = Parts(1 << 5);
    pub(crate) const RULES: Parts = Parts(1 << 6);
    pub(crate) const FIREWALL: Parts = Parts(1 << 7);
    /// Settings of devices, which every reading reads.
    pub(crate) const SETTINGS: Parts = Parts(1 << 8);
    pub(crate) const ALL: Parts = Parts((1 << 9) - 1);

    pub(crate) fn and(self, other: Parts) -> Parts {
        Parts(self.0 | other.0)
    }

    /// Whether any of the others is among these.
    pub(crate) fn has(self, other: Parts) -> bool {
        self.0 & other.0 != 0
    }

    /// What the steps of a stage may change. Settings are read each time.
    pub(super) fn of_stage(stage: Stage) -> Parts {
        match stage {
            Stage::ClearDevices | Stage::Devices | Stage::DeleteDevices => Parts::ALL,
            Stage::Sysctls | Stage::ResetSysctls => Parts::NONE,
            // With an address go neighbours, and routes that name it as their source.
            Stage::Addresses | Stage::DeleteAddresses => {
                Parts::LINKS.and(Parts::NEIGHBOURS).and(Parts::NEXTHOPS).and(Parts::ROUTES)
            }
            Stage::Neighbours | Stage::DeleteNeighbours => Parts::NEIGHBOURS,
            Stage::Fdb | Stage::DeleteFdb => Parts::FDB,
            Stage::Firewall | Stage::Accepts | Stage::DeleteAccepts | Stage::DeleteFirewall => {
                Parts::FIREWALL
            }
            // IPv4 routes go silently with their nexthop, and members with their group's last one.
            Stage::Nexthops | Stage::NexthopGroups | Stage::DeleteNexthopGroups | Stage::DeleteNexthops => {
                Parts::NEXTHOPS.and(Parts::ROUTES)
            }
            Stage::Routes | Stage::UnreachableRoutes | Stage::DeleteRoutes => Parts::ROUTES,
            Stage::Rules | Stage::DeleteRules => Parts::RULES,
        }
    }

    /// What somebody else's change may have changed, given the indexes of our devices.
    fn of_event(event: &Event, ours: &BTreeSet<u32>) -> Parts {
        match event {
            Event::Overrun => Parts::ALL,
            Event::Link { index, name } if ours.contains(index) || Vtep::named(name).is_some() => Parts::ALL,
            Event::Address { device } if ours.contains(device) => Parts::ALL,
            // A device that goes down takes its routes along and says nothing of them.
            Event::Link { .. } | Event::Address { .. } => Parts::LINKS.and(Parts::HOST_ROUTES),
            Event::Neighbour { device, .. } if ours.contains(device) => Parts::NEIGHBOURS,
            Event::Fdb { device, .. } if ours.contains(device) => Parts::FDB,
            Event::Neighbour { .. } | Event::Fdb { .. } => Parts::NONE,
            Event::Route { table: TABLE | INBOUND_TABLE, .. } => Parts::ROUTES,
            Event::Route { .. } => Parts::HOST_ROUTES,
            Event::Nexthop { id } if NEXTHOP_IDS.contains(id) => Parts::NEXTHOPS.and(Parts::ROUTES),
            Event::Nexthop { .. } => Parts::HOST_ROUTES,
            Event::Rule { .. } => Parts::RULES,
        }
    }
}

/// What must be read again, said by whoever hears of changes. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Doubts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    parts: AtomicU16,
    ours: Mutex<BTreeSet<u32>>,
    echoes: Mutex<Echoes>,
}

impl Default for Doubts {
    fn default() -> Self {
        Doubts(Arc::new(Shared {
            parts: AtomicU16::new(Parts::ALL.0),
            ours: Mutex::default(),
            echoes: Mutex::default(),
        }))
    }
}

impl Doubts {
    pub(crate) fn add(&self, parts: Parts) {
        self.0.parts.fetch_or(parts.0, Ordering::SeqCst);
    }

    /// Somebody begins to say what others change.
    pub(crate) fn listen(&self) {
        lock(&self.0.echoes).listen();
    }

    /// Something changed. Whether it is news: a step of our own may be known already.
    pub(crate) fn hear(&self, event: &Event) -> bool {
        let parts = Parts::of_event(event, &lock(&self.0.ours));
        let entry = match event {
            Event::Fdb { entry: Some(entry), present, .. } => Some((Entry::Fdb(entry.clone()), *present)),
            Event::Neighbour { entry: Some(entry), present, .. } => {
                Some((Entry::Neighbour(entry.clone()), *present))
            }
            _ => None,
        };
        if *event == Event::Overrun {
            lock(&self.0.echoes).lose();
        }
        match entry.filter(|_| parts != Parts::NONE) {
            Some(change) => lock(&self.0.echoes).hear(change),
            None => {
                self.add(parts);
                true
            }
        }
    }

    /// What was told of our own steps on FDB entries and neighbours, and is known now.
    pub(super) fn account(&self, told: Vec<Change>) {
        lock(&self.0.echoes).account(told);
    }

    /// What is in doubt, for a reading of that or of everything. What comes into doubt from now on belongs to the next
    /// one.
    pub(super) fn take(&self, whole: bool) -> Parts {
        let mut echoes = lock(&self.0.echoes);
        let news = echoes.news();
        echoes.settle(whole);
        let parts = Parts(self.0.parts.swap(0, Ordering::SeqCst)).and(news);
        if whole { Parts::ALL } else { parts }
    }

    pub(super) fn holds(&self, parts: Parts) -> bool {
        let news = lock(&self.0.echoes).news();
        news.and(Parts(self.0.parts.load(Ordering::SeqCst))).has(parts)
    }

    /// Whether anything was heard that no reading has looked at.
    pub(crate) fn any(&self) -> bool {
        self.holds(Parts::ALL)
    }

    /// A setting changed.
    pub(crate) fn hear_settings(&self, changed: &Changed) {
        let concerns = match changed {
            Changed::Device(device) => lock(&self.0.ours).contains(device),
            _ => true,
        };
        if concerns {
            self.add(Parts::SETTINGS);
        }
    }

    pub(super) fn set_ours(&self, ours: BTreeSet<u32>) {
        *lock(&self.0.ours) = ours;
    }
}

/// A panic elsewhere does not make what is written down here wrong.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_brings_what_hangs_on_it_into_doubt() {
        let doubts = Doubts::default();
        assert_eq!(doubts.take(false), Parts::ALL, "nothing is known at first");
        doubts.set_ours(BTreeSet::from([7]));
        doubts.hear(&Event::Neighbour { device: 8, entry: None, present: true });
        assert_eq!(doubts.take(false), Parts::NONE);
        doubts.hear(&Event::Neighbour { device: 7, entry: None, present: true });
        doubts.hear(&Event::Fdb { device: 7, entry: None, present: true });
        assert_eq!(doubts.take(false), Parts::NEIGHBOURS.and(Parts::FDB));
        doubts.hear(&Event::Link { index: 9, name: "eth0".to_owned() });
        assert_eq!(doubts.take(false), Parts::LINKS.and(Parts::HOST_ROUTES));
        for event in [
            Event::Link { index: 7, name: "renamed".to_owned() },
            Event::Link { index: 99, name: "vx-local".to_owned() },
            Event::Address { device: 7 },
            Event::Overrun,
        ] {
            doubts.hear(&event);
            assert_eq!(doubts.take(false), Parts::ALL, "{event:?}");
        }
        assert_eq!(doubts.take(false), Parts::NONE);
    }
}
