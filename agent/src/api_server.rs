//! Where this cluster's API servers are: no route of ours may lead there.
//!
//! What a pod dials is the address of a Service. kube-proxy translates it on the way out, and it is the endpoint behind it
//! that our rule is asked about. So both are followed: what the client dials, and what every kube-apiserver keeps of itself
//! and its kind in EndpointSlice `default/kubernetes`.

use std::collections::BTreeSet;
use std::env;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use agent_core::Known;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Namespace and name of what API servers keep of themselves.
const SLICE: (&str, &str) = ("default", "kubernetes");
const RETRY: Duration = Duration::from_secs(10);
/// Names may get other addresses, and clusters other API servers.
const REFRESH: Duration = Duration::from_secs(300);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// What was told once is asked for no more often than this.
const LATER_RETRY: Duration = Duration::from_secs(60);
/// One of several API servers may be gone: the next attempt finds another one.
const PATIENCE: Duration = Duration::from_secs(10);

/// The host of the API server that a kubeconfig names, or of that of the cluster that this runs in.
pub fn host(kubeconfig: Option<&Path>) -> Option<String> {
    let Some(path) = kubeconfig else { return env::var("KUBERNETES_SERVICE_HOST").ok() };
    let config = Kubeconfig::read_from(path).ok()?;
    let named = |context: &kube::config::NamedContext| Some(&context.name) == config.current_context.as_ref();
    let context =
        config.contexts.iter().find(|context| named(context)).and_then(|found| found.context.as_ref());
    let cluster = match context {
        Some(context) => config.clusters.iter().find(|cluster| cluster.name == context.cluster),
        None => config.clusters.first(),
    };
    host_of(cluster?.cluster.as_ref()?.server.as_ref()?)
}

/// `https://host:port/path`, also with an IPv6 address in brackets.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
}

/// The addresses that are known without asking anybody.
pub(crate) fn literal(host: Option<&str>) -> BTreeSet<IpAddr> {
    host.and_then(|host| host.parse().ok()).into_iter().collect()
}

/// The addresses of the API servers themselves. Which of them are ready does not matter: the others will be.
fn endpoints(slice: &EndpointSlice) -> BTreeSet<IpAddr> {
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|address| address.parse().ok()).collect()
}

/// Why the endpoints are not told.
#[derive(Debug, thiserror::Error)]
enum Untold {
    /// This is the answer, and it will not be another one soon.
    #[error("{0}")]
    Refused(String),
    /// The API server answers, but has troubles of its own.
    #[error("{0}")]
    Troubled(String),
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
}

impl From<kube::Error> for Untold {
    fn from(error: kube::Error) -> Self {
        let said = error.to_string();
        match error {
            kube::Error::Api(status) if status.code == 429 || status.code >= 500 && status.code != 501 => {
                Untold::Troubled(said)
            }
            kube::Error::Api(_) => Untold::Refused(said),
            _ => Untold::Unreachable(said),
        }
    }
}

async fn ask(slices: &Api<EndpointSlice>) -> Result<BTreeSet<IpAddr>, Untold> {
    let silent = |_| Untold::Unreachable(format!("no answer in {} s", PATIENCE.as_secs()));
    let found = endpoints(&timeout(PATIENCE, slices.get(SLICE.1)).await.map_err(silent)??);
    // Whoever answered is somewhere.
    if found.is_empty() { Err(Untold::Refused("it names no address".to_owned())) } else { Ok(found) }
}

/// How it went so far.
struct Course {
    /// Whether there was an answer, even if it was a refusal.
    answered: bool,
    retry: Duration,
    /// What was said last.
    problem: String,
}

impl Course {
    fn new() -> Self {
        Course { answered: false, retry: FIRST_RETRY, problem: String::new() }
    }

    /// Takes an answer in, and says when to ask again.
    fn after(&mut self, untold: Option<&Untold>) -> Duration {
        match untold {
            None | Some(Untold::Refused(_)) => self.answered = true,
            // It had its time: the node is not to wait for ever.
            Some(Untold::Troubled(_)) if self.retry >= RETRY => self.answered = true,
            Some(_) => {}
        }
        match untold {
            None | Some(Untold::Refused(_)) => REFRESH,
            Some(_) if self.answered => LATER_RETRY,
            Some(_) => {
                let pause = self.retry;
                self.retry = (self.retry * 2).min(RETRY);
                pause
            }
        }
    }

    /// Each problem once: it may last for ever.
    fn say(&mut self, untold: Option<&Untold>) {
        let problem = untold.map(ToString::to_string).unwrap_or_default();
        if problem != self.problem {
            let (namespace, name) = SLICE;
            match untold {
                Some(Untold::Unreachable(_)) => {
                    tracing::debug!(problem, "cannot read EndpointSlice {namespace}/{name}");
                }
                Some(_) => tracing::warn!(
                    problem,
                    "cannot read EndpointSlice {namespace}/{name}: of this cluster's API servers only the addresses that are known already are kept out of the tunnels"
                ),
                None => {}
            }
            self.problem = problem;
        }
    }
}

/// Follows the addresses of the API servers themselves; whatever goes wrong keeps those that are known. Says when the API
/// has answered for the first time: before that nobody knows what its word might cut off.
pub(crate) async fn follow_endpoints(
    client: Client,
    known: watch::Sender<Known>,
    answered: watch::Sender<bool>,
) {
    let slices: Api<EndpointSlice> = Api::namespaced(client, SLICE.0);
    let mut course = Course::new();
    loop {
        let told = ask(&slices).await;
        if let Ok(endpoints) = &told {
            known.send_if_modified(|known| {
                let new = known.api_endpoints != *endpoints;
                known.api_endpoints.clone_from(endpoints);
                new
            });
        }
        let pause = course.after(told.as_ref().err());
        course.say(told.as_ref().err());
        answered.send_if_modified(|answered| std::mem::replace(answered, course.answered) != course.answered);
        sleep(pause).await;
    }
}

/// Follows the addresses of a name. One that does not resolve keeps those that it had.
pub(crate) async fn follow(host: Option<String>, known: watch::Sender<Known>) {
    let name = match host {
        Some(host) if host.parse::<IpAddr>().is_err() => host,
        _ => return std::future::pending().await,
    };
    loop {
        let pause = match lookup_host((name.as_str(), 443)).await {
            Ok(found) => {
                let api_servers: BTreeSet<IpAddr> = found.map(|address| address.ip()).collect();
                known.send_if_modified(|known| {
                    let new = known.api_servers != api_servers;
                    known.api_servers = api_servers;
                    new
                });
                REFRESH
            }
            Err(error) => {
                tracing::debug!(name, %error, "the API server's name does not resolve");
                RETRY
            }
        };
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use embedded_api::{Config, RequestInfo, Server, User};
    use kube::api::{Patch, PatchParams, PostParams};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_host_of_any_server_url_is_found() {
        for (url, host) in [
            ("https://192.0.2.1:6443", "192.0.2.1"),
            ("https://[fd00::1]:6443/prefix", "fd00::1"),
            ("https://api.example.com", "api.example.com"),
            ("http://127.0.0.1:8080/k8s?x=1", "127.0.0.1"),
        ] {
            assert_eq!(host_of(url).as_deref(), Some(host));
        }
        assert_eq!(host_of("https://"), None);
        assert_eq!(literal(Some("fd00::1")).len(), 1);
        assert!(literal(Some("api.example.com")).is_empty());
    }

    fn set<const N: usize>(addresses: [&str; N]) -> BTreeSet<IpAddr> {
        addresses.map(|address| address.parse().unwrap()).into()
    }

    fn slice(addresses: &[&str]) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": SLICE.1, "namespace": SLICE.0, "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": addresses, "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
        }))
        .unwrap()
    }

    #[test]
    fn every_address_of_a_slice_counts_ready_or_not() {
        let mut found = slice(&["10.2.0.7", "10.2.0.8"]);
        let mut second = slice(&["fd02::7", "api.example.com"]).endpoints.remove(0);
        second.conditions.as_mut().unwrap().ready = Some(false);
        found.endpoints.push(second);
        assert_eq!(endpoints(&found), set(["10.2.0.7", "10.2.0.8", "fd02::7"]));
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_goes_wrong_keeps_what_is_known() {
        let refuses = Arc::new(AtomicBool::new(false));
        let refused = Arc::clone(&refuses);
        let allow =
            move |user: &User, _: &RequestInfo| user.name == "admin" || !refused.load(Ordering::Relaxed);
        let config = Config { authorizer: Some(Arc::new(allow)), ..Config::named("a") };
        let server = Server::new(config).unwrap();
        let client = |name: &str| {
            let user = User { name: name.to_owned(), groups: Vec::new() };
            Client::new(server.service_as(user), "default")
        };
        let slices: Api<EndpointSlice> = Api::namespaced(client("admin"), SLICE.0);
        let of_disk = Known { api_endpoints: set(["10.2.0.7"]), ..Known::default() };
        let (known, mut of_host) = watch::channel(of_disk);
        let (answered, mut told) = watch::channel(false);
        tokio::spawn(follow_endpoints(client("agent"), known, answered));

        // There is none: that is an answer, and says nothing of where the servers are.
        told.wait_for(|told| *told).await.unwrap();
        assert_eq!(of_host.borrow().api_endpoints, set(["10.2.0.7"]));
        slices.create(&PostParams::default(), &slice(&["10.2.0.8"])).await.unwrap();
        of_host.changed().await.unwrap();
        assert_eq!(of_host.borrow_and_update().api_endpoints, set(["10.2.0.8"]));

        refuses.store(true, Ordering::Relaxed);
        sleep(REFRESH * 2).await;
        let none = json!({"endpoints": []});
        slices.patch(SLICE.1, &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
        refuses.store(false, Ordering::Relaxed);
        sleep(REFRESH * 2).await;
        assert!(!of_host.has_changed().unwrap(), "{:?}", of_host.borrow().api_endpoints);

        let other = slice(&["10.2.0.9"]);
        slices.patch(SLICE.1, &PatchParams::default(), &Patch::Merge(&other)).await.unwrap();
        of_host.changed().await.unwrap();
        assert_eq!(of_host.borrow().api_endpoints, set(["10.2.0.9"]));
    }

    fn answer(code: u16) -> Untold {
        kube::Error::Api(Box::new(kube::core::Status { code, ..Default::default() })).into()
    }

    #[test]
    fn a_refusal_is_an_answer_and_silence_is_none() {
        for code in [401, 403, 404, 501] {
            let mut course = Course::new();
            assert_eq!(course.after(Some(&answer(code))), REFRESH);
            assert!(course.answered, "{code}");
        }
        let mut course = Course::new();
        let silent = Untold::Unreachable("connection refused".to_owned());
        let pauses: Vec<u64> = (0..6).map(|_| course.after(Some(&silent)).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        assert!(!course.answered);
        // A server with troubles is given some time, and the node is not held up for ever.
        let mut course = Course::new();
        let pauses: Vec<u64> = (0..6).map(|_| course.after(Some(&answer(503))).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 60, 60]);
        assert!(course.answered);
        assert_eq!(course.after(Some(&silent)), LATER_RETRY);
        assert_eq!(course.after(None), REFRESH);
    }
}
