//! One task for each source: lists, watches, and reports.

use std::{
    collections::BTreeSet,
    pin::pin,
    time::{Duration, Instant},
};

use api::{CLUSTER_LABEL, GROUP};
use cni_adapters::WatchSpec;
use futures::StreamExt;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::index::{Kind, News, Side, Source};

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// How often a kind that a cluster does not serve is asked for again.
const ABSENT_RETRY: Duration = Duration::from_secs(15);
/// For how long a kind whose objects were seen may be absent before its absence is believed: a CRD takes its objects
/// with it one by one, and whoever misses that has met a hiccup.
const BELIEVED_AFTER: Duration = Duration::from_secs(600);
/// After how long an error is taken for the answer of a kind that a cluster need not serve. One behind an extension API
/// server that is away answers 503 for ever; while the API server itself starts, it does so too.
const ANSWERED_AFTER: Duration = Duration::from_secs(60);

/// What a watch says.
pub(crate) type Report = (Source, News);

/// One source and the way to it.
pub(crate) struct Watch {
    source: Source,
    api: Api<DynamicObject>,
    config: watcher::Config,
    reports: mpsc::Sender<Report>,
}

/// What a watch remembers of its failures.
#[derive(Default)]
struct Trouble {
    in_a_row: u32,
    said: Option<String>,
    since: Option<Instant>,
    /// Whether it was said that there is nothing, because the kind is not served.
    absent: bool,
}

/// What an error is worth.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The kind is not served, so there is none of it.
    Absent,
    /// The API server will say the same the next time.
    Answered,
    /// The next time may be another.
    Passing,
}

impl Watch {
    /// The watch of a source of a cluster; none where no objects stand behind it.
    pub(crate) fn of(
        source: Source,
        client: Client,
        cluster: &str,
        reports: mpsc::Sender<Report>,
    ) -> Option<Self> {
        let (api, config) = match source {
            Source::Objects(watch) => objects(client, &watch),
            Source::Resource(side, kind) => resources(client, side, kind, cluster),
            Source::Refusals => return None,
        };
        Some(Watch { source, api, config, reports })
    }

    /// Watches until nobody listens any more.
    pub(crate) async fn run(self) {
        let (mut trouble, mut known) = (Trouble::default(), BTreeSet::new());
        loop {
            let Err(error) = self.follow(&mut trouble, &mut known).await else { return };
            let (news, wait) = self.judge(&error, &mut trouble, !known.is_empty());
            if let Some(news) = news
                && self.reports.send((self.source, news)).await.is_err()
            {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Reports what comes until the watch has to be begun anew. `Ok` when nobody listens any more. `known`: the objects
    /// that were reported and are not gone.
    async fn follow(&self, trouble: &mut Trouble, known: &mut BTreeSet<Key>) -> Result<(), watcher::Error> {
        let mut events = pin!(watcher(self.api.clone(), self.config.clone()));
        let mut listing = Vec::new();
        while let Some(event) = events.next().await {
            let news = match event {
                Ok(Event::Init) => {
                    listing.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    listing.push(object);
                    continue;
                }
                Ok(Event::InitDone) => {
                    if trouble.said.is_some() {
                        tracing::info!(source = %self.source, "readable again");
                    }
                    *trouble = Trouble::default();
                    *known = listing.iter().map(key).collect();
                    News::Listed(listing.drain(..).map(value).collect())
                }
                Ok(Event::Apply(object)) => {
                    known.insert(key(&object));
                    News::Put(value(object))
                }
                Ok(Event::Delete(object)) => {
                    known.remove(&key(&object));
                    News::Gone(value(object))
                }
                // An expired version is answered by listing again, at once and by itself.
                Err(watcher::Error::WatchError(status)) if status.code == 410 => continue,
                Err(error) => return Err(error),
            };
            if self.reports.send((self.source, news)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What to say of a failure, and when to try again. A watch that breaks once is not worth a word.
    fn judge(
        &self,
        error: &watcher::Error,
        trouble: &mut Trouble,
        knows_objects: bool,
    ) -> (Option<News>, Duration) {
        let code = code(error);
        let optional = matches!(&self.source, Source::Objects(watch) if watch.optional);
        let lasting = trouble.since.get_or_insert_with(Instant::now).elapsed();
        let verdict = verdict(code, optional, knows_objects, lasting);
        if verdict == Verdict::Absent {
            let first = !std::mem::replace(&mut trouble.absent, true);
            return (first.then(|| News::Listed(Vec::new())), ABSENT_RETRY);
        }
        let wait = FIRST_RETRY.saturating_mul(1 << trouble.in_a_row.min(8)).min(LAST_RETRY);
        trouble.in_a_row = trouble.in_a_row.saturating_add(1);
        if trouble.in_a_row == 1 && code.is_none() {
            return (None, wait);
        }
        let error = self.explain(error, code);
        if trouble.said.as_ref() != Some(&error) {
            tracing::warn!(source = %self.source, error, "cannot be read; trying again");
            trouble.said = Some(error.clone());
        }
        trouble.absent = false;
        (Some(News::Failed { error, answered: verdict == Verdict::Answered }), wait)
    }

    fn explain(&self, error: &watcher::Error, code: Option<u16>) -> String {
        match (&self.source, code) {
            (Source::Resource(side, kind), Some(404)) => {
                let plural = resource(*kind).plural;
                let (whose, what) = match side {
                    Side::Member => ("member", "daemonset/member"),
                    Side::Control => ("control", "daemonset/control"),
                };
                format!(
                    "the {whose} cluster does not serve {plural}.{GROUP}: install its CRDs (kubectl apply -k {what})"
                )
            }
            _ => match status_message(error) {
                Some(message) => message.to_owned(),
                None => error.to_string(),
            },
        }
    }
}

fn resources(client: Client, side: Side, kind: Kind, cluster: &str) -> (Api<DynamicObject>, watcher::Config) {
    let config = watcher::Config::default();
    let config = match (side, kind) {
        (_, Kind::Cluster) => config.fields(&format!("metadata.name={cluster}")),
        // Agents' ClusterNodes need no label: whoever speaks in the member's API speaks of the member.
        (Side::Member, Kind::ClusterNode) => config,
        _ => config.labels(&format!("{CLUSTER_LABEL}={cluster}")),
    };
    (Api::all_with(client, &resource(kind)), config)
}

fn objects(client: Client, watch: &WatchSpec) -> (Api<DynamicObject>, watcher::Config) {
    let mut config = watcher::Config::default();
    let resource = ApiResource {
        group: watch.group.to_owned(),
        version: watch.version.to_owned(),
        api_version: watch.api_version(),
        kind: watch.kind.to_owned(),
        plural: watch.plural.to_owned(),
    };
    if let Some(fields) = watch.field_selector() {
        config = config.fields(&fields);
    }
    if let Some(labels) = watch.labels {
        config = config.labels(labels);
    }
    let api = match watch.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    (api, config)
}

/// One of our own kinds, as a path.
pub(crate) fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::Cluster => ApiResource::erase::<api::Cluster>(&()),
        Kind::ClusterNode => ApiResource::erase::<api::ClusterNode>(&()),
        Kind::NodeConfig => ApiResource::erase::<api::NodeConfig>(&()),
    }
}

/// Namespace and name.
type Key = (Option<String>, Option<String>);

fn key(object: &DynamicObject) -> Key {
    (object.metadata.namespace.clone(), object.metadata.name.clone())
}

/// The object without what nobody here reads and what makes it large.
fn value(object: DynamicObject) -> Value {
    let mut metadata = object.metadata;
    metadata.managed_fields = None;
    let mut value = match object.data {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    if let Some(Value::Object(status)) = value.get_mut("status") {
        status.remove("images");
    }
    value.insert("metadata".to_owned(), serde_json::to_value(metadata).unwrap_or_default());
    Value::Object(value)
}

fn api_error(error: &watcher::Error) -> Option<&kube::core::Status> {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => Some(status),
        _ => None,
    }
}

fn code(error: &watcher::Error) -> Option<u16> {
    api_error(error).map(|status| status.code)
}

fn verdict(code: Option<u16>, optional: bool, knows_objects: bool, lasting: Duration) -> Verdict {
    match code {
        // 501 is how an API server says that it knows a kind and does not have it.
        Some(404 | 501) if optional && (!knows_objects || lasting >= BELIEVED_AFTER) => Verdict::Absent,
        Some(code) if is_refusal(code) || (optional && lasting >= ANSWERED_AFTER) => Verdict::Answered,
        _ => Verdict::Passing,
    }
}

/// Whether this answer will be the same the next time: the API server knows who asks and what, and will not.
/// A token that has just run out (401), a time-out (408), a list that took too long (410) and a throttled request (429)
/// say nothing of what is there.
fn is_refusal(code: u16) -> bool {
    (400..500).contains(&code) && !matches!(code, 401 | 408 | 410 | 425 | 429)
}

fn status_message(error: &watcher::Error) -> Option<&str> {
    api_error(error).map(|status| status.message.as_str()).filter(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_whose_objects_were_seen_is_not_believed_to_be_gone_at_once() {
        let of = |knows_objects, lasting| verdict(Some(404), true, knows_objects, lasting);
        assert_eq!(of(false, Duration::ZERO), Verdict::Absent);
        assert_eq!(of(true, Duration::ZERO), Verdict::Answered);
        assert_eq!(of(true, BELIEVED_AFTER), Verdict::Absent);
        assert_eq!(
            verdict(Some(404), false, false, BELIEVED_AFTER),
            Verdict::Answered,
            "it has to be served"
        );
    }

    #[test]
    fn what_an_extension_api_server_that_is_away_says_is_an_answer_after_a_while() {
        let of = |code, optional, lasting| verdict(code, optional, false, lasting);
        assert_eq!(of(Some(503), true, Duration::ZERO), Verdict::Passing);
        assert_eq!(of(Some(503), true, ANSWERED_AFTER), Verdict::Answered);
        assert_eq!(of(Some(503), false, ANSWERED_AFTER), Verdict::Passing);
        assert_eq!(of(None, true, ANSWERED_AFTER), Verdict::Passing, "nobody answered");
    }

    #[test]
    fn a_request_that_was_throttled_was_not_refused() {
        assert!(is_refusal(403) && is_refusal(404));
        assert!([401, 408, 410, 429, 500, 503].into_iter().all(|code| !is_refusal(code)));
    }

    #[test]
    fn an_object_loses_what_nobody_reads() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "managedFields": [{"manager": "kubelet"}]},
            "spec": {"podCIDRs": ["10.244.0.0/24"]}, "status": {"images": [{}], "phase": "x"}}))
        .unwrap();
        let expected = serde_json::json!({"metadata": {"name": "n1"},
            "spec": {"podCIDRs": ["10.244.0.0/24"]}, "status": {"phase": "x"}});
        assert_eq!(value(object), expected);
    }
}
