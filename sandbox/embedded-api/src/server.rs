//! The wiring: a server, the state behind its lock, and the way of a request to its verb.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use crate::auth::{self, Tokens, User};
use crate::config::Config;
use crate::decode;
use crate::negotiate;
use crate::paths;
use crate::request::{Options, RequestInfo, Verb};
use crate::response::{self, Response};
use crate::services::{Allocations, BadServiceCidr};
use crate::state::State;
use crate::status::Answer;
use crate::store::Store;
use crate::table::{View, encode};
use crate::tls::{Identity, TlsError};
use crate::verbs::{self, Call, Written};

/// Why a server could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The TLS identity.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The service ranges.
    #[error("API server {name:?}: {source}")]
    ServiceCidr {
        /// The server's name.
        name: String,
        /// What is wrong with them.
        source: BadServiceCidr,
    },
    /// A listener that was handed in.
    #[error("API server {name:?}: listener {address}: {source}")]
    Listener {
        /// The server's name.
        name: String,
        /// Where it listens.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What requests and watches share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) tokens: Tokens,
    state: Mutex<State>,
}

/// An API server: one cluster's objects, served over any number of listeners and in process.
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    pub(crate) identity: Identity,
}

impl Server {
    /// A server with the namespaces every cluster begins with.
    pub fn new(config: Config) -> Result<Self, Error> {
        let identity = Identity::generate(&config.name, &config.subject_names)?;
        let services = Allocations::new(&config.service_cidrs)
            .map_err(|source| Error::ServiceCidr { name: config.name.clone(), source })?;
        let seed = config.seed.clone().unwrap_or_else(|| identity.ca_pem.clone());
        let store = Store::new(config.first_revision, config.watch_window);
        let mut state = State::new(store, services, seed, config.serve_service_cidr_api);
        state.populate(&config.service_cidrs, (config.clock)());
        let shared = Shared {
            tokens: Tokens::new(&config.tokens),
            closing: watch::Sender::new(false),
            state: Mutex::new(state),
            config,
        };
        Ok(Self { shared: Arc::new(shared), identity })
    }

    /// The certificate of the authority that signed the serving certificate, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.identity.ca_pem
    }

    /// A kubeconfig for one of the tokens, with `server_url` as clients reach the server (`https://127.0.0.1:6443`).
    #[must_use]
    pub fn kubeconfig(&self, server_url: &str, token: &str) -> String {
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(self.ca_pem());
        let name = &self.shared.config.name;
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": server_url, "certificate-authority-data": ca}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        });
        // JSON is YAML: every reader of kubeconfigs takes it.
        format!("{kubeconfig:#}\n")
    }

    /// Ends the watches and makes [`Server::serve`] return.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A verb that panicked leaves the state whole: it writes in one step at its end.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.config.clock)()
    }

    fn allows(&self, user: &User, info: &RequestInfo) -> bool {
        match &self.config.authorizer {
            Some(authorizer) => authorizer(user, info),
            None => auth::allow_by_default(user, info),
        }
    }

    /// Answers a request of a user who is known already, or still has to show a token.
    pub(crate) fn answer(
        self: &Arc<Self>,
        head: &http::request::Parts,
        body: &Bytes,
        user: Option<User>,
    ) -> Response {
        self.try_answer(head, body, user).unwrap_or_else(|status| response::status(&status))
    }

    fn try_answer(
        self: &Arc<Self>,
        head: &http::request::Parts,
        body: &Bytes,
        user: Option<User>,
    ) -> Answer<Response> {
        let options = Options::parse(&head.method, head.uri.query().unwrap_or(""))?;
        let info = RequestInfo::parse(&head.method, head.uri.path(), &options)?;
        if paths::is_public(&info.path) {
            return paths::answer(self, &info, &head.headers);
        }
        let user = user.map_or_else(|| self.tokens.authenticate(&head.headers), Ok)?;
        if !self.allows(&user, &info) {
            return Err(auth::refusal(&user, &info));
        }
        if info.is_resource() {
            self.resource(head, body, &info, &options)
        } else {
            paths::answer(self, &info, &head.headers)
        }
    }

    fn resource(
        self: &Arc<Self>,
        head: &http::request::Parts,
        body: &Bytes,
        info: &RequestInfo,
        options: &Options,
    ) -> Answer<Response> {
        let form = negotiate::form(&head.headers)?;
        let mut state = self.lock();
        let resource = state.registry.find(&info.group, &info.version, &info.resource)?;
        let view = View::new(Arc::clone(&resource), &info.version, form, options.include_object.as_deref())?;
        let call = Call { resource, info, options, now: self.now(), manager: manager(head, options) };
        call.check_path()?;
        let media_type = decode::media_type(&head.headers);
        match info.verb {
            Verb::Get => Ok(object(&view, verbs::get::get(&call, &state)?, call.now)),
            Verb::List if options.watch => self.watch(&call, &state, view),
            Verb::Watch => self.watch(&call, &state, view),
            Verb::List => {
                let page = verbs::list::list(&call, &state)?;
                drop(state);
                Ok(response::json(200, view.list(&page.metadata(), &page.items, call.now)))
            }
            Verb::Create => written(
                &view,
                verbs::create::create(&call, &mut state, decode::object(&media_type, body)?)?,
                &call,
            ),
            Verb::Update => written(
                &view,
                verbs::update::update(&call, &mut state, decode::object(&media_type, body)?)?,
                &call,
            ),
            Verb::Patch => written(&view, verbs::patch::patch(&call, &mut state, &media_type, body)?, &call),
            Verb::Delete | Verb::DeleteCollection => delete(&call, &mut state, &view, &media_type, body),
        }
    }

    fn watch(self: &Arc<Self>, call: &Call<'_>, state: &State, view: View) -> Answer<Response> {
        let watch = verbs::watch::open(call, state, view, self)?;
        Ok(response::stream(watch.into_stream()))
    }
}

fn object(view: &View, object: Value, now: Timestamp) -> Response {
    response::json(200, encode(&view.object(object, now)))
}

fn written(view: &View, written: Written, call: &Call<'_>) -> Answer<Response> {
    let code = if written.created { 201 } else { 200 };
    let body = encode(&view.object(written.object, call.now));
    Ok(response::with_warnings(response::json(code, body), &written.warnings))
}

fn delete(
    call: &Call<'_>,
    state: &mut State,
    view: &View,
    media_type: &str,
    body: &Bytes,
) -> Answer<Response> {
    let sent = if body.is_empty() { Value::Null } else { decode::object(media_type, body)?.value };
    let options = verbs::delete::DeleteOptions::read(call, &sent)?;
    if call.info.verb == Verb::Delete {
        return Ok(object(view, verbs::delete::delete(call, state, &options)?, call.now));
    }
    let items = verbs::delete::delete_collection(call, state, &options)?;
    let list = serde_json::json!({
        "kind": call.resource.list_kind, "apiVersion": call.api_version(),
        "metadata": {"resourceVersion": state.store.revision().to_string()}, "items": items,
    });
    Ok(response::json(200, encode(&list)))
}

/// Who writes, for `managedFields`: the `fieldManager`, or the first word of the user agent.
fn manager(head: &http::request::Parts, options: &Options) -> String {
    let agent = head.headers.get(http::header::USER_AGENT).and_then(|h| h.to_str().ok()).unwrap_or("");
    let agent = agent.split('/').next().filter(|a| !a.is_empty()).unwrap_or("unknown");
    options.field_manager.clone().unwrap_or_else(|| agent.to_owned())
}

/// Waits until the server closes.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the server is no more, which is closed enough.
    let _ = closing.wait_for(|closing| *closing).await;
}
