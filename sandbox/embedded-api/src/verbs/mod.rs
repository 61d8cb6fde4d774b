//! The verbs, each a synchronous function over the state; only `watch` has an asynchronous half.

pub(crate) mod admission;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod metadata;
pub(crate) mod patch;
pub(crate) mod update;
pub(crate) mod watch;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use structural_schema::{Manager, Operation};

use crate::kinds::strategy::Strategy;
use crate::kinds::{Resource, Version};
use crate::request::{Options, RequestInfo, Verb};
use crate::state::seconds;
use crate::status::{Answer, Status};
use crate::store::{Address, Key};

/// One request on one resource.
pub(crate) struct Call<'a> {
    pub(crate) resource: Arc<Resource>,
    pub(crate) info: &'a RequestInfo,
    pub(crate) options: &'a Options,
    pub(crate) now: Timestamp,
    /// Who writes, for `managedFields`: the `fieldManager`, or the client's name.
    pub(crate) manager: String,
}

/// What a write came to.
pub(crate) struct Written {
    pub(crate) object: Value,
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}

impl Call<'_> {
    pub(crate) fn version(&self) -> &Version {
        self.resource.version(&self.info.version).expect("the registry found this version for the path")
    }

    pub(crate) fn api_version(&self) -> String {
        self.resource.api_version(&self.info.version)
    }

    pub(crate) fn subresource(&self) -> &str {
        self.info.subresource.as_deref().unwrap_or("")
    }

    pub(crate) fn name(&self) -> &str {
        self.info.name.as_deref().unwrap_or("")
    }

    /// The key that the path names.
    pub(crate) fn key(&self) -> Key {
        self.key_of(self.name())
    }

    pub(crate) fn key_of(&self, name: &str) -> Key {
        Key { namespace: self.info.namespace.clone().unwrap_or_default(), name: name.to_owned() }
    }

    pub(crate) fn address(&self) -> Address {
        Address { table: self.resource.table(), key: self.key() }
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(self.resource.subject(self.name()))
    }

    /// Refuses paths that put an object of one scope into the other, and subresources that are not there.
    pub(crate) fn check_path(&self) -> Answer<()> {
        let everywhere = self.resource.namespaced && self.info.namespace.is_none();
        if self.info.verb == Verb::DeleteCollection
            && (everywhere || !self.resource.strategy.deletes_collections())
        {
            return Err(Status::method_not_allowed());
        }
        let (named, verb) = (self.info.name.is_some(), self.info.verb);
        let misplaced = match (self.resource.namespaced, &self.info.namespace) {
            (true, None) => named,
            (false, Some(_)) => true,
            _ => false,
        };
        if misplaced {
            return Err(Status::no_such_resource());
        }
        let collection = (verb == Verb::Create) == named && self.subresource().is_empty();
        let unplaced = verb == Verb::Create && self.resource.namespaced && self.info.namespace.is_none();
        if matches!(verb, Verb::Create | Verb::Update | Verb::Patch) && (collection || unplaced) {
            return Err(Status::method_not_allowed());
        }
        match self.subresource() {
            "" => Ok(()),
            "status" if self.version().status_subresource => {
                let allowed = matches!(verb, Verb::Get | Verb::Update | Verb::Patch);
                if allowed { Ok(()) } else { Err(Status::method_not_allowed()) }
            }
            "status" => Err(Status::no_such_resource()),
            other => Err(unserved_subresource(&self.resource, other)),
        }
    }

    pub(crate) fn manager<'a>(
        &'a self,
        operation: Operation,
        api_version: &'a str,
        time: &'a str,
    ) -> Manager<'a> {
        Manager { name: &self.manager, operation, api_version, subresource: self.subresource(), time }
    }

    pub(crate) fn time(&self) -> String {
        seconds(self.now)
    }
}

/// `scale`, `log`, `exec` and the like: of Kubernetes, and not of this server.
fn unserved_subresource(resource: &Resource, subresource: &str) -> Status {
    const KNOWN: &[&str] = &[
        "scale",
        "log",
        "exec",
        "attach",
        "portforward",
        "proxy",
        "binding",
        "eviction",
        "token",
        "ephemeralcontainers",
        "resize",
        "finalize",
    ];
    if resource.strategy != Strategy::Custom && KNOWN.contains(&subresource) {
        return Status::not_implemented(&format!("the subresource {}/{subresource}", resource.plural));
    }
    Status::no_such_resource()
}
