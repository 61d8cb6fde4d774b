//! Objects as data: which kinds there are, how an object is called, and what an API server says of it.

use std::fmt;

use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject},
};

/// A kind that is written here: group, version, kind, plural, and whether its objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core one.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Name of the resource in the API's paths.
    pub plural: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

pub(crate) const fn kind(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Kind {
    Kind { group, version, kind, plural, namespaced }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

/// Every kind that is written or removed here, in the order in which objects are created: what others need comes first.
pub const KINDS: &[Kind] = &[
    kind("", "v1", "Namespace", "namespaces", false),
    kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", false),
    kind("", "v1", "ResourceQuota", "resourcequotas", true),
    kind("", "v1", "ServiceAccount", "serviceaccounts", true),
    kind(RBAC, "v1", "ClusterRole", "clusterroles", false),
    kind(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", false),
    kind(RBAC, "v1", "Role", "roles", true),
    kind(RBAC, "v1", "RoleBinding", "rolebindings", true),
    kind("", "v1", "ConfigMap", "configmaps", true),
    kind("", "v1", "Secret", "secrets", true),
    kind(ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", false),
    kind(ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", false),
    kind("", "v1", "Service", "services", true),
    kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true),
    kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    kind("apps", "v1", "DaemonSet", "daemonsets", true),
    kind("apps", "v1", "Deployment", "deployments", true),
    kind("coordination.k8s.io", "v1", "Lease", "leases", true),
    CLUSTER,
    CLUSTER_NODE,
    NODE_CONFIG,
];

/// The Cluster of the mesh.
pub const CLUSTER: Kind = kind("kosmos.io", "v1alpha1", "Cluster", "clusters", false);
/// The ClusterNode of the mesh.
pub const CLUSTER_NODE: Kind = kind("kosmos.io", "v1alpha1", "ClusterNode", "clusternodes", false);
/// The NodeConfig of the mesh.
pub const NODE_CONFIG: Kind = kind("kosmos.io", "v1alpha1", "NodeConfig", "nodeconfigs", false);
/// What our workloads run as; nobody writes it here.
pub(crate) const POD: Kind = kind("", "v1", "Pod", "pods", true);

impl Kind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<Kind> {
        KINDS.iter().find(|kind| kind.kind == name).copied()
    }

    /// The kind of an object; none where it is no kind that is written here.
    pub fn of(object: &DynamicObject) -> Option<Kind> {
        let types = object.types.as_ref()?;
        KINDS.iter().find(|kind| kind.kind == types.kind && kind.api_version() == types.api_version).copied()
    }

    /// The API version as objects spell it: `v1`, `apps/v1`.
    pub fn api_version(self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// As the client wants it.
    pub fn resource(self) -> ApiResource {
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version: self.api_version(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }

    /// Its objects in a namespace; in all where it has none or `namespace` names none.
    pub fn api(self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource()),
            None => Api::all_with(client.clone(), &self.resource()),
        }
    }

    /// An object of this kind with nothing but its name.
    pub fn object(self, namespace: Option<&str>, name: &str) -> DynamicObject {
        let object = DynamicObject::new(name, &self.resource());
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => object.within(namespace),
            None => object,
        }
    }

    /// As kubectl spells it: `daemonset.apps`.
    pub fn spelled(self) -> String {
        let kind = self.kind.to_ascii_lowercase();
        if self.group.is_empty() { kind } else { format!("{kind}.{}", self.group) }
    }
}

/// An object's place in the order of creation, that of [`KINDS`].
pub(crate) fn rank(object: &DynamicObject) -> usize {
    let kind = Kind::of(object);
    KINDS.iter().position(|known| Some(*known) == kind).unwrap_or(KINDS.len())
}

/// Whether an object runs pods.
pub(crate) fn is_workload(object: &DynamicObject) -> bool {
    Kind::of(object).is_some_and(|kind| matches!(kind.kind, "DaemonSet" | "Deployment"))
}

/// What an object is called in a line of output: `daemonset.apps/clusterlink-agent`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub String);

impl Name {
    /// Of an object.
    pub fn of(object: &DynamicObject) -> Self {
        let spelled = match Kind::of(object) {
            Some(kind) => kind.spelled(),
            None => object.types.as_ref().map(|types| types.kind.to_ascii_lowercase()).unwrap_or_default(),
        };
        Name(format!("{spelled}/{}", object.name_any()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a failed request comes to, in one line: the API server's own words where it said any.
pub fn said(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => chain(other),
    };
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// What a failed command comes to, in one line: as [`said`] where it is an API server's answer.
pub fn in_one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let answer = cause.downcast_ref::<kube::Error>();
        let words = answer.map_or_else(|| cause.to_string(), said);
        if !text.contains(&words) {
            let colon = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{colon}{words}");
        }
        // What an API server answered has its causes in it.
        if answer.is_some() {
            break;
        }
    }
    text.replace('\n', " ")
}

/// An error and its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// The HTTP status of a refused request.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the API server says that there is no such object, or no such kind.
pub fn is_absent(error: &kube::Error) -> bool {
    code(error) == Some(404)
}

/// An answer, or nothing where there is no such object or kind.
pub fn absent_as_none<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_called_as_kubectl_calls_them() {
        let kind = Kind::named("DaemonSet").unwrap();
        let object = kind.object(Some("clusterlink-system"), "clusterlink-agent");
        assert_eq!(Name::of(&object).to_string(), "daemonset.apps/clusterlink-agent");
        assert_eq!(object.namespace().as_deref(), Some("clusterlink-system"));
        let namespace = Kind::named("Namespace").unwrap().object(Some("ignored"), "x");
        assert_eq!(Name::of(&namespace).to_string(), "namespace/x");
        assert_eq!(namespace.namespace(), None);
        assert_eq!(Kind::of(&object), Some(kind));
    }
}
