//! `gather`: a support bundle of everything that explains a fault, and of no secret.

mod archive;
mod nodes;
mod redact;

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, LogParams},
};

use crate::{
    connect::{Connection, ControlArgs, MembersArgs},
    manifest::{MEMBERS_NAMESPACE, NAMESPACE},
    object::{CLUSTER, CLUSTER_NODE, KINDS, Kind, NODE_CONFIG, POD, absent_as_none, kind, said},
    print,
    say::Say,
    status,
    told::joined_as,
    write::{CLUSTERLINK, PART_OF, live_with_types},
};

use archive::Bundle;

/// Collect objects, events, logs and kernel dumps of every node into one archive that can be handed on.
///
/// Values of Secrets, tokens and keys are left out; the file is readable for its owner alone. With contexts of members
/// their own API servers are asked, too; without, only what the control cluster knows is in it.
#[derive(Args, Clone, Debug, Default)]
pub struct GatherArgs {
    /// Where the mesh is.
    #[command(flatten)]
    pub control: ControlArgs,
    /// Whom to look into.
    #[command(flatten)]
    pub members: MembersArgs,
    /// The archive; it must not exist [default: clusterlink-TIME.tar.gz].
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How many lines of each log.
    #[arg(long, default_value_t = 5000)]
    pub log_lines: i64,
}

/// Beside what we write ourselves: what explains it.
const OTHERS: [Kind; 4] = [
    kind("", "v1", "Node", "nodes", false),
    kind("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", false),
    POD,
    kind("apps", "v1", "ReplicaSet", "replicasets", true),
];
const EVENT: Kind = kind("", "v1", "Event", "events", true);

/// Runs the command.
pub async fn run(args: &GatherArgs, say: &mut Say) -> anyhow::Result<()> {
    let control = Connection::control(&args.control).await?;
    let members = Connection::members(&args.members, &args.control).await?;
    gather(&control, &members, args, say).await
}

/// Collects from clusters that are spoken to already.
pub async fn gather(
    control: &Connection,
    members: &[Connection],
    args: &GatherArgs,
    say: &mut Say,
) -> anyhow::Result<()> {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("clusterlink-{now}.tar.gz")));
    // Before anything is asked: where it cannot be written nobody has to wait.
    let mut bundle = Bundle::create(&path, &format!("clusterlink-{now}"))?;
    say.remark(format_args!("asking the control cluster ({})", control.server))?;
    match status::status(control, members, None).await {
        Ok(status) => bundle.add("status.yaml", &print::yaml(&status)?)?,
        Err(error) => bundle.missed("status", &error),
    }
    cluster(control, "control", args, &mut bundle).await?;
    for member in members {
        let name = name_of(member).await;
        say.remark(format_args!("asking member {name} ({})", member.server))?;
        cluster(member, &format!("member-{name}"), args, &mut bundle).await?;
    }
    for missed in bundle.missed_so_far() {
        say.remark(format_args!("not in it: {missed}"))?;
    }
    let files = bundle.finish()?;
    Ok(say.line(format_args!("{files} files in {}", path.display()))?)
}

async fn name_of(member: &Connection) -> String {
    joined_as(&member.client).await.ok().flatten().unwrap_or_else(|| "unnamed".to_owned())
}

async fn cluster(
    at: &Connection,
    folder: &str,
    args: &GatherArgs,
    bundle: &mut Bundle,
) -> anyhow::Result<()> {
    match at.client.apiserver_version().await {
        Ok(version) => bundle.add(&format!("{folder}/version.yaml"), &print::yaml(&version)?)?,
        // Whoever does not answer this answers nothing.
        Err(error) => {
            bundle.missed(&format!("{folder} ({})", at.server), &said(&error));
            return Ok(());
        }
    }
    for kind in [CLUSTER, CLUSTER_NODE, NODE_CONFIG] {
        list(at, kind, None, ListParams::default(), folder, bundle).await?;
    }
    let labelled = || ListParams::default().labels(&format!("{PART_OF}={CLUSTERLINK}"));
    for kind in KINDS.iter().filter(|kind| !kind.namespaced && kind.group != api::GROUP) {
        list(at, *kind, None, labelled(), folder, bundle).await?;
    }
    for kind in OTHERS.iter().filter(|kind| !kind.namespaced) {
        list(at, *kind, None, ListParams::default(), folder, bundle).await?;
    }
    for namespace in [NAMESPACE, MEMBERS_NAMESPACE] {
        for kind in KINDS.iter().chain(&OTHERS).chain([&EVENT]).filter(|kind| kind.namespaced) {
            list(at, *kind, Some(namespace), ListParams::default(), folder, bundle).await?;
        }
    }
    let on_ours = ListParams::default().fields("involvedObject.apiVersion=kosmos.io/v1alpha1");
    list(at, EVENT, Some("default"), on_ours, folder, bundle).await?;
    pods(at, folder, args, bundle).await
}

async fn list(
    at: &Connection,
    kind: Kind,
    namespace: Option<&str>,
    params: ListParams,
    folder: &str,
    bundle: &mut Bundle,
) -> anyhow::Result<()> {
    let path = match namespace {
        Some(namespace) => format!("{folder}/objects/{namespace}/{}.yaml", kind.plural),
        None => format!("{folder}/objects/{}.yaml", kind.plural),
    };
    match absent_as_none(kind.api(&at.client, namespace).list(&params).await) {
        Err(error) => bundle.missed(&path, &said(&error)),
        Ok(None) => {}
        Ok(Some(list)) if list.items.is_empty() => {}
        Ok(Some(list)) => {
            let typed = kind.object(None, "");
            let objects: Vec<DynamicObject> = list
                .items
                .into_iter()
                .map(|object| redact::object(live_with_types(object, &typed)))
                .collect();
            bundle.add(&path, &print::objects(&objects, print::Output::Yaml)?)?;
        }
    }
    Ok(())
}

/// Logs of our pods, and what agents dump of their kernels.
async fn pods(at: &Connection, folder: &str, args: &GatherArgs, bundle: &mut Bundle) -> anyhow::Result<()> {
    let pods = Api::<Pod>::namespaced(at.client.clone(), NAMESPACE);
    let list = match absent_as_none(pods.list(&ListParams::default()).await) {
        Ok(list) => list.map(|list| list.items).unwrap_or_default(),
        Err(error) => {
            bundle.missed(&format!("{folder}/logs"), &said(&error));
            return Ok(());
        }
    };
    for pod in &list {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        for container in containers {
            logs(&pods, &pod.name_any(), &container.name, (folder, args.log_lines), bundle).await?;
        }
    }
    nodes::dump(at, &pods, &list, folder, bundle).await
}

async fn logs(
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    (folder, lines): (&str, i64),
    bundle: &mut Bundle,
) -> anyhow::Result<()> {
    for previous in [false, true] {
        let params = LogParams {
            container: Some(container.to_owned()),
            previous,
            tail_lines: Some(lines),
            timestamps: true,
            ..LogParams::default()
        };
        let path = format!("{folder}/logs/{pod}/{container}{}.log", if previous { ".previous" } else { "" });
        match pods.logs(pod, &params).await {
            Ok(text) => bundle.add(&path, &redact::text(&text))?,
            // Most containers have not ended before.
            Err(_) if previous => {}
            Err(error) => bundle.missed(&path, &said(&error)),
        }
    }
    Ok(())
}
