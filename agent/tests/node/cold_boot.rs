//! A node that boots while no API answers, and what may be on its disk.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use api::NodeId;
use embedded_api::{Config, RequestInfo, Server, User};
use kube::Client;
use serde_json::Value;

use crate::api_mode::{eventually, options, with_agent_in};
use crate::world::{Host, on_host};

pub(crate) const FILE: &str = "last-good.json";

/// The disk of a node whose NodeConfig was applied once, with an API; `None` where that was skipped, and said so.
fn live_once() -> Option<tempfile::TempDir> {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    on_host(|host| {
        with_agent_in(host, Config::named("a"), options(state), |mesh| async move {
            let created = mesh.create().await;
            let config = mesh.applied(created.metadata.generation).await;
            eventually("the file", || async { state.join(FILE).exists().then_some(()) }).await;
            eventually("the condition", || async {
                let config = mesh.configs.get(config.metadata.name.as_ref().unwrap()).await.unwrap();
                let conditions = config.status.unwrap().conditions;
                let kept = conditions
                    .into_iter()
                    .find(|condition| condition.type_ == api::condition::LAST_GOOD_KEPT)?;
                (kept.status == "True" && kept.message.contains("generation 1")).then_some(())
            })
            .await;
        });
    });
    state.join(FILE).exists().then_some(directory)
}

/// A test beside an agent whose API refuses everything.
pub(crate) fn without_api<F: Future<Output = ()>>(state: &Path, test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let refuse = |_: &User, _: &RequestInfo| false;
        let config = Config { authorizer: Some(std::sync::Arc::new(refuse)), ..Config::named("a") };
        let server = std::sync::Arc::new(Server::new(config).unwrap());
        let client = Client::new(server.service_as(User::in_process()), "default");
        tokio::select! {
            ended = agent::run(client, NodeId::new("a", "a1"), options(state)) => panic!("the agent ended: {ended:?}"),
            () = test() => {}
        }
    });
}

async fn has_overlay(host: &Host) {
    eventually("the overlay", || async {
        let routes = host.sh("ip route show table 200 proto 193 | wc -l");
        let table = host.try_sh("nft list table inet clusterlink").status.success();
        let rule = host.sh("ip rule show pref 200").contains("lookup 200");
        (routes.trim() == "14" && table && rule).then_some(())
    })
    .await;
}

#[test]
fn a_node_that_boots_without_an_api_has_its_overlay_and_keeps_it() {
    let Some(state) = live_once() else { return };
    // The kernel of a machine that has just booted.
    on_host(|host| {
        without_api(state.path(), || async {
            has_overlay(host).await;
            // It is kept in order: what was read is as new as anything that this kernel holds.
            host.sh("ip rule del pref 200; ip neigh replace 241.31.2.1 lladdr 02:00:00:00:00:66 dev vx-bridge nud permanent");
            has_overlay(host).await;
            eventually("the neighbour", || async {
                host.sh("ip neigh show 241.31.2.1 dev vx-bridge").contains("02:54:ac:1f:02:01").then_some(())
            })
            .await;
        });
    });
}

#[test]
fn a_stale_file_takes_nothing_away_that_the_kernel_has() {
    let Some(state) = live_once() else { return };
    on_host(|host| {
        // What an agent left that was killed before it could keep what the API said last.
        let mut newer = crate::world::spec(crate::world::GATEWAY);
        newer.routes.push(api::node_config::Route {
            cidr: "10.77.0.0/16".to_owned(),
            gw: "241.31.2.1".to_owned(),
            dev: "vx-bridge".to_owned(),
            ..Default::default()
        });
        newer.unreachable.clear();
        host.apply(&newer);
        without_api(state.path(), || async {
            // What the file knows and the kernel has not is added: by that it is known that the agent has been there.
            eventually("an unreachable route", || async {
                host.sh("ip route show table 200 proto 193").contains("unreachable 10.2.0.0/16").then_some(())
            })
            .await;
            assert!(host.sh("ip route show table 200 proto 193").contains("10.77.0.0/16"));
        });
    });
}

#[test]
fn a_corrupt_file_is_set_aside_and_a_foreign_one_too() {
    let Some(state) = live_once() else { return };
    let file = state.path().join(FILE);
    let good = fs::read(&file).unwrap();
    for (bytes, word) in [(&good[..good.len() / 2], "corrupt"), (good.as_slice(), "foreign")] {
        fs::write(&file, bytes).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        on_host(|host| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = std::sync::Arc::new(Server::new(Config::named("a")).unwrap());
                let client = Client::new(server.service_as(User::in_process()), "default");
                let id = if word == "foreign" { NodeId::new("a", "a2") } else { NodeId::new("a", "a1") };
                let aside = state.path().join(format!("{FILE}.{word}"));
                tokio::select! {
                    ended = agent::run(client, id, options(state.path())) => panic!("the agent ended: {ended:?}"),
                    () = eventually("a file set aside", || async { aside.exists().then_some(()) }) => {}
                }
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            });
            assert!(!file.exists());
            assert!(!host.try_sh("ip link show vx-bridge").status.success(), "nothing of it was applied");
        });
    }
}

fn command(state: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clusterlink-agent"));
    command.args(arguments).arg("--state-directory").arg(state).output().unwrap()
}

#[test]
fn status_and_dump_need_no_api_and_cleanup_forgets_everything() {
    let Some(state) = live_once() else { return };
    on_host(|host| {
        host.sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        let status = || -> (bool, Value) {
            let output = command(state.path(), &["status", "-o", "json"]);
            (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
        };
        let (well, said) = status();
        assert!(!well && said["kernel"]["equal"] == false, "{said}");
        assert!(said["agent"]["says"].as_str().unwrap().starts_with("does not answer at 127.0.0.1:9870"));
        host.apply(&crate::world::spec(crate::world::GATEWAY));
        let (well, said) = status();
        assert!(well, "{said:#}");
        assert_eq!(said["nodeConfig"]["generation"], 1);
        let before = host.dump();
        host.sh("ip route del 10.3.1.0/24 table 200");
        let (well, said) = status();
        assert!(!well);
        let differing = said["kernel"]["differing"].as_array().unwrap();
        assert_eq!(differing.len(), 1, "{said:#}");
        assert!(differing[0].as_str().unwrap().starts_with("route 10.3.1.0/24 in table 200"), "{said:#}");
        // To look is not to touch.
        assert_ne!(host.dump(), before);
        let text = String::from_utf8(command(state.path(), &["status"]).stdout).unwrap();
        assert!(
            text.contains("NodeConfig  a-a1, generation 1") && text.contains("Kernel      differs"),
            "{text}"
        );

        let dump: Value = serde_json::from_slice(&command(state.path(), &["dump"]).stdout).unwrap();
        assert_eq!(dump["devices"][0]["name"], "vx-bridge");
        assert!(
            !dump["routes"].as_array().unwrap().is_empty()
                && !dump["host"]["links"].as_array().unwrap().is_empty()
        );

        assert!(command(state.path(), &["cleanup"]).status.success());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
        assert!(!host.try_sh("ip link show vx-bridge").status.success());
    });
}

#[test]
fn the_default_address_is_where_status_asks() {
    let address: SocketAddr = "127.0.0.1:9870".parse().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_clusterlink-agent")).arg("--help").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains(&address.to_string()));
}
