//! What is served: each resource with its names, versions, schemas, columns and strategy.

pub(crate) mod annotations;
pub(crate) mod builtin;
pub(crate) mod columns;
pub(crate) mod crd;
mod events;
pub(crate) mod strategy;
pub(crate) mod validation;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use structural_schema::Schema;

use crate::status::{Answer, Status, Subject};
use crate::store::GroupResource;
use columns::Columns;
use strategy::Strategy;

/// One resource in all its versions.
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) strategy: Strategy,
    pub(crate) storage_version: String,
    pub(crate) storage: Storage,
    /// Served versions, the preferred one first.
    pub(crate) versions: Vec<Version>,
}

/// Where a resource's objects lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In a table of its own.
    Own,
    /// In that of the core Events, of which `events.k8s.io` is another view.
    CoreEvents,
}

/// One served version of a resource.
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) schema: Schema,
    /// The schema's name among the OpenAPI components.
    pub(crate) component: String,
    /// The schema as OpenAPI shows it; `None` for built-ins, whose components are shared.
    pub(crate) open_api: Option<Value>,
    pub(crate) status_subresource: bool,
    pub(crate) columns: Columns,
    /// Field paths that a field selector may name, beside name and namespace.
    pub(crate) selectable: Vec<String>,
}

impl Resource {
    /// The name it is served under.
    pub(crate) fn id(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.plural.clone() }
    }

    /// The table that its objects lie in.
    pub(crate) fn table(&self) -> GroupResource {
        match self.storage {
            Storage::Own => self.id(),
            Storage::CoreEvents => GroupResource { group: String::new(), resource: self.plural.clone() },
        }
    }

    /// `kosmos.io/v1alpha1`, or `v1` for the core group.
    pub(crate) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// The words of a message about an object of this resource.
    pub(crate) fn subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        Subject { group: &self.group, resource: &self.plural, name }
    }

    /// The same for `Invalid`, which names the kind.
    pub(crate) fn kind_subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        Subject { group: &self.group, resource: &self.kind, name }
    }

    pub(crate) fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name)
    }

    /// Rewrites a stored object for the version that was asked for.
    pub(crate) fn show(&self, object: &mut Value, version: &str) {
        if self.storage == Storage::CoreEvents {
            events::from_core(object);
        }
        object["apiVersion"] = Value::String(self.api_version(version));
    }

    /// Rewrites an object for the store.
    pub(crate) fn keep(&self, object: &mut Value) {
        object["apiVersion"] = Value::String(match self.storage {
            Storage::Own => self.api_version(&self.storage_version),
            Storage::CoreEvents => self.storage_version.clone(),
        });
        if self.storage == Storage::CoreEvents {
            events::to_core(object);
        }
    }

    /// An object's cells; those of Events read the core form.
    pub(crate) fn columns_of(&self, version: &str, object: &Value, now: jiff::Timestamp) -> Value {
        let Some(version) = self.version(version) else { return Value::Null };
        match self.storage {
            Storage::Own => version.columns.cells(object, now),
            Storage::CoreEvents => {
                let mut core = object.clone();
                events::to_core(&mut core);
                version.columns.cells(&core, now)
            }
        }
    }

    /// Whether stored objects can be shown in this version as they are.
    pub(crate) fn is_kept_as(&self, version: &str) -> bool {
        self.storage == Storage::Own && self.storage_version == version
    }
}

impl Version {
    /// The values of an object's selectable fields.
    pub(crate) fn index(&self, object: &Value) -> BTreeMap<String, String> {
        let value = |path: &String| Some((path.clone(), columns::scalar(object, path)?));
        self.selectable.iter().filter_map(value).collect()
    }
}

/// Everything that is served now.
pub(crate) struct Registry {
    resources: BTreeMap<GroupResource, Arc<Resource>>,
    generation: u64,
}

impl Registry {
    pub(crate) fn new(builtin: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        Self { resources: builtin.into_iter().map(|r| (r.id(), r)).collect(), generation: 0 }
    }

    pub(crate) fn insert(&mut self, resource: Arc<Resource>) {
        self.generation += 1;
        self.resources.insert(resource.id(), resource);
    }

    pub(crate) fn remove(&mut self, table: &GroupResource) {
        self.generation += 1;
        self.resources.remove(table);
    }

    /// Changes with whatever is served.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    pub(crate) fn get(&self, table: &GroupResource) -> Option<&Arc<Resource>> {
        self.resources.get(table)
    }

    /// The resource that a path names, in a version that is served.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Answer<Arc<Resource>> {
        let table = GroupResource { group: group.to_owned(), resource: plural.to_owned() };
        let found = self.resources.get(&table).filter(|r| r.version(version).is_some());
        found.cloned().ok_or_else(|| unknown(group, version, plural))
    }

    /// The resource of a kind, whatever its version.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.resources.values().find(|r| r.group == group && r.kind == kind)
    }

    /// The groups, each with its served versions, preferred first.
    pub(crate) fn groups(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for resource in self.resources.values() {
            let versions = groups.entry(&resource.group).or_default();
            for version in &resource.versions {
                if !versions.contains(&version.name.as_str()) {
                    versions.push(&version.name);
                }
            }
        }
        groups
    }
}

/// What Kubernetes itself serves and we do not gets 501; what nobody knows gets 404, as discovery promises.
fn unknown(group: &str, version: &str, plural: &str) -> Status {
    let theirs = group.is_empty() || !group.contains('.') || group.ends_with(".k8s.io");
    if theirs && KNOWN_ELSEWHERE.contains(&plural) {
        let place = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        return Status::not_implemented(&format!("the resource {plural} of {place}"));
    }
    Status::no_such_resource()
}

/// Resources of Kubernetes that a client may ask for and that are not served here.
const KNOWN_ELSEWHERE: &[&str] = &[
    "bindings",
    "certificatesigningrequests",
    "clusterrolebindings",
    "clusterroles",
    "componentstatuses",
    "controllerrevisions",
    "cronjobs",
    "csidrivers",
    "csinodes",
    "daemonsets",
    "deployments",
    "flowschemas",
    "horizontalpodautoscalers",
    "ingressclasses",
    "ingresses",
    "ipaddresses",
    "jobs",
    "limitranges",
    "localsubjectaccessreviews",
    "mutatingwebhookconfigurations",
    "networkpolicies",
    "persistentvolumeclaims",
    "persistentvolumes",
    "poddisruptionbudgets",
    "podtemplates",
    "priorityclasses",
    "replicasets",
    "replicationcontrollers",
    "resourcequotas",
    "rolebindings",
    "roles",
    "runtimeclasses",
    "selfsubjectaccessreviews",
    "selfsubjectreviews",
    "selfsubjectrulesreviews",
    "statefulsets",
    "storageclasses",
    "subjectaccessreviews",
    "tokenreviews",
    "validatingadmissionpolicies",
    "validatingwebhookconfigurations",
    "volumeattachments",
];
