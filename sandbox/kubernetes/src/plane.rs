//! A running control plane.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use serde_json::json;

use crate::connect::{self, ConnectError, Until};
use crate::files::{ADMIN, CA, Cluster, ETCD_SOCKET, Files, file_name, user};
use crate::identity::{Authority, IdentityError};
use crate::keeper::{Keeper, Process};
use crate::last_words::last_lines;
use crate::options::Options;
use crate::reaper::Reaper;
use crate::{etcd, programs};

/// The group that may do everything.
const MASTERS: &str = "system:masters";
/// Ports from here on are tried. They are below those that the kernel gives to outgoing connections, so that a server which
/// is down for a moment finds its port free again.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// Why a control plane is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The network namespace could not be entered.
    #[error("control plane {name}: entering its network namespace: {source}")]
    Namespace {
        /// The control plane.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// No port is free.
    #[error("control plane {name}: no free port on {address}: {source}")]
    Port {
        /// The control plane.
        name: String,
        /// Where it was to listen.
        address: IpAddr,
        /// The reason.
        source: io::Error,
    },
    /// A program cannot be run, ended or asked.
    #[error("{program}: {source}")]
    Program {
        /// Which.
        program: String,
        /// The reason.
        source: io::Error,
    },
    /// A program has ended, or does not serve.
    #[error("{program} {how}")]
    Ended {
        /// Which.
        program: String,
        /// How it ended, with the last lines of its log.
        how: String,
    },
    /// The API server could not be asked.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// A part of a control plane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Where the objects are. What it knew survives that it is killed.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager, once it was started.
    ControllerManager,
}

/// A running control plane. It ends, and its directory is removed, when this is dropped or the program that holds it dies.
///
/// All methods that start something wait until it serves; they block, for seconds. Clients belong to the runtime that they
/// were made in: a test that has a runtime of its own needs a client of its own.
#[derive(Debug)]
pub struct ControlPlane {
    options: Options,
    port: u16,
    cluster: Cluster,
    authority: Arc<Authority>,
    // In the order of their end: processes, then the thread that started them, then the directory.
    controller_manager: Mutex<Option<Arc<Process>>>,
    api_server: Arc<Process>,
    etcd: Arc<Process>,
    keeper: Keeper,
    files: Files,
    _reaper: Reaper,
}

impl ControlPlane {
    /// Starts etcd and the API server, and waits until they serve.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let name = &options.name;
        let files = Files::create(options)?;
        let reaper = Reaper::start(files.directory())
            .map_err(|source| Error::Program { program: "sh".to_owned(), source })?;
        let keeper = Keeper::start(options.network_namespace.as_deref())
            .map_err(|source| Error::Namespace { name: name.clone(), source })?;
        let address = options.listen;
        let port = match options.port {
            0 => keeper.run(move || free_port(address)).map_err(|source| Error::Port {
                name: name.clone(),
                address,
                source,
            })?,
            port => port,
        };
        let authority = Arc::new(Authority::generate(name)?);
        files.write_identities(&authority, &programs::server_names(options))?;
        let cluster = Cluster {
            name: name.clone(),
            url: programs::url(options, port),
            ca: authority.pair.certificate.clone(),
        };
        let admin = user(&authority, "kubernetes-admin", &[MASTERS])?;
        files.write_kubeconfig(ADMIN, &cluster, ("kubernetes-admin", admin))?;
        let plane = Self {
            port,
            cluster,
            authority,
            controller_manager: Mutex::new(None),
            api_server: Arc::new(Process::new(programs::api_server(options, &files, port))),
            etcd: Arc::new(Process::new(programs::etcd(options, &files))),
            keeper,
            files,
            options: options.clone(),
            _reaper: reaper,
        };
        plane.run(&plane.etcd)?;
        plane.start_again(Part::ApiServer)?;
        Ok(plane)
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.cluster.name
    }

    /// What kubeconfigs name: `https://127.0.0.1:20000`.
    pub fn url(&self) -> &str {
        &self.cluster.url
    }

    /// The port that the API server listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the cluster's CA, as PEM.
    pub fn ca(&self) -> &str {
        &self.cluster.ca
    }

    /// A file that holds [`ControlPlane::ca`].
    pub fn ca_file(&self) -> PathBuf {
        self.files.path(CA)
    }

    /// The programs that it runs.
    pub fn binaries(&self) -> &crate::Binaries {
        &self.options.binaries
    }

    /// Where its files and logs are. Whatever is put there goes with it.
    pub fn directory(&self) -> &Path {
        self.files.directory()
    }

    /// The kubeconfig of a user who may do everything, by a client certificate.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.files.path(ADMIN)
    }

    /// The kubeconfig of a user in at most two groups, by a client certificate. Same user, same file.
    pub fn kubeconfig_for(&self, name: &str, groups: &[&str]) -> Result<PathBuf, Error> {
        let credentials = user(&self.authority, name, groups)?;
        let file = format!("user-{}.kubeconfig", file_name(name));
        self.files.write_kubeconfig(&file, &self.cluster, (name, credentials))
    }

    /// A kubeconfig with a bearer token, in the file `token-NAME.kubeconfig`.
    pub fn kubeconfig_with_token(&self, name: &str, token: &str) -> Result<PathBuf, Error> {
        let file = format!("token-{}.kubeconfig", file_name(name));
        self.files.write_kubeconfig(&file, &self.cluster, (name, json!({"token": token})))
    }

    /// A token of a service account that exists, for an hour, by TokenRequest.
    pub async fn token(&self, namespace: &str, account: &str) -> Result<String, Error> {
        Ok(connect::token(self.client().await?, namespace, account).await?)
    }

    /// The kubeconfig of a service account that exists, with a token for an hour.
    pub async fn kubeconfig_of_account(&self, namespace: &str, account: &str) -> Result<PathBuf, Error> {
        let token = self.token(namespace, account).await?;
        self.kubeconfig_with_token(&format!("{namespace}.{account}"), &token)
    }

    /// A client that may do everything.
    pub async fn client(&self) -> Result<Client, Error> {
        self.client_of(&self.admin_kubeconfig()).await
    }

    /// A client for a kubeconfig, of this or another cluster.
    pub async fn client_of(&self, kubeconfig: &Path) -> Result<Client, Error> {
        Ok(connect::client(kubeconfig).await?)
    }

    /// Starts kube-controller-manager with these further flags, and waits for the first service account unless
    /// `--controllers` is among the flags. A second call changes nothing while it runs.
    pub fn start_controller_manager(&self, flags: &[&str]) -> Result<(), Error> {
        let program = programs::controller_manager(&self.options, &self.files, flags);
        let all = !flags.iter().any(|flag| flag.starts_with("--controllers"));
        let process = {
            let mut slot = self.controller_manager.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slot.get_or_insert_with(|| Arc::new(Process::new(program))))
        };
        self.run(&process)?;
        if all { self.wait(&process, Until::Accounts) } else { Ok(()) }
    }

    /// Asks a part to end and waits until it has. Nothing starts it again but [`ControlPlane::start_again`].
    pub fn stop(&self, part: Part) -> Result<(), Error> {
        self.with(part, Process::stop)
    }

    /// Kills a part, as a crash would.
    pub fn kill(&self, part: Part) -> Result<(), Error> {
        self.with(part, Process::kill)
    }

    /// Starts a part that does not run, on the same port and with the same flags, and waits until it serves.
    pub fn start_again(&self, part: Part) -> Result<(), Error> {
        let Some(process) = self.process(part) else { return Ok(()) };
        self.run(&process)?;
        match part {
            Part::ApiServer => self.wait(&self.api_server, Until::Ready),
            Part::Etcd if self.api_server.pid().is_some() => self.wait(&self.api_server, Until::Ready),
            Part::Etcd | Part::ControllerManager => Ok(()),
        }
    }

    /// [`ControlPlane::stop`] and [`ControlPlane::start_again`]. An API server that has restarted answers watches that resume
    /// from before with 410 if something was written since.
    pub fn restart(&self, part: Part) -> Result<(), Error> {
        self.stop(part)?;
        self.start_again(part)
    }

    /// The process of a part, while it runs.
    pub fn pid(&self, part: Part) -> Option<u32> {
        self.process(part)?.pid()
    }

    /// The last lines of a part's log.
    pub fn log(&self, part: Part) -> String {
        self.process(part).map(|process| last_lines(&process.program().log, 0)).unwrap_or_default()
    }

    /// Makes etcd forget everything but the present and restarts the API server, which has a memory of its own: lists that
    /// are continued and watches that resume from before are answered with 410, as after some minutes of life.
    pub fn forget_history(&self) -> Result<(), Error> {
        let socket = self.files.path(ETCD_SOCKET);
        etcd::forget_history(&socket)
            .map_err(|source| Error::Program { program: "etcd".to_owned(), source })?;
        self.restart(Part::ApiServer)
    }

    fn process(&self, part: Part) -> Option<Arc<Process>> {
        match part {
            Part::Etcd => Some(Arc::clone(&self.etcd)),
            Part::ApiServer => Some(Arc::clone(&self.api_server)),
            Part::ControllerManager => {
                self.controller_manager.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    fn with(&self, part: Part, act: fn(&Process) -> io::Result<()>) -> Result<(), Error> {
        let Some(process) = self.process(part) else { return Ok(()) };
        act(&process).map_err(|source| Error::Program { program: process.program().name.to_owned(), source })
    }

    fn run(&self, process: &Process) -> Result<(), Error> {
        process.start(&self.keeper).map_err(|source| Error::Program {
            program: process.program().path.display().to_string(),
            source,
        })
    }

    /// Waits on the keeper's thread, which is in the right network namespace and in no runtime.
    fn wait(&self, process: &Arc<Process>, until: Until) -> Result<(), Error> {
        let watched = vec![Arc::clone(process), Arc::clone(&self.etcd)];
        let (kubeconfig, looked_at) = (self.admin_kubeconfig(), watched.clone());
        let ended = move || looked_at.iter().any(|process| process.end().is_some());
        let reached = self.keeper.run(move || connect::wait(&kubeconfig, until, &ended));
        let name = |process: &Process| process.program().name.to_owned();
        match reached {
            Ok(true) => Ok(()),
            Err(source) => Err(Error::Program { program: name(process), source }),
            Ok(false) => {
                let ended = watched.iter().find_map(|process| Some((name(process), process.end()?)));
                let (program, how) = ended.unwrap_or_else(|| {
                    (name(process), format!("does not serve:{}", last_lines(&process.program().log, 0)))
                });
                Err(Error::Ended { program, how })
            }
        }
    }
}

/// A port on which nobody listens. Two that ask at the same time get different ones.
fn free_port(address: IpAddr) -> io::Result<u16> {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(u64::from(std::process::id()) * 17 % u64::from(PORTS)).unwrap_or_default();
    let mut refusal = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORTS {
        let offset = ASKED.fetch_add(1, Ordering::Relaxed) % PORTS;
        let port = FIRST_PORT + (start + offset) % PORTS;
        match TcpListener::bind(SocketAddr::new(address, port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refusal = error,
            Err(error) => return Err(error),
        }
    }
    Err(refusal)
}
