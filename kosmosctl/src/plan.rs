//! `kosmosctl plan`: the plan of the network-manager, made from files alone.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use api::{CLUSTER_LABEL, Cluster, ClusterNode, NodeConfig, NodeId};
use clap::{Args, ValueEnum};
use kube::{
    Api, Client, Config, ResourceExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use network_plan::{Change, Configs, Snapshot, diff};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Print the NodeConfigs that the network-manager would write for these Clusters and ClusterNodes.
///
/// What cannot be planned, and what is planned only in part, is said on standard error, one line each.
#[derive(Args)]
pub(crate) struct PlanArgs {
    /// Files, directories (their .yaml, .yml and .json files), or - for standard input. YAML streams, JSON and Lists, of
    /// any mix of Cluster, ClusterNode and NodeConfig.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<String>,
    /// How the NodeConfigs are printed.
    #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
    output: Format,
    /// Print what would change against the NodeConfigs in the files, or against a control cluster's.
    #[arg(long)]
    diff: bool,
    /// Kubeconfig of the control cluster whose NodeConfigs --diff compares with.
    #[arg(long, requires = "diff")]
    kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig (in the default one, where --kubeconfig is not given).
    #[arg(long, requires = "diff")]
    context: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A YAML stream.
    Yaml,
    /// A JSON List.
    Json,
}

/// Reads, plans, prints. Input that cannot be read is an error; what the plan rejects is not.
pub(crate) fn run(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let mut objects = Objects::default();
    for file in &args.files {
        for (name, text) in read(file)? {
            objects.take_text(&name, &text);
        }
    }
    let mut stderr = io::stderr().lock();
    for note in &objects.notes {
        writeln!(stderr, "note: {note}")?;
    }
    for error in &objects.errors {
        writeln!(stderr, "error: {error}")?;
    }
    if !objects.errors.is_empty() {
        bail!("nothing was planned: {} document(s) cannot be read", objects.errors.len());
    }
    for (cluster, gateways) in network_plan::election::fill_roles(&objects.clusters, &mut objects.nodes) {
        let gateways: Vec<String> = gateways.into_iter().collect();
        let gateways = gateways.join(", ");
        writeln!(
            stderr,
            "note: Cluster {cluster}: no ClusterNode has the role gateway; planned with {gateways}"
        )?;
    }
    let planned = plan(&objects, &mut stderr)?;
    drop(stderr);
    if args.diff {
        let actual = actual(&args, objects.configs)?;
        return print_diff(&planned, &actual).map(|()| ExitCode::SUCCESS);
    }
    print_configs(&planned, args.output).map(|()| ExitCode::SUCCESS)
}

type Planned = BTreeMap<NodeId, NodeConfig>;

fn plan(objects: &Objects, stderr: &mut impl Write) -> anyhow::Result<Planned> {
    let snapshot = Snapshot::new(&objects.clusters, &objects.nodes);
    let (topology, rejections) = network_plan::topology(&snapshot);
    for rejection in rejections {
        writeln!(stderr, "{rejection}")?;
    }
    let plan = network_plan::plan(&topology);
    let named = plan.iter().map(|(id, node)| {
        let mut config = NodeConfig::new(&id.object_name(), network_plan::render(node));
        config.labels_mut().insert(CLUSTER_LABEL.to_owned(), id.cluster.clone());
        (id.clone(), config)
    });
    Ok(named.collect())
}

/// What the files hold.
#[derive(Default)]
struct Objects {
    clusters: Vec<Cluster>,
    nodes: Vec<ClusterNode>,
    configs: Vec<NodeConfig>,
    /// What was passed over.
    notes: Vec<String>,
    /// What could not be read.
    errors: Vec<String>,
}

impl Objects {
    fn take_text(&mut self, file: &str, text: &str) {
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
        let kind = document["kind"].as_str().unwrap_or_default().to_owned();
        if let (true, Value::Array(items)) = (kind.ends_with("List"), document["items"].take()) {
            // The items of a typed List need not repeat what they are.
            let (of, version) = (kind.trim_end_matches("List").to_owned(), document["apiVersion"].clone());
            for (at, mut item) in items.into_iter().enumerate() {
                if !of.is_empty() && item.is_object() && item["kind"].is_null() {
                    (item["kind"], item["apiVersion"]) = (json!(of), version.clone());
                }
                self.take(&format!("{place}: item {}", at + 1), item);
            }
            return;
        }
        let name = document["metadata"]["name"].as_str().unwrap_or("without metadata.name").to_owned();
        let place = format!("{place}: {kind} {name}");
        let ours = document["apiVersion"].as_str() == Some("kosmos.io/v1alpha1");
        match kind.as_str() {
            "Cluster" if ours => read_into(&mut self.clusters, &mut self.errors, &place, document),
            "ClusterNode" if ours => read_into(&mut self.nodes, &mut self.errors, &place, document),
            "NodeConfig" if ours => read_into(&mut self.configs, &mut self.errors, &place, document),
            "" => self
                .errors
                .push(format!("{}: this is no Kubernetes object: it has no kind", place.trim_end())),
            _ => {
                let version = document["apiVersion"].as_str().unwrap_or("without apiVersion");
                self.notes.push(format!("{place}: ignored, because {version} {kind} is no part of a plan"));
            }
        }
    }
}

fn read_into<K: DeserializeOwned>(
    objects: &mut Vec<K>,
    errors: &mut Vec<String>,
    place: &str,
    document: Value,
) {
    if document["metadata"]["name"].as_str().is_none() {
        errors.push(format!("{place}: metadata.name is missing: give it one"));
        return;
    }
    let value = document.clone();
    match serde_path_to_error::deserialize(document) {
        Ok(object) => objects.push(object),
        Err(error) => {
            let path = error.path().to_string();
            let pointer = format!("/{}", path.replace('.', "/").replace('[', "/").replace(']', ""));
            let value = value.pointer(&pointer).map(|value| format!(" {value}")).unwrap_or_default();
            errors.push(format!("{place}: {path}{value}: {}", one_line(&error.inner().to_string())));
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The texts behind an argument of `-f`, with their names.
fn read(file: &str) -> anyhow::Result<Vec<(String, String)>> {
    if file == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let path = Path::new(file);
    let paths = if path.is_dir() { files_of(path)? } else { vec![path.to_owned()] };
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok((path.display().to_string(), text))
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

fn print_configs(planned: &Planned, format: Format) -> anyhow::Result<()> {
    let configs: Vec<&NodeConfig> = planned.values().collect();
    let text = match format {
        Format::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": configs});
            serde_json::to_string_pretty(&list)? + "\n"
        }
        Format::Yaml if configs.is_empty() => String::new(),
        Format::Yaml => serde_saphyr::to_string_multiple(&configs)?,
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// The NodeConfigs that are there now.
fn actual(args: &PlanArgs, given: Vec<NodeConfig>) -> anyhow::Result<Configs> {
    let configs = if args.kubeconfig.is_some() || args.context.is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(fetch(args.kubeconfig.as_deref(), args.context.clone()))?
    } else if given.is_empty() {
        bail!(
            "--diff compares with NodeConfigs, and the files hold none: add them with -f, or give --kubeconfig or --context"
        );
    } else {
        given
    };
    Ok(configs.into_iter().map(|config| (config.name_any(), config.spec)).collect())
}

async fn fetch(kubeconfig: Option<&Path>, context: Option<String>) -> anyhow::Result<Vec<NodeConfig>> {
    let from = match kubeconfig {
        Some(path) => {
            Kubeconfig::read_from(path).with_context(|| format!("--kubeconfig {}", path.display()))?
        }
        None => Kubeconfig::read().context("the default kubeconfig")?,
    };
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(from, &options).await?;
    let server = config.cluster_url.clone();
    let client = Client::try_from(config)?;
    let listed = Api::<NodeConfig>::all(client).list(&Default::default()).await;
    Ok(listed.with_context(|| format!("the NodeConfigs of {server} cannot be read"))?.items)
}

fn print_diff(planned: &Planned, actual: &Configs) -> anyhow::Result<()> {
    let desired: Configs =
        planned.iter().map(|(id, config)| (id.object_name(), config.spec.clone())).collect();
    let changes = diff(&desired, actual);
    let mut stdout = io::stdout().lock();
    let mut node = None;
    for change in &changes {
        if node != Some(&change.node) {
            let fate = match (actual.contains_key(&change.node), desired.contains_key(&change.node)) {
                (false, _) => " (new)",
                (_, false) => " (removed)",
                _ => "",
            };
            writeln!(stdout, "NodeConfig {}{fate}", change.node)?;
            node = Some(&change.node);
        }
        print_change(&mut stdout, change)?;
    }
    if changes.is_empty() {
        writeln!(stdout, "nothing would change")?;
    }
    Ok(())
}

fn print_change(out: &mut impl Write, change: &Change) -> io::Result<()> {
    for (sign, value) in [('-', &change.from), ('+', &change.to)] {
        if let Some(value) = value {
            writeln!(out, "{}", format!("  {sign} {} {} {value}", change.field, change.key).trim_end())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(text: &str) -> Objects {
        let mut objects = Objects::default();
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
    fn an_error_names_file_document_object_field_and_value() {
        let read = objects(
            "apiVersion: kosmos.io/v1alpha1\nkind: Cluster\nmetadata: {name: a}\nspec: {}\n---\n\
             apiVersion: kosmos.io/v1alpha1\nkind: Cluster\nmetadata: {name: b}\n\
             spec: {clusterLinkOptions: {networkType: quantum}}\n---\nspec: {}\n",
        );
        assert_eq!(
            read.errors[0],
            "mesh.yaml: document 2: Cluster b: spec.clusterLinkOptions.networkType \"quantum\": \
             unknown variant `quantum`, expected `p2p` or `gateway`"
        );
        assert!(
            read.errors[1].contains("document 3") && read.errors[1].contains("no kind"),
            "{:?}",
            read.errors
        );
    }

    #[test]
    fn what_is_no_yaml_is_an_error_with_its_place() {
        let read = objects("kind: [\n");
        assert!(read.errors[0].starts_with("mesh.yaml: document 1: "), "{:?}", read.errors);
    }
}
