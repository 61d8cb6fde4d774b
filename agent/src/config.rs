//! A NodeConfig from a file: the whole object, or its spec alone.

use std::fs;
use std::path::{Path, PathBuf};

use api::NodeConfigSpec;
use serde::Deserialize;

/// A file that holds no NodeConfig.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is no YAML, or YAML of something else.
    #[error("{} is not a NodeConfig (nor the spec of one): {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        reason: String,
    },
}

/// An object has a kind; a bare spec has none.
#[derive(Deserialize)]
struct Object {
    kind: Option<String>,
    spec: Option<NodeConfigSpec>,
}

/// The spec that a file holds.
pub fn load(path: &Path) -> Result<NodeConfigSpec, ConfigError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|reason| ConfigError::Parse { path: path.to_owned(), reason })
}

/// The spec that a text holds.
pub fn parse(text: &str) -> Result<NodeConfigSpec, String> {
    let object: Object = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    match (object.kind.as_deref(), object.spec) {
        (Some("NodeConfig"), Some(spec)) => Ok(spec),
        (Some("NodeConfig"), None) => Err("it has no spec".to_owned()),
        (Some(kind), _) => Err(format!("it is a {kind}")),
        (None, Some(_)) => Err("it has a spec, but no kind".to_owned()),
        (None, None) => bare_spec(text),
    }
}

/// Without a kind, an unknown field is the only sign of a wrong file.
fn bare_spec(text: &str) -> Result<NodeConfigSpec, String> {
    const FIELDS: [&str; 9] = [
        "devices",
        "routes",
        "inboundRoutes",
        "unreachable",
        "fdbs",
        "arps",
        "firewall",
        "rulePriority",
        "iptables",
    ];
    let fields: std::collections::BTreeMap<String, serde_json::Value> =
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if let Some(unknown) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        return Err(format!("a NodeConfig's spec has no field {unknown:?}"));
    }
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_and_its_bare_spec_are_the_same() {
        let object = "apiVersion: kosmos.io/v1alpha1\nkind: NodeConfig\nmetadata: {name: a-n1}\nspec:\n  rulePriority: 7\n";
        assert_eq!(parse(object).unwrap().rule_priority, Some(7));
        assert_eq!(parse("rulePriority: 7").unwrap().rule_priority, Some(7));
    }

    #[test]
    fn another_object_is_refused_by_its_kind() {
        assert_eq!(parse("kind: Cluster\nspec: {}\n").unwrap_err(), "it is a Cluster");
        assert!(parse("routs: []").unwrap_err().contains("\"routs\""));
        assert!(parse("rulePriority: high").is_err());
    }
}
