//! From an HTTP request line to what is asked: `RequestInfo` (who may?) and `Options` (how?).

use crate::status::{Answer, Status};

/// What a request does, in the words of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// A collection.
    List,
    /// A collection's changes.
    Watch,
    /// A new object.
    Create,
    /// A whole object replaced.
    Update,
    /// Part of an object changed.
    Patch,
    /// One object removed.
    Delete,
    /// A selection removed.
    DeleteCollection,
}

impl Verb {
    /// The RBAC word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// What a request asks for. `resource` is empty for paths that are no resources (`/version`, `/apis`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// The verb.
    pub verb: Verb,
    /// The API group, empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural resource name.
    pub resource: String,
    /// The namespace, where the path names one.
    pub namespace: Option<String>,
    /// The object's name, where the path names one.
    pub name: Option<String>,
    /// `status` and the like.
    pub subresource: Option<String>,
    /// The path as it was sent.
    pub path: String,
}

impl RequestInfo {
    /// Reads a method and a path. Paths that are no resource give an empty `resource`.
    pub(crate) fn parse(method: &http::Method, path: &str, options: &Options) -> Answer<Self> {
        let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(percent_decode).collect();
        let (group, version, rest) = match segments.as_slice() {
            [api, version, rest @ ..] if api == "api" => (String::new(), version.clone(), rest),
            [apis, group, version, rest @ ..] if apis == "apis" => (group.clone(), version.clone(), rest),
            _ => (String::new(), String::new(), &[][..]),
        };
        let place = Place::parse(rest);
        let verb = verb_of(method, place.name.is_some(), options)?;
        Ok(Self {
            verb,
            group,
            version,
            resource: place.resource,
            namespace: place.namespace,
            name: place.name,
            subresource: place.subresource,
            path: path.to_owned(),
        })
    }

    /// Whether the path names a resource.
    #[must_use]
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }
}

#[derive(Default)]
struct Place {
    namespace: Option<String>,
    resource: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Place {
    fn parse(rest: &[String]) -> Self {
        // `namespaces/NAME/status` is a Namespace's own subresource, `namespaces/NAME/pods` a collection in it.
        let own = |word: &str| word == "status" || word == "finalize";
        let at = |i: usize| rest.get(i).cloned();
        match rest {
            [] => Self::default(),
            [namespaces, ns, resource, ..] if namespaces == "namespaces" && !own(resource) => Self {
                namespace: Some(ns.clone()),
                resource: resource.clone(),
                name: at(3),
                subresource: joined(&rest[4.min(rest.len())..]),
            },
            [resource, ..] => Self {
                namespace: None,
                resource: resource.clone(),
                name: at(1),
                subresource: joined(&rest[2.min(rest.len())..]),
            },
        }
    }
}

fn joined(rest: &[String]) -> Option<String> {
    (!rest.is_empty()).then(|| rest.join("/"))
}

fn verb_of(method: &http::Method, named: bool, options: &Options) -> Answer<Verb> {
    Ok(match (method.as_str(), named) {
        ("GET" | "HEAD", false) if options.watch => Verb::Watch,
        ("GET" | "HEAD", true) => Verb::Get,
        ("GET" | "HEAD", false) => Verb::List,
        ("POST", _) => Verb::Create,
        ("PUT", _) => Verb::Update,
        ("PATCH", _) => Verb::Patch,
        ("DELETE", true) => Verb::Delete,
        ("DELETE", false) => Verb::DeleteCollection,
        _ => return Err(Status::method_not_allowed()),
    })
}

/// How unknown and duplicate fields are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Dropped without a word.
    Ignore,
    /// Dropped, with a `Warning` header for each.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// The query parameters of every verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `watch`.
    pub(crate) watch: bool,
    /// `limit`, 0 for all.
    pub(crate) limit: usize,
    /// `continue`.
    pub(crate) continue_token: Option<String>,
    /// `labelSelector`.
    pub(crate) label_selector: Option<String>,
    /// `fieldSelector`.
    pub(crate) field_selector: Option<String>,
    /// `resourceVersion`, where it was sent and is not empty.
    pub(crate) resource_version: Option<u64>,
    /// `resourceVersionMatch`.
    pub(crate) resource_version_match: Option<String>,
    /// `allowWatchBookmarks`.
    pub(crate) bookmarks: bool,
    /// `sendInitialEvents`.
    pub(crate) send_initial_events: Option<bool>,
    /// `timeoutSeconds`.
    pub(crate) timeout_seconds: Option<u64>,
    /// `fieldManager`.
    pub(crate) field_manager: Option<String>,
    /// `force`.
    pub(crate) force: bool,
    /// `dryRun=All`.
    pub(crate) dry_run: bool,
    /// `fieldValidation`.
    pub(crate) field_validation: FieldValidation,
    /// `propagationPolicy`.
    pub(crate) propagation_policy: Option<String>,
    /// `orphanDependents`, the older word for the policy.
    pub(crate) orphan_dependents: Option<bool>,
    /// `gracePeriodSeconds`.
    pub(crate) grace_period_seconds: Option<i64>,
    /// `includeObject` of a Table.
    pub(crate) include_object: Option<String>,
}

impl Options {
    /// Reads a query string; leading and doubled `&` are as good as one.
    pub(crate) fn parse(method: &http::Method, query: &str) -> Answer<Self> {
        let kind = match method.as_str() {
            "POST" => "CreateOptions",
            "PUT" => "UpdateOptions",
            "PATCH" => "PatchOptions",
            "DELETE" => "DeleteOptions",
            _ => "ListOptions",
        };
        let mut options = Self::default();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            options.set(kind, &percent_decode(key), percent_decode(value))?;
        }
        Ok(options)
    }

    fn set(&mut self, kind: &'static str, key: &str, value: String) -> Answer<()> {
        let given = |value: String| (!value.is_empty()).then_some(value);
        match key {
            "watch" => self.watch = boolean(&value),
            "limit" => self.limit = number(key, &value)?.unwrap_or(0),
            "continue" => self.continue_token = given(value),
            "labelSelector" => self.label_selector = given(value),
            "fieldSelector" => self.field_selector = given(value),
            "resourceVersion" => self.resource_version = resource_version(&value)?,
            "resourceVersionMatch" => self.resource_version_match = given(value),
            "allowWatchBookmarks" => self.bookmarks = boolean(&value),
            "sendInitialEvents" => self.send_initial_events = Some(boolean(&value)),
            "timeoutSeconds" => self.timeout_seconds = number(key, &value)?,
            "fieldManager" => self.field_manager = field_manager(value)?,
            "force" => self.force = boolean(&value),
            "dryRun" => self.dry_run = dry_run(kind, &value)?,
            "fieldValidation" => self.field_validation = field_validation(kind, &value)?,
            "propagationPolicy" => self.propagation_policy = given(value),
            "orphanDependents" => self.orphan_dependents = Some(boolean(&value)),
            "gracePeriodSeconds" => self.grace_period_seconds = number(key, &value)?,
            "includeObject" => self.include_object = given(value),
            _ => {}
        }
        Ok(())
    }
}

/// As kube-apiserver reads it: whatever does not deny affirms.
fn boolean(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Answer<Option<T>> {
    if value.is_empty() {
        return Ok(None);
    }
    let parsed = value
        .parse()
        .map_err(|_| Status::bad_request(format!("query parameter {key}={value:?} is not a number")))?;
    Ok(Some(parsed))
}

fn resource_version(value: &str) -> Answer<Option<u64>> {
    if value.is_empty() {
        return Ok(None);
    }
    let parsed = value.parse().map_err(|_| {
        Status::bad_request(format!(
            "resourceVersion: Invalid value: {value:?}: strconv.ParseUint: parsing {value:?}: invalid syntax"
        ))
    })?;
    Ok(Some(parsed))
}

fn field_manager(value: String) -> Answer<Option<String>> {
    if value.chars().count() > 128 {
        return Err(Status::bad_request(format!(
            "fieldManager: Too long: {value:?} may not be more than 128 bytes"
        )));
    }
    Ok((!value.is_empty()).then_some(value))
}

pub(crate) fn dry_run(kind: &'static str, value: &str) -> Answer<bool> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        other => {
            let message = format!("Unsupported value: [{other:?}]: supported values: \"All\"");
            Err(Status::invalid_options(kind, "dryRun", "FieldValueNotSupported", &message))
        }
    }
}

fn field_validation(kind: &'static str, value: &str) -> Answer<FieldValidation> {
    match value {
        "Ignore" => Ok(FieldValidation::Ignore),
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Strict" => Ok(FieldValidation::Strict),
        other => {
            let message = format!(
                "Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
            );
            Err(Status::invalid_options(kind, "fieldValidation", "FieldValueNotSupported", &message))
        }
    }
}

/// Undoes percent encoding, and `+` for a space.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes
            .get(i + 1..i + 3)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[i], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, path: &str, query: &str) -> RequestInfo {
        let options = Options::parse(&http::Method::GET, query).unwrap();
        RequestInfo::parse(&http::Method::from_bytes(method.as_bytes()).unwrap(), path, &options).unwrap()
    }

    #[test]
    fn paths_name_group_namespace_name_and_subresource() {
        let it = info("PATCH", "/apis/kosmos.io/v1alpha1/clusters/c1/status", "");
        assert_eq!((it.group.as_str(), it.resource.as_str()), ("kosmos.io", "clusters"));
        assert_eq!((it.name.as_deref(), it.subresource.as_deref()), (Some("c1"), Some("status")));
        let it = info("GET", "/api/v1/namespaces/n/pods/p", "");
        assert_eq!(
            (it.namespace.as_deref(), it.resource.as_str(), it.name.as_deref()),
            (Some("n"), "pods", Some("p"))
        );
        let it = info("PUT", "/api/v1/namespaces/n/status", "");
        assert_eq!(
            (it.resource.as_str(), it.name.as_deref(), it.subresource.as_deref()),
            ("namespaces", Some("n"), Some("status"))
        );
        assert_eq!(info("DELETE", "/api/v1/namespaces/n", "").verb, Verb::Delete);
        assert!(!info("GET", "/version", "").is_resource());
    }

    #[test]
    fn kube_rs_writes_queries_that_begin_with_an_ampersand() {
        let options = Options::parse(
            &http::Method::GET,
            "&watch=true&timeoutSeconds=290&fieldSelector=metadata.name%3Dk1&resourceVersion=7",
        )
        .unwrap();
        assert!(options.watch);
        assert_eq!(options.timeout_seconds, Some(290));
        assert_eq!(options.field_selector.as_deref(), Some("metadata.name=k1"));
        assert_eq!(options.resource_version, Some(7));
    }

    #[test]
    fn a_query_value_out_of_range_names_itself() {
        let message = |query: &str| Options::parse(&http::Method::PATCH, query).unwrap_err().message;
        assert!(message("limit=x").contains("limit=\"x\""));
        assert!(message("dryRun=Some").contains("\"Some\""));
        assert!(message("fieldValidation=No").contains("\"No\""));
    }
}
