//! Which processes a sandbox runs: the binaries that ship, each where it would run in a cluster.

use std::path::{Path, PathBuf};

use crate::addressing::{ClusterLayout, Layout, NodeLayout, ROOT};
use crate::processes::ProcessSpec;
use crate::scenario::CONTROL;
use crate::state::StateDir;

/// The directory of the binaries, where it is not that of the running one.
pub const BINARIES_VARIABLE: &str = "CLUSTERLINK_BIN_DIR";

/// The programs.
const CONTROLLER_MANAGER: &str = "clusterlink-controller-manager";
const NETWORK_MANAGER: &str = "clusterlink-network-manager";
const AGENT: &str = "clusterlink-agent";
/// The measuring program, which answers in every pod and on every node.
pub const NETPERF: &str = "clusterlink-netperf";

/// A program that is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "{program} is not in {directory}: build it (`make build`), or name its directory in {BINARIES_VARIABLE}"
)]
pub struct MissingProgram {
    /// Its name.
    pub program: String,
    /// Where it should be.
    pub directory: PathBuf,
}

/// The directory with the binaries.
#[derive(Clone, Debug)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// That of [`BINARIES_VARIABLE`], else that of this program. A test's own program is one directory deeper.
    pub fn find() -> Self {
        if let Some(directory) = std::env::var_os(BINARIES_VARIABLE) {
            return Binaries(directory.into());
        }
        let own = std::env::current_exe().ok().and_then(|file| file.parent().map(Path::to_owned));
        let directory = own.unwrap_or_default();
        match directory.file_name() {
            Some(name) if name == "deps" => {
                Binaries(directory.parent().map_or_else(PathBuf::new, Path::to_owned))
            }
            _ => Binaries(directory),
        }
    }

    /// The file of a program.
    pub fn program(&self, program: &str) -> Result<PathBuf, MissingProgram> {
        let file = self.0.join(program);
        let missing = || MissingProgram { program: program.to_owned(), directory: self.0.clone() };
        if file.is_file() { Ok(file) } else { Err(missing()) }
    }
}

/// What answers in every pod, on every node and outside.
pub fn servers(layout: &Layout, binaries: &Binaries) -> Result<Vec<ProcessSpec>, MissingProgram> {
    let program = binaries.program(NETPERF)?;
    let pods = layout.nodes().flat_map(|(_, node)| node.pods.iter().map(|pod| pod.place.clone()));
    let nodes = layout.nodes().map(|(_, node)| node.place.clone());
    let places = nodes.chain(pods).chain([crate::addressing::OUTSIDE.to_owned()]);
    let server = |place: String| ProcessSpec {
        name: format!("netperf-{place}"),
        arguments: netperf::serve::ServeOptions::new(place.as_str()).to_args(),
        program: program.clone(),
        environment: Vec::new(),
        place,
    };
    Ok(places.map(server).collect())
}

/// ClusterLink itself.
pub fn components(
    layout: &Layout,
    binaries: &Binaries,
    state: &StateDir,
) -> Result<Vec<ProcessSpec>, MissingProgram> {
    let files = Files { binaries, state };
    let mut specs = vec![files.network_manager()?];
    for cluster in &layout.clusters {
        specs.push(files.controller_manager(cluster)?);
    }
    for (cluster, node) in layout.nodes() {
        specs.push(files.agent(cluster, node)?);
    }
    Ok(specs)
}

/// Where programs and kubeconfigs are.
struct Files<'a> {
    binaries: &'a Binaries,
    state: &'a StateDir,
}

impl Files<'_> {
    fn kubeconfig(&self, identity: &str) -> String {
        self.state.kubeconfig(identity).display().to_string()
    }

    fn spec(
        &self,
        program: &str,
        name: String,
        place: &str,
        arguments: Vec<String>,
    ) -> Result<ProcessSpec, MissingProgram> {
        let program = self.binaries.program(program)?;
        Ok(ProcessSpec { name, place: place.to_owned(), program, arguments, environment: Vec::new() })
    }

    fn network_manager(&self) -> Result<ProcessSpec, MissingProgram> {
        let kubeconfig = self.kubeconfig(&format!("{CONTROL}.network-manager"));
        self.spec(NETWORK_MANAGER, "network-manager".to_owned(), ROOT, flags(&[("kubeconfig", &kubeconfig)]))
    }

    fn controller_manager(&self, cluster: &ClusterLayout) -> Result<ProcessSpec, MissingProgram> {
        let name = format!("controller-manager-{}", cluster.name);
        let arguments = flags(&[
            ("cluster", &cluster.name),
            ("kubeconfig", &self.kubeconfig(&format!("{}.controller-manager", cluster.name))),
            ("control-kubeconfig", &self.kubeconfig(&format!("{CONTROL}.{name}"))),
        ]);
        self.spec(CONTROLLER_MANAGER, name, ROOT, arguments)
    }

    fn agent(&self, cluster: &ClusterLayout, node: &NodeLayout) -> Result<ProcessSpec, MissingProgram> {
        let arguments = flags(&[
            ("node", &node.name),
            ("cluster", &cluster.name),
            ("kubeconfig", &self.kubeconfig(&format!("{}.agent-{}", cluster.name, node.name))),
            // Nodes share the host's file system: each agent keeps its last good NodeConfig in a directory of its own.
            ("state-directory", &self.state.agent_directory(&node.place).display().to_string()),
        ]);
        self.spec(AGENT, format!("agent-{}", node.place), &node.place, arguments)
    }
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().flat_map(|(flag, value)| [format!("--{flag}"), (*value).to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scenario::Scenario;

    fn binaries(programs: &[&str]) -> (tempfile::TempDir, Binaries) {
        let directory = tempfile::tempdir().unwrap();
        for program in programs {
            std::fs::write(directory.path().join(program), "").unwrap();
        }
        let binaries = Binaries(directory.path().to_owned());
        (directory, binaries)
    }

    #[test]
    fn every_node_has_an_agent_and_every_member_a_controller_manager() {
        let (_directory, binaries) = binaries(&[AGENT, CONTROLLER_MANAGER, NETWORK_MANAGER]);
        let layout = Scenario::default().layout().unwrap();
        let specs = components(&layout, &binaries, &StateDir::of("x").unwrap()).unwrap();
        let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!((specs.len(), names.len()), (1 + 3 + 8, 12));
        let agent = specs.iter().find(|spec| spec.name == "agent-b3").unwrap();
        assert_eq!(agent.place, "b3");
        assert_eq!(agent.arguments[..4], ["--node", "node3", "--cluster", "b"]);
        assert!(agent.arguments[5].ends_with("/b.agent-node3.kubeconfig"));
    }

    #[test]
    fn a_missing_program_is_named_with_what_to_do() {
        let (_directory, binaries) = binaries(&[]);
        let message = servers(&Scenario::default().layout().unwrap(), &binaries).unwrap_err().to_string();
        assert!(message.contains(NETPERF) && message.contains("make build"), "{message}");
    }
}
