//! What is looked at before anything is written.

mod clusterlink;
mod hosts;
mod kosmos;
mod mesh;
mod observe;
mod rights;
mod server;
mod way;

use std::{collections::BTreeSet, fmt};

use api::{Cluster, ClusterNode};
use clap::{Args, ValueEnum};
use kube::{Api, api::ListParams};

use crate::{
    connect::Connection,
    object::{absent_as_none, in_one_line},
    say::Say,
};

pub(crate) use clusterlink::IDENTITY;
pub use rights::{Wanted, wanted};
pub use way::Way;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Check {
    /// Versions and features of the API servers.
    Version,
    /// Whether whoever runs this may do what has to be done.
    Permissions,
    /// A ClusterLink of another name, or another cluster of this name.
    Identity,
    /// A Kosmos ClusterLink that is there already.
    Kosmos,
    /// CIDRs, pools, ports and names against every joined cluster.
    Addresses,
    /// UDP ports that must be open, and who else wants them.
    Ports,
    /// Kernels of the nodes.
    Kernel,
    /// The way from the member to the control cluster.
    ControlServer,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It will work, with less than one might think.
    Warning,
    /// It will not work.
    Failure,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// How much it matters.
    pub level: Level,
    /// What was found, and what to do about it.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok     ",
            Level::Warning => "warning",
            Level::Failure => "FAILED ",
        };
        write!(f, "{level} {}: {}", self.check, self.message)
    }
}

/// Which failures are not to stop a command.
#[derive(Args, Clone, Debug, Default)]
pub struct PreflightArgs {
    /// Checks whose failures are only warned about.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CHECK")]
    pub ignore_preflight: Vec<Check>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    fn add(&mut self, check: Check, level: Level, message: impl Into<String>) {
        self.0.push(Finding { check, level, message: message.into() });
    }

    fn ok(&mut self, check: Check, message: impl Into<String>) {
        self.add(check, Level::Ok, message);
    }

    fn warn(&mut self, check: Check, message: impl Into<String>) {
        self.add(check, Level::Warning, message);
    }

    fn fail(&mut self, check: Check, message: impl Into<String>) {
        self.add(check, Level::Failure, message);
    }

    /// A check that the API server does not let through has failed; one that nobody answers ends the command.
    fn take(&mut self, check: Check, at: &Connection, done: anyhow::Result<()>) -> anyhow::Result<()> {
        let Err(error) = done else { return Ok(()) };
        let text = format!("the {} cluster ({}): {}", at.role, at.server, in_one_line(&error));
        if !matches!(error.downcast_ref(), Some(kube::Error::Api(_))) {
            anyhow::bail!(text);
        }
        self.fail(check, text);
        Ok(())
    }

    /// Failures of checks that are to be ignored become warnings.
    pub fn ignoring(mut self, ignored: &[Check]) -> Self {
        let ignored: BTreeSet<Check> = ignored.iter().copied().collect();
        for finding in &mut self.0 {
            if finding.level == Level::Failure && ignored.contains(&finding.check) {
                finding.level = Level::Warning;
            }
        }
        self
    }

    /// How many findings of this level there are.
    pub fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }

    /// Says what is not as it should be, and ends the command where that is a failure.
    pub fn decide(&self, say: &mut Say) -> anyhow::Result<()> {
        for finding in self.0.iter().filter(|finding| finding.level != Level::Ok) {
            say.remark(format_args!("preflight: {finding}"))?;
        }
        let failed: BTreeSet<Check> = self
            .0
            .iter()
            .filter(|finding| finding.level == Level::Failure)
            .map(|finding| finding.check)
            .collect();
        if !failed.is_empty() {
            let names: Vec<String> = failed.iter().map(ToString::to_string).collect();
            anyhow::bail!(
                "preflight failed and nothing was written: correct what is said above, or go on nevertheless with --ignore-preflight {}",
                names.join(",")
            );
        }
        say.line(format_args!(
            "preflight: {} checks passed, {} warnings",
            self.count(Level::Ok),
            self.count(Level::Warning)
        ))?;
        Ok(())
    }
}

/// The mesh as the control cluster knows it; nothing where our resources are not there yet.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// Every Cluster.
    pub clusters: Vec<Cluster>,
    /// Every ClusterNode.
    pub nodes: Vec<ClusterNode>,
}

impl Mesh {
    /// Reads it.
    pub async fn read(control: &Connection) -> Result<Self, kube::Error> {
        let all = ListParams::default();
        let clusters = Api::<Cluster>::all(control.client.clone());
        let nodes = Api::<ClusterNode>::all(control.client.clone());
        let clusters = absent_as_none(clusters.list(&all).await)?.map(|list| list.items);
        let nodes = absent_as_none(nodes.list(&all).await)?.map(|list| list.items);
        Ok(Mesh { clusters: clusters.unwrap_or_default(), nodes: nodes.unwrap_or_default() })
    }
}

/// What `install` has to know beforehand.
pub async fn control(connection: &Connection, wanted: &[Wanted]) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    server::check(connection, &mut findings).await?;
    let done = rights::check(connection, wanted, &mut findings).await;
    findings.take(Check::Permissions, connection, done)?;
    let done = kosmos::check(connection, &mut findings).await;
    findings.take(Check::Kosmos, connection, done)?;
    Ok(findings)
}

/// What `join` has to know beforehand, of both sides and of what the cluster would mean for the mesh.
pub async fn join(
    control: &Connection,
    member: &Connection,
    candidate: &Cluster,
    way: &Way,
    (of_control, of_member): (&[Wanted], &[Wanted]),
) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    for (at, wanted) in [(control, of_control), (member, of_member)] {
        server::check(at, &mut findings).await?;
        let done = rights::check(at, wanted, &mut findings).await;
        findings.take(Check::Permissions, at, done)?;
    }
    let done = clusterlink::version(control, &mut findings).await;
    findings.take(Check::Version, control, done)?;
    let done = clusterlink::check(control, member, candidate, &mut findings).await;
    findings.take(Check::Identity, member, done)?;
    let done = kosmos::check(member, &mut findings).await;
    findings.take(Check::Kosmos, member, done)?;
    way.check(&mut findings);
    let done = addresses(control, member, candidate, &mut findings).await;
    findings.take(Check::Addresses, member, done)?;
    Ok(findings)
}

async fn addresses(
    control: &Connection,
    member: &Connection,
    candidate: &Cluster,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mesh = Mesh::read(control).await?;
    let seen = observe::observe(member, candidate).await?;
    mesh::check(&mesh, candidate, &seen, findings);
    hosts::check(member, candidate, &seen, findings).await?;
    hosts::capabilities(&mesh, candidate, findings);
    Ok(())
}
