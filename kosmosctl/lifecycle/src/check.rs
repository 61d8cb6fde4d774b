//! `check`: what `install` and `join` would look at before they write, and nothing else.

use clap::Args;

use crate::{
    connect::{Connection, ControlArgs, MemberArgs, Role},
    join::{self, JoinArgs, WayArgs},
    manifest::{self, Settings},
    options::ClusterOptions,
    preflight::{self, Findings, Level, PreflightArgs},
    say::Say,
};

/// Look at everything that has to be so before a cluster is installed or joined; nothing is written.
///
/// Without a name: what `install` needs of the control cluster. With one: what `join` needs of both, and what the plan
/// would say of that cluster's CIDRs, ports and names. The exit status is 0 only where nothing fails.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckArgs {
    /// The name of the cluster that would join.
    #[arg(value_parser = join::cluster_name)]
    pub name: Option<String>,
    /// Where the mesh is, or will be.
    #[command(flatten)]
    pub control: ControlArgs,
    /// Where the member is.
    #[command(flatten)]
    pub member: MemberArgs,
    /// How the member would find the control cluster.
    #[command(flatten)]
    pub way: WayArgs,
    /// Under which conditions.
    #[command(flatten)]
    pub preflight: PreflightArgs,
    /// How it would take part.
    #[command(flatten)]
    pub options: ClusterOptions,
}

/// Runs the command; says whether nothing failed.
pub async fn run(args: &CheckArgs, say: &mut Say) -> anyhow::Result<bool> {
    let control = Connection::control(&args.control).await?;
    let member = match &args.name {
        Some(_) => Some(Connection::member(&args.member, &args.control).await?),
        None => None,
    };
    check(&control, member.as_ref(), args, say).await
}

/// Checks clusters that are spoken to already.
pub async fn check(
    control: &Connection,
    member: Option<&Connection>,
    args: &CheckArgs,
    say: &mut Say,
) -> anyhow::Result<bool> {
    let findings = match (&args.name, member) {
        (Some(name), Some(member)) => {
            let join = JoinArgs {
                name: name.clone(),
                way: args.way.clone(),
                options: args.options.clone(),
                ..JoinArgs::default()
            };
            join::findings(control, member, &join).await?
        }
        _ => {
            let objects = manifest::render(Role::Control, &Settings::default())?;
            preflight::control(control, &preflight::wanted(&objects)).await?
        }
    };
    report(&findings.ignoring(&args.preflight.ignore_preflight), say)
}

fn report(findings: &Findings, say: &mut Say) -> anyhow::Result<bool> {
    for finding in &findings.0 {
        say.line(finding)?;
    }
    let (failed, warned) = (findings.count(Level::Failure), findings.count(Level::Warning));
    say.line(format_args!(
        "{} checks passed, {warned} warnings, {failed} failed",
        findings.count(Level::Ok)
    ))?;
    Ok(failed == 0)
}
