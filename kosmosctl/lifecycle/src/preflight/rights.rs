//! Whether whoever runs this may do what has to be done: asked of the API server, nothing tried.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, PostParams},
};

use super::{Check, Findings};
use crate::{connect::Connection, object::Kind};

/// What every object that is written needs.
const VERBS: [&str; 4] = ["get", "create", "patch", "delete"];
/// Reviews under way at once.
const AT_ONCE: usize = 8;
/// A message names so many.
const NAMED: usize = 6;

/// Something that has to be allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: Option<&'static str>,
    namespace: Option<String>,
}

impl Wanted {
    /// A right on all objects of a kind in a namespace, or on all.
    pub fn on(kind: Kind, verb: &'static str, namespace: Option<&str>) -> Self {
        let namespace = namespace.filter(|_| kind.namespaced).map(str::to_owned);
        Wanted { verb, group: kind.group, resource: kind.plural, subresource: None, namespace }
    }

    /// The same right on a subresource.
    pub fn of(self, subresource: &'static str) -> Self {
        Wanted { subresource: Some(subresource), ..self }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(subresource) = self.subresource {
            write!(f, "/{subresource}")?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// What it takes to write these objects.
pub fn wanted(objects: &[DynamicObject]) -> Vec<Wanted> {
    let mut wanted: BTreeSet<Wanted> = BTreeSet::new();
    for object in objects {
        let Some(kind) = Kind::of(object) else { continue };
        wanted.extend(VERBS.map(|verb| Wanted::on(kind, verb, object.namespace().as_deref())));
    }
    wanted.into_iter().collect()
}

pub(super) async fn check(
    connection: &Connection,
    wanted: &[Wanted],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let who = format!("the {} cluster ({})", connection.role, connection.server);
    let everything = Wanted { verb: "*", group: "*", resource: "*", subresource: None, namespace: None };
    if is_allowed(connection, &everything).await? {
        findings.ok(Check::Permissions, format!("everything is allowed in {who}"));
        return Ok(());
    }
    let asked = stream::iter(wanted).map(|wanted| async move {
        is_allowed(connection, wanted).await.map(|allowed| (!allowed).then(|| wanted.to_string()))
    });
    let denied: Vec<Option<String>> = asked.buffered(AT_ONCE).try_collect().await?;
    let denied: Vec<String> = denied.into_iter().flatten().collect();
    if denied.is_empty() {
        let message = format!(
            "{} rights that are needed are there in {who}; roles can be granted only by who has every right in them",
            wanted.len()
        );
        findings.ok(Check::Permissions, message);
    } else {
        let message = format!(
            "in {who} you may not {}{}: use a context that may, such as a cluster-admin's",
            denied.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", nor "),
            match denied.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(", nor {more} more"),
            }
        );
        findings.fail(Check::Permissions, message);
    }
    Ok(())
}

async fn is_allowed(connection: &Connection, wanted: &Wanted) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        verb: Some(wanted.verb.to_owned()),
        group: Some(wanted.group.to_owned()),
        resource: Some(wanted.resource.to_owned()),
        subresource: wanted.subresource.map(str::to_owned),
        namespace: wanted.namespace.clone(),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(connection.client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
