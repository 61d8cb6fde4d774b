//! Writing objects: server-side apply and deletion, each idempotent, each saying what it came to.

use std::fmt;

use clap::ValueEnum;
use kube::{
    Client, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};

use crate::object::{Kind, Name, absent_as_none, is_absent, said};

/// The server-side-apply field manager of everything that is written here.
pub const FIELD_MANAGER: &str = "kosmosctl";
/// The label of everything that is ours.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Its value.
pub const CLUSTERLINK: &str = "clusterlink";

/// Whether anything is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Everything is written.
    #[default]
    None,
    /// Nothing is sent; what would be is said.
    Client,
    /// The API server checks, defaults and admits everything, and keeps nothing.
    Server,
}

impl DryRun {
    /// What stands behind every line of output.
    pub fn suffix(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }

    /// Whether nothing is kept.
    pub fn is_dry(self) -> bool {
        self != DryRun::None
    }
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was there and differed.
    Configured,
    /// It was as it should be.
    Unchanged,
    /// It is gone, or on its way.
    Deleted,
    /// It was not there to be deleted.
    Absent,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Unchanged => "unchanged",
            Outcome::Deleted => "deleted",
            Outcome::Absent => "not found",
        })
    }
}

/// A write that was refused or lost.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server's answer, or why there is none.
    #[error("{doing} {name}: {}", said(source))]
    Failed {
        /// What was tried: "apply", "delete".
        doing: &'static str,
        /// The object.
        name: Name,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// A kind that is not known here.
    #[error("{name} is of a kind that kosmosctl does not know: this is a fault of the manifests")]
    UnknownKind {
        /// The object.
        name: Name,
    },
}

impl WriteError {
    pub(crate) fn failed(doing: &'static str, name: Name, source: kube::Error) -> Self {
        WriteError::Failed { doing, name, source: Box::new(source) }
    }
}

/// Writes to one API server.
#[derive(Clone)]
pub struct Writer {
    /// Its client.
    pub client: Client,
    /// Whether anything is kept.
    pub dry_run: DryRun,
}

impl Writer {
    /// A writer that takes over fields of others: for objects that are ours as a whole.
    pub fn new(client: Client, dry_run: DryRun) -> Self {
        Writer { client, dry_run }
    }

    /// The object as it is now.
    pub async fn live(&self, object: &DynamicObject) -> Result<Option<DynamicObject>, WriteError> {
        let kind = kind_of(object)?;
        let api = kind.api(&self.client, object.namespace().as_deref());
        let got = absent_as_none(api.get(&object.name_any()).await);
        got.map_err(|error| WriteError::failed("read", Name::of(object), error))
    }

    /// Applies an object; a Namespace or a definition that somebody else has made stays his, and is not marked as ours.
    pub async fn apply(&self, object: &DynamicObject) -> Result<Outcome, WriteError> {
        let kind = kind_of(object)?;
        let live = self.live(object).await?;
        let mut object = object.clone();
        if let Some(live) = &live
            && is_shared(kind)
            && !is_ours(live)
        {
            object.labels_mut().retain(|label, _| !label.starts_with("app.kubernetes.io/"));
        }
        if self.dry_run == DryRun::Client {
            return Ok(if live.is_some() { Outcome::Configured } else { Outcome::Created });
        }
        let api = kind.api(&self.client, object.namespace().as_deref());
        let params = PatchParams {
            dry_run: self.dry_run == DryRun::Server,
            force: true,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let applied = api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await;
        match (applied, &live) {
            (Ok(_), None) => Ok(Outcome::Created),
            (Ok(applied), Some(live)) if applied.resource_version() == live.resource_version() => {
                Ok(Outcome::Unchanged)
            }
            (Ok(_), Some(_)) => Ok(Outcome::Configured),
            // Its namespace, or its definition, would have been made a moment ago.
            (Err(error), None) if self.dry_run == DryRun::Server && is_absent(&error) => Ok(Outcome::Created),
            (Err(error), _) => Err(WriteError::failed("apply", Name::of(&object), error)),
        }
    }

    /// Deletes an object, by its uid, where it is there.
    pub async fn delete(&self, object: &DynamicObject) -> Result<Outcome, WriteError> {
        let Some(live) = self.live(object).await? else { return Ok(Outcome::Absent) };
        self.delete_live(&live_with_types(live, object)).await
    }

    /// Deletes the very object that was read.
    pub async fn delete_live(&self, live: &DynamicObject) -> Result<Outcome, WriteError> {
        if self.dry_run == DryRun::Client {
            return Ok(Outcome::Deleted);
        }
        let api = kind_of(live)?.api(&self.client, live.namespace().as_deref());
        let preconditions = Preconditions { uid: live.uid(), resource_version: None };
        let params = DeleteParams {
            dry_run: self.dry_run == DryRun::Server,
            preconditions: Some(preconditions),
            ..DeleteParams::background()
        };
        match api.delete(&live.name_any(), &params).await {
            Ok(_) => Ok(Outcome::Deleted),
            Err(error) if is_absent(&error) => Ok(Outcome::Absent),
            Err(error) => Err(WriteError::failed("delete", Name::of(live), error)),
        }
    }

    /// Changes some fields of an object that is there.
    pub async fn merge(
        &self,
        object: &DynamicObject,
        patch: &serde_json::Value,
    ) -> Result<Outcome, WriteError> {
        let Some(live) = self.live(object).await? else { return Ok(Outcome::Absent) };
        if self.dry_run == DryRun::Client {
            return Ok(Outcome::Configured);
        }
        let api = kind_of(object)?.api(&self.client, object.namespace().as_deref());
        let params = PatchParams {
            dry_run: self.dry_run == DryRun::Server,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api.patch(&object.name_any(), &params, &Patch::Merge(patch)).await {
            Ok(new) if new.resource_version() == live.resource_version() => Ok(Outcome::Unchanged),
            Ok(_) => Ok(Outcome::Configured),
            Err(error) if is_absent(&error) => Ok(Outcome::Absent),
            Err(error) => Err(WriteError::failed("change", Name::of(object), error)),
        }
    }
}

/// What is read one by one comes with its types; what is listed does not.
pub(crate) fn live_with_types(mut live: DynamicObject, like: &DynamicObject) -> DynamicObject {
    live.types = live.types.or_else(|| like.types.clone());
    live
}

pub(crate) fn kind_of(object: &DynamicObject) -> Result<Kind, WriteError> {
    Kind::of(object).ok_or_else(|| WriteError::UnknownKind { name: Name::of(object) })
}

/// Kinds whose objects others may have made before us, and use besides us.
pub(crate) fn is_shared(kind: Kind) -> bool {
    matches!(kind.kind, "Namespace" | "CustomResourceDefinition")
}

/// Whether an object was made by an installation of ours.
pub fn is_ours(object: &DynamicObject) -> bool {
    object.labels().get(PART_OF).is_some_and(|value| value == CLUSTERLINK)
}
