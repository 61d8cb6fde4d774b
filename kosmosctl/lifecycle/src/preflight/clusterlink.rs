//! A ClusterLink that is there already, of another name; and another cluster that has this name.

use api::Cluster;
use kube::{Api, ResourceExt};

use super::{Check, Findings};
use crate::{
    connect::{Connection, Role},
    object::absent_as_none,
    told::joined_as,
    version,
};

/// The annotation of a Cluster that says which cluster it is: the uid of its namespace kube-system.
pub(crate) const IDENTITY: &str = "kosmos.io/cluster-uid";

pub(super) async fn check(
    control: &Connection,
    member: &Connection,
    candidate: &Cluster,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let name = candidate.name_any();
    let told = joined_as(&member.client).await?;
    if let Some(other) = told.filter(|other| *other != name && !other.is_empty()) {
        findings.fail(
            Check::Identity,
            format!("the member cluster ({}) is joined already, as cluster {other:?}: one cluster has one name; unjoin it first (kosmosctl unjoin {other}), or join it as {other:?}", member.server),
        );
    }
    let clusters: Api<Cluster> = Api::all(control.client.clone());
    let known = absent_as_none(clusters.get(&name).await)?;
    let identity = member.identity().await?;
    match known.as_ref().and_then(|known| known.annotations().get(IDENTITY)) {
        Some(other) if *other != identity => findings.fail(
            Check::Identity,
            format!("Cluster {name:?} is another cluster than {} (its kube-system namespace has uid {other}, this one's {identity}): choose another name, or remove that one first (kosmosctl unjoin {name} --force)", member.server),
        ),
        Some(_) => findings.ok(Check::Identity, format!("Cluster {name:?} is this very cluster: it is joined again")),
        None => findings.ok(Check::Identity, format!("the name {name:?} is free")),
    }
    Ok(())
}

/// A member is of the control cluster's version, or of a neighbouring one.
pub(super) async fn version(control: &Connection, findings: &mut Findings) -> anyhow::Result<()> {
    let own = version::own();
    let Some(installed) = version::installed(control, Role::Control).await? else {
        let message = format!(
            "the control cluster ({}) has no ClusterLink: put it there with kosmosctl install, or give the context of the right cluster",
            control.server
        );
        findings.fail(Check::Version, message);
        return Ok(());
    };
    let Some(above) = installed.version else {
        findings.warn(
            Check::Version,
            format!("the control cluster does not say which version it runs (image {:?})", installed.image),
        );
        return Ok(());
    };
    if version::skew(&above, &own) > 1 {
        findings.fail(
            Check::Version,
            format!("the control cluster runs {above} and this kosmosctl would install {own}: components may be one minor version apart; run kosmosctl upgrade first, or use a kosmosctl of the control cluster's version"),
        );
    } else if above < own {
        findings.warn(
            Check::Version,
            format!("the control cluster runs {above}, which is older than the {own} that the member gets: that works, but upgrade it first (kosmosctl upgrade)"),
        );
    } else {
        findings.ok(Check::Version, format!("the control cluster runs ClusterLink {above}"));
    }
    Ok(())
}
