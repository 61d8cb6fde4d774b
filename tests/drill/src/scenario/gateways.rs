//! Gateways that come and go, planned and unplanned, and a cluster that changes its mode.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::{Cluster, ClusterNode, GATEWAY_LABEL, GATEWAY_ROLE, NetworkType};
use k8s_openapi::api::core::v1::Node;
use netperf::outage::EventKind;
use serde_json::{Value, json};

use super::{Drill, Scenario};
use crate::figures::{Repairs, Row};
use crate::probes::{Flow, Way};
use crate::world::World;

/// One of two gateways is taken away by its label and comes back.
pub(super) const GATEWAY_MOVED: Scenario = Scenario {
    name: "gateway-moved",
    what: "one of two gateways is removed and added by its label, with flows to pods and services",
    few: 1,
    full: 20,
    run: gateway_moved,
};

/// A cluster goes from gateway mode to P2P and back.
pub(super) const MODE_CHANGED: Scenario = Scenario {
    name: "mode-changed",
    what: "a cluster goes from gateway mode to P2P and back, with flows to pods and services",
    few: 1,
    full: 10,
    run: mode_changed,
};

/// A gateway loses its underlay without a word.
pub(super) const GATEWAY_LOST: Scenario = Scenario {
    name: "gateway-lost",
    what: "a gateway's underlay goes away; nothing probes, so its Node is set NotReady a second later",
    few: 0,
    full: 5,
    run: gateway_lost,
};

/// How long nobody is told of the loss.
const UNTOLD: Duration = Duration::from_secs(1);
/// How long flows may take to settle after a recovery.
const AFTER: Duration = Duration::from_secs(2);

/// The usual ways, and those to both services of the cluster whose gateway goes.
fn ways(world: &World) -> Result<Vec<Way>> {
    let mut ways = world.ways()?;
    let cluster = world.sandbox.layout().clusters.iter().find(|cluster| cluster.name == "a");
    for service in &cluster.context("the world lacks cluster a")?.services {
        for from in ["c1-pod1", "b2-pod1"] {
            ways.push(Way {
                from: from.to_owned(),
                to: service.backend.place.clone(),
                addresses: service.addresses.clone(),
                mode: NetworkType::Gateway,
                // some of them by either gateway
                connections: 4,
            });
        }
    }
    Ok(ways)
}

fn gateway_moved(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let ways = ways(drill.world)?;
    drill.probed(&ways, None, |drill, round| {
        // one that carries flows and one that carries the others
        let (node, place) = if round % 2 == 0 { ("node2", "a2") } else { ("node1", "a1") };
        let why = format!("{place}, which had translated it, is no gateway any more");
        let translated = translated(drill.world, place)?;
        drill.mark(format!("round {round}: a/{node} is no gateway any more"));
        drill.excuse(translated, &why);
        set_gateways(drill.world, 1)?;
        label(drill.world, node, Value::Null)?;
        is_gateway(drill.world, node, false)?;
        drill.world.settle()?;
        drill.mark(format!("round {round}: a/{node} is a gateway"));
        label(drill.world, node, "true".into())?;
        set_gateways(drill.world, 2)?;
        is_gateway(drill.world, node, true)?;
        drill.world.settle()
    })
}

/// The askers' ports of the connections to services that a gateway translates: what it knows goes with it.
fn translated(world: &World, place: &str) -> Result<BTreeSet<u16>> {
    let entries = world.sh(place, "conntrack -L -p tcp 2>/dev/null || cat /proc/net/nf_conntrack")?;
    let port =
        |entry: &str| entry.split_whitespace().find_map(|word| word.strip_prefix("sport=")?.parse().ok());
    Ok(entries.lines().filter_map(port).collect())
}

fn set_gateways(world: &World, count: u16) -> Result<()> {
    let patch = json!({"spec": {"clusterLinkOptions": {"gateways": count}}});
    world.apis.patch::<Cluster>("control", "a", &patch)
}

fn label(world: &World, node: &str, value: Value) -> Result<()> {
    world.apis.patch::<Node>("a", node, &json!({"metadata": {"labels": {GATEWAY_LABEL: value}}}))
}

pub(super) fn is_gateway(world: &World, node: &str, wanted: bool) -> Result<()> {
    let name = format!("a-{node}");
    world.eventually(|| {
        let object: ClusterNode = world.apis.get("control", &name)?;
        let is = object.spec.roles.iter().any(|role| role == GATEWAY_ROLE);
        if is == wanted { Ok(()) } else { bail!("ClusterNode {name}: roles are {:?}", object.spec.roles) }
    })
}

/// A connection to a service stays with the gateway that translates it, which translates in either mode.
fn mode_changed(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let ways = ways(drill.world)?;
    drill.probed(&ways, None, |drill, round| {
        for mode in ["p2p", "gateway"] {
            drill.mark(format!("round {round}: cluster a goes to {mode}"));
            let patch = json!({"spec": {"clusterLinkOptions": {"networkType": mode}}});
            drill.world.apis.patch::<Cluster>("control", "a", &patch)?;
            drill.world.eventually(|| {
                let routes = drill.world.sh("a3", "ip route show table 200 10.2.2.0/24")?;
                let device = if mode == "p2p" { "dev vx-bridge " } else { "dev vx-local " };
                if routes.contains(device) { Ok(()) } else { bail!("a3 has not followed: {routes}") }
            })?;
            drill.world.settle()?;
        }
        Ok(())
    })
}

/// Prints what goes with it.
const LOSES_UNDERLAY: &str = "ip route show dev eth0; ip -6 route show dev eth0; ip link set eth0 down";

fn gateway_lost(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    drill.captured(gateways_lost)
}

fn gateways_lost(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    let why = "nothing probes yet: lost until the Node is NotReady";
    let ways = ways(drill.world)?;
    let mut times = Vec::new();
    let mut rows = Vec::new();
    for round in 0..drill.rounds {
        let (node, place) = if round % 2 == 0 { ("node1", "a1") } else { ("node2", "a2") };
        let probes = drill.world.probes(&ways)?;
        thread::sleep(UNTOLD);
        drill.mark(format!("round {round}: {place} loses its underlay"));
        let routes = drill.world.sh(place, LOSES_UNDERLAY)?;
        thread::sleep(UNTOLD);
        drill.mark(format!("round {round}: the Node of {place} is NotReady"));
        let told = drill.marks.last().map_or(0, |mark| mark.at_us);
        ready(drill.world, node, false)?;
        is_gateway(drill.world, node, false)?;
        thread::sleep(AFTER);
        let seen = probes.stop()?;
        times.extend(last_loss(&seen.flows, told));
        restore(drill.world, place, &routes)?;
        ready(drill.world, node, true)?;
        is_gateway(drill.world, node, true)?;
        drill.world.settle()?;
        let (concerned, others) = seen.partition(NetworkType::Gateway);
        for (seen, expected) in [(concerned, Some(why)), (others, None)] {
            merge(&mut rows, drill.told(&seen, expected));
        }
    }
    if let Some(row) = rows.first_mut() {
        row.repair = Repairs::of(&times);
        row.notes.push("the times are from NotReady to the last lost packet".to_owned());
    }
    Ok(rows)
}

/// How long after it was told the last packet was lost.
fn last_loss(flows: &[Flow], told_us: u64) -> Option<Duration> {
    let lost = flows.iter().flat_map(|flow| {
        let events = flow.report.account.events.iter().filter(|event| event.kind == EventKind::Lost);
        events.map(|event| flow.report.started_us + event.at_us)
    });
    lost.max().map(|last| Duration::from_micros(last.saturating_sub(told_us)))
}

pub(super) fn ready(world: &World, node: &str, ready: bool) -> Result<()> {
    let status = if ready { "True" } else { "False" };
    let condition =
        json!([{"type": "Ready", "status": status, "reason": "Drill", "message": "said by the drill"}]);
    world.apis.patch_status::<Node>("a", node, &json!({"status": {"conditions": condition}}))
}

/// The interface comes up with what went with it: routes of both families, and the addresses of IPv6.
fn restore(world: &World, place: &str, routes: &str) -> Result<()> {
    world.sh(place, "ip link set eth0 up")?;
    let mut nodes = world.sandbox.layout().nodes();
    let (_, node) = nodes.find(|(_, node)| node.place == place).context("the world lacks a node")?;
    for ip in node.underlay.iter().filter(|ip| ip.is_ipv6()) {
        world.sh(place, &format!("ip addr replace {ip}/64 dev eth0 nodad"))?;
    }
    for route in routes.lines().filter(|route| !route.contains("proto kernel")) {
        world.sh(place, &format!("ip route replace {} dev eth0", route.replace("linkdown", "")))?;
    }
    Ok(())
}

fn merge(rows: &mut Vec<Row>, more: Vec<Row>) {
    for new in more {
        match rows.iter_mut().find(|row| row.mode == new.mode) {
            Some(row) => {
                row.sent += new.sent;
                row.lost += new.lost;
                row.late += new.late;
                row.duplicated += new.duplicated;
                row.reordered += new.reordered;
                row.stall_ms = [row.stall_ms, new.stall_ms].into_iter().flatten().reduce(f64::max);
                row.notes.extend(new.notes);
                row.problems.extend(new.problems);
            }
            None => rows.push(new),
        }
    }
}
