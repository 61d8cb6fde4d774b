//! `upgrade`: a newer version takes the place of an older one, definitions first, then the control cluster, then members.

use anyhow::bail;
use clap::Args;

use crate::{
    connect::{Connection, ControlArgs, MembersArgs, Role},
    install::{self, ComponentArgs, InstallArgs, WriteArgs},
    manifest::{self, CLUSTER_KEY, VERSION},
    preflight::PreflightArgs,
    say::Say,
    steps::Steps,
    told::told,
    version,
    wait::WaitArgs,
    write::{DryRun, Writer},
};

/// Bring what is installed up to this kosmosctl's version: the control cluster, then the members that are named.
///
/// Neighbouring minor versions work side by side, so members may follow later, one by one. Nothing of a joined cluster's
/// options and credential changes. No packet is lost: agents leave the kernel as it is while they restart.
#[derive(Args, Clone, Debug, Default)]
pub struct UpgradeArgs {
    /// Where the mesh is.
    #[command(flatten)]
    pub control: ControlArgs,
    /// Who follows at once.
    #[command(flatten)]
    pub members: MembersArgs,
    /// What runs.
    #[command(flatten)]
    pub components: ComponentArgs,
    /// Write nothing: client says what would be written, server has the API server check it, too.
    #[arg(long, value_enum, default_value_t = DryRun::None, num_args = 0..=1, default_missing_value = "client", require_equals = true)]
    pub dry_run: DryRun,
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

/// Runs the command.
pub async fn run(args: &UpgradeArgs, say: &mut Say) -> anyhow::Result<()> {
    let control = Connection::control(&args.control).await?;
    let members = Connection::members(&args.members, &args.control).await?;
    upgrade(&control, &members, args, say).await
}

/// Upgrades clusters that are spoken to already.
pub async fn upgrade(
    control: &Connection,
    members: &[Connection],
    args: &UpgradeArgs,
    say: &mut Say,
) -> anyhow::Result<()> {
    let Some(before) = version::installed(control, Role::Control).await? else {
        bail!("the control cluster ({}) has no ClusterLink: kosmosctl install puts it there", control.server);
    };
    // All of it is looked at before any of it is written.
    version::may_replace(Role::Control, before.version.as_ref(), args.force)?;
    for member in members {
        let Some(installed) = version::installed(member, Role::Member).await? else {
            bail!("the member cluster ({}) is not joined: kosmosctl join NAME does that", member.server);
        };
        version::may_replace(Role::Member, installed.version.as_ref(), args.force)?;
    }
    let install = InstallArgs {
        control: args.control.clone(),
        components: args.components.clone(),
        write: WriteArgs { dry_run: args.dry_run, output: None },
        wait: args.wait,
        preflight: args.preflight.clone(),
        force: args.force,
    };
    install::install(control, &install, say).await?;
    for member in members {
        follow(member, args, say).await?;
    }
    if members.is_empty() {
        say.line("members follow with kosmosctl upgrade --member-context CONTEXT; see kosmosctl status for their versions")?;
    }
    Ok(())
}

async fn follow(member: &Connection, args: &UpgradeArgs, say: &mut Say) -> anyhow::Result<()> {
    let installed = version::installed(member, Role::Member).await?;
    let mut settings = install::settings(&args.components, installed.as_ref());
    // What join has set is applied again: what is left out of an apply is taken away.
    settings.values = told(&member.client).await?;
    let name = settings.values.get(CLUSTER_KEY).cloned().unwrap_or_default();
    let objects = manifest::render(Role::Member, &settings)?;
    let writer = Writer::new(member.client.clone(), args.dry_run);
    let mut steps = Steps::new(say, "kosmosctl of the version before, with upgrade --force");
    steps.begin(format_args!("upgrade cluster {name:?} to {VERSION}"), member)?;
    install::apply_all(&mut steps, &writer, &objects).await?;
    if args.wait.wait && !args.dry_run.is_dry() {
        install::roll_out(&mut steps, &writer, &objects, &args.wait).await?;
    }
    Ok(())
}
