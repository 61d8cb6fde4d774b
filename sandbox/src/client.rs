//! Starts a sandbox, runs things in it, and takes it down: what the command line and the tests call.

use std::ffi::OsStr;
use std::io::{self, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::addressing::{Layout, ROOT};
use crate::components::{Binaries, MissingProgram};
use crate::isolate::NETNS_DIRECTORY;
use crate::progress::Progress;
use crate::scenario::{Scenario, ScenarioError};
use crate::state::{Phase, StateDir, StateError, Status};

/// How long a sandbox may take to die.
const DOWN_TIMEOUT: Duration = Duration::from_secs(10);

const SEE_LOG: &str = "see its log,";

/// Why a sandbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// What was asked for.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The program that is the supervisor.
    #[error(transparent)]
    Program(#[from] MissingProgram),
    /// It cannot be built.
    #[error("sandbox {name:?} cannot be built: {problem}")]
    Build {
        /// Its name.
        name: String,
        /// What its supervisor said.
        problem: String,
    },
    /// There is no such namespace.
    #[error(
        "sandbox {name:?} has no place {place:?}: write a node (a1, a/node1), a pod (a1-pod1), root or outside"
    )]
    Place {
        /// The sandbox.
        name: String,
        /// What was asked for.
        place: String,
    },
    /// A namespace cannot be entered.
    #[error("sandbox {name:?}: cannot enter {what}: {source}")]
    Enter {
        /// The sandbox.
        name: String,
        /// Which namespace.
        what: String,
        /// The reason.
        source: io::Error,
    },
    /// A command cannot be run.
    #[error("cannot run {command:?}: {source}")]
    Command {
        /// The command.
        command: String,
        /// The reason.
        source: io::Error,
    },
    /// The control cluster's API server does not answer.
    #[error("sandbox {name:?}: control cluster: {problem}")]
    Control {
        /// The sandbox.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Some agents are not done in time.
    #[error("sandbox {name:?}: not applied after {waited:.1?}:\n  {problems}\nsee `kosmosctl sandbox logs`")]
    NotApplied {
        /// The sandbox.
        name: String,
        /// How long it was waited for.
        waited: Duration,
        /// Each NodeConfig that is not, and each process that crashed, on a line of its own.
        problems: String,
    },
    /// It does not die.
    #[error("sandbox {name:?}: supervisor {pid} does not end: {problem}")]
    Down {
        /// The sandbox.
        name: String,
        /// Its supervisor.
        pid: i32,
        /// What is wrong.
        problem: String,
    },
}

/// How to start a sandbox.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Its name.
    pub name: String,
    /// No controller and no agent.
    pub without_components: bool,
    /// It outlives whoever started it, until `down`.
    pub detached: bool,
    /// The `kosmosctl` to be its supervisor; without it the one beside this program.
    pub kosmosctl: Option<PathBuf>,
}

impl UpOptions {
    /// A sandbox of this name with all components, which dies with its owner.
    pub fn named(name: impl Into<String>) -> Self {
        UpOptions { name: name.into(), without_components: false, detached: false, kosmosctl: None }
    }
}

/// A sandbox that is up. One that is not detached goes down when this is dropped, and when this process dies.
#[derive(Debug)]
pub struct Sandbox {
    state: StateDir,
    layout: Layout,
    kosmosctl: PathBuf,
    /// The supervisor and the pipe that keeps it alive.
    owned: Option<(Child, ChildStdin)>,
}

impl Sandbox {
    /// Builds a sandbox and tells of every step.
    pub fn up(scenario: &Scenario, options: &UpOptions, mut tell: impl FnMut(&str)) -> Result<Self, Error> {
        let layout = scenario.layout()?;
        let kosmosctl = supervisor_program(options.kosmosctl.as_deref())?;
        let state = StateDir::of(&options.name)?;
        let claim = state.claim()?;
        state.write_scenario(scenario)?;
        drop(claim);
        let mut child = spawn_supervisor(&kosmosctl, options)?;
        let lifeline = child.stdin.take();
        let mut messages = BufReader::new(child.stdout.take().expect("its standard output is a pipe"));
        let problem = loop {
            match Progress::read(&mut messages) {
                Some(Progress::Step(text)) => tell(&text),
                Some(Progress::Ready) => {
                    let owned = lifeline.filter(|_| !options.detached).map(|lifeline| (child, lifeline));
                    return Ok(Sandbox { state, layout, kosmosctl, owned });
                }
                Some(Progress::Failed(problem)) => break problem,
                None => {
                    break format!("its supervisor ended; {SEE_LOG} {}", state.log("supervisor").display());
                }
            }
        };
        drop(lifeline);
        let _ = child.kill();
        let _ = child.wait();
        if !problem.contains(SEE_LOG) {
            // The problem is told; what was built so far is of no use.
            let _ = down(&options.name);
        }
        Err(Error::Build { name: options.name.clone(), problem })
    }

    /// A sandbox that was started before.
    pub fn attach(name: &str) -> Result<Self, Error> {
        let state = StateDir::of(name)?;
        state.must_be_up()?;
        let layout = state.scenario()?.layout()?;
        Ok(Sandbox { state, layout, kosmosctl: supervisor_program(None)?, owned: None })
    }

    /// Its directory.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// What it is made of.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A kubeconfig of a cluster's administrator, for use on the host; `control` is the control cluster's.
    pub fn kubeconfig(&self, cluster: &str) -> PathBuf {
        self.state.kubeconfig(cluster)
    }

    /// How its processes are.
    pub fn status(&self) -> Result<Status, Error> {
        Ok(self.state.status()?)
    }

    /// A command that runs in a place; the caller says what becomes of its input and output.
    pub fn command<S: AsRef<OsStr>>(&self, place: &str, argv: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.kosmosctl);
        command.args(["sandbox", "exec", "--name", self.state.name(), place, "--"]).args(argv);
        command
    }

    /// Runs a command in a place and waits for it.
    pub fn exec<S: AsRef<OsStr>>(
        &self,
        place: &str,
        argv: impl IntoIterator<Item = S>,
    ) -> Result<Output, Error> {
        let mut command = self.command(place, argv);
        let text = format!("{command:?}");
        command.stdin(Stdio::null()).output().map_err(|source| Error::Command { command: text, source })
    }

    /// Ends it and removes its directory.
    pub fn down(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        let ended = down(self.state.name());
        if let Some((mut child, lifeline)) = self.owned.take() {
            drop(lifeline);
            let _ = child.wait();
        }
        ended.map(|_| ())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.owned.is_some() {
            // Nobody is left to be told; the next `up` of the name cleans what this could not.
            let _ = self.end();
        }
    }
}

fn supervisor_program(given: Option<&Path>) -> Result<PathBuf, Error> {
    match given {
        Some(path) => Ok(path.to_owned()),
        None => Ok(Binaries::find().program("kosmosctl")?),
    }
}

fn spawn_supervisor(kosmosctl: &Path, options: &UpOptions) -> Result<Child, Error> {
    let state = StateDir::of(&options.name)?;
    let log = state.log("supervisor");
    let wrong = |source| Error::Command { command: kosmosctl.display().to_string(), source };
    let log = std::fs::File::create(log).map_err(wrong)?;
    let mut command = Command::new(kosmosctl);
    command.args(["sandbox", "supervise", "--name", &options.name]);
    if options.without_components {
        command.arg("--without-components");
    }
    if options.detached {
        command.stdin(Stdio::null());
    } else {
        command.arg("--lifeline").stdin(Stdio::piped());
    }
    // A group of its own: Ctrl-C reaches whoever started it, who takes it down in order.
    command.process_group(0).stdout(Stdio::piped()).stderr(log).spawn().map_err(wrong)
}

/// Ends the sandbox of this name, if it is up, and removes what it left. Says whether it was up.
pub fn down(name: &str) -> Result<bool, Error> {
    let state = StateDir::of(name)?;
    let was_up = state.is_up()?;
    let until = Instant::now() + DOWN_TIMEOUT;
    while state.is_up()? {
        // Absent while it starts. While the lock is held, the number is the supervisor's and nobody else's.
        if let Ok(pids) = state.pids() {
            match kill(Pid::from_raw(pids.inner), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(cannot_end(name, pids.inner, &error.to_string())),
            }
        }
        if Instant::now() > until {
            let pid = state.pids().map_or(0, |pids| pids.outer);
            return Err(cannot_end(name, pid, &format!("still there after {DOWN_TIMEOUT:?}")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    state.remove()?;
    Ok(was_up)
}

fn cannot_end(name: &str, pid: i32, problem: &str) -> Error {
    Error::Down { name: name.to_owned(), pid, problem: problem.to_owned() }
}

/// Enters a place of a sandbox with this whole process, and runs a command there with this terminal. Call it before any
/// thread is started.
pub fn exec(name: &str, place: &str, argv: &[String]) -> Result<ExitCode, Error> {
    let state = StateDir::of(name)?;
    state.must_be_up()?;
    let layout = state.scenario()?.layout()?;
    let place =
        layout.place(place).ok_or_else(|| Error::Place { name: name.to_owned(), place: place.to_owned() })?;
    enter(&state, &place)?;
    // The child hears Ctrl-C from the terminal; this one must live to tell how it ended.
    let mut terminal = SigSet::empty();
    terminal.add(Signal::SIGINT);
    terminal.add(Signal::SIGQUIT);
    let _ = terminal.thread_block();
    let Some((program, arguments)) = argv.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let status = Command::new(program)
        .args(arguments)
        .status()
        .map_err(|source| Error::Command { command: program.clone(), source })?;
    Ok(exit_code(status))
}

/// As a shell says it.
fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn enter(state: &StateDir, place: &str) -> Result<(), Error> {
    let inner = state.pids()?.inner;
    let cannot = |what: &str| {
        let (name, what) = (state.name().to_owned(), what.to_owned());
        move |source: io::Error| Error::Enter { name, what, source }
    };
    let directory = std::env::current_dir();
    let open = |kind: &str| {
        let path = format!("/proc/{inner}/ns/{kind}");
        std::fs::File::open(&path).map_err(cannot(&path))
    };
    // All are opened before the first is entered: afterwards /proc may not show them.
    let (user, mounts, pids, network) = (open("user")?, open("mnt")?, open("pid")?, open("net")?);
    if !same_file(&user, Path::new("/proc/self/ns/user")) {
        setns(user, CloneFlags::CLONE_NEWUSER).map_err(|e| cannot("its user namespace")(e.into()))?;
    }
    setns(pids, CloneFlags::CLONE_NEWPID).map_err(|e| cannot("its PID namespace")(e.into()))?;
    setns(mounts, CloneFlags::CLONE_NEWNS).map_err(|e| cannot("its mount namespace")(e.into()))?;
    let network = match place {
        ROOT => network,
        place => {
            let path = Path::new(NETNS_DIRECTORY).join(place);
            std::fs::File::open(&path).map_err(cannot(&path.display().to_string()))?
        }
    };
    setns(network, CloneFlags::CLONE_NEWNET).map_err(|e| cannot(place)(e.into()))?;
    if let Ok(directory) = directory {
        // Entering a mount namespace moves us to its root; the same directory is there, but for /run.
        let _ = std::env::set_current_dir(directory);
    }
    Ok(())
}

fn same_file(file: &std::fs::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Waits until the phase is no longer `starting`; for those who did not start it.
pub fn wait_ready(name: &str, timeout: Duration) -> Result<Status, Error> {
    let state = StateDir::of(name)?;
    let until = Instant::now() + timeout;
    loop {
        state.must_be_up()?;
        let status = state.status()?;
        if status.phase != Phase::Starting || Instant::now() > until {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
