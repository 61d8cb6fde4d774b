//! The commands that speak to API servers, as a person types them where there is none to speak to.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

fn kosmosctl(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kosmosctl"));
    command.args(args).env_remove("KUBECONFIG").env("HOME", "/nowhere").env("RUST_BACKTRACE", "0");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn objects_are_printed_without_any_cluster() {
    let output = kosmosctl(&["install", "--dry-run=client", "-o", "name"]);
    let names = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        names.starts_with(
            "namespace/clusterlink-members\nnamespace/clusterlink-system\ncustomresourcedefinition"
        ),
        "{names}"
    );
    assert!(names.ends_with("deployment.apps/clusterlink-network-manager\n"), "{names}");
    let output = kosmosctl(&["install", "--dry-run=client", "-o", "yaml", "--image", "r.example/cl:7"]);
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text(&output.stdout)).unwrap();
    let deployment = documents.iter().find(|document| document["kind"] == "Deployment").unwrap();
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "r.example/cl:7");
    let output = kosmosctl(&["install", "--dry-run", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), documents.len());
}

#[test]
fn what_cannot_be_is_one_line_that_says_what_to_do() {
    for (args, words) in [
        (
            &["install", "-o", "yaml"][..],
            "-o prints objects instead of writing them: give --dry-run=client with it",
        ),
        (&["install"], "the default kubeconfig: "),
        (&["install", "--kubeconfig", "/nowhere/config"], "kubeconfig /nowhere/config: "),
        (&["unjoin", "east"], "the default kubeconfig: "),
        (&["get", "clusters", "a", "--cluster", "b"], "names leave nothing to select"),
    ] {
        let output = kosmosctl(args);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{args:?}");
        assert!(said.starts_with("error: ") && said.contains(words), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    }
    for (args, words) in [
        (&["join", "East"][..], "write lower-case letters, digits and '-'"),
        (&["join", "east", "--timeout", "5"], "write a duration such as 90s or 5m"),
        (&["join", "east", "--network-type", "star"], "expected `p2p` or `gateway`"),
        (&["check", "--ignore-preflight", "everything"], "possible values: version, permissions"),
    ] {
        let output = kosmosctl(args);
        assert!(
            !output.status.success() && text(&output.stderr).contains(words),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn every_shell_can_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = kosmosctl(&["completion", shell]);
        let script = text(&output.stdout);
        assert!(output.status.success());
        for command in [
            "install",
            "join",
            "unjoin",
            "uninstall",
            "get",
            "status",
            "upgrade",
            "gather",
            "check",
            "sandbox",
        ] {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(script.contains("member-context"), "{shell}");
    }
}
