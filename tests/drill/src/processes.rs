//! The sandbox's processes as the host sees them: killed at the microsecond that a scenario asks for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox::Sandbox;

/// How long a process that was ended may take to be started again.
const RESTARTED: Duration = Duration::from_secs(90);

/// A running process of the sandbox.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its name: `agent-a1`.
    pub name: String,
    /// Its number on the host.
    pub pid: Pid,
    restarts: u32,
}

/// Every process whose name begins like this, in the order of their names.
///
/// # Errors
/// One of them does not run, or the sandbox does not tell.
pub fn running(sandbox: &Sandbox, prefix: &str) -> Result<Vec<Running>> {
    let until = Instant::now() + RESTARTED;
    loop {
        match running_now(sandbox, prefix) {
            Ok(found) => return Ok(found),
            // between an end and the next start there is none
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn running_now(sandbox: &Sandbox, prefix: &str) -> Result<Vec<Running>> {
    let hosts = host_pids(sandbox)?;
    let processes = sandbox.status()?.processes;
    let named = processes.into_iter().filter(|process| process.name.starts_with(prefix));
    let found = named.map(|process| {
        let pid = process.pid.and_then(|pid| hosts.get(&pid)).copied();
        let pid = pid.with_context(|| format!("{} does not run: {:?}", process.name, process.last_exit))?;
        Ok(Running { name: process.name, pid, restarts: process.restarts })
    });
    let found = found.collect::<Result<Vec<_>>>()?;
    if found.is_empty() {
        bail!("the sandbox has no process {prefix}*");
    }
    Ok(found)
}

/// From numbers in the sandbox's PID namespace to those of the host (`NSpid` of proc(5)).
fn host_pids(sandbox: &Sandbox) -> Result<BTreeMap<u32, Pid>> {
    let namespace = |pid: &str| Some(fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?.ino());
    let inside = namespace(&sandbox.state().pids()?.inner.to_string());
    let mut pids = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("/proc cannot be read")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(outer) = name.parse::<i32>() else { continue };
        if namespace(&name) != inside {
            continue;
        }
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        if let Some(inner) = numbers.and_then(|numbers| numbers.split_whitespace().last()?.parse().ok()) {
            pids.insert(inner, Pid::from_raw(outer));
        }
    }
    Ok(pids)
}

impl Running {
    /// Sends a signal; a process that has ended already needs none.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(self.pid, signal);
    }

    /// Waits until the sandbox has started it again.
    ///
    /// # Errors
    /// It has not in time.
    pub fn wait_restarted(&self, sandbox: &Sandbox) -> Result<()> {
        let until = Instant::now() + RESTARTED;
        loop {
            let processes = sandbox.status()?.processes;
            let again = |process: &sandbox::state::ProcessStatus| {
                process.name == self.name && process.restarts > self.restarts && process.pid.is_some()
            };
            if processes.iter().any(again) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("{} was not started again within {RESTARTED:?}", self.name);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
