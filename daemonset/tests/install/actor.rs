//! Somebody with a credential, and what they try.
//!
//! An API server takes a moment to act by a policy, or by a ConfigMap that one reads, after it was written. So everything
//! is tried until it has the answer that it should have, for a while; and what should be refused is tried in a dry run, which
//! goes through the same admission and leaves nothing behind.

use std::time::{Duration, Instant};

use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client};
use serde_json::Value;

/// Far beyond what an API server needs for that, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);
const AGAIN: Duration = Duration::from_millis(200);

pub(crate) struct Actor {
    pub(crate) client: Client,
}

/// What somebody tries. An object names its kind, its name and, where it has one, its namespace.
#[derive(Clone, Debug)]
pub(crate) enum Try {
    Create(Value),
    /// Server-side apply, as the components do it.
    Apply(Value),
    ApplyStatus(Value),
    /// A merge patch of the object that it names.
    Merge(Value),
    /// An update with the whole object.
    Replace(Value),
    Delete(Value),
    Get(Value),
    /// All objects of its kind, in its namespace where it names one.
    List(Value),
    /// Those of its kind that bear its name.
    ListNamed(Value),
    DeleteAll(Value),
    /// A token of the ServiceAccount that it names, for so many seconds.
    Token(Value, i64),
}

impl Actor {
    /// It works.
    pub(crate) async fn may(&self, what: Try) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.attempt(&what, false).await {
                Ok(()) => return,
                Err(error) if Instant::now() > deadline => panic!("{what:?} was refused: {error}"),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// It is forbidden, for a reason that says this.
    pub(crate) async fn may_not(&self, what: Try, because: &str) {
        self.fails(what, true, |status| status.code == 403 && status.message.contains(because)).await;
    }

    /// A dry run has an answer that says this, whatever it is.
    pub(crate) async fn answers_in_a_dry_run(&self, what: Try, words: &str) {
        self.fails(what, true, |status| status.message.contains(words)).await;
    }

    /// Without a dry run it is forbidden, for a reason that says this.
    pub(crate) async fn is_refused(&self, what: Try, because: &str) {
        self.fails(what, false, |status| status.code == 403 && status.message.contains(because)).await;
    }

    async fn fails(&self, what: Try, dry_run: bool, as_expected: impl Fn(&kube::core::Status) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = match self.attempt(&what, dry_run).await {
                Err(kube::Error::Api(status)) if as_expected(&status) => return,
                answer => answer,
            };
            if Instant::now() > deadline {
                panic!("{what:?} had another answer than it should: {answer:?}");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// RBAC knows nothing of it.
    pub(crate) async fn has_no_right_to(&self, what: Try) {
        self.may_not(what, "cannot ").await;
    }

    fn api(&self, object: &Value) -> Api<DynamicObject> {
        let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", "v1"),
        };
        let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
        let resource = ApiResource::from_gvk(&kind);
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    async fn attempt(&self, what: &Try, dry_run: bool) -> Result<(), kube::Error> {
        let (Try::Create(object)
        | Try::Apply(object)
        | Try::ApplyStatus(object)
        | Try::Merge(object)
        | Try::Replace(object)
        | Try::Delete(object)
        | Try::Get(object)
        | Try::List(object)
        | Try::ListNamed(object)
        | Try::DeleteAll(object)
        | Try::Token(object, _)) = what;
        let api = self.api(object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let typed = || serde_json::from_value::<DynamicObject>(object.clone()).unwrap();
        let post = PostParams { dry_run, ..PostParams::default() };
        let applying = PatchParams { dry_run, ..PatchParams::apply("tests").force() };
        let merging = PatchParams { dry_run, ..PatchParams::default() };
        let deleting = DeleteParams { dry_run, ..DeleteParams::default() };
        match what {
            Try::Create(_) => api.create(&post, &typed()).await.map(drop),
            Try::Apply(_) => api.patch(name, &applying, &Patch::Apply(object)).await.map(drop),
            Try::ApplyStatus(_) => api.patch_status(name, &applying, &Patch::Apply(object)).await.map(drop),
            Try::Merge(_) => api.patch(name, &merging, &Patch::Merge(object)).await.map(drop),
            Try::Replace(_) => api.replace(name, &post, &typed()).await.map(drop),
            Try::Delete(_) => api.delete(name, &deleting).await.map(drop),
            Try::Get(_) => api.get(name).await.map(drop),
            Try::List(_) => api.list(&ListParams::default()).await.map(drop),
            Try::ListNamed(_) => {
                let named = ListParams::default().fields(&format!("metadata.name={name}"));
                api.list(&named).await.map(drop)
            }
            Try::DeleteAll(_) => api.delete_collection(&deleting, &ListParams::default()).await.map(drop),
            Try::Token(_, seconds) => self.token(object, *seconds, dry_run).await,
        }
    }

    async fn token(&self, account: &Value, seconds: i64, dry_run: bool) -> Result<(), kube::Error> {
        use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
        use k8s_openapi::api::core::v1::ServiceAccount;
        let namespace = account["metadata"]["namespace"].as_str().unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let post = PostParams { dry_run, ..PostParams::default() };
        let name = account["metadata"]["name"].as_str().unwrap();
        accounts.create_token_request(name, &post, &request).await.map(drop)
    }
}

/// An object that is only named.
pub(crate) fn named(api_version: &str, kind: &str, name: &str) -> Value {
    serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}})
}

/// The same in a namespace.
pub(crate) fn in_namespace(namespace: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// One of our own kinds, only named.
pub(crate) fn ours(kind: &str, name: &str) -> Value {
    named("kosmos.io/v1alpha1", kind, name)
}

/// The same with something beside its name.
pub(crate) fn with(mut object: Value, part: Value) -> Value {
    merge(&mut object, part);
    object
}

fn merge(into: &mut Value, part: Value) {
    match (into, part) {
        (Value::Object(into), Value::Object(part)) => {
            for (key, value) in part {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, part) => *into = part,
    }
}
