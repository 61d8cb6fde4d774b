//! What a person or a tool sees on a node without any API: the kernel against the last good NodeConfig, what the running
//! agent says, and the kernel as it is.

mod dump;

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use agent_core::{Kernel, KernelError, Report, Spec, inspect};
use jiff::Timestamp;
use serde::Serialize;

use crate::last_good::Store;

pub use dump::dump;

/// An agent on this host answers at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is found on a node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The last good NodeConfig.
    pub node_config: Option<NodeConfigFound>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What the running agent says.
    pub agent: AgentFound,
    /// The kernel against the last good NodeConfig, as read now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelFound>,
}

/// Which NodeConfig the kernel is compared with.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigFound {
    /// The file.
    pub file: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// Its generation.
    pub generation: Option<i64>,
    /// When it was kept.
    pub kept_at: Timestamp,
}

/// What the running agent says.
#[derive(Clone, Debug, Serialize)]
pub struct AgentFound {
    /// Where it was asked.
    pub address: SocketAddr,
    /// Whether its kernel equals its NodeConfig.
    pub ready: bool,
    /// Its words, or why there are none.
    pub says: String,
}

/// The kernel against a NodeConfig.
#[derive(Clone, Debug, Serialize)]
pub struct KernelFound {
    /// Whether it is as the NodeConfig says.
    pub equal: bool,
    /// Numbers, kind by kind.
    pub entries: Vec<Entries>,
    /// What is not as it should be.
    pub differing: Vec<String>,
    /// What an operator should know all the same.
    pub notices: Vec<String>,
}

/// Numbers of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Entries {
    /// The kind.
    pub kind: &'static str,
    /// What the NodeConfig asks for.
    pub desired: usize,
    /// What the kernel holds of ours.
    pub actual: usize,
    /// What is not as it should be.
    pub failed: usize,
}

impl Status {
    /// Reads the file and the kernel, and asks the agent. Writes nothing.
    pub fn look(kernel: &mut impl Kernel, store: &Store, agent: SocketAddr) -> Result<Self, KernelError> {
        let (found, problem) = match store.look() {
            Ok(Some(Ok(found))) => (Some(found), None),
            Ok(None) => (None, Some(format!("there is no {}", store.path().display()))),
            Ok(Some(Err(unfit))) => (None, Some(format!("{}: {unfit}", store.path().display()))),
            Err(error) => (None, Some(error.to_string())),
        };
        let kernel = match &found {
            Some(found) => {
                Some(KernelFound::of(&inspect(kernel, &Spec::validate(&found.spec), &found.of_host())?))
            }
            None => None,
        };
        let node_config = found.map(|found| NodeConfigFound {
            file: store.path().display().to_string(),
            cluster: found.cluster,
            node: found.node,
            generation: found.generation,
            kept_at: found.kept_at,
        });
        Ok(Status { node_config, problem, agent: AgentFound::ask(agent), kernel })
    }

    /// Whether there is a NodeConfig, and the kernel equals it.
    pub fn is_well(&self) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| kernel.equal)
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        match (&self.node_config, &self.problem) {
            (Some(found), _) => {
                let generation = found.generation.map_or("none".to_owned(), |number| number.to_string());
                let NodeConfigFound { cluster, node, kept_at, file, .. } = found;
                writeln!(
                    text,
                    "NodeConfig  {cluster}-{node}, generation {generation}, kept {kept_at} in {file}"
                )?;
            }
            (None, problem) => {
                writeln!(text, "NodeConfig  none: {}", problem.as_deref().unwrap_or("not kept yet"))?;
            }
        }
        writeln!(text, "Agent       {}", self.agent.says)?;
        let Some(kernel) = &self.kernel else { return Ok(()) };
        writeln!(text, "Kernel      {}", if kernel.equal { "as the NodeConfig says" } else { "differs" })?;
        writeln!(text, "\n{:<10} {:>8} {:>8} {:>8}", "KIND", "DESIRED", "ACTUAL", "FAILED")?;
        for Entries { kind, desired, actual, failed } in &kernel.entries {
            writeln!(text, "{kind:<10} {desired:>8} {actual:>8} {failed:>8}")?;
        }
        for difference in &kernel.differing {
            writeln!(text, "differs: {difference}")?;
        }
        for notice in &kernel.notices {
            writeln!(text, "notice: {notice}")?;
        }
        Ok(())
    }
}

impl KernelFound {
    fn of(report: &Report) -> Self {
        let entries = report.kinds.iter().map(|(kind, counts)| Entries {
            kind: kind.word(),
            desired: counts.desired,
            actual: counts.actual,
            failed: counts.failed,
        });
        KernelFound {
            equal: report.is_applied(),
            entries: entries.collect(),
            differing: report.differing.iter().map(ToString::to_string).collect(),
            notices: report.notices.iter().chain(&report.unsupported).cloned().collect(),
        }
    }
}

impl AgentFound {
    fn ask(address: SocketAddr) -> Self {
        match readyz(address) {
            Ok((true, _)) => AgentFound { address, ready: true, says: "ready".to_owned() },
            Ok((false, says)) => AgentFound { address, ready: false, says: format!("not ready: {says}") },
            Err(error) => {
                AgentFound { address, ready: false, says: format!("does not answer at {address}: {error}") }
            }
        }
    }
}

/// Whether it is ready, and the answer's words (HTTP/1.0: the connection ends with them).
fn readyz(address: SocketAddr) -> io::Result<(bool, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    match status {
        "200" | "503" => Ok((status == "200", body.trim().to_owned())),
        _ => Err(io::Error::other("that is no agent")),
    }
}
