//! What a person or a tool sees on a node without any API: the kernel against the last good NodeConfig, what the running
//! agent says, and the kernel as it is.

mod dump;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use agent_core::{Authority, Kernel, KernelError, Report, Spared, Spec, inspect};
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
    /// How many kernel objects of an older NodeConfig it lets linger.
    pub lingering: usize,
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
    /// What only an older NodeConfig asked for, and the agent lets linger.
    pub lingering: Vec<String>,
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
        let agent = AgentFound::ask(agent);
        let kernel = match &found {
            Some(found) => {
                let (spec, known) = (Spec::validate(&found.spec), found.of_host());
                Some(KernelFound::of(&inspect(kernel, &spec, &known, &agent.authority())?))
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
        Ok(Status { node_config, problem, agent, kernel })
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
        for object in &kernel.lingering {
            writeln!(text, "lingers: {object}")?;
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
            lingering: report.lingering.iter().cloned().collect(),
            notices: report.notices.iter().chain(&report.unsupported).cloned().collect(),
        }
    }
}

impl AgentFound {
    fn ask(address: SocketAddr) -> Self {
        let lingering = match get(address, "/metrics") {
            Ok((200, metrics)) => lingering(&metrics),
            _ => 0,
        };
        let found = |ready, says| AgentFound { address, ready, lingering, says };
        match get(address, "/readyz") {
            Ok((200, _)) if lingering == 0 => found(true, "ready".to_owned()),
            Ok((200, _)) => {
                found(true, format!("ready; {lingering} objects of an older spec linger for some seconds"))
            }
            Ok((503, says)) => found(false, format!("not ready: {says}")),
            Ok((status, _)) => found(false, format!("{address} is no agent: it answers {status} to /readyz")),
            Err(error) => found(false, format!("does not answer at {address}: {error}")),
        }
    }

    /// What is more than the NodeConfig asks for is none of its business while a running agent says that it lingers.
    fn authority(&self) -> Authority {
        match self.lingering {
            0 => Authority::Full,
            _ => Authority::Lingering(Spared::AllBut(BTreeSet::new())),
        }
    }
}

/// How many objects linger by an agent's metrics.
fn lingering(metrics: &str) -> usize {
    let mut values =
        metrics.lines().filter_map(|line| line.strip_prefix("clusterlink_agent_lingering_objects "));
    values.next().and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// The status and the words of an answer (HTTP/1.0: the connection ends with them).
fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("what answers there speaks no HTTP"))?;
    Ok((status, body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread;

    use agent_core::{Known, pass};

    use super::*;
    use crate::keeper::tests::{gateway, host};
    use crate::last_good::LastGood;

    /// An agent that is ready and lets so many objects linger, for as long as `look` asks.
    fn beside_an_agent<T>(lingering: usize, look: impl FnOnce(SocketAddr) -> T) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                // One connection for the metrics, one for the readiness.
                for mut stream in listener.incoming().take(2).flatten() {
                    let mut request = [0; 512];
                    let length = stream.read(&mut request).unwrap();
                    let metrics = format!("clusterlink_agent_lingering_objects {lingering}\n# EOF\n");
                    let asks_metrics = request[..length].starts_with(b"GET /metrics ");
                    let body = if asks_metrics { metrics.as_str() } else { "ok\n" };
                    write!(stream, "HTTP/1.0 200 OK\r\n\r\n{body}").unwrap();
                }
            });
            look(address)
        })
    }

    #[test]
    fn what_the_running_agent_lets_linger_is_no_difference_and_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let mut kernel = host();
        pass(&mut kernel, &Spec::validate(&gateway()), &Known::default()).unwrap();
        let mut spec = gateway();
        spec.routes.clear();
        let last_good = LastGood {
            cluster: "a".to_owned(),
            node: "a1".to_owned(),
            generation: Some(2),
            kept_at: Timestamp::UNIX_EPOCH,
            underlay: Vec::new(),
            api_endpoints: BTreeSet::new(),
            spec: Arc::new(spec),
        };
        store.keep(&last_good).unwrap();

        let mut look =
            |lingering| beside_an_agent(lingering, |agent| Status::look(&mut kernel, &store, agent).unwrap());
        let forgotten = look(0);
        assert!(!forgotten.is_well() && forgotten.agent.ready, "{forgotten:?}");
        assert!(forgotten.text().contains("\ndiffers: route 10.2.0.0/16"), "{}", forgotten.text());
        let lingers = look(3);
        assert!(lingers.is_well(), "{lingers:?}");
        let text = lingers.text();
        assert!(text.contains("\nlingers: route 10.2.0.0/16") && !text.contains("differs"), "{text}");
        assert!(text.contains("ready; 3 objects of an older spec linger"), "{text}");
    }
}
