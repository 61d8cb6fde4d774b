//! A sandbox's directory: kubeconfigs, logs, and a status that whoever holds the name can read.
//!
//! A sandbox lives exactly as long as somebody holds the lock of its directory (flock(2)): the supervisor does, and the
//! kernel gives it back when the supervisor dies, however it dies. So a number in a file is never mistaken for a process.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;

/// For how long a lock that somebody has may be that of one who only looks, or of a child that has not begun its program.
const GLANCE: Duration = Duration::from_secs(1);

/// What can be wrong with a sandbox's directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A name that cannot be a directory.
    #[error("sandbox name {0:?}: write up to 32 letters, digits, dashes and underscores")]
    Name(String),
    /// The sandbox is up already.
    #[error(
        "sandbox {0:?} is up already; take it down with `kosmosctl sandbox down --name {0}`, or choose another name"
    )]
    Up(String),
    /// There is no such sandbox.
    #[error("sandbox {name:?} is not up{others}")]
    Down {
        /// Its name.
        name: String,
        /// The ones that are.
        others: String,
    },
    /// The directory belongs to somebody else.
    #[error("{path} belongs to user {owner}: remove it, or set XDG_RUNTIME_DIR to a directory of your own")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: not the status of a sandbox: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
}

/// How far a sandbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is being built.
    #[default]
    Starting,
    /// Everything that was asked for runs.
    Ready,
    /// It could not be built.
    Failed,
}

/// What a sandbox is made of and how its processes are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
    /// What it was built from.
    pub scenario: Scenario,
    /// API servers, the control cluster's first.
    pub apis: Vec<ApiStatus>,
    /// Processes, by name.
    pub processes: Vec<ProcessStatus>,
}

/// An API server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiStatus {
    /// Its cluster.
    pub cluster: String,
    /// Where it listens on the host.
    pub url: String,
    /// A kubeconfig of its administrator, for use on the host.
    pub kubeconfig: PathBuf,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// Its name: `agent-a1`, `network-manager`, `netperf-a1-pod1`.
    pub name: String,
    /// The namespace that it runs in.
    pub place: String,
    /// Its PID within the sandbox, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended last, with the last lines of its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// The processes that hold a sandbox up, as the host numbers them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Pids {
    /// The one that stayed outside.
    pub outer: i32,
    /// The first one inside: its namespaces are the sandbox's.
    pub inner: i32,
}

/// The directory of one sandbox.
#[derive(Clone, Debug)]
pub struct StateDir {
    name: String,
    path: PathBuf,
}

/// The lock of a sandbox's directory, for as long as this lives.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
    /// The directory above, opened before its path could become somebody's mount.
    above: File,
}

impl Claim {
    /// Removes the sandbox's directory, also from inside, where its path is a mount and cannot be removed by its name.
    pub fn remove(self, state: &StateDir) -> Result<(), StateError> {
        state.clear()?;
        let wrong = |error: nix::Error| StateError::Io { path: state.path.clone(), source: error.into() };
        let lock = Path::new(&state.name).join("lock");
        unlinkat(&self.above, &lock, UnlinkatFlags::NoRemoveDir).map_err(wrong)?;
        unlinkat(&self.above, Path::new(&state.name), UnlinkatFlags::RemoveDir).map_err(wrong)
    }
}

impl StateDir {
    /// The directory of the sandbox of this name, which need not exist.
    pub fn of(name: &str) -> Result<Self, StateError> {
        Self::below(&root()?, name)
    }

    fn below(root: &Path, name: &str) -> Result<Self, StateError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=32).contains(&name.len()) || !name.chars().all(valid) {
            return Err(StateError::Name(name.to_owned()));
        }
        Ok(StateDir { name: name.to_owned(), path: root.join(name) })
    }

    /// The sandbox's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the output of a process goes.
    pub fn log(&self, process: &str) -> PathBuf {
        self.path.join("logs").join(format!("{process}.log"))
    }

    /// A kubeconfig: of a cluster's administrator for use on the host, or of a component for use inside.
    pub fn kubeconfig(&self, identity: &str) -> PathBuf {
        self.path.join(format!("{identity}.kubeconfig"))
    }

    /// Where the agent of a node keeps what a reboot must not take from it.
    pub fn agent_directory(&self, place: &str) -> PathBuf {
        self.path.join("agents").join(place)
    }

    /// Takes the name: an empty directory with its lock. What a dead sandbox of the name left is removed.
    pub fn claim(&self) -> Result<Claim, StateError> {
        private_directory(&self.path)?;
        let claim = self.hold()?;
        self.clear()?;
        private_directory(&self.path.join("logs"))?;
        Ok(claim)
    }

    /// Takes the name with what is in its directory.
    pub fn hold(&self) -> Result<Claim, StateError> {
        let until = Instant::now() + GLANCE;
        let lock = loop {
            match self.lock(true)? {
                Some(lock) => break lock,
                None if Instant::now() > until => return Err(StateError::Up(self.name.clone())),
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let above = self.path.parent().unwrap_or(&self.path);
        let above = File::open(above).map_err(|source| StateError::Io { path: above.to_owned(), source })?;
        Ok(Claim { _lock: lock, above })
    }

    /// Whether a supervisor holds the directory.
    pub fn is_up(&self) -> Result<bool, StateError> {
        match self.lock(false) {
            // Nothing is made by looking: a directory that is being removed would not become empty.
            Err(StateError::Io { source, .. }) if is_nowhere(&source) => Ok(false),
            lock => Ok(lock?.is_none()),
        }
    }

    /// An error that names the sandboxes that there are, unless this one is up.
    pub fn must_be_up(&self) -> Result<(), StateError> {
        if self.is_up()? {
            return Ok(());
        }
        let others: Vec<String> = all_up()?.into_iter().map(|state| state.name).collect();
        let others = match others.is_empty() {
            true => "; start one with `kosmosctl sandbox up`".to_owned(),
            false => format!("; up are: {} (choose with --name)", others.join(", ")),
        };
        Err(StateError::Down { name: self.name.clone(), others })
    }

    /// Removes the directory of a sandbox that is down.
    pub fn remove(&self) -> Result<(), StateError> {
        match fs::remove_dir_all(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Io { path: self.path.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// The lock, or nothing where somebody else has it. Whether its file is made where there is none.
    fn lock(&self, create: bool) -> Result<Option<File>, StateError> {
        let path = self.path.join("lock");
        let wrong = |source| StateError::Io { path: path.clone(), source };
        let file = OpenOptions::new()
            .create(create)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(wrong)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(wrong(source)),
        }
    }

    fn clear(&self) -> Result<(), StateError> {
        let wrong = |source| StateError::Io { path: self.path.clone(), source };
        for entry in fs::read_dir(&self.path).map_err(wrong)? {
            let path = entry.map_err(wrong)?.path();
            let removed = match path.file_name() {
                Some(name) if name == "lock" => Ok(()),
                _ if path.is_dir() => fs::remove_dir_all(&path),
                _ => fs::remove_file(&path),
            };
            removed.map_err(|source| StateError::Io { path: path.clone(), source })?;
        }
        Ok(())
    }

    /// Writes a file whole or not at all, readable by its owner only.
    pub fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.new"));
        let write = || {
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| StateError::Io { path: path.clone(), source })
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|source| StateError::Content { path: self.path.join(name), source })?;
        self.write(name, &text)
    }

    fn read_json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, StateError> {
        let path = self.path.join(name);
        let text =
            fs::read_to_string(&path).map_err(|source| StateError::Io { path: path.clone(), source })?;
        serde_json::from_str(&text).map_err(|source| StateError::Content { path, source })
    }

    /// Writes the status.
    pub fn write_status(&self, status: &Status) -> Result<(), StateError> {
        self.write_json("status.json", status)
    }

    /// The status as the supervisor wrote it last.
    pub fn status(&self) -> Result<Status, StateError> {
        self.read_json("status.json")
    }

    /// Writes the supervisor's PIDs.
    pub fn write_pids(&self, pids: Pids) -> Result<(), StateError> {
        self.write_json("pids.json", &pids)
    }

    /// The supervisor's PIDs, which mean something only while [`StateDir::is_up`].
    pub fn pids(&self) -> Result<Pids, StateError> {
        self.read_json("pids.json")
    }

    /// Writes the scenario that the supervisor shall build.
    pub fn write_scenario(&self, scenario: &Scenario) -> Result<(), StateError> {
        self.write_json("scenario.json", scenario)
    }

    /// The scenario.
    pub fn scenario(&self) -> Result<Scenario, StateError> {
        self.read_json("scenario.json")
    }
}

fn is_nowhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Every sandbox of this user that is up, by name.
pub fn all_up() -> Result<Vec<StateDir>, StateError> {
    let root = root()?;
    let entries = fs::read_dir(&root).map_err(|source| StateError::Io { path: root.clone(), source })?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut states: Vec<StateDir> = names.filter_map(|name| StateDir::below(&root, &name).ok()).collect();
    states.sort_by(|a, b| a.name.cmp(&b.name));
    states.retain(|state| state.is_up().unwrap_or(false));
    Ok(states)
}

/// Where this user's sandboxes are: in `XDG_RUNTIME_DIR`, root's in `/run`, else below the directory for temporary files.
fn root() -> Result<PathBuf, StateError> {
    let user = nix::unistd::geteuid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let path = match runtime {
        Some(runtime) => runtime.join("clusterlink-sandbox"),
        None if user.is_root() => PathBuf::from("/run/clusterlink-sandbox"),
        None => std::env::temp_dir().join(format!("clusterlink-sandbox-{user}")),
    };
    private_directory(&path)?;
    Ok(path)
}

/// A directory that only this user can enter; one of somebody else is refused.
fn private_directory(path: &Path) -> Result<(), StateError> {
    let wrong = |source| StateError::Io { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrong)?;
    let owner = fs::symlink_metadata(path).map_err(wrong)?.uid();
    if owner != nix::unistd::geteuid().as_raw() {
        return Err(StateError::Foreign { path: path.to_owned(), owner });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str) -> (tempfile::TempDir, StateDir) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::below(directory.path(), name).unwrap();
        (directory, state)
    }

    #[test]
    fn a_name_is_held_by_one() {
        let (_directory, state) = state("x");
        assert!(!state.is_up().unwrap());
        let claim = state.claim().unwrap();
        assert!(state.is_up().unwrap());
        let message = state.claim().unwrap_err().to_string();
        assert!(message.contains("\"x\" is up already") && message.contains("down --name x"), "{message}");
        drop(claim);
        // Until it begins its program, a child that another test starts has a copy of every open file.
        let until = Instant::now() + Duration::from_secs(60);
        while state.is_up().unwrap() {
            assert!(Instant::now() < until, "it is held");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn what_a_dead_sandbox_left_is_gone_with_the_next_claim() {
        let (_directory, state) = state("x");
        drop(state.claim().unwrap());
        state.write("a.kubeconfig", "secret").unwrap();
        fs::write(state.log("agent-a1"), "old").unwrap();
        let _claim = state.claim().unwrap();
        assert!(!state.kubeconfig("a").exists() && !state.log("agent-a1").exists());
    }

    #[test]
    fn kubeconfigs_are_for_their_owner_only() {
        let (_directory, state) = state("x");
        let _claim = state.claim().unwrap();
        state.write("a.kubeconfig", "secret").unwrap();
        assert_eq!(fs::metadata(state.kubeconfig("a")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(state.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_status_is_read_as_it_was_written() {
        let (_directory, state) = state("x");
        let _claim = state.claim().unwrap();
        let status = Status { name: "x".to_owned(), phase: Phase::Ready, ..Status::default() };
        state.write_status(&status).unwrap();
        let read = state.status().unwrap();
        assert_eq!((read.name, read.phase, read.scenario), (status.name, status.phase, status.scenario));
    }

    #[test]
    fn a_name_that_leaves_the_directory_is_refused() {
        for name in ["", "../x", "a/b", "x y"] {
            let message = StateDir::below(Path::new("/nowhere"), name).unwrap_err().to_string();
            assert!(message.contains(&format!("{name:?}")), "{message}");
        }
    }
}
