//! What the agent says over HTTP: that its loop turns, whether the kernel equals the NodeConfig, and numbers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use embedded_api::Config;

use crate::api_mode::{eventually, options, with_agent_in};
use crate::world::{Agent, GATEWAY, on_host, until};

const ADDRESS: &str = "127.0.0.1:9870";

/// Status and body, where somebody answers.
fn get(path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(ADDRESS).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.to_owned(), body.to_owned()))
}

fn says(path: &str, status: &str, words: &str) -> Option<String> {
    let (code, body) = get(path)?;
    (code == status && body.contains(words)).then_some(body)
}

#[test]
fn ready_is_equal_what_differs_is_said_and_what_is_repaired_is_counted() {
    on_host(|host| {
        let _agent = Agent::watching(GATEWAY);
        until("ready", || says("/readyz", "200", "ok"));
        assert!(says("/livez", "200", "ok").is_some());
        let metrics = get("/metrics").unwrap().1;
        for kind in
            ["device", "route", "neighbour", "fdb", "nexthop", "rule", "address", "sysctl", "firewall"]
        {
            let line = |what: &str| format!("clusterlink_agent_{what}_entries{{kind=\"{kind}\"}}");
            let of = |what: &str| {
                let line = metrics.lines().find(|text| text.starts_with(&line(what))).unwrap();
                line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
            };
            assert!(
                of("desired") > 0 && of("desired") == of("actual") && of("failed") == 0,
                "{kind}\n{metrics}"
            );
        }
        assert!(metrics.contains("clusterlink_agent_apply_duration_seconds_count 1"), "{metrics}");
        host.sh("ip rule del pref 200");
        until("a repair", || {
            says("/metrics", "200", "clusterlink_agent_drift_repairs_total{kind=\"rule\"} 1")
        });
        // What cannot be repaired; in one step, for the agent is quick.
        host.sh("ip route replace 10.3.1.0/24 via 172.31.66.66 table 200 proto 42 metric 2424");
        until("not ready", || says("/readyz", "503", "route 10.3.1.0/24 in table 200"));
        until("failed", || says("/metrics", "200", "clusterlink_agent_failed_entries{kind=\"route\"} 1"));
        host.sh("ip route del 10.3.1.0/24 table 200 proto 42");
        until("ready again", || says("/readyz", "200", "ok"));
    });
}

#[test]
fn a_taken_port_costs_the_answers_and_nothing_else() {
    on_host(|host| {
        let other = TcpListener::bind(ADDRESS).unwrap();
        let _agent = Agent::watching(GATEWAY);
        until("the overlay", || host.sh("ip rule").contains("lookup 200").then_some(()));
        drop(other);
        until("ready", || says("/readyz", "200", "ok"));
    });
}

#[test]
fn a_node_of_which_nothing_is_asked_is_ready() {
    on_host(|host| {
        let state = tempfile::tempdir().unwrap();
        let options = agent::Options { listen: Some(ADDRESS.parse().unwrap()), ..options(state.path()) };
        with_agent_in(host, Config::named("a"), options, |mesh| async move {
            let ready =
                || async { tokio::task::spawn_blocking(|| says("/readyz", "200", "ok")).await.unwrap() };
            eventually("ready without a NodeConfig", ready).await;
            let created = mesh.create().await;
            mesh.applied(created.metadata.generation).await;
            eventually("ready with one", ready).await;
        });
    });
}
