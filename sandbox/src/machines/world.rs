//! What the world is made of, as objects: nodes, services, pods that answer; and who may read and write them.

use serde_json::{Value, json};

use super::MachineError;
use super::apply::apply;
use super::daemons::FLANNEL;
use super::planes::Planes;
use crate::addressing::Layout;
use crate::objects;

/// Nodes, services, and the rights of flannel.
pub(super) async fn create(layout: &Layout, planes: &Planes) -> Result<(), MachineError> {
    let all = planes.iter().map(|plane| {
        let cluster = layout.clusters.iter().find(|cluster| cluster.name == plane.cluster);
        let mut objects = match cluster {
            Some(cluster) => objects::nodes_and_services(cluster),
            None => vec![objects::control_node()],
        };
        name_the_kernel(&mut objects);
        if cluster.is_some() {
            objects.extend(rights_of_flannel());
        }
        apply(plane, objects)
    });
    futures::future::try_join_all(all).await.map(drop)
}

/// Every node is this machine, and says so as its kubelet would.
fn name_the_kernel(objects: &mut [Value]) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    for node in objects.iter_mut().filter(|object| object["kind"] == "Node") {
        node["status"]["nodeInfo"]["kernelVersion"] = release.trim().into();
    }
}

/// The world's pods, which are wired and about to answer.
pub(super) async fn populate(layout: &Layout, planes: &Planes) -> Result<(), MachineError> {
    let all = layout.clusters.iter().map(|cluster| apply(planes.of(&cluster.name), objects::pods(cluster)));
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
