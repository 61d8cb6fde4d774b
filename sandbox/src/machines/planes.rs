//! A control plane for each cluster, in the root namespace.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ::kubernetes::{ControlPlane, Options, Part};
use api::Family;
use kube::Client;
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::{MachineError, Parts, forward};
use crate::addressing::{ClusterLayout, ROOT, underlay_gateway};
use crate::apis::{FIRST_PORT, HostListener};
use crate::processes::Processes;
use crate::scenario::CONTROL;
use crate::state::{ApiStatus, ProcessStatus, StateDir};

/// A cluster's control plane.
pub(super) struct Plane {
    /// `control`, or the member's name.
    pub(super) cluster: String,
    pub(super) control_plane: ControlPlane,
    status: Option<ApiStatus>,
    client: Option<Client>,
}

impl Plane {
    /// A client that may do everything.
    pub(super) fn client(&self) -> Client {
        self.client.clone().expect("clients are made before anything asks")
    }

    fn name_of(&self, program: &str) -> String {
        format!("{program}-{}", self.cluster)
    }

    fn show(&self, processes: &Processes, (part, program): (Part, &str), restarts: u32, log: PathBuf) {
        processes.record(ProcessStatus {
            name: self.name_of(program),
            place: ROOT.to_owned(),
            pid: self.control_plane.pid(part),
            restarts,
            last_exit: (restarts > 0).then(|| "it ended; its log says more".to_owned()),
            log,
        });
    }

    fn keep(&self, processes: &Processes, state: &StateDir) {
        let mut restarts = [0; PARTS.len()];
        loop {
            thread::sleep(LOOK);
            for ((part, program), restarts) in PARTS.into_iter().zip(&mut restarts) {
                if !self.control_plane.pid(part).is_some_and(has_ended) {
                    continue;
                }
                *restarts += 1;
                if let Err(error) = self.control_plane.start_again(part) {
                    tracing::warn!(cluster = self.cluster, program, %error, "it is tried again");
                }
                self.show(processes, (part, program), *restarts, state.log(&self.name_of(program)));
            }
        }
    }
}

/// All control planes, the control cluster's first.
pub(super) struct Planes(Vec<Plane>);

/// How often it is looked whether a part of a control plane has ended, which is how long it stays down at most.
const LOOK: Duration = Duration::from_secs(1);

/// The parts of a control plane that are kept running.
const PARTS: [(Part, &str); 3] = [
    (Part::Etcd, "etcd"),
    (Part::ApiServer, "kube-apiserver"),
    (Part::ControllerManager, "kube-controller-manager"),
];

impl Planes {
    pub(super) fn start(parts: &Parts<'_>, programs: &::kubernetes::Binaries) -> Result<Self, MachineError> {
        let clusters: Vec<Option<&ClusterLayout>> =
            std::iter::once(None).chain(parts.layout.clusters.iter().map(Some)).collect();
        thread::scope(|scope| {
            let starting: Vec<_> = (0..)
                .zip(&clusters)
                .map(|(number, &cluster)| scope.spawn(move || start(parts, programs, cluster, number)))
                .collect();
            let planes = starting.into_iter().map(|thread| thread.join().expect("it reports its errors"));
            planes.collect::<Result<Vec<_>, _>>().map(Planes)
        })
    }

    /// Makes the API servers reachable from the host, and writes the administrators' kubeconfigs for use there.
    pub(super) async fn forward(
        &mut self,
        listeners: Vec<HostListener>,
        state: &StateDir,
    ) -> Result<(), MachineError> {
        for host in listeners {
            let Some(plane) = self.0.iter_mut().find(|plane| plane.cluster == host.cluster()) else {
                continue;
            };
            let name = plane.cluster.clone();
            let failed = |source| MachineError::Process { name: name.clone(), source };
            let listener = host.into_listener();
            let url = format!("https://{}", listener.local_addr().map_err(failed)?);
            let failed = |source| MachineError::Process { name: name.clone(), source };
            forward::start(listener, plane.control_plane.port()).map_err(failed)?;
            let path = plane.control_plane.admin_kubeconfig();
            let text = std::fs::read_to_string(&path).map_err(MachineError::file(&path))?;
            let inside = plane.control_plane.url();
            state.write(&format!("{name}.kubeconfig"), &text.replace(inside, &url))?;
            plane.client = Some(plane.control_plane.client().await?);
            plane.status = Some(ApiStatus { kubeconfig: state.kubeconfig(&name), cluster: name, url });
        }
        Ok(())
    }

    /// Shows every part among the sandbox's processes, and starts again what ends, for as long as the sandbox lives.
    pub(super) fn keep(planes: &Arc<Self>, parts: &Parts<'_>) -> Result<(), MachineError> {
        for (number, plane) in planes.0.iter().enumerate() {
            for (part, program) in PARTS {
                let log = plane.control_plane.directory().join(format!("{program}.log"));
                let shown = parts.state.log(&plane.name_of(program));
                symlink(&log, &shown).map_err(MachineError::file(&shown))?;
                plane.show(parts.processes, (part, program), 0, shown);
            }
            let (planes, processes, state) =
                (Arc::clone(planes), Arc::clone(parts.processes), parts.state.clone());
            thread::spawn(move || planes.0[number].keep(&processes, &state));
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Plane> {
        self.0.iter()
    }

    pub(super) fn of(&self, cluster: &str) -> &Plane {
        self.0.iter().find(|plane| plane.cluster == cluster).expect("every cluster has a control plane")
    }

    pub(super) fn control(&self) -> &Plane {
        self.of(CONTROL)
    }

    pub(super) fn statuses(&self) -> Vec<ApiStatus> {
        self.0.iter().filter_map(|plane| plane.status.clone()).collect()
    }
}

fn start(
    parts: &Parts<'_>,
    programs: &::kubernetes::Binaries,
    cluster: Option<&ClusterLayout>,
    number: u16,
) -> Result<Plane, MachineError> {
    let name = cluster.map_or(CONTROL, |cluster| &cluster.name);
    let mut options = Options::named(name, programs.clone());
    options.directory = Some(parts.state.path().join("planes").join(name));
    options.listen = Ipv4Addr::UNSPECIFIED.into();
    options.advertise = underlay_gateway(Family::V4);
    options.port = FIRST_PORT + number;
    if let Some(cluster) = cluster {
        options.service_cidrs.clone_from(&cluster.service_cidrs);
    }
    let control_plane = ControlPlane::start(&options)?;
    let flags = controller_flags(cluster);
    control_plane.start_controller_manager(&flags.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(Plane { cluster: name.to_owned(), control_plane, status: None, client: None })
}

/// Whether a child has ended; it stays to be waited for.
fn has_ended(pid: u32) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(Pid::from_raw(pid.cast_signed())), flags) {
        Ok(WaitStatus::StillAlive) => false,
        Ok(_) | Err(Errno::ECHILD) => true,
        Err(_) => false,
    }
}

/// Who gives nodes their pod CIDRs, of a member.
fn controller_flags(cluster: Option<&ClusterLayout>) -> Vec<String> {
    let Some(cluster) = cluster else { return Vec::new() };
    let list = |networks: &[ipnetwork::IpNetwork]| {
        networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    vec![
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={}", list(&cluster.pod_cidrs)),
        format!("--service-cluster-ip-range={}", list(&cluster.service_cidrs)),
    ]
}
