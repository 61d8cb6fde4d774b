//! What the files of `kosmosctl plan` hold: Clusters, ClusterNodes and NodeConfigs, and what is wrong with the rest.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use api::{Cluster, ClusterNode, GROUP, NodeConfig};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use structural_schema::Schema;

/// What the files hold.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) clusters: Vec<Cluster>,
    pub(super) nodes: Vec<ClusterNode>,
    pub(super) configs: Vec<NodeConfig>,
    /// What was passed over.
    pub(super) notes: Vec<String>,
    /// What could not be read.
    pub(super) errors: Vec<String>,
    schemas: BTreeMap<String, Schema>,
}

impl Objects {
    /// Reads every file. What a document holds wrongly stands in `errors`; a file that cannot be read at all is an error.
    pub(super) fn read(files: &[String]) -> anyhow::Result<Self> {
        let mut objects = Objects { schemas: schemas()?, ..Objects::default() };
        for file in files {
            for (name, text) in texts(file)? {
                objects.take_text(&name, &text);
            }
        }
        Ok(objects)
    }

    fn take_text(&mut self, file: &str, text: &str) {
        if let Some(values) = as_json(text) {
            for (at, value) in values.into_iter().enumerate() {
                self.take(&format!("{file}: document {}", at + 1), value);
            }
            return;
        }
        let mut reader = text.as_bytes();
        for (at, document) in serde_saphyr::read::<_, Value>(&mut reader).enumerate() {
            let place = format!("{file}: document {}", at + 1);
            match document {
                Ok(document) => self.take(&place, document),
                Err(error) => self.errors.push(format!("{place}: {}", one_line(&error.to_string()))),
            }
        }
    }

    fn take(&mut self, place: &str, mut document: Value) {
        if document.is_null() {
            return;
        }
        let Some(kind) = document["kind"].as_str().map(str::to_owned) else {
            self.errors.push(format!("{place}: this is no Kubernetes object: it has no kind"));
            return;
        };
        if kind == "List" || (kind.ends_with("List") && document["items"].is_array()) {
            return self.take_list(place, &kind, document);
        }
        let place = match name(&document) {
            Ok(name) => format!("{place}: {kind} {name}"),
            Err(error) => return self.errors.push(format!("{place}: {kind}: {error}")),
        };
        let Some(version) = document["apiVersion"].as_str().map(str::to_owned) else {
            self.errors.push(format!("{place}: apiVersion is missing: our resources are {OURS}"));
            return;
        };
        if version != OURS || !self.schemas.contains_key(&kind) {
            return self.pass_over(&place, &version, &kind);
        }
        self.drop_unknown(&place, &kind, &mut document);
        match kind.as_str() {
            "Cluster" => read_into(&mut self.clusters, &mut self.errors, &place, document),
            "ClusterNode" => read_into(&mut self.nodes, &mut self.errors, &place, document),
            _ => read_into(&mut self.configs, &mut self.errors, &place, document),
        }
    }

    /// The items of a typed List need not repeat what they are.
    fn take_list(&mut self, place: &str, kind: &str, mut list: Value) {
        let (of, version) = (kind.trim_end_matches("List").to_owned(), list["apiVersion"].clone());
        let items = match list["items"].take() {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            other => return self.errors.push(format!("{place}: {kind}: items {other} is not a list")),
        };
        for (at, mut item) in items.into_iter().enumerate() {
            if !of.is_empty() && item.is_object() && item["kind"].is_null() {
                (item["kind"], item["apiVersion"]) = (json!(of), version.clone());
            }
            self.take(&format!("{place}: item {}", at + 1), item);
        }
    }

    fn pass_over(&mut self, place: &str, version: &str, kind: &str) {
        if version.split('/').next() == Some(GROUP) && self.schemas.contains_key(kind) {
            self.errors.push(format!("{place}: apiVersion {version:?} is not known: write {OURS}"));
        } else {
            self.notes.push(format!("{place}: ignored, because {version} {kind} is no part of a plan"));
        }
    }

    /// As an API server does, but aloud: a field with a typing error would else be a default in silence.
    fn drop_unknown(&mut self, place: &str, kind: &str, document: &mut Value) {
        let Some(schema) = self.schemas.get(kind) else { return };
        let unknown = schema.prune(document).into_iter();
        self.notes
            .extend(unknown.map(|field| format!("{place}: {field} is ignored: {kind} has no such field")));
    }
}

const OURS: &str = "kosmos.io/v1alpha1";

/// What each of our kinds may hold.
fn schemas() -> anyhow::Result<BTreeMap<String, Schema>> {
    let mut schemas = BTreeMap::new();
    for crd in api::crd::all() {
        let version = crd.spec.versions.first().and_then(|version| version.schema.as_ref());
        let schema = version.and_then(|schema| schema.open_api_v3_schema.as_ref());
        let schema = Schema::compile(&serde_json::to_value(schema)?)?;
        schemas.insert(crd.spec.names.kind, schema);
    }
    Ok(schemas)
}

/// A text that is one JSON value after another; YAML's rules on tabs and on where a document ends are not JSON's.
fn as_json(text: &str) -> Option<Vec<Value>> {
    text.trim_start().starts_with('{').then_some(())?;
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()
}

fn name(document: &Value) -> Result<&str, String> {
    match &document["metadata"]["name"] {
        Value::String(name) if !name.is_empty() => Ok(name),
        Value::String(_) | Value::Null => Err("metadata.name is missing: give it one".to_owned()),
        other => Err(format!("metadata.name {other} is not text: put it in quotes")),
    }
}

fn read_into<K: DeserializeOwned>(
    objects: &mut Vec<K>,
    errors: &mut Vec<String>,
    place: &str,
    document: Value,
) {
    let value = document.clone();
    match serde_path_to_error::deserialize(document) {
        Ok(object) => objects.push(object),
        Err(error) => {
            let path = error.path().to_string();
            let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
            let value = value.pointer(&pointer).map(|value| format!(" {value}")).unwrap_or_default();
            let field = if path == "." { String::new() } else { format!("{path}{value}: ") };
            errors.push(format!("{place}: {field}{}", one_line(&error.inner().to_string())));
        }
    }
}

/// The first line, without what only a programmer could follow.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.replace(", set DuplicateKeyPolicy in Options if acceptable", "")
}

/// The texts behind an argument of `-f`, with their names.
fn texts(file: &str) -> anyhow::Result<Vec<(String, String)>> {
    let without_mark = |text: String| text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    if file == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(vec![("standard input".to_owned(), without_mark(text))]);
    }
    let path = Path::new(file);
    let paths = if path.is_dir() { files_of(path)? } else { vec![path.to_owned()] };
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok((path.display().to_string(), without_mark(text)))
    };
    paths.into_iter().map(read).collect()
}

fn files_of(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("{} cannot be read", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let known = path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if known && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{} holds no .yaml, .yml or .json file", folder.display());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(text: &str) -> Objects {
        let mut objects = Objects { schemas: schemas().unwrap(), ..Objects::default() };
        objects.take_text("mesh.yaml", text);
        objects
    }

    #[test]
    fn documents_lists_and_other_kinds_are_told_apart() {
        let read = objects(
            "apiVersion: kosmos.io/v1alpha1\nkind: Cluster\nmetadata: {name: a}\nspec: {}\n---\n\
             apiVersion: v1\nkind: List\nitems:\n- apiVersion: kosmos.io/v1alpha1\n  kind: ClusterNode\n  \
             metadata: {name: a-n1}\n  spec: {clusterName: a, nodeName: n1}\n---\n\
             apiVersion: kosmos.io/v1alpha1\nkind: NodeConfigList\nitems: [{metadata: {name: a-n1}, spec: {}}]\n---\n\
             {\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"x\"}}\n",
        );
        assert_eq!(read.errors, Vec::<String>::new());
        assert_eq!((read.clusters.len(), read.nodes.len(), read.configs.len()), (1, 1, 1));
        assert_eq!(
            read.notes,
            ["mesh.yaml: document 4: ConfigMap x: ignored, because v1 ConfigMap is no part of a plan"]
        );
    }

    #[test]
    fn what_is_no_object_is_an_error_and_what_is_nothing_is_nothing() {
        for (text, message) in [
            ("hello\n", "mesh.yaml: document 1: this is no Kubernetes object: it has no kind"),
            ("[1, 2]\n", "mesh.yaml: document 1: this is no Kubernetes object: it has no kind"),
            ("kind: Cluster\n", "mesh.yaml: document 1: Cluster: metadata.name is missing: give it one"),
            (
                "kind: Cluster\nmetadata: {name: 7}\n",
                "mesh.yaml: document 1: Cluster: metadata.name 7 is not text: put it in quotes",
            ),
            (
                "kind: Cluster\nmetadata: {name: a}\n",
                "mesh.yaml: document 1: Cluster a: apiVersion is missing: our resources are kosmos.io/v1alpha1",
            ),
            (
                "apiVersion: kosmos.io/v2\nkind: Cluster\nmetadata: {name: a}\n",
                "mesh.yaml: document 1: Cluster a: apiVersion \"kosmos.io/v2\" is not known: write kosmos.io/v1alpha1",
            ),
            (
                "apiVersion: kosmos.io/v1alpha1\nkind: Cluster\nmetadata: {name: a}\n",
                "mesh.yaml: document 1: Cluster a: missing field `spec`",
            ),
            ("kind: List\nitems: 5\n", "mesh.yaml: document 1: List: items 5 is not a list"),
        ] {
            assert_eq!(objects(text).errors, [message], "{text}");
        }
        for text in ["", "---\n# nothing\n---\n", "kind: List\n", "kind: List\nitems: []\n"] {
            let read = objects(text);
            assert_eq!((read.errors, read.notes), (Vec::new(), Vec::new()), "{text}");
        }
    }

    #[test]
    fn json_may_have_tabs_and_follow_upon_json() {
        let one = "{\n\t\"apiVersion\": \"kosmos.io/v1alpha1\", \"kind\": \"Cluster\",\n\t\"metadata\": {\"name\": \"NAME\"}, \"spec\": {}\n}\n";
        let read = objects(&(one.replace("NAME", "a") + &one.replace("NAME", "b")));
        assert_eq!((read.errors, read.clusters.len()), (Vec::new(), 2));
    }

    #[test]
    fn a_field_that_nobody_knows_is_named() {
        let read = objects(
            "apiVersion: kosmos.io/v1alpha1\nkind: Cluster\nmetadata: {name: a}\n\
             spec: {clusterLinkOptions: {netwrkType: gateway}}\n",
        );
        assert_eq!(
            read.notes,
            [
                "mesh.yaml: document 1: Cluster a: spec.clusterLinkOptions.netwrkType is ignored: Cluster has no such field"
            ]
        );
    }

    #[test]
    fn an_error_names_file_document_object_field_and_value() {
        let read = objects(
            "apiVersion: kosmos.io/v1alpha1\nkind: Cluster\nmetadata: {name: a}\nspec: {}\n---\n\
             apiVersion: kosmos.io/v1alpha1\nkind: Cluster\nmetadata: {name: b}\n\
             spec: {clusterLinkOptions: {networkType: quantum}}\n---\nspec: {}\n",
        );
        assert_eq!(
            read.errors,
            [
                "mesh.yaml: document 2: Cluster b: spec.clusterLinkOptions.networkType \"quantum\": \
                 unknown variant `quantum`, expected `p2p` or `gateway`",
                "mesh.yaml: document 3: this is no Kubernetes object: it has no kind"
            ]
        );
    }

    #[test]
    fn what_is_no_yaml_is_an_error_with_its_place() {
        let read = objects("kind: [\n");
        assert!(read.errors[0].starts_with("mesh.yaml: document 1: "), "{:?}", read.errors);
    }
}
