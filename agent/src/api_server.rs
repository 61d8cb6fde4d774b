//! Where this cluster's API server is: no route of ours may lead there.

use std::collections::BTreeSet;
use std::env;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use agent_core::Known;
use kube::config::Kubeconfig;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::sleep;

const RETRY: Duration = Duration::from_secs(10);
/// Names may get other addresses.
const REFRESH: Duration = Duration::from_secs(300);

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
}
