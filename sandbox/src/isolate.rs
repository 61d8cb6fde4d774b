//! Leaves the host: a user namespace where there is no privilege, and mount, network and PID namespaces always.
//!
//! The PID namespace is what cleans up: when its first process dies, however it dies, the kernel kills everything in it,
//! and the network namespaces go with their last processes and mounts. Must be called before any thread is started.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid};

/// Where network namespaces have names, as `ip netns` has it.
pub const NETNS_DIRECTORY: &str = "/run/netns";

/// Why there is no isolation.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The kernel or its configuration forbids namespaces.
    #[error("cannot create {what} as {who}: {source}; {advice}", who = who(), advice = advice())]
    Refused {
        /// Which namespaces.
        what: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// A file of `/proc` that maps users could not be written.
    #[error("cannot write {path}: {source}; {advice}", advice = advice())]
    Mapping {
        /// The file.
        path: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// A mount inside of the new namespace failed.
    #[error("cannot mount {what}: {source}")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// The reason.
        source: io::Error,
    },
    /// The first process of the new PID namespace could not be started.
    #[error("cannot fork: {0}")]
    Fork(Errno),
}

fn who() -> String {
    if geteuid().is_root() { "root".to_owned() } else { format!("user {}", geteuid()) }
}

fn advice() -> &'static str {
    if geteuid().is_root() {
        "this looks like a container without CAP_SYS_ADMIN: run it with that capability"
    } else {
        "run as root, or allow unprivileged user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)"
    }
}

/// Which side of the fork this is.
pub enum Side {
    /// The first process inside.
    Inside,
    /// The process that stayed outside: the inner one's PID here.
    Outside(Pid),
}

/// Creates the namespaces and forks into them. `state` is visible at its path on both sides.
pub fn isolate(state: &Path) -> Result<Side, IsolationError> {
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    match unshare(namespaces) {
        Err(Errno::EPERM) => {
            become_root_of_a_user_namespace()?;
            unshare(namespaces).map_err(|source| IsolationError::Refused {
                what: "mount, network and PID namespaces",
                source,
            })?;
        }
        other => other.map_err(|source| IsolationError::Refused {
            what: "mount, network and PID namespaces",
            source,
        })?,
    }
    private_run(state)?;
    #[expect(unsafe_code, reason = "only the first child of a process enters its new PID namespace")]
    // SAFETY: this process has one thread, so its child may do whatever it could do itself.
    let forked = unsafe { fork() }.map_err(IsolationError::Fork)?;
    match forked {
        ForkResult::Parent { child } => Ok(Side::Outside(child)),
        ForkResult::Child => {
            // Killing the outer process, which the shell knows, is enough.
            prctl::set_pdeathsig(Signal::SIGKILL).map_err(IsolationError::Fork)?;
            Ok(Side::Inside)
        }
    }
}

/// Waits for the inner process, by which time everything that it started is dead; returns its exit status.
pub fn wait(inner: Pid) -> i32 {
    loop {
        match waitpid(inner, None) {
            Ok(WaitStatus::Exited(_, status)) => return status,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}

fn become_root_of_a_user_namespace() -> Result<(), IsolationError> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(|source| IsolationError::Refused { what: "a user namespace", source })?;
    // user_namespaces(7): the group map may only be written once setgroups(2) is given up.
    for (path, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ] {
        std::fs::write(path, text).map_err(|source| IsolationError::Mapping { path, source })?;
    }
    Ok(())
}

/// An empty `/run`: the names of network namespaces and the lock of iptables are the sandbox's own.
fn private_run(state: &Path) -> Result<(), IsolationError> {
    let wrong = |what: &str| {
        let what = what.to_owned();
        move |source: Errno| IsolationError::Mount { what, source: source.into() }
    };
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(wrong("/ as private"))?;
    let hidden = |source| IsolationError::Mount { what: state.display().to_string(), source };
    let run = std::fs::canonicalize("/run").unwrap_or_else(|_| PathBuf::from("/run"));
    let state_below_run = std::fs::canonicalize(state).map_err(hidden)?.starts_with(&run);
    let kept = File::open(state).map_err(hidden)?;
    mount(Some("tmpfs"), &run, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))
        .map_err(wrong("tmpfs on /run"))?;
    if state_below_run {
        std::fs::create_dir_all(state).map_err(hidden)?;
        let source = format!("/proc/self/fd/{}", kept.as_raw_fd());
        mount(Some(source.as_str()), state, none, MsFlags::MS_BIND, none)
            .map_err(wrong(&state.display().to_string()))?;
    }
    std::fs::create_dir_all(NETNS_DIRECTORY)
        .map_err(|source| IsolationError::Mount { what: NETNS_DIRECTORY.to_owned(), source })
}
