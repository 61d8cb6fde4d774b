//! `join`: a cluster becomes a member, with a credential that lets it speak of itself and of nothing else.

use std::path::PathBuf;

use anyhow::Context;
use api::{Cluster, ClusterNode, NodeConfig, condition};
use clap::Args;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use serde_json::json;

use crate::{
    connect::{Connection, ControlArgs, MemberArgs, Role},
    credential,
    install::{self, ComponentArgs, WriteArgs},
    manifest::{self, CLUSTER_KEY, CREDENTIAL, MEMBERS_NAMESPACE, NAMESPACE, SETTINGS, Settings},
    membership,
    object::{CLUSTER, Kind, absent_as_none, is_workload, said},
    options::ClusterOptions,
    preflight::{self, Findings, IDENTITY, PreflightArgs, Wanted, Way},
    print,
    say::Say,
    steps::Steps,
    told::told,
    version,
    wait::{self, Reached, WaitArgs},
    write::{Outcome, Writer},
};

/// Join a cluster to the mesh, or bring a joined one up to these arguments.
///
/// Needs both sides: the control cluster by --kubeconfig and --context, the member by --member-kubeconfig and
/// --member-context. Running it again changes only what differs; options that are not given stay as they are. After the
/// control cluster was away for longer than a token lives, this same command gives the member a new one.
#[derive(Args, Clone, Debug, Default)]
pub struct JoinArgs {
    /// The name of the cluster in the mesh.
    #[arg(value_parser = cluster_name)]
    pub name: String,
    /// Where the mesh is.
    #[command(flatten)]
    pub control: ControlArgs,
    /// Where the member is.
    #[command(flatten)]
    pub member: MemberArgs,
    /// How the member finds the control cluster.
    #[command(flatten)]
    pub way: WayArgs,
    /// What runs in the member.
    #[command(flatten)]
    pub components: ComponentArgs,
    /// What the member's components are told.
    #[command(flatten)]
    pub values: ValueArgs,
    /// How much is written.
    #[command(flatten)]
    pub write: WriteArgs,
    /// How long.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Under which conditions.
    #[command(flatten)]
    pub preflight: PreflightArgs,
    /// Go back to an older version, or over several at once.
    #[arg(long)]
    pub force: bool,
    /// How it takes part.
    #[command(flatten)]
    pub options: ClusterOptions,
}

/// How the member finds the control cluster.
#[derive(Args, Clone, Debug, Default)]
pub struct WayArgs {
    /// The control cluster's API server as the member reaches it [default: as the kubeconfig has it].
    #[arg(long, value_name = "URL")]
    pub control_server: Option<String>,
    /// PEM file of the CA that this address is verified by [default: the kubeconfig's].
    #[arg(long, value_name = "FILE")]
    pub control_ca: Option<PathBuf>,
}

/// What the member's components are told.
#[derive(Args, Clone, Debug, Default)]
pub struct ValueArgs {
    /// The member's API server as its own nodes reach it without kube-proxy.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    pub agent_api_server: Option<(String, String)>,
    /// What the member's components log: error, warn, info, debug, or directives.
    #[arg(long, value_name = "LEVEL")]
    pub component_log_level: Option<String>,
}

fn host_port(text: &str) -> Result<(String, String), String> {
    let (host, port) = text.rsplit_once(':').ok_or("write HOST:PORT, such as 10.0.0.1:6443")?;
    port.parse::<u16>().map_err(|_| "write HOST:PORT, such as 10.0.0.1:6443".to_owned())?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port.to_owned()))
}

/// A name that a Cluster, a service account and a label's value can bear (RFC 1123).
pub(crate) fn cluster_name(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| inner(c) && c != '-');
    if text == "default" {
        // Kubernetes makes one of that name in every namespace, and mounts its token where nobody asked for it.
        return Err(
            "its service account in the control cluster would be the namespace's own: take another name"
                .to_owned(),
        );
    }
    if text.len() <= 63 && edge(text.chars().next()) && edge(text.chars().last()) && text.chars().all(inner) {
        return Ok(text.to_owned());
    }
    Err("write lower-case letters, digits and '-', at most 63, such as east-1".to_owned())
}

/// Runs the command.
pub async fn run(args: &JoinArgs, say: &mut Say) -> anyhow::Result<()> {
    args.write.check()?;
    let control = Connection::control(&args.control).await?;
    let member = Connection::member(&args.member, &args.control).await?;
    join(&control, &member, args, say).await
}

/// What has to be known before anything is written.
pub(crate) async fn findings(
    control: &Connection,
    member: &Connection,
    args: &JoinArgs,
) -> anyhow::Result<Findings> {
    look(control, member, &plan(control, member, args).await?).await
}

async fn look(control: &Connection, member: &Connection, plan: &Plan) -> anyhow::Result<Findings> {
    let (above, below) = rights(plan);
    preflight::join(control, member, &plan.cluster, &plan.way, (&above, &below)).await
}

/// Everything that is written.
struct Plan {
    way: Way,
    cluster: Cluster,
    membership: Vec<DynamicObject>,
    member: Vec<DynamicObject>,
}

/// Joins a cluster; both are spoken to already.
pub async fn join(
    control: &Connection,
    member: &Connection,
    args: &JoinArgs,
    say: &mut Say,
) -> anyhow::Result<()> {
    let plan = plan(control, member, args).await?;
    if let Some(output) = args.write.output {
        let secret = credential::secret(&credential::kubeconfig(&plan.way, &args.name, "TOKEN"))?;
        let cluster = as_object(&plan.cluster)?;
        let control: Vec<DynamicObject> = std::iter::once(cluster).chain(plan.membership).collect();
        let member: Vec<DynamicObject> = plan.member.into_iter().chain([secret]).collect();
        let all: Vec<DynamicObject> = control.into_iter().chain(member).collect();
        return Ok(say.text(&print::objects(&all, output)?)?);
    }
    let found = look(control, member, &plan).await?;
    found.ignoring(&args.preflight.ignore_preflight).decide(say)?;
    let before = version::installed(member, Role::Member).await?;
    version::may_replace(Role::Member, before.and_then(|before| before.version).as_ref(), args.force)?;
    write(control, member, args, &plan, say).await
}

async fn plan(control: &Connection, member: &Connection, args: &JoinArgs) -> anyhow::Result<Plan> {
    let live = absent_as_none(Api::<Cluster>::all(control.client.clone()).get(&args.name).await);
    let live = live.map_err(|error| {
        anyhow::anyhow!("Cluster {} in the control cluster ({}): {}", args.name, control.server, said(&error))
    })?;
    let identity = member.identity().await?;
    let same_cluster = control.identity().await? == identity;
    let mut cluster = args.options.over(live.as_ref(), &args.name)?;
    cluster.annotations_mut().entry(IDENTITY.to_owned()).or_insert(identity);
    // A cluster that is joined again stays with what it has; a new one takes what the control cluster has.
    let installed = version::installed(member, Role::Member).await?;
    let above = version::installed(control, Role::Control).await?;
    let mut settings: Settings = install::settings(&args.components, installed.as_ref().or(above.as_ref()));
    // What is left out of an apply is taken away: what was told before is told again.
    settings.values = told(&member.client).await.map_err(|error| {
        anyhow::anyhow!("configmap/{SETTINGS} in the member cluster ({}): {}", member.server, said(&error))
    })?;
    settings.values.insert(CLUSTER_KEY.to_owned(), args.name.clone());
    if let Some((host, port)) = &args.values.agent_api_server {
        settings.values.insert("apiServerHost".to_owned(), host.clone());
        settings.values.insert("apiServerPort".to_owned(), port.clone());
    }
    if let Some(level) = &args.values.component_log_level {
        settings.values.insert("logLevel".to_owned(), level.clone());
    }
    Ok(Plan {
        way: way(control, &args.way, same_cluster)?,
        cluster,
        membership: membership::render(&args.name)?,
        member: manifest::render(Role::Member, &settings)?,
    })
}

fn way(control: &Connection, args: &WayArgs, same_cluster: bool) -> anyhow::Result<Way> {
    let authority = match &args.control_ca {
        Some(path) => {
            let pem =
                std::fs::read_to_string(path).with_context(|| format!("--control-ca {}", path.display()))?;
            anyhow::ensure!(
                pem.contains("-----BEGIN CERTIFICATE-----"),
                "--control-ca {} holds no certificate in PEM form",
                path.display()
            );
            Some(pem)
        }
        None => control.authority.clone(),
    };
    let given = args.control_server.clone().map(|server| server.trim_end_matches('/').to_owned());
    Ok(Way {
        given: given.is_some(),
        // Another address has a certificate of its own.
        tls_server_name: control.tls_server_name.clone().filter(|_| given.is_none()),
        server: given.unwrap_or_else(|| control.server.clone()),
        authority,
        same_cluster,
    })
}

fn rights(plan: &Plan) -> (Vec<Wanted>, Vec<Wanted>) {
    let mut control = preflight::wanted(&plan.membership);
    let mut member = preflight::wanted(&plan.member);
    control.extend(["get", "create", "patch"].map(|verb| Wanted::on(CLUSTER, verb, None)));
    if let (Some(account), Some(secret)) = (Kind::named("ServiceAccount"), Kind::named("Secret")) {
        control.push(Wanted::on(account, "create", Some(MEMBERS_NAMESPACE)).of("token"));
        member.extend(["get", "create", "patch"].map(|verb| Wanted::on(secret, verb, Some(NAMESPACE))));
    }
    (control, member)
}

async fn write(
    control: &Connection,
    member: &Connection,
    args: &JoinArgs,
    plan: &Plan,
    say: &mut Say,
) -> anyhow::Result<()> {
    let (name, dry_run) = (&args.name, args.write.dry_run);
    let (above, below) =
        (Writer::new(control.client.clone(), dry_run), Writer::new(member.client.clone(), dry_run));
    let mut steps = Steps::new(say, install::back(control, "unjoin", &format!(" {name}")));
    steps.begin(format_args!("name cluster {name:?} and let it in"), control)?;
    let named = named(&above, plan, args).await;
    steps.settle(&above, crate::object::Name(format!("cluster.kosmos.io/{name}")), named)?;
    steps.apply(&above, &plan.membership).await?;

    steps.begin(format_args!("install ClusterLink {}", manifest::VERSION), member)?;
    let (workloads, first): (Vec<DynamicObject>, Vec<DynamicObject>) =
        plan.member.iter().cloned().partition(is_workload);
    install::apply_all(&mut steps, &below, &first).await?;
    hand_over(control, args, plan, &below, &mut steps).await?;
    steps.apply(&below, &workloads).await?;
    if dry_run.is_dry() {
        return Ok(());
    }
    if args.wait.wait {
        install::roll_out(&mut steps, &below, &workloads, &args.wait).await?;
        steps.begin(format_args!("wait until cluster {name:?} takes part"), control)?;
        wait::until(&mut steps, args.wait.timeout, || takes_part(control, name)).await?;
    }
    let rest = if args.wait.wait { "" } else { "; kosmosctl status says when it takes part" };
    Ok(steps.say.line(format_args!("cluster {name:?} is joined{rest}"))?)
}

/// A new Cluster is applied; of one that is there only what was given is changed.
async fn named(writer: &Writer, plan: &Plan, args: &JoinArgs) -> Result<Outcome, crate::write::WriteError> {
    let name = &args.name;
    let annotation = plan.cluster.annotations().get(IDENTITY).cloned().unwrap_or_default();
    let given = json!({
        "metadata": {"annotations": {IDENTITY: annotation}},
        "spec": {"clusterLinkOptions": args.options.given()},
    });
    let object = CLUSTER.object(None, name);
    if writer.live(&object).await?.is_some() {
        return writer.merge(&object, &given).await;
    }
    let mut object = object;
    object.annotations_mut().insert(IDENTITY.to_owned(), annotation);
    object.data = json!({"spec": given["spec"]});
    writer.apply(&object).await
}

fn as_object(cluster: &Cluster) -> Result<DynamicObject, serde_json::Error> {
    let mut cluster = cluster.clone();
    cluster.status = None;
    cluster.metadata.managed_fields = None;
    serde_json::from_value(serde_json::to_value(cluster)?)
}

/// Gives the member its credential, unless it has a good one.
async fn hand_over(
    control: &Connection,
    args: &JoinArgs,
    plan: &Plan,
    below: &Writer,
    steps: &mut Steps<'_>,
) -> anyhow::Result<()> {
    let name = &args.name;
    if args.write.dry_run.is_dry() {
        return steps.note(format_args!(
            "secret/{CREDENTIAL} gets a token that is not asked for{}",
            args.write.dry_run.suffix()
        ));
    }
    let secret = Kind::named("Secret").context("Secrets are known")?.object(Some(NAMESPACE), CREDENTIAL);
    let live = below.live(&secret).await.map_err(|error| steps.failed(error))?;
    let uid =
        credential::account_uid(&control.client, name).await.map_err(|error| steps.failed(said(&error)))?;
    let good = live
        .zip(uid)
        .and_then(|(live, uid)| credential::still_good(&live, &plan.way, name, &uid, Timestamp::now()));
    let kubeconfig = match good {
        Some(kubeconfig) => kubeconfig,
        None => {
            let token = credential::request(&control.client, name).await;
            let token = token.map_err(|error| {
                steps.failed(format_args!("a token for {name} from the control cluster: {}", said(&error)))
            })?;
            credential::kubeconfig(&plan.way, name, &token)
        }
    };
    steps.apply(below, &[credential::secret(&kubeconfig)?]).await.map(drop)
}

/// Whether the mesh knows the cluster, and all its nodes carry the overlay.
pub(crate) async fn takes_part(control: &Connection, name: &str) -> Result<Reached, kube::Error> {
    let client = &control.client;
    let cluster = Api::<Cluster>::all(client.clone()).get(name).await?;
    let conditions = cluster.status.map(|status| status.conditions).unwrap_or_default();
    for kind in [condition::CIDRS_KNOWN, condition::PUBLISHED, condition::PLANNED] {
        match conditions.iter().find(|condition| condition.type_ == kind) {
            None => return Ok(Reached::NotYet(format!("Cluster {name}: no word on {kind} yet"))),
            Some(found) if found.status != "True" => {
                return Ok(Reached::NotYet(format!(
                    "Cluster {name}: {kind} is {}: {}",
                    found.status, found.message
                )));
            }
            Some(_) => {}
        }
    }
    let own = ListParams::default().labels(&format!("{}={name}", api::CLUSTER_LABEL));
    let nodes = Api::<ClusterNode>::all(client.clone()).list(&own).await?.items;
    let configs = Api::<NodeConfig>::all(client.clone()).list(&own).await?.items;
    let waiting: Vec<String> = nodes
        .iter()
        .map(|node| node.name_any())
        .filter(|node| !configs.iter().any(|config| config.name_any() == *node && is_applied(config)))
        .collect();
    let (all, ready) = (nodes.len(), nodes.len() - waiting.len());
    let text = format!("Cluster {name}: {ready} of {all} nodes carry the overlay");
    Ok(match waiting.first() {
        None if all > 0 => Reached::Yes(text),
        None => Reached::NotYet(format!("Cluster {name}: it has no node yet")),
        Some(first) => Reached::NotYet(format!("{text}; {first} does not yet")),
    })
}

/// Whether a node's kernel is as its newest NodeConfig says.
pub(crate) fn is_applied(config: &NodeConfig) -> bool {
    let Some(status) = &config.status else { return false };
    status.observed_generation == config.metadata.generation
        && condition::is_true(&status.conditions, condition::APPLIED)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_name_is_one_that_every_object_can_bear() {
        assert_eq!(cluster_name("east-1").unwrap(), "east-1");
        for name in ["", "-a", "a-", "A", "a.b", "a_b", "default", &"x".repeat(64)] {
            assert!(cluster_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_host_and_its_port_are_taken_apart() {
        assert_eq!(host_port("10.0.0.1:6443").unwrap(), ("10.0.0.1".to_owned(), "6443".to_owned()));
        assert_eq!(host_port("[fd00::1]:6443").unwrap(), ("fd00::1".to_owned(), "6443".to_owned()));
        assert!(host_port("10.0.0.1").is_err() && host_port("x:y").is_err());
    }
}
