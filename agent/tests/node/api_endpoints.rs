//! A NodeConfig that would cut a node off its API servers: that much of it is refused, with the API and without it.

use std::fs;
use std::sync::{Arc, Mutex};

use api::condition::APPLIED;
use embedded_api::{Config, RequestInfo, User};
use serde_json::Value;

use crate::api_mode::{API_SERVER, eventually, options, with_agent_in};
use crate::cold_boot::{FILE, without_api};
use crate::world::{GATEWAY, Host, on_host};

/// Another cluster's network in which this one's API server is.
const COVERING: &str = "10.7.0.0/16";

/// Whether the tunnels carry what they should, and nothing that is for the API server.
fn is_as_it_should_be(host: &Host) -> bool {
    let routes = host.sh("ip route show table 200 proto 193");
    routes.contains("10.2.0.0/16 nhid") && routes.contains("10.92.0.0/16 nhid") && !routes.contains(COVERING)
}

#[test]
fn a_route_to_an_api_server_is_refused_and_named_and_the_rest_is_applied() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    let yaml = GATEWAY.replace(
        "  - {cidr: 10.2.0.0/16,",
        &format!("  - {{cidr: {COVERING}, gw: 241.31.2.1, dev: vx-bridge}}\n  - {{cidr: 10.2.0.0/16,"),
    );
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let allow = move |_: &User, request: &RequestInfo| {
        heard.lock().unwrap().push(format!("{} {}", request.verb.as_str(), request.resource));
        true
    };
    let config = Config { authorizer: Some(Arc::new(allow)), ..Config::named("a") };
    on_host(|host| {
        with_agent_in(host, config, options(state), |mesh| async move {
            mesh.create_of(&yaml).await;
            let message = eventually("a refused route", || async {
                let status = mesh.configs.get("a-a1").await.unwrap().status?;
                let applied = status.conditions.into_iter().find(|condition| condition.type_ == APPLIED)?;
                (applied.status == "False").then_some(applied.message)
            })
            .await;
            let named = format!("route {COVERING}: it covers {API_SERVER}, an endpoint of the API server");
            assert!(message.contains(&named), "{message}");
            assert!(is_as_it_should_be(host));
            eventually("the file", || async { state.join(FILE).exists().then_some(()) }).await;
        });
    });
    let Ok(kept) = fs::read_to_string(state.join(FILE)) else { return };
    // Once it is applied it is too late.
    let first = |what: &str| asked.lock().unwrap().iter().position(|request| request == what).unwrap();
    assert!(first("get endpointslices") < first("list nodeconfigs"));
    let content: Value = serde_json::from_str(kept.lines().nth(1).unwrap()).unwrap();
    assert_eq!(content["apiEndpoints"], serde_json::json!([API_SERVER]));
    // The machine boots, and no API says where it is.
    on_host(|host| {
        without_api(state, || async {
            eventually("the overlay", || async { host.sh("ip rule").contains("200:").then_some(()) }).await;
            assert!(is_as_it_should_be(host), "{}", host.sh("ip route show table 200"));
        });
    });
}
