//! `kosmosctl plan`: the plan of the network-manager, made from files alone.

mod objects;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use api::{CLUSTER_LABEL, NodeConfig, NodeId};
use clap::{Args, ValueEnum};
use kube::{
    Api, Client, Config, ResourceExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use network_plan::{Change, Configs, Rejection, Snapshot, Subject, diff};
use serde_json::json;

use objects::Objects;

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
    #[arg(short, long, value_enum, default_value_t = Format::Yaml, conflicts_with = "diff")]
    output: Format,
    /// Print what would change against the NodeConfigs in the files, or against a control cluster's. The exit status
    /// is 0 whether or not anything would.
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
    match print(args) {
        // Whoever reads has read enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn print(args: PlanArgs) -> anyhow::Result<()> {
    let mut objects = Objects::read(&args.files)?;
    let mut stderr = io::stderr();
    for note in &objects.notes {
        writeln!(stderr, "note: {note}")?;
    }
    for error in &objects.errors {
        writeln!(stderr, "error: {error}")?;
    }
    if !objects.errors.is_empty() {
        bail!("nothing was planned: {} document(s) cannot be read", objects.errors.len());
    }
    if objects.clusters.is_empty() && objects.nodes.is_empty() {
        bail!("nothing was planned: {} holds no Cluster and no ClusterNode", args.files.join(", "));
    }
    for (cluster, gateways) in network_plan::election::fill_roles(&objects.clusters, &mut objects.nodes) {
        let gateways: Vec<String> = gateways.into_iter().collect();
        let gateways = gateways.join(", ");
        writeln!(
            stderr,
            "note: Cluster {cluster}: no ClusterNode has the role gateway; planned with {gateways}"
        )?;
    }
    let (planned, rejections) = plan(&objects);
    for rejection in &rejections {
        writeln!(stderr, "{rejection}")?;
    }
    if args.diff {
        let actual = actual(&args, objects.configs, &mut stderr)?;
        let actual = without_what_stays(&planned, &rejections, actual, &mut stderr)?;
        return print_diff(&planned, &actual);
    }
    if !objects.configs.is_empty() {
        let count = objects.configs.len();
        writeln!(stderr, "note: {count} NodeConfig(s) in the files are ignored without --diff")?;
    }
    print_configs(&planned, args.output)
}

type Planned = BTreeMap<NodeId, NodeConfig>;

fn plan(objects: &Objects) -> (Planned, Vec<Rejection>) {
    let snapshot = Snapshot::new(&objects.clusters, &objects.nodes);
    let (topology, rejections) = network_plan::topology(&snapshot);
    let plan = network_plan::plan(&topology);
    let named = plan.iter().map(|(id, node)| {
        let mut config = NodeConfig::new(&id.object_name(), network_plan::render(node));
        config.labels_mut().insert(CLUSTER_LABEL.to_owned(), id.cluster.clone());
        (id.clone(), config)
    });
    (named.collect(), rejections)
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
fn actual(
    args: &PlanArgs,
    given: Vec<NodeConfig>,
    stderr: &mut impl Write,
) -> anyhow::Result<BTreeMap<String, NodeConfig>> {
    let fetches = args.kubeconfig.is_some() || args.context.is_some();
    if given.is_empty() && !fetches {
        bail!(
            "--diff compares with NodeConfigs, and the files hold none: add them with -f, or give --kubeconfig or --context"
        );
    }
    let configs = if fetches {
        if !given.is_empty() {
            let count = given.len();
            writeln!(stderr, "note: {count} NodeConfig(s) in the files are ignored: the API's are compared")?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(fetch(args.kubeconfig.as_deref(), args.context.clone()))?
    } else {
        given
    };
    let mut by_name = BTreeMap::new();
    for config in configs {
        if let Some(twice) = by_name.insert(config.name_any(), config) {
            bail!("NodeConfig {} stands in the files twice: keep the one to compare with", twice.name_any());
        }
    }
    Ok(by_name)
}

/// What the network-manager would compare: it leaves alone what is not its own, and the last good NodeConfig of a node that
/// cannot be planned as it stands.
fn without_what_stays(
    planned: &Planned,
    rejections: &[Rejection],
    actual: BTreeMap<String, NodeConfig>,
    stderr: &mut impl Write,
) -> anyhow::Result<Configs> {
    let desired: BTreeSet<String> = planned.keys().map(NodeId::object_name).collect();
    let mut compared = Configs::new();
    for (name, config) in actual {
        let of = rejections.iter().filter(|rejection| rejection.subject == Subject::node(&name));
        if desired.contains(&name) {
            compared.insert(name, config.spec);
        } else if !config.labels().contains_key(CLUSTER_LABEL) {
            writeln!(
                stderr,
                "note: NodeConfig {name} stays as it is: it has no label {CLUSTER_LABEL}, so it is somebody else's"
            )?;
        } else if network_plan::keeps_last(of) {
            writeln!(stderr, "note: NodeConfig {name} stays as it is until its ClusterNode can be planned")?;
        } else {
            compared.insert(name, config.spec);
        }
    }
    Ok(compared)
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
