//! The thread that starts the processes and lives as long as their owner.
//!
//! The kernel sends a parent-death signal when the *thread* that forked ends. Tests come and go on threads of their own, so
//! one thread does it all: it enters the network namespace once, and its children inherit where it is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::last_words::{exit_text, last_lines};
use crate::programs::Program;

/// How long an orderly end may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked whether something has happened.
pub(crate) const LOOK: Duration = Duration::from_millis(25);

type Job = Box<dyn FnOnce() + Send>;

/// The thread.
#[derive(Debug)]
pub(crate) struct Keeper {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread, in that network namespace.
    pub(crate) fn start(network_namespace: Option<&Path>) -> io::Result<Self> {
        let namespace = network_namespace.map(File::open).transpose()?;
        let (jobs, received) = channel::<Job>();
        let (entered, entry) = channel();
        let thread = thread::Builder::new().name("kubernetes".to_owned()).spawn(move || {
            let there = namespace.map_or(Ok(()), |file| setns(file, CloneFlags::CLONE_NEWNET));
            let stay = there.is_ok();
            let _ = entered.send(there);
            if stay {
                received.iter().for_each(|job| job());
            }
        })?;
        entry.recv().map_err(io::Error::other)??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs this on the thread and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let jobs = self.jobs.as_ref().expect("it is taken when the keeper is dropped");
        jobs.send(Box::new(move || drop(done.send(job())))).expect("the thread ends with its keeper");
        result.recv().expect("a job does not panic")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A program and, while it runs, its process.
#[derive(Debug)]
pub(crate) struct Process {
    program: Program,
    child: Mutex<Option<Child>>,
}

impl Process {
    pub(crate) fn new(program: Program) -> Self {
        Self { program, child: Mutex::new(None) }
    }

    /// Starts it if it does not run.
    pub(crate) fn start(&self, keeper: &Keeper) -> io::Result<()> {
        let mut child = self.child();
        if let Some(running) = child.as_mut()
            && running.try_wait()?.is_none()
        {
            return Ok(());
        }
        let program = self.program.clone();
        *child = Some(keeper.run(move || spawn(&program))?);
        Ok(())
    }

    /// Asks it to end, and kills it if it does not.
    pub(crate) fn stop(&self) -> io::Result<()> {
        let Some(mut child) = self.child().take() else { return Ok(()) };
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        kill(pid(&child), Signal::SIGTERM)?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        child.kill()?;
        child.wait().map(drop)
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let Some(mut child) = self.child().take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// How it ended by itself, with its last words.
    pub(crate) fn end(&self) -> Option<String> {
        let status = self.child().as_mut()?.try_wait().ok().flatten()?;
        Some(format!("{}{}", exit_text(status), last_lines(&self.program.log, 0)))
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // That it is gone already is as well.
        let _ = self.kill();
    }
}

#[expect(unsafe_code, reason = "between fork and exec there is no safe way to ask for a signal")]
fn spawn(program: &Program) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(&program.log)?;
    let mut command = Command::new(&program.path);
    command
        .args(&program.arguments)
        .envs(program.environment.iter().map(|(key, value)| (key, value)))
        .current_dir(&program.directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
    }
    command.spawn()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}
