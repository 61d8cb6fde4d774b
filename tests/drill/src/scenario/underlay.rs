//! The network below changes: the MTU of interfaces, and the address of a peer.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::Family;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::{Drill, Scenario};
use crate::figures::Row;
use crate::world::World;

/// The MTU of the underlay shrinks and grows on nodes of every role.
pub(super) const MTU_CHANGED: Scenario = Scenario {
    name: "mtu-changed",
    what: "the underlay's MTU shrinks to 1400 and grows back, on nodes of every role",
    few: 1,
    full: 10,
    run: mtu_changed,
};

/// A gateway and a P2P node get another underlay address; for a while they have both.
pub(super) const UNDERLAY_MOVED: Scenario = Scenario {
    name: "underlay-moved",
    what: "a peer's underlay address changes; both addresses are there for a while",
    few: 1,
    full: 10,
    run: underlay_moved,
};

/// The same without overlap.
pub(super) const UNDERLAY_JUMPED: Scenario = Scenario {
    name: "underlay-jumped",
    what: "a peer's underlay address changes at once, and its Node says so half a second later",
    few: 0,
    full: 5,
    run: underlay_jumped,
};

/// How long the Node is wrong.
const UNTOLD: Duration = Duration::from_millis(500);

fn mtu_changed(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    // each with a device that shows whether its agent has followed
    let nodes = [
        ("a1", "vx-bridge"),
        ("a3", "vx-local"),
        ("b1", "vx-bridge"),
        ("c1", "vx-bridge"),
        ("d1", "vx-bridge"),
    ];
    drill.lossless(|drill, round| {
        for (mtu, inner) in [(1400, 1350), (1500, 1450)] {
            drill.mark(format!("round {round}: the underlay's MTU is {mtu}"));
            for (place, _) in nodes {
                drill.world.sh(place, &format!("ip link set eth0 mtu {mtu}"))?;
            }
            for (place, device) in nodes {
                has(drill.world, place, &format!("ip -o link show {device}"), &format!("mtu {inner} "))?;
            }
            drill.world.settle()?;
        }
        Ok(())
    })
}

/// Waits until the output of a command has these words.
fn has(world: &World, place: &str, script: &str, words: &str) -> Result<()> {
    world.eventually(|| {
        let text = world.sh(place, script)?;
        if text.contains(words) { Ok(()) } else { bail!("{place}: {script}: no {words:?} in {text}") }
    })
}

/// A node that moves, and where its peers notice.
struct Mover {
    cluster: &'static str,
    node: &'static str,
    place: &'static str,
    peers: [(&'static str, &'static str); 2],
}

const MOVERS: [Mover; 2] = [
    Mover { cluster: "b", node: "node1", place: "b1", peers: [("a1", "vx-bridge"), ("b2", "vx-local")] },
    Mover { cluster: "d", node: "node1", place: "d1", peers: [("c1", "vx-bridge"), ("a1", "vx-bridge")] },
];

impl Mover {
    /// The addresses that it was born with, and those that it moves to.
    fn addresses(&self, world: &World) -> Result<[Vec<IpAddr>; 2]> {
        let mut nodes = world.sandbox.layout().nodes();
        let (_, node) = nodes.find(|(_, node)| node.place == self.place).context("the world lacks a node")?;
        let moved = |ip: &IpAddr| match ip {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(*v4) + 100).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(*v6) + 0x100).into()),
        };
        Ok([node.underlay.clone(), node.underlay.iter().map(moved).collect()])
    }

    fn change(&self, world: &World, verb: &str, addresses: &[IpAddr]) -> Result<()> {
        let [born, _] = self.addresses(world)?;
        for ip in addresses {
            let (prefix, flags) = match (Family::of(*ip), verb) {
                // A secondary address loses its routes for a moment when the primary one goes, and packets with them
                // (net/ipv4/devinet.c, __inet_del_ifa). One of another network is none.
                (Family::V4, _) if born.contains(ip) => (16, ""),
                (Family::V4, _) => (17, ""),
                (Family::V6, "add") => (64, "nodad"),
                (Family::V6, _) => (64, ""),
            };
            world.sh(self.place, &format!("ip addr {verb} {ip}/{prefix} dev eth0 {flags}"))?;
        }
        Ok(())
    }

    fn tell(&self, world: &World, addresses: &[IpAddr]) -> Result<()> {
        let mut list: Vec<Value> =
            addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
        list.push(json!({"type": "Hostname", "address": self.node}));
        world.apis.patch_status::<Node>(self.cluster, self.node, &json!({"status": {"addresses": list}}))
    }

    /// Waits until every peer sends there, and its own device sends from there.
    fn followed(&self, world: &World, addresses: &[IpAddr]) -> Result<()> {
        for ip in addresses {
            let suffix = if ip.is_ipv6() { "-6" } else { "" };
            for (peer, device) in self.peers {
                let fdb = format!("bridge fdb show dev {device}{suffix}");
                has(world, peer, &fdb, &format!("dst {ip} "))?;
            }
            let link = format!("ip -d link show vx-bridge{suffix}");
            has(world, self.place, &link, &format!("local {ip} "))?;
        }
        Ok(())
    }
}

fn underlay_moved(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    drill.lossless(|drill, round| {
        for mover in &MOVERS {
            let [old, new] = mover.addresses(drill.world)?;
            for (from, to) in [(&old, &new), (&new, &old)] {
                drill.mark(format!("round {round}: {} has {to:?} too", mover.place));
                mover.change(drill.world, "add", to)?;
                mover.tell(drill.world, to)?;
                mover.followed(drill.world, to)?;
                drill.world.settle()?;
                drill.mark(format!("round {round}: {} has {from:?} no more", mover.place));
                mover.change(drill.world, "del", from)?;
                drill.world.settle()?;
            }
        }
        Ok(())
    })
}

fn underlay_jumped(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let ways = drill.world.ways()?;
    drill.probed(&ways, Some("the peer is away until its Node tells its address"), |drill, round| {
        for mover in &MOVERS {
            let [old, new] = mover.addresses(drill.world)?;
            for (from, to) in [(&old, &new), (&new, &old)] {
                drill.mark(format!("round {round}: {} jumps to {to:?}", mover.place));
                mover.change(drill.world, "add", to)?;
                mover.change(drill.world, "del", from)?;
                thread::sleep(UNTOLD);
                drill.mark(format!("round {round}: the Node of {} tells {to:?}", mover.place));
                mover.tell(drill.world, to)?;
                mover.followed(drill.world, to)?;
                drill.world.settle()?;
            }
        }
        Ok(())
    })
}
