//! `metav1.Status` bodies, in the words of kube-apiserver: clients match on `reason`, people read `message`.

use serde_json::{Value, json};

/// One entry of `details.causes`: which field is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// A machine-readable cause, such as `FieldValueInvalid`.
    pub(crate) reason: String,
    /// The message for people.
    pub(crate) message: String,
    /// The path of the field.
    pub(crate) field: String,
}

/// A refusal, as the client sees it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Status {
    /// The HTTP status code.
    pub(crate) code: u16,
    /// The machine-readable reason, such as `NotFound`.
    pub(crate) reason: &'static str,
    /// The message for people.
    pub(crate) message: String,
    details: Box<Details>,
}

#[derive(Clone, Debug, Default)]
struct Details {
    name: String,
    group: String,
    kind: String,
    uid: String,
    causes: Vec<Cause>,
    retry_after: Option<u32>,
}

/// What a verb gives back: its value, or the refusal to send.
pub(crate) type Answer<T> = Result<T, Status>;

/// The words that a message needs about a resource: its group and its plural (or its kind, for `Invalid`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The API group, empty for core.
    pub(crate) group: &'a str,
    /// The plural resource name, or the kind.
    pub(crate) resource: &'a str,
    /// The object's name.
    pub(crate) name: &'a str,
}

impl Subject<'_> {
    /// `clusters.kosmos.io`, or `pods` for the core group.
    fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

impl Status {
    /// A refusal with a code, a reason and a message.
    #[must_use]
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Box::default() }
    }

    fn about(mut self, subject: Subject<'_>) -> Self {
        self.details.name = subject.name.to_owned();
        self.details.group = subject.group.to_owned();
        self.details.kind = subject.resource.to_owned();
        self
    }

    /// Adds the causes.
    #[must_use]
    pub(crate) fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.details.causes = causes;
        self
    }

    /// 404 for an object.
    #[must_use]
    pub(crate) fn not_found(subject: Subject<'_>) -> Self {
        let message = format!("{} \"{}\" not found", subject.qualified(), subject.name);
        Self::new(404, "NotFound", message).about(subject)
    }

    /// 404 for a path or a kind that is not served, in the words kubectl knows.
    #[must_use]
    pub(crate) fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 409: the name is taken.
    #[must_use]
    pub(crate) fn already_exists(subject: Subject<'_>) -> Self {
        let message = format!("{} \"{}\" already exists", subject.qualified(), subject.name);
        Self::new(409, "AlreadyExists", message).about(subject)
    }

    /// 409: a stale resourceVersion, a precondition that does not hold, or a field somebody else owns.
    #[must_use]
    pub(crate) fn conflict(subject: Subject<'_>, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{}\": {why}", subject.qualified(), subject.name);
        Self::new(409, "Conflict", message).about(subject)
    }

    /// 409 of server-side apply: the message and the causes name the other managers.
    #[must_use]
    pub(crate) fn apply_conflict(message: impl Into<String>, causes: Vec<Cause>) -> Self {
        Self::new(409, "Conflict", message).with_causes(causes)
    }

    /// 422: the object breaks its schema. `subject.resource` is the kind here.
    #[must_use]
    pub(crate) fn invalid(subject: Subject<'_>, causes: Vec<Cause>) -> Self {
        let list: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let list = match list.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} \"{}\" is invalid: {list}", subject.qualified(), subject.name);
        Self::new(422, "Invalid", message).about(subject).with_causes(causes)
    }

    /// 422: a query parameter has a value that it cannot have. `options` is the kind of the parameters.
    #[must_use]
    pub(crate) fn invalid_options(
        options: &'static str,
        field: &str,
        reason: &'static str,
        message: &str,
    ) -> Self {
        let cause = Cause { reason: reason.to_owned(), message: message.to_owned(), field: field.to_owned() };
        Self::invalid(Subject { group: "meta.k8s.io", resource: options, name: "" }, vec![cause])
    }

    /// 403 for a user or for an object that may not be touched.
    #[must_use]
    pub(crate) fn forbidden(subject: Subject<'_>, why: &str) -> Self {
        let message = if subject.name.is_empty() {
            format!("{} is forbidden: {why}", subject.qualified())
        } else {
            format!("{} \"{}\" is forbidden: {why}", subject.qualified(), subject.name)
        };
        Self::new(403, "Forbidden", message).about(subject)
    }

    /// 400: the request cannot be understood.
    #[must_use]
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: no token, or one that nobody knows.
    #[must_use]
    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405: the resource does not have that verb.
    #[must_use]
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// 406: none of the accepted media types can be given.
    #[must_use]
    pub(crate) fn not_acceptable(offered: &str) -> Self {
        let message = format!("only the following media types are accepted: {offered}");
        Self::new(406, "NotAcceptable", message)
    }

    /// 415: the body is of a type that this verb does not take.
    #[must_use]
    pub(crate) fn unsupported_media_type(offered: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {offered}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 410: the event window no longer reaches back to the asked resourceVersion.
    #[must_use]
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 504 with the cause clients know: the asked resourceVersion lies in the future.
    #[must_use]
    pub(crate) fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let cause = Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        };
        let mut status = Self::new(504, "Timeout", message).with_causes(vec![cause]);
        status.details.retry_after = Some(1);
        status
    }

    /// 501: known to Kubernetes, not served here. The message says what.
    #[must_use]
    pub(crate) fn not_implemented(what: &str) -> Self {
        let message = format!(
            "{what} is not served by the embedded API server; it serves what `kubectl api-resources` lists"
        );
        Self::new(501, "NotImplemented", message)
    }

    /// The JSON body.
    #[must_use]
    pub(crate) fn to_value(&self) -> Value {
        let mut details = serde_json::Map::new();
        let words = [
            ("name", &self.details.name),
            ("group", &self.details.group),
            ("kind", &self.details.kind),
            ("uid", &self.details.uid),
        ];
        for (key, word) in words {
            if !word.is_empty() {
                details.insert(key.to_owned(), json!(word));
            }
        }
        if !self.details.causes.is_empty() {
            details.insert("causes".to_owned(), self.details.causes.iter().map(cause_value).collect());
        }
        if let Some(seconds) = self.details.retry_after {
            details.insert("retryAfterSeconds".to_owned(), json!(seconds));
        }
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if self.reason.is_empty()
            && let Some(body) = body.as_object_mut()
        {
            body.remove("reason");
        }
        if !details.is_empty() {
            body["details"] = Value::Object(details);
        }
        body
    }

    /// The body of a delete that left nothing behind.
    #[must_use]
    pub(crate) fn deleted(subject: Subject<'_>, uid: &str) -> Value {
        let mut details = json!({"name": subject.name, "kind": subject.resource, "uid": uid});
        if !subject.group.is_empty() {
            details["group"] = json!(subject.group);
        }
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    }
}

fn cause_value(cause: &Cause) -> Value {
    let mut out = json!({"message": cause.message});
    if !cause.reason.is_empty() {
        out["reason"] = json!(cause.reason);
    }
    if !cause.field.is_empty() {
        out["field"] = json!(cause.field);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: Subject<'_> = Subject { group: "kosmos.io", resource: "clusters", name: "c1" };

    #[test]
    fn not_found_reads_as_kubectl_prints_it() {
        let body = Status::not_found(CLUSTER).to_value();
        assert_eq!(body["message"], "clusters.kosmos.io \"c1\" not found");
        assert_eq!(body["details"], json!({"name": "c1", "group": "kosmos.io", "kind": "clusters"}));
        assert_eq!(body["code"], 404);
    }

    #[test]
    fn several_causes_stand_in_brackets() {
        let cause = |field: &str| Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value".into(),
            field: field.into(),
        };
        let subject = Subject { group: "", resource: "Service", name: "s" };
        let one = Status::invalid(subject, vec![cause("spec")]);
        assert_eq!(one.message, "Service \"s\" is invalid: spec: Required value");
        let two = Status::invalid(subject, vec![cause("spec"), cause("status")]);
        assert_eq!(two.message, "Service \"s\" is invalid: [spec: Required value, status: Required value]");
    }
}
