//! Who asks (bearer tokens), and what they may (one function that can be replaced).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::request::RequestInfo;
use crate::status::{Answer, Status, Subject};

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";

/// A bearer token and whom it stands for.
#[derive(Clone)]
pub struct Token {
    /// The secret itself.
    pub token: String,
    /// The user's name.
    pub user: String,
    /// The user's groups.
    pub groups: Vec<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("user", &self.user)
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
}

impl User {
    /// The user that stands for the process itself: it may do everything.
    #[must_use]
    pub fn in_process() -> Self {
        Self { name: "system:in-process".to_owned(), groups: vec![MASTERS.to_owned()] }
    }
}

/// Decides whether a user may do what a request asks.
pub type Authorizer = Arc<dyn Fn(&User, &RequestInfo) -> bool + Send + Sync>;

/// The built-in rule: `system:masters` may do everything, anybody else with a known token everything but touch the
/// Secrets of `kube-system`, or those of all namespaces at once.
#[must_use]
pub fn allow_by_default(user: &User, request: &RequestInfo) -> bool {
    let secrets = request.group.is_empty() && request.resource == "secrets";
    let guarded = secrets && request.namespace.as_deref().is_none_or(|ns| ns == "kube-system");
    user.groups.iter().any(|g| g == MASTERS) || !guarded
}

/// The known tokens.
#[derive(Clone, Default)]
pub(crate) struct Tokens(BTreeMap<String, User>);

impl Tokens {
    pub(crate) fn new(tokens: &[Token]) -> Self {
        let user = |t: &Token| User { name: t.user.clone(), groups: t.groups.clone() };
        Self(tokens.iter().map(|t| (t.token.clone(), user(t))).collect())
    }

    /// The user behind an `Authorization` header.
    pub(crate) fn authenticate(&self, headers: &http::HeaderMap) -> Answer<User> {
        let header = headers.get(http::header::AUTHORIZATION).and_then(|h| h.to_str().ok());
        let token = header.and_then(|h| h.strip_prefix("Bearer ")).map(str::trim);
        token.and_then(|t| self.0.get(t)).cloned().ok_or_else(Status::unauthorized)
    }
}

/// The refusal, in kube-apiserver's words.
pub(crate) fn refusal(user: &User, request: &RequestInfo) -> Status {
    let place = match &request.namespace {
        Some(ns) => format!(" in the namespace \"{ns}\""),
        None => " at the cluster scope".to_owned(),
    };
    let why = format!(
        "User \"{}\" cannot {} resource \"{}\" in API group \"{}\"{place}",
        user.name,
        request.verb.as_str(),
        request.resource,
        request.group,
    );
    let name = request.name.as_deref().unwrap_or("");
    Status::forbidden(Subject { group: &request.group, resource: &request.resource, name }, &why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Options;

    fn request(path: &str) -> RequestInfo {
        RequestInfo::parse(&http::Method::GET, path, &Options::default()).unwrap()
    }

    #[test]
    fn only_masters_read_the_secrets_of_kube_system() {
        let agent = User { name: "agent".into(), groups: vec![] };
        assert!(allow_by_default(&agent, &request("/api/v1/namespaces/default/secrets")));
        assert!(!allow_by_default(&agent, &request("/api/v1/namespaces/kube-system/secrets/x")));
        assert!(!allow_by_default(&agent, &request("/api/v1/secrets")));
        assert!(allow_by_default(&User::in_process(), &request("/api/v1/secrets")));
    }

    #[test]
    fn a_token_never_shows_in_debug_output() {
        let token = Token { token: "canary".into(), user: "u".into(), groups: vec![] };
        assert!(!format!("{token:?}").contains("canary"));
    }

    #[test]
    fn the_refusal_names_user_verb_and_place() {
        let status = refusal(
            &User { name: "agent".into(), groups: vec![] },
            &request("/api/v1/namespaces/kube-system/secrets/x"),
        );
        assert_eq!(
            status.message,
            "secrets \"x\" is forbidden: User \"agent\" cannot get resource \"secrets\" in API group \"\" in the namespace \"kube-system\""
        );
    }
}
