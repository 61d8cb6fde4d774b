//! `install`: the control cluster gets its definitions, rights, policies and the network-manager.

use clap::Args;
use kube::{ResourceExt, api::DynamicObject};

use crate::{
    connect::{Connection, ControlArgs, Role},
    manifest::{self, Settings, VERSION},
    object::{Kind, is_workload},
    preflight::{self, PreflightArgs},
    print::{self, Output},
    say::Say,
    steps::Steps,
    version::{self, Installed},
    wait::{self, WaitArgs},
    write::{DryRun, Writer},
};

/// Install the control cluster's part, or bring it up to this version.
///
/// The control cluster's API server holds the resources of the whole mesh, and the network-manager plans there. It may be
/// a cluster of its own or one of the members. Running it again changes only what differs.
#[derive(Args, Clone, Debug, Default)]
pub struct InstallArgs {
    /// Where.
    #[command(flatten)]
    pub control: ControlArgs,
    /// What.
    #[command(flatten)]
    pub components: ComponentArgs,
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
}

/// What components run.
#[derive(Args, Clone, Debug, Default)]
pub struct ComponentArgs {
    /// The image of every component [default: clusterlink:VERSION; for a member what the control cluster runs].
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// A Secret in namespace clusterlink-system that the image is pulled with.
    #[arg(long, value_name = "SECRET")]
    pub image_pull_secret: Option<String>,
}

/// Whether anything is written, and what is printed.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct WriteArgs {
    /// Write nothing: client says what would be written, server has the API server check it, too.
    #[arg(long, value_enum, default_value_t = DryRun::None, num_args = 0..=1, default_missing_value = "client", require_equals = true)]
    pub dry_run: DryRun,
    /// Print the objects instead of writing them; with --dry-run=client only.
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
}

impl WriteArgs {
    /// Refuses what makes no sense.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.output.is_some() && self.dry_run != DryRun::Client {
            anyhow::bail!("-o prints objects instead of writing them: give --dry-run=client with it");
        }
        Ok(())
    }
}

/// Runs the command.
pub async fn run(args: &InstallArgs, say: &mut Say) -> anyhow::Result<()> {
    args.write.check()?;
    if let Some(output) = args.write.output {
        let objects = manifest::render(Role::Control, &settings(&args.components, None))?;
        return Ok(say.text(&print::objects(&objects, output)?)?);
    }
    install(&Connection::control(&args.control).await?, args, say).await
}

/// Installs what the arguments ask for in a cluster that is spoken to already.
pub async fn install(control: &Connection, args: &InstallArgs, say: &mut Say) -> anyhow::Result<()> {
    let wanted = preflight::wanted(&manifest::render(Role::Control, &Settings::default())?);
    let found = preflight::control(control, &wanted).await?;
    found.ignoring(&args.preflight.ignore_preflight).decide(say)?;
    let before = version::installed(control, Role::Control).await?;
    version::may_replace(
        Role::Control,
        before.as_ref().and_then(|before| before.version.as_ref()),
        args.force,
    )?;
    let objects = manifest::render(Role::Control, &settings(&args.components, before.as_ref()))?;
    let writer = Writer::new(control.client.clone(), args.write.dry_run);
    let mut steps = Steps::new(say, back(control, "uninstall", ""));
    steps.begin(format_args!("install ClusterLink {VERSION}"), control)?;
    apply_all(&mut steps, &writer, &objects).await?;
    if args.wait.wait && !args.write.dry_run.is_dry() {
        roll_out(&mut steps, &writer, &objects, &args.wait).await?;
    }
    if !args.write.dry_run.is_dry() {
        steps.say.line(
            "the control cluster is ready: join clusters with kosmosctl join NAME --member-context CONTEXT",
        )?;
    }
    Ok(())
}

/// The command that undoes something.
pub(crate) fn back(control: &Connection, command: &str, arguments: &str) -> String {
    format!("kosmosctl {command}{arguments} (with {})", control.from)
}

/// What is asked for; what is not stays as it is installed, at this program's version.
pub(crate) fn settings(components: &ComponentArgs, installed: Option<&Installed>) -> Settings {
    let image = components.image.clone().or_else(|| installed?.successor());
    let secret = components.image_pull_secret.clone();
    Settings {
        image,
        image_pull_secret: secret.or_else(|| installed?.image_pull_secret.clone()),
        ..Settings::default()
    }
}

/// Applies a side's objects: definitions are served before anything of theirs is applied.
pub(crate) async fn apply_all(
    steps: &mut Steps<'_>,
    writer: &Writer,
    objects: &[DynamicObject],
) -> anyhow::Result<()> {
    let is = |object: &&DynamicObject, kind: &str| Kind::of(object).is_some_and(|of| of.kind == kind);
    let is_base = |object: &&DynamicObject| is(object, "Namespace") || is(object, "CustomResourceDefinition");
    let (base, rest): (Vec<&DynamicObject>, Vec<&DynamicObject>) = objects.iter().partition(is_base);
    let cloned =
        |objects: Vec<&DynamicObject>| -> Vec<DynamicObject> { objects.into_iter().cloned().collect() };
    let base = cloned(base);
    steps.apply(writer, &base).await?;
    if !writer.dry_run.is_dry() {
        for definition in base.iter().filter(|object| is(object, "CustomResourceDefinition")) {
            wait::served(steps, writer, &definition.name_any()).await?;
        }
    }
    steps.apply(writer, &cloned(rest)).await?;
    Ok(())
}

/// Waits until the workloads among these run.
pub(crate) async fn roll_out(
    steps: &mut Steps<'_>,
    writer: &Writer,
    objects: &[DynamicObject],
    args: &WaitArgs,
) -> anyhow::Result<()> {
    for object in objects.iter().filter(|object| is_workload(object)) {
        wait::until(steps, args.timeout, || wait::rolled_out(&writer.client, object)).await?;
    }
    Ok(())
}
