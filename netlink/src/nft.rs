//! nftables through the `nft` program and its JSON, in the namespace of the calling thread.
//!
//! One call of [`Nft::apply`] is one transaction of the kernel: all of it happens, or nothing.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A ruleset of tens of thousands of rules takes about a second.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long a program that has closed its output may take to end.
const END_POLL: Duration = Duration::from_millis(1);

/// nftables could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no such program on this host.
    #[error("cannot find `{}`: install nftables", program.display())]
    Missing {
        /// What was looked for.
        program: PathBuf,
    },
    /// It could not be started or talked to.
    #[error("cannot run `{}`: {source}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It did not end in time and was killed; whether the change happened is unknown.
    #[error("nft did not end within {waited:?} and was killed")]
    Timeout {
        /// How long the wait was.
        waited: Duration,
    },
    /// It refused, in its own words.
    #[error("nft {what} failed: {message}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its standard error.
        message: String,
    },
    /// Its answer is not JSON.
    #[error("nft {what} printed something that is not JSON: {source}")]
    Output {
        /// What was asked.
        what: String,
        /// The parser's reason.
        source: serde_json::Error,
    },
}

/// The `nft` program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nft {
    program: PathBuf,
    timeout: Duration,
}

impl Default for Nft {
    fn default() -> Self {
        Self { program: "nft".into(), timeout: TIMEOUT }
    }
}

impl Nft {
    /// Another program than the `nft` of the search path.
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    /// Another limit than twenty seconds for each call.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Applies a document of libnftables-json(5), `{"nftables": [...]}`, as one transaction.
    pub fn apply(&self, document: &Value) -> Result<(), NftError> {
        self.call(&["-f", "-"], Some(document.to_string())).map(drop)
    }

    /// A table with all that is in it, or `None` where there is no such table.
    pub fn list_table(&self, family: &str, name: &str) -> Result<Option<Value>, NftError> {
        match self.list(&["list", "table", family, name]) {
            Err(NftError::Refused { message, .. }) if message.contains("No such file or directory") => {
                Ok(None)
            }
            listing => listing.map(Some),
        }
    }

    /// All chains of all tables, without their rules.
    pub fn list_chains(&self) -> Result<Value, NftError> {
        self.list(&["list", "chains"])
    }

    /// Everything.
    pub fn list_ruleset(&self) -> Result<Value, NftError> {
        self.list(&["list", "ruleset"])
    }

    fn list(&self, arguments: &[&str]) -> Result<Value, NftError> {
        let output = self.call(arguments, None)?;
        serde_json::from_slice(&output)
            .map_err(|source| NftError::Output { what: arguments.join(" "), source })
    }

    fn call(&self, arguments: &[&str], input: Option<String>) -> Result<Vec<u8>, NftError> {
        let (status, output, errors) = self.run(arguments, input)?;
        if status.success() {
            return Ok(output);
        }
        let message = String::from_utf8_lossy(&errors).trim().to_owned();
        let message = if message.is_empty() { status.to_string() } else { message };
        Err(NftError::Refused { what: arguments.join(" "), message })
    }

    fn run(
        &self,
        arguments: &[&str],
        input: Option<String>,
    ) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), NftError> {
        let mut child = Command::new(&self.program)
            .arg("-j")
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.cannot_run(error))?;
        feed(&mut child, input);
        let output = collect(child.stdout.take());
        let errors = collect(child.stderr.take());
        let until = Instant::now() + self.timeout;
        let finished = wait(&mut child, &output, &errors, until);
        if finished.is_err() {
            // A child that cannot be killed has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        finished.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => NftError::Timeout { waited: self.timeout },
            _ => self.cannot_run(error),
        })
    }

    fn cannot_run(&self, source: io::Error) -> NftError {
        let program = self.program.clone();
        match source.kind() {
            io::ErrorKind::NotFound => NftError::Missing { program },
            _ => NftError::Run { program, source },
        }
    }
}

type Collected = mpsc::Receiver<io::Result<Vec<u8>>>;

/// Writes the input from a thread: a program that does not read must not block us.
fn feed(child: &mut Child, input: Option<String>) {
    if let Some((mut pipe, input)) = child.stdin.take().zip(input) {
        // A program that ends without reading says why on its standard error.
        thread::spawn(move || pipe.write_all(input.as_bytes()));
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes)).map(|_| bytes);
        // Nobody listens after a time-out.
        let _ = sender.send(result);
    });
    receiver
}

fn wait(
    child: &mut Child,
    output: &Collected,
    errors: &Collected,
    until: Instant,
) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let output = receive(output, until)?;
    let errors = receive(errors, until)?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, output, errors));
        }
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(END_POLL);
    }
}

fn receive(collected: &Collected, until: Instant) -> io::Result<Vec<u8>> {
    match collected.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the reader of its output ended early")),
    }
}
