//! The bytes of the file: one line that says what it is, then the content.
//!
//! The line names the format of the content, the oldest format whose readers understand it all the same (they ignore the
//! fields that they do not know), and a checksum over both and the content. So an agent reads the files of the version
//! before it and of the version after it.
//!
//! | format | content |
//! |---|---|
//! | 1 | whose it is, its generation, when it was kept, the spec |
//! | 2 | also the addresses that peers send to |
//! | 3 | also the addresses of the API servers |

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use agent_core::Known;
use api::{NodeConfigSpec, NodeId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const KIND: &str = "clusterlink-last-good";
/// What is written.
const FORMAT: u32 = 3;
/// The oldest readers that understand what is written, and the oldest format that is read.
const READABLE_FROM: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    kind: String,
    format: u32,
    readable_from: u32,
    sha256: String,
}

/// A NodeConfig that was applied, and found in the kernel afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastGood {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// Its generation.
    pub generation: Option<i64>,
    /// When it was kept.
    pub kept_at: Timestamp,
    /// The addresses that peers send to. Since format 2.
    #[serde(default)]
    pub underlay: Vec<IpAddr>,
    /// The addresses of this cluster's API servers. Since format 3.
    #[serde(default)]
    pub api_endpoints: BTreeSet<IpAddr>,
    /// The NodeConfig's spec.
    pub spec: Arc<NodeConfigSpec>,
}

impl LastGood {
    /// What was known of the host, beside its kernel.
    pub(crate) fn of_host(&self) -> Known {
        Known {
            underlay: self.underlay.clone(),
            api_endpoints: self.api_endpoints.clone(),
            ..Known::default()
        }
    }
}

/// A file that must not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is not what was written.
    #[error("it is corrupt: {0}")]
    Corrupt(String),
    /// An agent that is newer by more than this one can know wrote it.
    #[error(
        "its format {format} is for agents that know format {readable_from} or later, and this one knows {FORMAT}"
    )]
    Newer {
        /// Its format.
        format: u32,
        /// The oldest format whose readers understand it.
        readable_from: u32,
    },
    /// It is another node's.
    #[error("it is of node {node} of cluster {cluster}, and this is node {} of cluster {}", here.node, here.cluster)]
    Foreign {
        /// The cluster it is of.
        cluster: String,
        /// The node it is of.
        node: String,
        /// Where it was found.
        here: NodeId,
    },
    /// Somebody else could have written it.
    #[error("{0}; only its owner may read and write it (mode 0600)")]
    Unsafe(String),
}

impl Unfit {
    /// The end of the name under which such a file is set aside.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Unfit::Corrupt(_) => "corrupt",
            Unfit::Newer { .. } => "newer",
            Unfit::Foreign { .. } => "foreign",
            Unfit::Unsafe(_) => "unsafe",
        }
    }
}

pub(super) fn encode(last_good: &LastGood) -> Result<Vec<u8>, serde_json::Error> {
    let content = serde_json::to_vec(last_good)?;
    let header = Header {
        kind: KIND.to_owned(),
        format: FORMAT,
        readable_from: READABLE_FROM,
        sha256: checksum(FORMAT, READABLE_FROM, &content),
    };
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    bytes.extend(content);
    Ok(bytes)
}

/// The content, of whichever node.
pub(super) fn decode(bytes: &[u8]) -> Result<LastGood, Unfit> {
    let corrupt = |reason: String| Unfit::Corrupt(reason);
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, content) = bytes.split_at(end.ok_or_else(|| corrupt("its first line has no end".to_owned()))?);
    let content = &content[1..];
    let header: Header = serde_json::from_slice(line)
        .map_err(|error| corrupt(format!("its first line is unreadable: {error}")))?;
    if header.kind != KIND {
        return Err(corrupt(format!("it says that it is a {:?}", header.kind)));
    }
    if header.sha256 != checksum(header.format, header.readable_from, content) {
        return Err(corrupt(format!("its checksum is not that of its {} bytes of content", content.len())));
    }
    if header.readable_from > FORMAT {
        return Err(Unfit::Newer { format: header.format, readable_from: header.readable_from });
    }
    if header.format < READABLE_FROM {
        return Err(corrupt(format!("there is no format {}", header.format)));
    }
    serde_json::from_slice(content).map_err(|error| corrupt(format!("its content is unreadable: {error}")))
}

/// The content, if it is this node's.
pub(super) fn decode_for(here: &NodeId, bytes: &[u8]) -> Result<LastGood, Unfit> {
    let found = decode(bytes)?;
    if (&found.cluster, &found.node) == (&here.cluster, &here.node) {
        return Ok(found);
    }
    Err(Unfit::Foreign { cluster: found.cluster, node: found.node, here: here.clone() })
}

fn checksum(format: u32, readable_from: u32, content: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{format} {readable_from}\n"));
    hasher.update(content);
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn here() -> NodeId {
        NodeId::new("a", "n1")
    }

    pub(crate) fn last_good() -> LastGood {
        LastGood {
            cluster: "a".to_owned(),
            node: "n1".to_owned(),
            generation: Some(7),
            kept_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            underlay: vec!["172.31.1.1".parse().unwrap()],
            api_endpoints: ["172.31.0.7", "fd00::7"].map(|text| text.parse().unwrap()).into(),
            spec: Arc::new(crate::config::parse("rulePriority: 150").unwrap()),
        }
    }

    /// A file as an agent of another version would write it.
    pub(crate) fn of_version(format: u32, readable_from: u32, content: &Value) -> Vec<u8> {
        let content = content.to_string();
        let sha256 = checksum(format, readable_from, content.as_bytes());
        let header = json!({"kind": KIND, "format": format, "readableFrom": readable_from, "sha256": sha256});
        format!("{header}\n{content}").into_bytes()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = encode(&last_good()).unwrap();
        assert_eq!(decode_for(&here(), &bytes), Ok(last_good()));
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_noticed() {
        let bytes = encode(&last_good()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x01;
            assert!(decode_for(&here(), &changed).is_err(), "byte {at}");
            assert!(decode_for(&here(), &bytes[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn the_formats_before_and_the_one_after_are_read() {
        let mut old = serde_json::to_value(last_good()).unwrap();
        old.as_object_mut().unwrap().remove("apiEndpoints");
        let second = LastGood { api_endpoints: BTreeSet::new(), ..last_good() };
        assert_eq!(decode_for(&here(), &of_version(2, 1, &old)), Ok(second.clone()));
        old.as_object_mut().unwrap().remove("underlay");
        let first = LastGood { underlay: Vec::new(), ..second };
        assert_eq!(decode_for(&here(), &of_version(1, 1, &old)), Ok(first));
        let mut new = serde_json::to_value(last_good()).unwrap();
        new["whatComesNext"] = json!({"is": "ignored"});
        assert_eq!(decode_for(&here(), &of_version(4, 3, &new)), Ok(last_good()));
        // One that changes the meaning of what is known says so.
        let error = decode_for(&here(), &of_version(4, 4, &new)).unwrap_err();
        assert_eq!(error, Unfit::Newer { format: 4, readable_from: 4 });
        assert!(error.to_string().contains("format 4"), "{error}");
    }

    #[test]
    fn anothers_is_foreign_whichever_name_differs() {
        for (cluster, node) in [("b", "n1"), ("a", "n2")] {
            let bytes =
                encode(&LastGood { cluster: cluster.into(), node: node.into(), ..last_good() }).unwrap();
            let error = decode_for(&here(), &bytes).unwrap_err();
            assert!(error.to_string().contains(&format!("node {node} of cluster {cluster}")), "{error}");
        }
    }
}
