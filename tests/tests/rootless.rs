//! A user without privileges has the same world, where the kernel lets users make namespaces.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use e2e::{printed, unique};
use sandbox::components::Binaries;

const PROGRAMS: [&str; 5] = [
    "kosmosctl",
    "clusterlink-agent",
    "clusterlink-controller-manager",
    "clusterlink-netperf",
    "clusterlink-network-manager",
];

/// `nobody` and `nogroup` of Debian.
const NOBODY: &str = "65534";

/// A command of somebody who may do nothing, in a directory of their own.
fn as_nobody(home: &Path, arguments: &[&str]) -> Output {
    let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    let mut command = Command::new("setpriv");
    command.args([user.as_str(), &group, "--clear-groups", "--inh-caps=-all", "--"]);
    command.args(arguments).current_dir(home).env("HOME", home).env("XDG_RUNTIME_DIR", home);
    command.env_remove("CLUSTERLINK_BIN_DIR").output().unwrap_or_else(|error| panic!("setpriv: {error}"))
}

#[test]
fn without_any_privilege_everybody_reaches_everybody() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout != b"0\n" {
        // Then all other tests are this test.
        return;
    }
    let allowed = as_nobody(
        home.path(),
        &["unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork", "true"],
    );
    if !allowed.status.success() {
        skip::skip(format!(
            "users may not make namespaces: {}",
            String::from_utf8_lossy(&allowed.stderr).trim()
        ));
        return;
    }
    for program in PROGRAMS {
        fs::copy(Binaries::find().program(program).unwrap(), home.path().join(program)).unwrap();
    }
    let (kosmosctl, name) = (home.path().join("kosmosctl"), unique("rootless"));
    let sandbox = |verb: &str, more: &[&str]| {
        let mut arguments = vec![kosmosctl.to_str().unwrap(), "sandbox", verb, "--name", &name];
        arguments.extend(more);
        as_nobody(home.path(), &arguments)
    };
    printed("up", &sandbox("up", &["--clusters", "a:gateway:2:1,c:p2p:1", "--firewall", "nft"]));
    let matrix = sandbox("matrix", &[]);
    let down = sandbox("down", &[]);
    let table = printed("matrix", &matrix);
    assert!(table.contains("exchanges ok"), "{table}");
    printed("down", &down);
}
