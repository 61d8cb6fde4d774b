//! What the kernel told of our own steps, taken into what was read.
//!
//! A step counts as done where the kernel said so itself: the object stands in the model as the notification describes it.
//! Where no notification fits, the part is in doubt, and is read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_core::{Actual, ActualNexthop, Nexthop, PROTOCOL, Refusal, Route, RouteKey, Step};
use api::{Mac, Vtep};
use netlink::{NeighbourState, Object, Told};

use super::echoes::{Change, Entry};
use super::parts::Parts;
use super::read::{self, Devices};

/// What was told last of each object.
#[derive(Default)]
struct Testimony {
    neighbours: BTreeMap<(Vtep, IpAddr), Option<Mac>>,
    fdb: BTreeMap<(Vtep, Mac, IpAddr), bool>,
    nexthops: BTreeMap<u32, Option<ActualNexthop>>,
    routes: BTreeMap<RouteKey, Option<Option<Route>>>,
    /// What will be heard again without a word of who did it, by what it is about.
    echoes: BTreeMap<About, Vec<Change>>,
}

/// What a step on the FDB or on a neighbour is about.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Fdb(Vtep, Mac, IpAddr),
    Neighbour(Vtep, IpAddr),
}

impl About {
    fn of(step: &Step) -> Option<Self> {
        match step {
            Step::SetFdb(vtep, mac, to) | Step::DeleteFdb(vtep, mac, to) => {
                Some(About::Fdb(*vtep, *mac, *to))
            }
            Step::SetNeighbour(vtep, address, _) | Step::DeleteNeighbour(vtep, address) => {
                Some(About::Neighbour(*vtep, *address))
            }
            _ => None,
        }
    }
}

/// What is known after some steps.
pub(super) struct Confirmed {
    /// What is in doubt now.
    pub(super) doubts: Parts,
    /// What is no news to anybody any more.
    pub(super) echoes: Vec<Change>,
}

/// Takes the steps that were done into what was read.
pub(super) fn confirm(
    actual: &mut Actual,
    devices: &Devices,
    steps: &[Step],
    answers: &[Result<(), Refusal>],
    told: Vec<Told>,
) -> Confirmed {
    let mut testimony = Testimony::of(told, devices);
    let mut doubts = Parts::NONE;
    let mut echoes = Vec::new();
    for (step, _) in steps.iter().zip(answers).filter(|(_, answer)| answer.is_ok()) {
        let in_doubt = testimony.take(step, actual);
        doubts = doubts.and(in_doubt);
        if in_doubt == Parts::NONE {
            echoes.extend(
                About::of(step).and_then(|about| testimony.echoes.remove(&about)).unwrap_or_default(),
            );
        }
    }
    Confirmed { doubts, echoes }
}

impl Testimony {
    fn of(told: Vec<Told>, devices: &Devices) -> Self {
        let mut testimony = Testimony::default();
        for Told { present, object, port } in told {
            match object {
                Object::Neighbour(neighbour) => {
                    let Some(vtep) = devices.ours.get(&neighbour.device) else { continue };
                    let permanent = present && neighbour.state == NeighbourState::Permanent;
                    let mac = neighbour.mac.filter(|_| permanent).map(|mac| Mac(mac.0));
                    testimony.neighbours.insert((*vtep, neighbour.address), mac);
                    let about = About::Neighbour(*vtep, neighbour.address);
                    testimony.note(about, (Entry::Neighbour(neighbour), present), port);
                }
                Object::Fdb(entry) => {
                    let Some(vtep) = devices.ours.get(&entry.device) else { continue };
                    let Some(to) = entry.destination else { continue };
                    testimony.fdb.insert((*vtep, Mac(entry.mac.0), to), present);
                    let about = About::Fdb(*vtep, Mac(entry.mac.0), to);
                    testimony.note(about, (Entry::Fdb(entry), present), port);
                }
                Object::Nexthop(nexthop) => {
                    let found = present.then(|| read::nexthop(&nexthop, devices));
                    testimony.nexthops.insert(nexthop.id, found);
                }
                Object::Route(route) if route.protocol == PROTOCOL => {
                    let key =
                        RouteKey { table: route.table, destination: route.destination, metric: route.metric };
                    testimony.routes.insert(key, present.then(|| read::own_route(&route)));
                }
                _ => {}
            }
        }
        testimony
    }

    /// Who listens leaves out what our own socket is named for.
    fn note(&mut self, about: About, change: Change, port: u32) {
        if port == 0 {
            self.echoes.entry(about).or_default().push(change);
        }
    }

    fn take(&self, step: &Step, actual: &mut Actual) -> Parts {
        match step {
            Step::SetNeighbour(vtep, address, _) => match self.neighbours.get(&(*vtep, *address)) {
                Some(Some(mac)) => {
                    actual.neighbours.insert((*vtep, *address), Some(*mac));
                    Parts::NONE
                }
                _ => Parts::NEIGHBOURS,
            },
            Step::DeleteNeighbour(vtep, address) => match self.neighbours.get(&(*vtep, *address)) {
                Some(None) => {
                    actual.neighbours.remove(&(*vtep, *address));
                    Parts::NONE
                }
                _ => Parts::NEIGHBOURS,
            },
            Step::SetFdb(vtep, mac, to) => self.take_fdb(*vtep, *mac, *to, actual),
            Step::DeleteFdb(vtep, mac, to) => match self.fdb.get(&(*vtep, *mac, *to)) {
                Some(false) => {
                    actual.fdb.remove(&(*vtep, *mac, *to));
                    Parts::NONE
                }
                _ => Parts::FDB,
            },
            Step::SetNexthop(id, _) => match self.nexthops.get(id) {
                Some(Some(nexthop)) => {
                    actual.nexthops.insert(*id, nexthop.clone());
                    Parts::NONE
                }
                _ => Parts::NEXTHOPS,
            },
            Step::DeleteNexthop(id) => self.take_deleted_nexthop(*id, actual),
            Step::AddRoute(key, _) | Step::ReplaceRoute(key, _) => match self.routes.get(key) {
                Some(Some(route)) => {
                    actual.routes.insert(*key, route.clone());
                    Parts::NONE
                }
                _ => Parts::ROUTES,
            },
            Step::DeleteRoute(key) => match self.routes.get(key) {
                Some(None) => {
                    actual.routes.remove(key);
                    Parts::NONE
                }
                _ => Parts::ROUTES,
            },
            _ => Parts::ALL,
        }
    }

    /// The destination of a MAC that is changed in place is not told to have gone.
    fn take_fdb(&self, vtep: Vtep, mac: Mac, to: IpAddr, actual: &mut Actual) -> Parts {
        if self.fdb.get(&(vtep, mac, to)) != Some(&true) {
            return Parts::FDB;
        }
        let before: Vec<IpAddr> = actual.behind(vtep, mac).collect();
        match before.as_slice() {
            [] => {}
            [one] => drop(actual.fdb.remove(&(vtep, mac, *one))),
            _ => return Parts::FDB,
        }
        actual.fdb.insert((vtep, mac, to));
        Parts::NONE
    }

    /// What used it goes or shrinks along with it, and not all of that is told.
    fn take_deleted_nexthop(&self, id: u32, actual: &mut Actual) -> Parts {
        let in_group = |nexthop: &ActualNexthop| matches!(nexthop, ActualNexthop::Ours(Nexthop::Group { members, .. }) if members.contains(&id));
        let in_route =
            |route: &Option<Route>| matches!(route, Some(Route::Via { nexthop, .. }) if *nexthop == id);
        let used = actual.nexthops.values().any(in_group) || actual.routes.values().any(in_route);
        if used || self.nexthops.get(&id) != Some(&None) {
            return Parts::NEXTHOPS.and(Parts::ROUTES);
        }
        actual.nexthops.remove(&id);
        Parts::NONE
    }
}
