//! Files as agents of other versions and other nodes would leave them, and damaged ones.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A network that only a file that must not be applied asks for.
pub(super) const MARKER: &str = "198.19.77.0/24";

/// A file on the disk of a node.
pub(super) struct Kind {
    /// What it is.
    pub(super) name: &'static str,
    /// The end of the name under which it is set aside, and words of the message; `None`: it is begun with.
    pub(super) aside: Option<(&'static str, &'static str)>,
    /// Its bytes, made of those of a good one.
    pub(super) make: fn(&Kept) -> Vec<u8>,
    /// Its mode.
    pub(super) mode: u32,
}

const fn kind(
    name: &'static str,
    aside: Option<(&'static str, &'static str)>,
    make: fn(&Kept) -> Vec<u8>,
) -> Kind {
    Kind { name, aside, make, mode: 0o600 }
}

/// Every kind that is tried.
pub(super) const KINDS: [Kind; 9] = [
    kind("the format before", None, |kept| of_version(2, 1, &kept.older())),
    kind("the format after", None, |kept| of_version(4, 3, &kept.newer())),
    kind("a format for later readers", Some(("newer", "format 4")), |kept| of_version(4, 4, &kept.marked())),
    kind("another node's", Some(("foreign", "node elsewhere")), |kept| {
        let mut content = kept.marked();
        content["node"] = "elsewhere".into();
        of_version(3, 1, &content)
    }),
    kind("another content", Some(("corrupt", "checksum")), |kept| {
        let head = kept.bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        [head, b"\n", kept.marked().to_string().as_bytes()].concat()
    }),
    kind("a flipped bit", Some(("corrupt", "it is corrupt")), |kept| {
        let mut bytes = kept.bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        bytes
    }),
    kind("half a file", Some(("corrupt", "checksum")), |kept| kept.bytes[..kept.bytes.len() / 2].to_vec()),
    Kind {
        name: "a file that anybody can write",
        aside: Some(("unsafe", "0666")),
        make: |kept| of_version(3, 1, &kept.marked()),
        mode: 0o666,
    },
    kind("an empty file", Some(("corrupt", "it is corrupt")), |_| Vec::new()),
];

/// What an agent has kept.
pub(super) struct Kept {
    bytes: Vec<u8>,
    content: Value,
}

impl Kept {
    /// A good file.
    ///
    /// # Errors
    /// It is not there, or no such thing.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("nothing was kept in {}", path.display()))?;
        let end = bytes.iter().position(|byte| *byte == b'\n').context("the file has no first line")?;
        let content = serde_json::from_slice(&bytes[end + 1..])?;
        Ok(Kept { bytes, content })
    }

    fn older(&self) -> Value {
        let mut content = self.content.clone();
        if let Some(fields) = content.as_object_mut() {
            fields.remove("apiEndpoints");
        }
        content
    }

    fn newer(&self) -> Value {
        let mut content = self.content.clone();
        content["whatComesNext"] = json!({"is": "ignored"});
        content
    }

    /// The same with a network that shows whether it was applied.
    fn marked(&self) -> Value {
        let mut content = self.content.clone();
        if let Some(routes) = content["spec"]["routes"].as_array_mut()
            && let Some(first) = routes.iter().find(|route| !route["gw"].to_string().contains(':')).cloned()
        {
            routes.push(json!({"cidr": MARKER, "gw": first["gw"], "dev": first["dev"]}));
        }
        content
    }
}

/// A file as an agent of another version would write it (agent/src/last_good/format.rs).
fn of_version(format: u32, readable_from: u32, content: &Value) -> Vec<u8> {
    let content = content.to_string();
    let mut hasher = Sha256::new();
    hasher.update(format!("{format} {readable_from}\n"));
    hasher.update(&content);
    let sha256: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let head = json!({
        "kind": "clusterlink-last-good", "format": format, "readableFrom": readable_from, "sha256": sha256
    });
    format!("{head}\n{content}").into_bytes()
}
