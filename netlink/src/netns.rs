//! Network namespaces: where sockets, sysctls and child processes belong.
//!
//! A thread is in a namespace, not a process. So work for another namespace runs on a thread of its own,
//! which ends with the work: no thread that somebody else may use is ever moved.

use std::cmp::Ordering;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::monitor::Monitor;
use crate::rtnetlink::Netlink;
use crate::transport::Error;

const OWN: &str = "/proc/thread-self/ns/net";

/// A namespace could not be opened, made, entered or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} network namespace{}: {source}", of(path.as_deref()))]
pub struct NamespaceError {
    doing: &'static str,
    path: Option<PathBuf>,
    source: io::Error,
}

fn of(path: Option<&Path>) -> String {
    path.map(|path| format!(" {}", path.display())).unwrap_or_default()
}

/// A network namespace, kept alive for as long as this value or a clone of it.
///
/// Two values are equal when they are the same namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    file: Arc<File>,
    id: (u64, u64),
}

impl Namespace {
    /// The calling thread's namespace.
    pub fn current() -> Result<Self, NamespaceError> {
        Self::open(OWN)
    }

    /// The namespace that a path names: a bind mount, or `/proc/PID/ns/net`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NamespaceError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(failed("open", Some(path)))?;
        Self::hold(file, Some(path))
    }

    /// The namespace that a descriptor refers to.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NamespaceError> {
        Self::hold(File::from(fd), None)
    }

    /// A new namespace that nothing but this value keeps alive.
    pub fn create() -> Result<Self, NamespaceError> {
        let create = || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| failed("create a", None)(e.into()))?;
            Self::current()
        };
        on_fresh_thread(create)?
    }

    /// A new namespace, bound to a path, where it outlives this process (`ip netns` looks in `/run/netns`).
    pub fn create_at(path: impl AsRef<Path>) -> Result<Self, NamespaceError> {
        let path = path.as_ref();
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(failed("create a file for", Some(path)))?;
        let bound = Self::create().and_then(|namespace| namespace.bind(path).map(|()| namespace));
        if bound.is_err() {
            // The file is ours and empty; the first error says more than a second one.
            let _ = fs::remove_file(path);
        }
        bound
    }

    /// Takes a namespace's path away; it ends when nothing uses it any more.
    pub fn remove(path: impl AsRef<Path>) -> Result<(), NamespaceError> {
        let path = path.as_ref();
        umount2(path, MntFlags::MNT_DETACH).map_err(|e| failed("unmount", Some(path))(e.into()))?;
        fs::remove_file(path).map_err(failed("remove", Some(path)))
    }

    /// Runs a closure on a fresh thread inside this namespace, and returns what it returned.
    ///
    /// Sockets that it opens, sysctls that it writes and processes that it starts are of this namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        on_fresh_thread(|| {
            setns(self.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|e| failed("enter", None)(e.into()))?;
            Ok(work())
        })?
    }

    /// A connection to this namespace, usable from any thread.
    pub fn netlink(&self) -> Result<Netlink, Error> {
        self.run(Netlink::open)?
    }

    /// A subscription to this namespace's changes, usable from any thread.
    pub fn monitor(&self) -> Result<Monitor, Error> {
        self.run(Monitor::open)?
    }

    fn hold(file: File, path: Option<&Path>) -> Result<Self, NamespaceError> {
        let metadata = file.metadata().map_err(failed("identify", path))?;
        Ok(Self { id: (metadata.dev(), metadata.ino()), file: Arc::new(file) })
    }

    fn bind(&self, path: &Path) -> Result<(), NamespaceError> {
        let source = format!("/proc/self/fd/{}", self.as_raw_fd());
        let none = None::<&str>;
        mount(Some(source.as_str()), path, none, MsFlags::MS_BIND, none)
            .map_err(|e| failed("bind", Some(path))(e.into()))
    }
}

fn on_fresh_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work);
        match worker.map_err(failed("start a thread for a", None))?.join() {
            Ok(result) => Ok(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn failed(doing: &'static str, path: Option<&Path>) -> impl FnOnce(io::Error) -> NamespaceError {
    let path = path.map(Path::to_owned);
    move |source| NamespaceError { doing, path, source }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Namespace {}

impl PartialOrd for Namespace {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Namespace {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

impl Hash for Namespace {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}
