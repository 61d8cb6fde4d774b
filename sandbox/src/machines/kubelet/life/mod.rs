//! The life of a pod on its machine: network, volumes, containers, probes, status, and an orderly end.

mod running;
mod supplies;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use netlink::Namespace;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::block_in_place;

use self::running::Running;
use super::Context;
use super::container::{Plan, Provided};
use super::environment::{Referred, Whereabouts, environment};
use super::probe::Watched;
use super::status::{Report, State};
use super::volumes::TokenRequested;
use crate::isolate::NETNS_DIRECTORY;
use crate::machines::cni;
use crate::machines::machine::Machine;
use crate::state::ProcessStatus;

/// How often it is looked how the containers are.
const LOOK: Duration = Duration::from_millis(200);
/// How often volumes are compared with the API; kubelets take up to a minute.
const REFRESH: Duration = Duration::from_secs(10);
/// How long is waited before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Unless a pod says otherwise.
const GRACE_SECONDS: i64 = 30;

/// Lives until the pod is deleted.
pub(super) async fn live(context: Context, machine: usize, mut object: watch::Receiver<Option<Pod>>) {
    let Some(pod) = object.borrow().clone() else { return };
    let mut life = Life::new(context, machine, pod);
    let mut told: Option<Report> = None;
    loop {
        let newest = object.borrow_and_update().clone();
        match newest {
            Some(pod) if pod.metadata.deletion_timestamp.is_none() => {}
            gone => return life.end(gone).await,
        }
        life.step().await;
        let report = life.report();
        if told.as_ref() != Some(&report) && life.tell(&report).await {
            told = Some(report);
        }
        let _ = tokio::time::timeout(LOOK, object.changed()).await;
    }
}

struct Life {
    context: Context,
    machine: usize,
    pod: Pod,
    directory: PathBuf,
    started: String,
    network: Option<(Namespace, Vec<IpAddr>)>,
    tokens: BTreeMap<TokenRequested, (String, Instant)>,
    volumes: BTreeMap<String, PathBuf>,
    referred: Referred,
    refreshed: Option<Instant>,
    not_before: Instant,
    containers: Vec<Running>,
}

impl Life {
    fn new(context: Context, machine: usize, pod: Pod) -> Self {
        let specs = pod.spec.as_ref().map(|spec| spec.containers.clone()).unwrap_or_default();
        let cluster = &context.machines.get(machine).cluster;
        let alone = specs.len() == 1;
        let running = |spec: Container| Running {
            log_name: match alone {
                true => format!("{cluster}.{}", pod.name_any()),
                false => format!("{cluster}.{}.{}", pod.name_any(), spec.name),
            },
            spec,
            child: None,
            state: State::Waiting { reason: "ContainerCreating", message: String::new() },
            restarts: 0,
            not_before: Instant::now(),
            readiness: None,
            liveness: None,
        };
        let containers = specs.into_iter().map(running).collect();
        let directory =
            context.machines.get(machine).directory.join("pods").join(pod.uid().unwrap_or_default());
        Life {
            machine,
            directory,
            started: now(),
            network: None,
            tokens: BTreeMap::new(),
            volumes: BTreeMap::new(),
            referred: Referred::default(),
            refreshed: None,
            not_before: Instant::now(),
            containers,
            context,
            pod,
        }
    }

    fn machine(&self) -> &Machine {
        self.context.machines.get(self.machine)
    }

    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    fn on_the_host(&self) -> bool {
        self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
    }

    fn restart_policy(&self) -> &str {
        let policy = self.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        policy.unwrap_or("Always")
    }

    /// Whatever is due.
    async fn step(&mut self) {
        if Instant::now() < self.not_before {
            return;
        }
        if let Err(problem) = self.prepare().await {
            tracing::warn!(pod = self.pod.name_any(), problem, "the pod cannot be prepared");
            self.not_before = Instant::now() + RETRY;
            for container in self.containers.iter_mut().filter(|container| container.child.is_none()) {
                container.state = State::Waiting { reason: "ContainerCreating", message: problem.clone() };
            }
            return;
        }
        for index in 0..self.containers.len() {
            block_in_place(|| self.attend(index));
        }
    }

    /// Network and volumes.
    async fn prepare(&mut self) -> Result<(), String> {
        if self.network.is_none() {
            self.network = Some(block_in_place(|| self.wire())?);
        }
        if self.refreshed.is_none_or(|at| at.elapsed() >= REFRESH) {
            self.read_referred().await?;
            self.renew_tokens().await?;
            block_in_place(|| self.fill_volumes())?;
            self.refreshed = Some(Instant::now());
        }
        Ok(())
    }

    fn netns_name(&self) -> String {
        format!("pod-{}", self.pod.uid().unwrap_or_default())
    }

    fn wire(&self) -> Result<(Namespace, Vec<IpAddr>), String> {
        let machine = self.machine();
        if self.on_the_host() {
            return Ok((machine.namespace.clone(), machine.addresses.clone()));
        }
        let path = Path::new(NETNS_DIRECTORY).join(self.netns_name());
        let namespace = match Namespace::open(&path) {
            Ok(namespace) => namespace,
            Err(_) => Namespace::create_at(&path).map_err(|error| error.to_string())?,
        };
        let request = self.request(&path);
        let addresses = cni::add(machine, &request.borrowed()).map_err(|error| error.to_string())?;
        Ok((namespace, addresses))
    }

    fn request(&self, netns: &Path) -> OwnedRequest {
        OwnedRequest {
            id: self.pod.uid().unwrap_or_default(),
            namespace: self.namespace(),
            name: self.pod.name_any(),
            netns: netns.to_owned(),
        }
    }

    fn whereabouts(&self) -> Whereabouts {
        let machine = self.machine();
        let first = |addresses: &[IpAddr]| addresses.first().map(ToString::to_string).unwrap_or_default();
        Whereabouts {
            host_ip: first(&machine.addresses),
            pod_ip: self.network.as_ref().map(|(_, addresses)| first(addresses)).unwrap_or_default(),
            api_server: (machine.api_server.0.to_string(), machine.api_server.1),
        }
    }

    /// Starts what should run, notes what has ended, and kills what says that it is not alive.
    fn attend(&mut self, index: usize) {
        let policy = self.restart_policy().to_owned();
        let container = &mut self.containers[index];
        if let Some(child) = &mut container.child {
            let ended = child.try_wait().ok().flatten();
            match ended {
                Some(status) => container.ended(status, &policy),
                None => return container.check_life(),
            }
            self.record(index, None);
        }
        let container = &self.containers[index];
        if matches!(container.state, State::Terminated { .. }) || Instant::now() < container.not_before {
            return;
        }
        if let Err(problem) = self.start(index) {
            let container = &mut self.containers[index];
            container.state = State::Waiting { reason: "CreateContainerError", message: problem };
            container.not_before = Instant::now() + RETRY;
        }
    }

    fn start(&mut self, index: usize) -> Result<(), String> {
        let spec = self.containers[index].spec.clone();
        let whereabouts = self.whereabouts();
        let root = self.directory.join("roots").join(&spec.name);
        let provided = Provided {
            environment: environment(&self.pod, &spec, &self.referred, &whereabouts)?,
            volumes: &self.volumes,
            root: &root,
            programs: &self.context.programs,
            log: self.context.state.log(&self.containers[index].log_name),
        };
        let plan = Plan::new(&self.pod, &spec, provided)?;
        let Some((namespace, _)) = &self.network else { return Err("it has no network yet".to_owned()) };
        let node = self.machine().namespace.clone();
        let watch = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
            let start = |probe| Watched::start(probe, &spec, &whereabouts.pod_ip, node.clone());
            probe.as_ref().map(start).transpose()
        };
        // First what may be refused: nobody would end the process.
        let (readiness, liveness) = (watch(&spec.readiness_probe)?, watch(&spec.liveness_probe)?);
        let child = plan.start(namespace).map_err(|error| format!("container {}: {error}", plan.name))?;
        let pid = child.id();
        let container = &mut self.containers[index];
        container.readiness = readiness;
        container.liveness = liveness;
        container.child = Some(child);
        container.state = State::Running { since: now() };
        self.record(index, Some(pid));
        Ok(())
    }

    /// Shows the container among the sandbox's processes.
    fn record(&self, index: usize, pid: Option<u32>) {
        let container = &self.containers[index];
        let last_exit = match &container.state {
            State::Waiting { message, .. } => Some(message.clone()),
            State::Terminated { code } => Some(format!("exited with status {code}")),
            State::Running { .. } => None,
        };
        self.context.processes.record(ProcessStatus {
            name: container.log_name.clone(),
            place: self.machine().place.clone(),
            pid,
            restarts: container.restarts,
            last_exit,
            log: self.context.state.log(&container.log_name),
        });
    }

    fn report(&self) -> Report {
        Report {
            started: self.started.clone(),
            host: self.machine().addresses.clone(),
            addresses: self.network.as_ref().map(|(_, addresses)| addresses.clone()).unwrap_or_default(),
            containers: self.containers.iter().map(Running::report).collect(),
        }
    }

    /// Whether the API server took it.
    async fn tell(&self, report: &Report) -> bool {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &self.namespace());
        let patch =
            Patch::Strategic(json!({"metadata": {"uid": self.pod.uid()}, "status": report.status(&now())}));
        let name = self.pod.name_any();
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(pod = name, %error, "the pod's status was not taken");
                false
            }
        }
    }

    /// SIGTERM, the pod's grace, SIGKILL; then nothing of it is left, and its object goes.
    async fn end(mut self, object: Option<Pod>) {
        for container in &mut self.containers {
            container.readiness = None;
            container.liveness = None;
            container.signal(Signal::SIGTERM);
        }
        let grace = object.as_ref().and_then(|pod| pod.metadata.deletion_grace_period_seconds);
        let grace = Duration::from_secs(u64::try_from(grace.unwrap_or(GRACE_SECONDS)).unwrap_or_default());
        let until = Instant::now() + grace;
        while Instant::now() < until && self.containers.iter_mut().any(Running::is_alive) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for container in &mut self.containers {
            if let Some(mut child) = container.child.take() {
                let _ = child.kill();
                let _ = block_in_place(|| child.wait());
            }
            self.context.processes.forget(&container.log_name);
        }
        block_in_place(|| self.clean());
        if let Some(pod) = object {
            let _ = remove(&self.context.client, &pod).await;
        }
    }

    fn clean(&self) {
        let path = Path::new(NETNS_DIRECTORY).join(self.netns_name());
        if self.network.is_some() && !self.on_the_host() {
            let request = self.request(&path);
            if let Err(error) = cni::delete(self.machine(), &request.borrowed()) {
                tracing::warn!(pod = self.pod.name_any(), %error, "the pod's network is not taken down");
            }
        }
        if path.exists() {
            let _ = Namespace::remove(&path);
        }
        // Whatever is left goes with the sandbox.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

struct OwnedRequest {
    id: String,
    namespace: String,
    name: String,
    netns: PathBuf,
}

impl OwnedRequest {
    fn borrowed(&self) -> cni::Request<'_> {
        cni::Request { id: &self.id, namespace: &self.namespace, name: &self.name, netns: &self.netns }
    }
}

/// Lets a pod's object go, whose processes have ended.
pub(super) async fn remove(client: &Client, pod: &Pod) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    api.delete(&pod.name_any(), &parameters).await.map(drop)
}

/// As the API writes times.
fn now() -> String {
    format!("{:.0}", Timestamp::now())
}
