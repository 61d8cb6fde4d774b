//! Objects and CRDs of Calico, Cilium and flannel as those projects ship them.
//!
//! Nothing of theirs is copied here: `go.mod` beside this crate pins a version of each, which the Go module proxy
//! delivers (licence of all three: Apache-2.0), and `go.sum` holds them to their content. A test names a file by its
//! project and path.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

const GO_MOD: &str = include_str!("../go.mod");

/// A project whose files can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Project {
    /// Calico v3.28.5, by the commit that its module proxy name holds.
    Calico,
    /// Cilium v1.20.2.
    Cilium,
    /// flannel v0.28.10.
    Flannel,
}

impl Project {
    fn module(self) -> &'static str {
        match self {
            Project::Calico => "github.com/projectcalico/calico",
            Project::Cilium => "github.com/cilium/cilium",
            Project::Flannel => "github.com/flannel-io/flannel",
        }
    }
}

/// Why the files are not there.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// There is no `go`.
    #[error("the modules of Calico, Cilium and flannel cannot be had: go cannot be run: {0}; install Go")]
    Go(#[source] std::io::Error),
    /// The module proxy does not deliver, or not what `go.sum` names.
    #[error("the modules of Calico, Cilium and flannel cannot be had: {0}")]
    Download(String),
}

/// Where the files of each project are.
#[derive(Debug)]
pub struct Upstream {
    directories: BTreeMap<String, PathBuf>,
}

impl Upstream {
    /// Fetches what the module cache does not hold yet.
    pub fn find() -> Result<Self, Missing> {
        let modules = GO_MOD.lines().filter_map(|line| line.strip_prefix('\t')?.split_once(' '));
        let output = Command::new("go")
            .args(["mod", "download", "-json"])
            .args(modules.map(|(path, version)| format!("{path}@{version}")))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .map_err(Missing::Go)?;
        let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let documents = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
        let mut directories = BTreeMap::new();
        for document in documents {
            let document = document.map_err(|error| Missing::Download(format!("{error}: {}", said())))?;
            match (document["Path"].as_str(), document["Dir"].as_str()) {
                (Some(path), Some(directory)) => directories.insert(path.to_owned(), directory.into()),
                _ => return Err(Missing::Download(document.to_string())),
            };
        }
        if directories.is_empty() { Err(Missing::Download(said())) } else { Ok(Upstream { directories }) }
    }

    /// The same for all tests of a program. `None`: it was said why there are none.
    ///
    /// # Panics
    ///
    /// As [`skip::skip`], where there are none.
    pub fn find_or_skip() -> Option<&'static Self> {
        static FOUND: OnceLock<Result<Upstream, Missing>> = OnceLock::new();
        FOUND.get_or_init(Self::find).as_ref().inspect_err(|missing| skip::skip(missing)).ok()
    }

    /// The text of a file.
    ///
    /// # Panics
    ///
    /// Where the project has no such file: its version has changed, and the test with it.
    pub fn text(&self, project: Project, path: &str) -> String {
        let file = self.directories[project.module()].join(Path::new(path));
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{project:?} {path}: {error}"))
    }

    /// The objects of a YAML file, those of a `List` one by one.
    ///
    /// # Panics
    ///
    /// As [`Upstream::text`], and where it is not YAML.
    pub fn objects(&self, project: Project, path: &str) -> Vec<Value> {
        parse(&self.text(project, path)).unwrap_or_else(|error| panic!("{project:?} {path}: {error}"))
    }

    /// The objects of one file of a txtar archive: the form of Cilium's tests.
    ///
    /// # Panics
    ///
    /// As [`Upstream::objects`], and where the archive has no such file.
    pub fn archived(&self, project: Project, archive: &str, file: &str) -> Vec<Value> {
        let text = self.text(project, archive);
        let header = format!("-- {file} --\n");
        let (_, rest) =
            text.split_once(&header).unwrap_or_else(|| panic!("{project:?} {archive}: no file {file}"));
        let body = rest.split("\n-- ").next().unwrap_or_default();
        parse(body).unwrap_or_else(|error| panic!("{project:?} {archive} {file}: {error}"))
    }

    /// The CRDs of these names among those of a file.
    ///
    /// # Panics
    ///
    /// As [`Upstream::objects`], and where one is missing.
    pub fn crds(&self, project: Project, path: &str, names: &[&str]) -> Vec<Value> {
        let objects = self.objects(project, path);
        let named = |name: &&str| {
            let crd = objects.iter().find(|object| {
                object["kind"] == "CustomResourceDefinition" && object["metadata"]["name"] == **name
            });
            crd.cloned().unwrap_or_else(|| panic!("{project:?} {path}: no CRD {name}"))
        };
        names.iter().map(named).collect()
    }
}

fn parse(text: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let lists = documents.into_iter().flat_map(|document| match document.get("items") {
        Some(Value::Array(items)) if document["kind"] == "List" => items.clone(),
        _ => vec![document],
    });
    Ok(lists.filter(Value::is_object).collect())
}
