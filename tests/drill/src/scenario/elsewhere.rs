//! What happens to others: a node, a CIDR and a cluster that have nothing to do with the flows come and go.

use anyhow::{Result, bail};
use api::{Cluster, EXCLUDE_LABEL};
use k8s_openapi::api::core::v1::Node;
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use super::{Drill, Scenario};
use crate::figures::Row;
use crate::world::World;

/// A node, a CIDR and a cluster leave and come back, one after another.
pub(super) const ELSEWHERE: Scenario = Scenario {
    name: "elsewhere",
    what: "a node, a CIDR and a whole cluster are removed and added elsewhere",
    few: 1,
    full: 10,
    run: elsewhere,
};

/// Where the change must arrive: nodes of both modes that carry the flows.
const WITNESSES: [&str; 2] = ["a1", "c1"];

fn elsewhere(drill: &mut Drill<'_>) -> Result<Vec<Row>> {
    drill.lossless(|drill, round| {
        let world = drill.world;
        drill.mark(format!("round {round}: node d2 leaves"));
        exclude(world, "true".into())?;
        routed(world, "10.4.2.0/24", false)?;
        drill.mark(format!("round {round}: node d2 comes"));
        exclude(world, Value::Null)?;
        routed(world, "10.4.2.0/24", true)?;

        drill.mark(format!("round {round}: the node of cluster e comes back with another CIDR"));
        pod_cidrs(world, "10.55.1.0/24")?;
        routed(world, "10.5.1.0/24", false)?;
        routed(world, "10.55.1.0/24", true)?;
        drill.mark(format!("round {round}: the CIDR of cluster e is as before"));
        pod_cidrs(world, "10.5.1.0/24")?;
        routed(world, "10.55.1.0/24", false)?;
        routed(world, "10.5.1.0/24", true)?;

        let mut cluster: Cluster = world.apis.get("control", "e")?;
        drill.mark(format!("round {round}: cluster e leaves"));
        world.apis.delete::<Cluster>("control", "e")?;
        routed(world, "10.5.1.0/24", false)?;
        drill.mark(format!("round {round}: cluster e comes"));
        cluster.metadata = ObjectMeta { name: Some("e".to_owned()), ..Default::default() };
        cluster.status = None;
        world.apis.create("control", &cluster)?;
        routed(world, "10.5.1.0/24", true)?;
        world.settle()
    })
}

fn exclude(world: &World, label: Value) -> Result<()> {
    world.apis.patch::<Node>("d", "node2", &json!({"metadata": {"labels": {EXCLUDE_LABEL: label}}}))
}

/// A node's CIDR is for its life: it is made anew.
fn pod_cidrs(world: &World, v4: &str) -> Result<()> {
    let mut node: Node = world.apis.get("e", "node1")?;
    world.apis.delete::<Node>("e", "node1")?;
    node.metadata =
        ObjectMeta { name: node.metadata.name, labels: node.metadata.labels, ..ObjectMeta::default() };
    let status = node.status.clone();
    if let Some(spec) = &mut node.spec {
        spec.pod_cidr = Some(v4.to_owned());
        spec.pod_cidrs = Some(vec![v4.to_owned(), "fd00:10:5:1::/64".to_owned()]);
    }
    world.apis.create("e", &node)?;
    world.apis.patch_status::<Node>("e", "node1", &json!({"status": status}))
}

/// Waits until every witness has, or has not, a route to this network.
pub(super) fn routed(world: &World, network: &str, wanted: bool) -> Result<()> {
    let line = format!("{network} ");
    for place in WITNESSES {
        world.eventually(|| {
            let routes = world.sh(place, "ip route show table 200")?;
            if routes.lines().any(|route| route.starts_with(&line)) != wanted {
                bail!(
                    "{place}: a route to {network}: {} expected: {routes}",
                    if wanted { "one" } else { "none" }
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}
