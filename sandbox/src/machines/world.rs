//! What the world is made of, as objects: nodes, services, pods that answer; and who may read and write them.

use serde_json::{Value, json};

use super::MachineError;
use super::apply::apply;
use super::daemons::FLANNEL;
use super::planes::Planes;
use crate::addressing::Layout;
use crate::objects;

/// Definitions, nodes, services, and the rights of flannel.
pub(super) async fn create(layout: &Layout, planes: &Planes) -> Result<(), MachineError> {
    let all = planes.iter().map(|plane| {
        let cluster = layout.clusters.iter().find(|cluster| cluster.name == plane.cluster);
        let mut objects = objects::definitions();
        match cluster {
            Some(cluster) => {
                objects.extend(objects::nodes_and_services(cluster));
                objects.extend(rights_of_flannel());
            }
            None => objects.push(objects::control_node()),
        }
        apply(plane, objects)
    });
    futures::future::try_join_all(all).await.map(drop)
}

/// The world's pods, which are wired and about to answer, and in the control cluster what a person says of the members.
pub(super) async fn populate(layout: &Layout, planes: &Planes) -> Result<(), MachineError> {
    let all = planes.iter().map(|plane| {
        let cluster = layout.clusters.iter().find(|cluster| cluster.name == plane.cluster);
        let objects = match cluster {
            Some(cluster) => objects::pods(cluster),
            None => objects::clusters(layout),
        };
        apply(plane, objects)
    });
    futures::future::try_join_all(all).await.map(drop)
}

/// As in flannel's own manifest, but for a user with a certificate: it does not run as a pod here.
fn rights_of_flannel() -> [Value; 2] {
    let meta = json!({"name": FLANNEL});
    let group = "rbac.authorization.k8s.io";
    [
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": meta,
            "rules": [
                {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
            ],
        }),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": FLANNEL},
            "subjects": [{"apiGroup": group, "kind": "User", "name": FLANNEL}],
        }),
    ]
}
