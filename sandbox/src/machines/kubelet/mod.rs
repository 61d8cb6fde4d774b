//! A small kubelet for all nodes: what is bound to one of them becomes processes there, with the mounts, environment, user and
//! capabilities of its spec, and its status says how they are.
//!
//! It knows what ClusterLink's manifests use, and refuses a pod that asks for more by name ([`volumes`], [`container`]).

mod container;
mod environment;
mod life;
mod probe;
mod root;
mod status;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use super::machine::Machines;
use super::planes::{Plane, Planes};
use super::{MachineError, Parts};
use crate::components::NETPERF;
use crate::objects::is_of_the_world;
use crate::processes::Processes;
use crate::state::StateDir;

/// How often a node says that it lives; kube-controller-manager waits for four of them.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What every pod's life needs.
#[derive(Clone)]
struct Context {
    machines: Arc<Machines>,
    processes: Arc<Processes>,
    state: StateDir,
    client: Client,
    /// The directory that stands for `/usr/local/bin` in the image.
    programs: PathBuf,
}

/// The kubelets of all nodes.
pub(super) struct Kubelet;

impl Kubelet {
    /// Begins to look after all nodes, for as long as the sandbox lives.
    pub(super) async fn start(
        planes: &Planes,
        machines: &Arc<Machines>,
        parts: &Parts<'_>,
    ) -> Result<(), MachineError> {
        let netperf = parts.binaries.program(NETPERF)?;
        let programs = netperf.parent().map(PathBuf::from).unwrap_or_default();
        for plane in planes.iter() {
            let context = Context {
                machines: Arc::clone(machines),
                processes: Arc::clone(parts.processes),
                state: parts.state.clone(),
                client: plane.client(),
                programs: programs.clone(),
            };
            beat(plane, machines).await?;
            tokio::spawn(keep_beating(plane.client(), nodes(plane, machines)));
            tokio::spawn(look_after(context, plane.cluster.clone()));
        }
        Ok(())
    }
}

fn nodes(plane: &Plane, machines: &Machines) -> Vec<String> {
    let own = machines.iter().filter(|machine| machine.cluster == plane.cluster);
    own.map(|machine| machine.node.clone()).collect()
}

async fn beat(plane: &Plane, machines: &Machines) -> Result<(), MachineError> {
    for node in nodes(plane, machines) {
        let failed = MachineError::api(&plane.cluster, format!("Lease {node}"));
        renew(&plane.client(), &node).await.map_err(failed)?;
    }
    Ok(())
}

async fn keep_beating(client: Client, nodes: Vec<String>) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        for node in &nodes {
            if let Err(error) = renew(&client, node).await {
                tracing::warn!(node, %error, "the node's lease could not be renewed");
            }
        }
    }
}

async fn renew(client: &Client, node: &str) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let now = format!("{:.6}", Timestamp::now());
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": node},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now},
    });
    leases.patch(node, &PatchParams::apply("kubelet").force(), &Patch::Apply(lease)).await.map(drop)
}

/// Gives every pod that is bound to one of our nodes a life of its own, and tells it what becomes of its object.
async fn look_after(context: Context, cluster: String) {
    let mut lives: BTreeMap<String, watch::Sender<Option<Pod>>> = BTreeMap::new();
    let api: Api<Pod> = Api::all(context.client.clone());
    let mut events = watcher(api, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                lives.retain(|_, life| !life.is_closed());
                found(&context, &cluster, pod, &mut lives);
            }
            Ok(watcher::Event::Delete(pod)) => {
                if let Some(life) = lives.remove(&pod.uid().unwrap_or_default()) {
                    let _ = life.send(None);
                }
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => tracing::debug!(cluster, %error, "the pods' watch was interrupted"),
        }
    }
}

fn found(
    context: &Context,
    cluster: &str,
    pod: Pod,
    lives: &mut BTreeMap<String, watch::Sender<Option<Pod>>>,
) {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let Some(machine) = node.and_then(|node| context.machines.find(cluster, node)) else { return };
    if is_of_the_world(&pod) {
        if pod.metadata.deletion_timestamp.is_some() {
            // Its namespace and its process stay, as they do with the embedded API.
            let client = context.client.clone();
            tokio::spawn(async move { life::remove(&client, &pod).await });
        }
        return;
    }
    let uid = pod.uid().unwrap_or_default();
    if let Some(life) = lives.get(&uid) {
        let _ = life.send(Some(pod));
        return;
    }
    let (sender, receiver) = watch::channel(Some(pod));
    lives.insert(uid, sender);
    tokio::spawn(life::live(context.clone(), machine, receiver));
}
