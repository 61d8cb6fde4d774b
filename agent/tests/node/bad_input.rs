//! What bad input gets: a sentence that names object, field and value, while everything else goes on.

use std::process::{Command, Output};

use crate::world::{GATEWAY, Host, on_host, spec};

/// The binary on a file, with a search path of the test's choice.
fn binary(yaml: &str, path: Option<&str>) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_clusterlink-agent"));
    command.arg("--config").arg(file.path());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(both).unwrap()
}

fn problems(host: &Host, yaml: &str) -> Vec<String> {
    host.pass(&spec(yaml)).differing.iter().map(ToString::to_string).collect()
}

#[test]
fn each_bad_entry_has_its_message_and_the_good_ones_are_applied() {
    on_host(|host| {
        let yaml = GATEWAY
            .replace("{cidr: 10.92.0.0/16,", "{cidr: 10.92.0.0/99,")
            .replace("cidr: \"fd02::/48\", gw: \"fd41::2\"", "cidr: \"fd02::/48\", gw: 241.31.2.1")
            .replace("{ip: 172.31.1.3,", "{ip: 172.31.1.300,")
            .replace(
                "{ip: 242.31.1.3, mac: \"02:55:ac:1f:01:03\"",
                "{ip: 242.31.1.3, mac: \"02:55:ac:1f:01\"",
            )
            .replace("unreachable: [10.2.0.0/16,", "unreachable: [0.0.0.0/0,");
        assert_eq!(
            problems(host, &yaml),
            [
                "routes 10.92.0.0/99: cidr \"10.92.0.0/99\": is not a CIDR such as 10.1.0.0/16",
                "routes fd02::/48: gw \"241.31.2.1\": is not of IPv6, the family of fd02::/48",
                "unreachable: unreachable \"0.0.0.0/0\": would take all traffic of the host; name the remote CIDRs",
                "fdbs 02:55:ac:1f:01:03 on vx-local: ip \"172.31.1.300\": is not an IP address such as 241.31.2.1",
                "arps 242.31.1.3 on vx-local: mac \"02:55:ac:1f:01\": is not a MAC address such as 02:54:f1:1f:02:01",
            ]
        );
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["dev"], "vx-bridge");
    });
}

#[test]
fn an_unreadable_entry_deletes_nothing_of_its_kind() {
    on_host(|host| {
        host.apply(&spec(GATEWAY));
        let yaml = GATEWAY.replace("name: vx-bridge, addr: 241.31.1.1/32", "name: vx-bridge, addr: nonsense");
        let lines = problems(host, &yaml);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["dev"], "vx-bridge");
    });
}

#[test]
fn a_route_that_would_shadow_the_host_is_refused_and_others_go_on() {
    on_host(|host| {
        host.sh("ip route add 10.92.7.0/24 via 172.31.0.1");
        let yaml = GATEWAY.replace("{ip: 172.31.2.1, mac", "{ip: 10.2.0.7, mac");
        let lines = problems(host, &yaml);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].starts_with("route 10.2.0.0/16: it covers 10.2.0.7, an underlay address"),
            "{lines:?}"
        );
        assert!(
            lines[1].starts_with(
                "route 10.92.0.0/16: it would shadow the host's own route to 10.92.7.0/24 on eth0"
            )
        );
        assert_eq!(host.json("ip -j route get 10.3.1.4")[0]["dev"], "vx-bridge");
    });
}

#[test]
fn a_part_of_a_hosts_route_is_routed_and_said_and_a_hosts_router_stays_reachable() {
    on_host(|host| {
        // To a network on premises, as broad as it is usual, and by a router among what another cluster calls its own.
        host.sh("ip route add 10.0.0.0/8 via 172.31.0.1; ip route add 203.0.113.0/24 via 10.92.0.1 dev eth0 onlink");
        let report = host.pass(&spec(GATEWAY));
        let lines: Vec<String> = report.differing.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0]
                .starts_with("route 10.92.0.0/16: it covers 10.92.0.1, the router of routes of this host")
        );
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["dev"], "vx-bridge");
        assert_eq!(host.json("ip -j route get 10.92.0.7")[0]["dev"], "eth0");
        let broad = "MoreSpecific: 10.2.0.0/16 is a part of the host's own route to 10.0.0.0/8 on eth0";
        assert!(report.notices.iter().any(|notice| notice.starts_with(broad)), "{:?}", report.notices);
    });
}

#[test]
fn a_vni_that_somebody_holds_is_named_with_its_holder() {
    on_host(|host| {
        host.sh("ip link add flannel.1 type vxlan id 54 dstport 4876 local 172.31.1.1 dev eth0 nolearning");
        let lines = problems(host, GATEWAY);
        assert!(lines[0].starts_with("device vx-bridge: cannot create: "), "{lines:?}");
        assert!(lines[0].contains("EEXIST"), "{lines:?}");
        assert!(lines[0].contains("device flannel.1 holds VNI 54 on UDP port 4876"), "{lines:?}");
        // The other plane works.
        assert!(host.sh("ip link show vx-local").contains("UP"));
    });
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    on_host(|host| {
        let lines = problems(host, &GATEWAY.replace("bindDev: eth0, id: 54", "bindDev: eth7, id: 54"));
        assert_eq!(lines, ["device vx-bridge: its underlay interface eth7 does not exist"]);
    });
}

#[test]
fn without_nft_there_are_routes_and_a_message() {
    on_host(|host| {
        let empty = tempfile::tempdir().unwrap();
        let output = binary(GATEWAY, Some(empty.path().to_str().unwrap()));
        let text = text(&output);
        assert!(!output.status.success());
        assert!(text.contains("cannot find `nft`: install nftables"), "{text}");
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["dev"], "vx-bridge");
    });
}

#[test]
fn without_iptables_a_legacy_chain_is_named() {
    on_host(|host| {
        host.sh("iptables-legacy -w -P FORWARD DROP");
        let tools = tempfile::tempdir().unwrap();
        let nft = host.sh("command -v nft");
        std::os::unix::fs::symlink(nft.trim(), tools.path().join("nft")).unwrap();
        let output = binary(GATEWAY, Some(tools.path().to_str().unwrap()));
        let text = text(&output);
        assert!(!output.status.success());
        assert!(text.contains("cannot find `iptables-legacy`: install iptables"), "{text}");
        assert!(host.sh("nft list tables").contains("inet clusterlink"));
    });
}

#[test]
fn a_file_that_is_no_node_config_is_refused_before_anything_is_touched() {
    on_host(|host| {
        let before = host.dump();
        for (yaml, message) in [
            ("kind: Cluster\nspec: {}\n", "it is a Cluster"),
            ("routs: []\n", "has no field \"routs\""),
            ("devices: 7\n", "is not a NodeConfig"),
        ] {
            let output = binary(yaml, None);
            assert!(!output.status.success(), "{yaml}");
            assert!(text(&output).contains(message), "{}", text(&output));
        }
        assert_eq!(host.dump(), before);
    });
}

#[test]
fn a_file_says_what_is_wrong_with_it_and_ends_with_a_failure() {
    let missing = Command::new(env!("CARGO_BIN_EXE_clusterlink-agent"))
        .args(["--config", "/nowhere/node-config.yaml"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(1));
    let said = text(&missing);
    assert!(said.contains("cannot read /nowhere/node-config.yaml: No such file or directory"), "{said}");
    let object = |name: &str| format!("kind: NodeConfig\nmetadata: {{name: {name}}}\nspec: {{}}\n");
    for (yaml, message) in [
        (format!("{}---\n{}", object("a-n1"), object("a-n2")), "it holds 2 documents (a-n1, a-n2)"),
        ("a: [1\n".to_owned(), "line 1"),
        ("kind: Deployment\nspec: {replicas: 3}\n".to_owned(), "it is a Deployment"),
        (String::new(), "it is empty"),
    ] {
        let output = binary(&yaml, None);
        assert_eq!(output.status.code(), Some(1), "{yaml}");
        let said = text(&output);
        assert!(
            said.contains("is not a NodeConfig (nor the spec of one)") && said.contains(message),
            "{said}"
        );
    }
}

#[test]
fn a_lock_of_iptables_that_nobody_gives_back_is_no_wait_for_ever() {
    on_host(|host| {
        host.sh("iptables-legacy -w -P FORWARD DROP");
        let lock = tempfile::NamedTempFile::new().unwrap();
        let held = nix::fcntl::Flock::lock(lock.reopen().unwrap(), nix::fcntl::FlockArg::LockExclusive);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), GATEWAY).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_clusterlink-agent"))
            .arg("--config")
            .arg(file.path())
            .env("XTABLES_LOCKFILE", lock.path())
            .output()
            .unwrap();
        drop(held);
        assert!(!output.status.success());
        assert!(text(&output).contains("iptables-legacy -t filter -S failed: "), "{}", text(&output));
        assert_eq!(host.json("ip -j route get 10.2.3.4")[0]["dev"], "vx-bridge");
    });
}

#[test]
fn free_text_rules_are_ignored_and_said_to_be() {
    on_host(|host| {
        let yaml =
            format!("{GATEWAY}  iptables: [{{table: nat, chain: POSTROUTING, rule: -j MASQUERADE}}]\n");
        let report = host.apply(&spec(&yaml));
        assert_eq!(report.unsupported.len(), 1);
        assert!(!host.sh("nft list ruleset").contains("chain POSTROUTING"));
    });
}
