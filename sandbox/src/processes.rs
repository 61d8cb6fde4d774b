//! The sandbox's processes: each is started in its network namespace by a thread that has entered it, and started again
//! when it ends. How it ended is kept with the last lines of its log.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::kubernetes::{exit_text, last_lines};
use netlink::Namespace;

use crate::state::ProcessStatus;

/// How long a process that ended stays down.
const BACKOFF: Duration = Duration::from_secs(1);

/// A program and where it runs.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Its name in the status: `agent-a1`.
    pub name: String,
    /// The place that it runs in.
    pub place: String,
    /// The file.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What is added to its environment.
    pub environment: Vec<(String, String)>,
}

/// Running processes. They die with the PID namespace, not with this value.
#[derive(Debug)]
pub struct Processes {
    statuses: Arc<Mutex<BTreeMap<String, ProcessStatus>>>,
    changed: Sender<()>,
}

impl Processes {
    /// No process yet, and a message for each change of their state.
    pub fn new() -> (Self, Receiver<()>) {
        let (changed, changes) = channel();
        (Processes { statuses: Arc::default(), changed }, changes)
    }

    /// How they are, by name.
    pub fn statuses(&self) -> Vec<ProcessStatus> {
        lock(&self.statuses).values().cloned().collect()
    }

    /// Shows a process that somebody else looks after.
    pub(crate) fn record(&self, status: ProcessStatus) {
        lock(&self.statuses).insert(status.name.clone(), status);
        let _ = self.changed.send(());
    }

    /// Shows it no longer.
    pub(crate) fn forget(&self, name: &str) {
        lock(&self.statuses).remove(name);
        let _ = self.changed.send(());
    }

    /// Starts a process and keeps it running. An error is one of the first start; later ones are in its status.
    pub fn start(&self, spec: ProcessSpec, namespace: &Namespace, log: &Path) -> io::Result<()> {
        let status = ProcessStatus {
            name: spec.name.clone(),
            place: spec.place.clone(),
            log: log.to_owned(),
            ..ProcessStatus::default()
        };
        lock(&self.statuses).insert(spec.name.clone(), status);
        let keeper = Keeper {
            namespace: namespace.clone(),
            log: log.to_owned(),
            statuses: Arc::clone(&self.statuses),
            changed: self.changed.clone(),
            spec,
        };
        let (started, start) = channel();
        thread::Builder::new().name(keeper.spec.name.clone()).spawn(move || keeper.keep(&started))?;
        start.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")))
    }

    /// Waits until every named process has written something, which is how a server says that it listens.
    pub fn wait_for_output(&self, timeout: Duration) -> Result<(), String> {
        let until = Instant::now() + timeout;
        loop {
            let statuses = self.statuses();
            let silent = |status: &&ProcessStatus| file_length(&status.log) == 0;
            match statuses.iter().find(silent) {
                None => return Ok(()),
                Some(status) if Instant::now() > until => {
                    return Err(format!("{} has written nothing within {timeout:?}", status.name));
                }
                Some(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The first process that has ended since it was started, as a sentence.
    pub fn crashed(&self) -> Option<String> {
        let ended = |status: ProcessStatus| Some(format!("{}: {}", status.name, status.last_exit?));
        self.statuses().into_iter().find_map(ended)
    }
}

fn file_length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One process, for as long as the sandbox lives.
struct Keeper {
    spec: ProcessSpec,
    namespace: Namespace,
    log: PathBuf,
    statuses: Arc<Mutex<BTreeMap<String, ProcessStatus>>>,
    changed: Sender<()>,
}

impl Keeper {
    fn keep(&self, started: &Sender<io::Result<()>>) {
        // This thread alone enters; its children inherit where it is.
        let kept = self.namespace.run(|| {
            let mut first = Some(started);
            loop {
                let exit = self.run_once(first.take());
                self.update(|status| {
                    status.pid = None;
                    status.last_exit = Some(exit);
                });
                thread::sleep(BACKOFF);
                self.update(|status| status.restarts += 1);
            }
        });
        let Err(error) = kept;
        let _ = started.send(Err(io::Error::other(error)));
    }

    /// Runs the program to its end, and says how that was.
    fn run_once(&self, started: Option<&Sender<io::Result<()>>>) -> String {
        let before = file_length(&self.log);
        let child = self.spawn();
        let pid = child.as_ref().map(std::process::Child::id);
        self.update(|status| status.pid = pid.ok());
        match child {
            Ok(mut child) => {
                if let Some(started) = started {
                    let _ = started.send(Ok(()));
                }
                let ended = child.wait().map_or_else(|error| error.to_string(), exit_text);
                format!("{ended}{}", last_lines(&self.log, before))
            }
            Err(error) => {
                let text = format!("cannot start {}: {error}", self.spec.program.display());
                if let Some(started) = started {
                    let _ = started.send(Err(io::Error::new(error.kind(), text.clone())));
                }
                text
            }
        }
    }

    fn spawn(&self) -> io::Result<std::process::Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        Command::new(&self.spec.program)
            .args(&self.spec.arguments)
            .env("NO_COLOR", "1")
            .envs(self.spec.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }

    fn update(&self, change: impl FnOnce(&mut ProcessStatus)) {
        if let Some(status) = lock(&self.statuses).get_mut(&self.spec.name) {
            change(status);
        }
        // Nobody listens any more when the sandbox goes down.
        let _ = self.changed.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ProcessSpec {
        ProcessSpec {
            name: "p".to_owned(),
            place: "root".to_owned(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: vec![("WORD".to_owned(), "last words".to_owned())],
        }
    }

    #[test]
    fn the_last_lines_of_a_crash_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (processes, changes) = Processes::new();
        let namespace = match Namespace::current() {
            Ok(namespace) if nix::unistd::geteuid().is_root() => namespace,
            _ => return skip::skip("entering a network namespace needs root"),
        };
        let log = directory.path().join("p.log");
        processes.start(shell("echo first; echo \"$WORD\" >&2; exit 3"), &namespace, &log).unwrap();
        while processes.crashed().is_none() {
            changes.recv_timeout(Duration::from_secs(60)).expect("the process ends");
        }
        let crash = processes.crashed().unwrap();
        assert_eq!(crash, "p: exited with status 3\n  first\n  last words");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        if !nix::unistd::geteuid().is_root() {
            return skip::skip("entering a network namespace needs root");
        }
        let directory = tempfile::tempdir().unwrap();
        let (processes, _changes) = Processes::new();
        let spec = ProcessSpec { program: "/nowhere/agent".into(), ..shell("") };
        let namespace = Namespace::current().unwrap();
        let error = processes.start(spec, &namespace, &directory.path().join("p.log")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/agent"), "{error}");
    }
}
