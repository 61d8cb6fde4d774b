//! A NodeConfig from a file: the whole object, or its spec alone.

use std::fs;
use std::path::{Path, PathBuf};

use api::NodeConfigSpec;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

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

/// What there is in a spec.
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

/// A whole object.
#[derive(Deserialize)]
struct Object {
    spec: NodeConfigSpec,
}

/// The spec that a file holds.
pub fn load(path: &Path) -> Result<NodeConfigSpec, ConfigError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|reason| ConfigError::Parse { path: path.to_owned(), reason })
}

/// The spec that a text holds, which is one document. An object has a kind; a bare spec has none.
pub fn parse(text: &str) -> Result<NodeConfigSpec, String> {
    let document = the_document(text)?;
    match document.get("kind").map(|kind| kind.as_str().unwrap_or("thing of no kind")) {
        Some("NodeConfig") => {
            let spec = document.get("spec").and_then(Value::as_object).ok_or("it has no spec")?;
            no_unknown(spec)?;
            typed(text).map(|object: Object| object.spec)
        }
        Some(kind) => Err(format!("it is a {kind}")),
        None if document.contains_key("spec") => Err("it has a spec, but no kind".to_owned()),
        None => {
            no_unknown(&document)?;
            typed(text)
        }
    }
}

fn the_document(text: &str) -> Result<Map<String, Value>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
    if documents.len() > 1 {
        let name = |document: &Value| document["metadata"]["name"].as_str().unwrap_or("unnamed").to_owned();
        let names: Vec<String> = documents.iter().map(name).collect();
        let names = names.join(", ");
        return Err(format!(
            "it holds {} documents ({names}); write that of this node alone",
            documents.len()
        ));
    }
    match documents.pop() {
        Some(Value::Object(document)) => Ok(document),
        Some(_) => Err("it is not a mapping of fields".to_owned()),
        None => Err("it is empty".to_owned()),
    }
}

/// From the text, so that a message names line and column.
fn typed<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let documents: Vec<Option<T>> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    documents.into_iter().flatten().next().ok_or_else(|| "it is empty".to_owned())
}

/// An unknown field is a slip of the pen, or the sign of a wrong file.
fn no_unknown(spec: &Map<String, Value>) -> Result<(), String> {
    match spec.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        Some(unknown) => Err(format!("a NodeConfig's spec has no field {unknown:?}")),
        None => Ok(()),
    }
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
        assert!(parse("rulePriority: high").unwrap_err().contains("line 1"));
        assert!(parse("kind: NodeConfig\nspec: {routs: []}\n").unwrap_err().contains("\"routs\""));
        // The kind counts, whatever its spec looks like.
        assert_eq!(parse("kind: Deployment\nspec: {devices: none}\n").unwrap_err(), "it is a Deployment");
    }

    #[test]
    fn one_document_is_one_whatever_stands_around_it() {
        assert_eq!(parse("---\nrulePriority: 7\n---\n").unwrap().rule_priority, Some(7));
        assert_eq!(parse("# nothing\n").unwrap_err(), "it is empty");
        assert_eq!(parse("just words").unwrap_err(), "it is not a mapping of fields");
        let several = "kind: NodeConfig\nmetadata: {name: a-n1}\nspec: {}\n---\nkind: NodeConfig\nmetadata: {name: a-n2}\nspec: {}\n";
        assert_eq!(
            parse(several).unwrap_err(),
            "it holds 2 documents (a-n1, a-n2); write that of this node alone"
        );
    }
}
