//! Who hears of a new plan first: nodes that begin to receive, then those that will send to them.
//!
//! What goes is no trouble: agents let it linger (`docs/adr/0030`). What comes would be: packets for a gateway that has no
//! device yet are lost. So a plan is told in waves, and each one waits until the agents of the one before have followed.
//! It never waits long: an agent that does not answer must not hold up all others, nor may nodes that join one after
//! another.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use api::{NodeConfigSpec, Vtep, vtep::Plane};

use crate::{
    index::{Index, Object},
    reconcile::{Action, Write},
};

/// How long a wave waits for the agents of the one before. Both waits together are shorter than what agents let linger.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a write waits for all that comes before it, whatever else comes meanwhile.
const MOST: Duration = Duration::from_secs(6);

/// When a NodeConfig is written, among others of one plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wave {
    /// The node begins to receive from other clusters, for itself or for others.
    Receivers,
    /// It gets a device, or its cluster has a node that begins to receive: it has to answer what that one sends on.
    Siblings,
    /// It is told with those, and nobody waits for it: who ceases to receive may do so because it is dead.
    Leavers,
    /// All others.
    Others,
}

impl Wave {
    /// Of a node by itself.
    pub(crate) fn of(old: Option<&NodeConfigSpec>, new: &NodeConfigSpec) -> Self {
        let names = |spec: &NodeConfigSpec| -> BTreeSet<String> {
            spec.devices.iter().map(|device| device.name.clone()).collect()
        };
        let before = old.map(names).unwrap_or_default();
        let gained: BTreeSet<String> = names(new).difference(&before).cloned().collect();
        let passes_on = |spec: &NodeConfigSpec| !spec.inbound_routes.is_empty();
        let is_bridge = |name: &String| Vtep::named(name).is_some_and(|vtep| vtep.plane() == Plane::Bridge);
        if gained.iter().any(is_bridge) || passes_on(new) && !old.is_some_and(passes_on) {
            Wave::Receivers
        } else if !gained.is_empty() {
            Wave::Siblings
        } else if before.iter().any(is_bridge) && !names(new).iter().any(is_bridge) {
            Wave::Leavers
        } else {
            Wave::Others
        }
    }

    /// In a cluster that has a node which begins to receive.
    pub(crate) fn beside_receiver(self) -> Self {
        if self == Wave::Others { Wave::Siblings } else { self }
    }

    fn waits_for(self, told: Wave) -> bool {
        let own = if self == Wave::Leavers { Wave::Siblings } else { self };
        told < own
    }
}

#[derive(Debug)]
struct Told {
    wave: Wave,
    /// What its agent has to follow; `None` while it is being written.
    generation: Option<i64>,
    until: Instant,
}

/// Whom later waves wait for.
#[derive(Debug, Default)]
pub(crate) struct Waves {
    told: BTreeMap<String, Told>,
    held_since: Option<Instant>,
}

fn wave(write: &Write) -> Wave {
    match write.action {
        Action::Apply(_, wave) => wave,
        _ => Wave::Others,
    }
}

impl Waves {
    /// Forgets whom nobody has to wait for any more.
    pub(crate) fn settle(&mut self, index: &Index, now: Instant) {
        self.told.retain(|name, told| {
            let observed =
                index.configs.get(name).and_then(|config| config.status.as_ref()?.observed_generation);
            let followed = told.generation.is_some_and(|generation| observed >= Some(generation));
            !followed && now < told.until
        });
    }

    /// Whether a write has to wait.
    pub(crate) fn holds(&mut self, write: &Write, now: Instant) -> bool {
        if !matches!(write.action, Action::Apply(..))
            || !self.told.values().any(|told| wave(write).waits_for(told.wave))
        {
            return false;
        }
        now < *self.held_since.get_or_insert(now) + MOST
    }

    /// Nothing waits any more.
    pub(crate) fn released(&mut self) {
        self.held_since = None;
    }

    /// A write has begun.
    pub(crate) fn begun(&mut self, write: &Write, now: Instant) {
        if wave(write) < Wave::Leavers {
            let told = Told { wave: wave(write), generation: None, until: now + PATIENCE };
            self.told.insert(write.target.name.clone(), told);
        }
    }

    /// A write has succeeded, with this object, or failed: then nobody waits for it.
    pub(crate) fn written(&mut self, write: &Write, object: Option<&Object>, now: Instant) {
        if wave(write) >= Wave::Leavers {
            return;
        }
        let name = &write.target.name;
        match (object, self.told.get_mut(name)) {
            (Some(Object::NodeConfig(config)), Some(told)) => {
                (told.generation, told.until) = (config.metadata.generation, now + PATIENCE);
            }
            _ => drop(self.told.remove(name)),
        }
    }

    /// When somebody need not be waited for any longer.
    pub(crate) fn next(&self) -> Option<Instant> {
        let held = self.held_since?;
        self.told.values().map(|told| told.until).chain([held + MOST]).min()
    }
}

#[cfg(test)]
mod tests {
    use api::node_config::{Device, Route};
    use serde_json::json;

    use super::*;
    use crate::{
        index::{News, Resource},
        reconcile::Target,
    };

    fn spec(devices: &[&str], inbound: usize) -> NodeConfigSpec {
        let device = |name: &&str| Device { name: (*name).to_owned(), ..Device::default() };
        NodeConfigSpec {
            devices: devices.iter().map(device).collect(),
            inbound_routes: vec![Route::default(); inbound],
            ..NodeConfigSpec::default()
        }
    }

    #[test]
    fn who_begins_to_receive_is_told_first() {
        let (internal, gateway) = (spec(&["vx-local"], 0), spec(&["vx-bridge", "vx-local"], 2));
        let p2p = spec(&["vx-bridge"], 0);
        assert_eq!(Wave::of(Some(&internal), &gateway), Wave::Receivers);
        assert_eq!(Wave::of(Some(&internal), &p2p), Wave::Receivers);
        assert_eq!(Wave::of(Some(&p2p), &gateway), Wave::Receivers);
        assert_eq!(Wave::of(None, &p2p), Wave::Receivers);
        assert_eq!(Wave::of(Some(&p2p), &internal), Wave::Siblings);
        assert_eq!(Wave::of(None, &internal), Wave::Siblings);
        assert_eq!(Wave::of(Some(&gateway), &internal), Wave::Leavers);
        assert_eq!(Wave::of(Some(&gateway), &gateway), Wave::Others);
    }

    fn write(name: &str, wave: Wave) -> Write {
        let target = Target { resource: Resource::NodeConfig, name: name.to_owned() };
        Write { target, action: Action::Apply(json!({}), wave), notices: Vec::new() }
    }

    /// As it comes from an API server, with what a newer agent may say beside.
    fn config(name: &str, generation: i64, observed: i64) -> Object {
        let object = json!({
            "apiVersion": "kosmos.io/v1alpha1",
            "kind": "NodeConfig",
            "metadata": {"name": name, "generation": generation},
            "spec": {},
            "status": {"observedGeneration": observed, "entries": "as many as ever"},
        });
        Object::parse(Resource::NodeConfig, serde_json::from_value(object).unwrap())
    }

    fn waits(waves: &mut Waves, index: &Index, now: Instant) -> [bool; 3] {
        waves.settle(index, now);
        [Wave::Receivers, Wave::Siblings, Wave::Others].map(|wave| waves.holds(&write("x", wave), now))
    }

    #[test]
    fn each_wave_waits_for_the_agents_of_the_one_before() {
        let (mut waves, mut index, start) = (Waves::default(), Index::default(), Instant::now());
        assert_eq!(waits(&mut waves, &index, start), [false; 3]);
        waves.begun(&write("a-n2", Wave::Receivers), start);
        assert_eq!(waits(&mut waves, &index, start), [false, true, true]);
        let written = config("a-n2", 7, 6);
        waves.written(&write("a-n2", Wave::Receivers), Some(&written), start);
        index.take(News::Put(written));
        assert_eq!(waits(&mut waves, &index, start), [false, true, true]);
        index.take(News::Put(config("a-n2", 7, 7)));
        waves.begun(&write("a-n1", Wave::Siblings), start);
        assert_eq!(waits(&mut waves, &index, start), [false, false, true]);
        assert!(!waves.holds(&write("a-n3", Wave::Leavers), start));
        waves.written(&write("a-n1", Wave::Siblings), None, start);
        waves.begun(&write("a-n3", Wave::Leavers), start);
        assert_eq!(waits(&mut waves, &index, start), [false; 3]);
    }

    #[test]
    fn nobody_waits_long_for_who_does_not_answer_nor_for_a_mesh_that_grows() {
        let (mut waves, index, start) = (Waves::default(), Index::default(), Instant::now());
        waves.begun(&write("a-n2", Wave::Receivers), start);
        assert_eq!(waits(&mut waves, &index, start), [false, true, true]);
        assert_eq!(waves.next(), Some(start + PATIENCE));
        assert_eq!(waits(&mut waves, &index, start + PATIENCE), [false; 3]);
        for second in 0..10 {
            let now = start + PATIENCE + Duration::from_secs(second);
            waves.begun(&write(&format!("joins-{second}"), Wave::Receivers), now);
            assert_eq!(
                waits(&mut waves, &index, now)[2],
                PATIENCE + Duration::from_secs(second) < MOST,
                "{second}"
            );
        }
    }
}
