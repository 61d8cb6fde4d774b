//! The process that is a sandbox: it leaves the host, builds the world, serves the APIs, keeps the components running,
//! and takes everything with it when it ends.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use nix::unistd::{Pid, getpid};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use crate::addressing::Layout;
use crate::apis::{ApiError, Apis, HostListener, bind_on_host};
use crate::components::{Binaries, MissingProgram, components, servers};
use crate::isolate::{IsolationError, NETNS_DIRECTORY, Side, isolate, wait};
use crate::machines::{Clusters, MachineError, Parts};
use crate::processes::{ProcessSpec, Processes};
use crate::progress::Progress;
use crate::scenario::{ControlPlane, Scenario, ScenarioError};
use crate::state::{ApiStatus, Phase, Pids, StateDir, StateError, Status};
use crate::world::{BuildError, Namespaces, build, spaces};

/// How long a server may take until it listens, on a machine that has much else to do.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(60);

/// How a sandbox is run.
#[derive(Clone, Debug)]
pub struct SuperviseOptions {
    /// Its name.
    pub name: String,
    /// The namespaces, services and APIs only: no controller and no agent.
    pub without_components: bool,
    /// End when standard input does: whoever started this holds its other end.
    pub lifeline: bool,
}

/// Why a sandbox cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// Its directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was asked for.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// Leaving the host.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// The namespaces.
    #[error(transparent)]
    World(#[from] BuildError),
    /// The API servers.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The real clusters.
    #[error(transparent)]
    Machines(#[from] MachineError),
    /// The programs.
    #[error(transparent)]
    Program(#[from] MissingProgram),
    /// A process that does not start.
    #[error("{name}: {problem}")]
    Process {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The system refuses threads or such.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Runs the sandbox whose directory holds a scenario, until it is told to end. Call it before any thread is started.
pub fn supervise(options: &SuperviseOptions) -> ExitCode {
    match try_supervise(options) {
        Ok(code) => code,
        Err(error) => {
            Progress::Failed(error.to_string()).tell();
            ExitCode::FAILURE
        }
    }
}

fn try_supervise(options: &SuperviseOptions) -> Result<ExitCode, SuperviseError> {
    let state = StateDir::of(&options.name)?;
    let scenario = state.scenario()?;
    let layout = scenario.layout()?;
    // Held by both sides of the fork: the name is free when both are dead.
    let claim = state.hold()?;
    let listeners = bind_on_host(&layout)?;
    let outer = getpid();
    match isolate(state.path())? {
        Side::Outside(inner) => {
            drop(listeners);
            let inner_status = outside(&state, outer, inner);
            if options.lifeline && inner_status == 0 {
                // Its owner has let go or is dead: nobody else would ever remove what is left.
                claim.remove(&state)?;
            }
            Ok(ExitCode::from(u8::try_from(inner_status).unwrap_or(1)))
        }
        Side::Inside => {
            let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(false)
                .with_writer(std::io::stderr)
                .init();
            let sandbox = Inside { options, state: &state, scenario, layout };
            sandbox.run(listeners)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn outside(state: &StateDir, outer: Pid, inner: Pid) -> i32 {
    let pids = Pids { outer: outer.as_raw(), inner: inner.as_raw() };
    if let Err(error) = state.write_pids(pids) {
        Progress::Failed(error.to_string()).tell();
        return 1;
    }
    wait(inner)
}

/// The API servers, for as long as this lives.
enum Running {
    Embedded(Apis),
    Kubernetes(Clusters),
}

impl Running {
    fn statuses(&self) -> Vec<ApiStatus> {
        match self {
            Running::Embedded(apis) => apis.statuses(),
            Running::Kubernetes(clusters) => clusters.statuses(),
        }
    }
}

/// The sandbox from inside.
struct Inside<'a> {
    options: &'a SuperviseOptions,
    state: &'a StateDir,
    scenario: Scenario,
    layout: Layout,
}

impl Inside<'_> {
    fn run(&self, listeners: Vec<HostListener>) -> Result<(), SuperviseError> {
        let mut status = Status {
            name: self.state.name().to_owned(),
            scenario: self.scenario.clone(),
            ..Status::default()
        };
        self.state.write_status(&status)?;
        self.end_with_lifeline();
        let spaces = spaces(&self.layout);
        Progress::step(format!("{} network namespaces", spaces.len()));
        let namespaces = build(&spaces, Path::new(NETNS_DIRECTORY))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (processes, changes) = Processes::new();
        let processes = Arc::new(processes);
        let running = match self.layout.control_plane {
            ControlPlane::Embedded => self.start_embedded(&runtime, listeners, &processes, &namespaces)?,
            ControlPlane::Kubernetes => {
                self.start_kubernetes(&runtime, listeners, &processes, &namespaces)?
            }
        };
        status.apis = running.statuses();
        status.phase = Phase::Ready;
        status.processes = processes.statuses();
        self.state.write_status(&status)?;
        Progress::Ready.tell();
        loop {
            // Many changes at once are one status.
            match changes.recv_timeout(Duration::from_secs(3600)) {
                Ok(()) => while changes.try_recv().is_ok() {},
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            status.processes = processes.statuses();
            self.state.write_status(&status)?;
        }
    }

    fn start_embedded(
        &self,
        runtime: &Runtime,
        listeners: Vec<HostListener>,
        processes: &Processes,
        namespaces: &Namespaces,
    ) -> Result<Running, SuperviseError> {
        Progress::step(format!("{} API servers", self.layout.clusters.len() + 1));
        let apis = runtime.block_on(Apis::start(&self.layout, listeners, self.state))?;
        let binaries = Binaries::find();
        self.start_servers(&binaries, processes, namespaces)?;
        if !self.options.without_components {
            let components = components(&self.layout, &binaries, self.state)?;
            Progress::step(format!("{} controllers and agents", components.len()));
            self.start_all(processes, namespaces, components)?;
        }
        Ok(Running::Embedded(apis))
    }

    fn start_kubernetes(
        &self,
        runtime: &Runtime,
        listeners: Vec<HostListener>,
        processes: &Arc<Processes>,
        namespaces: &Namespaces,
    ) -> Result<Running, SuperviseError> {
        let binaries = Binaries::find();
        let (layout, state) = (&self.layout, self.state);
        let parts = Parts { layout, state, namespaces, processes, binaries: &binaries };
        let clusters = Clusters::start(&parts, listeners, runtime)?;
        self.start_servers(&binaries, processes, namespaces)?;
        if !self.options.without_components {
            Progress::step("ClusterLink, from its manifests");
            clusters.install(&parts, runtime)?;
        }
        Ok(Running::Kubernetes(clusters))
    }

    fn start_servers(
        &self,
        binaries: &Binaries,
        processes: &Processes,
        namespaces: &Namespaces,
    ) -> Result<(), SuperviseError> {
        let servers = servers(&self.layout, binaries)?;
        Progress::step(format!("{} answering pods and hosts", servers.len()));
        self.start_all(processes, namespaces, servers)?;
        processes
            .wait_for_output(LISTEN_TIMEOUT)
            .map_err(|problem| SuperviseError::Process { name: "servers".to_owned(), problem })
    }

    fn start_all(
        &self,
        processes: &Processes,
        namespaces: &Namespaces,
        specs: Vec<ProcessSpec>,
    ) -> Result<(), SuperviseError> {
        for spec in specs {
            let name = spec.name.clone();
            let wrong = |problem: String| SuperviseError::Process { name: name.clone(), problem };
            let namespace = namespaces
                .get(&spec.place)
                .ok_or_else(|| wrong(format!("there is no namespace {}", spec.place)))?;
            let log = self.state.log(&spec.name);
            processes.start(spec, namespace, &log).map_err(|error| wrong(error.to_string()))?;
        }
        Ok(())
    }

    /// Dies with whoever holds the other end of standard input. The kernel takes all else: see [`crate::isolate`].
    fn end_with_lifeline(&self) {
        if !self.options.lifeline {
            return;
        }
        std::thread::spawn(|| {
            let mut sink = [0u8; 64];
            while matches!(std::io::stdin().read(&mut sink), Ok(1..)) {}
            std::process::exit(0);
        });
    }
}
