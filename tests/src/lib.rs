//! End-to-end scenarios over the sandbox: what they share.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sandbox::scenario::{ClusterScenario, Firewall, Scenario};
use sandbox::{Sandbox, UpOptions};

/// How long the first plan may take to reach every kernel, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A scenario of clusters written as `NAME:MODE:NODES:GATEWAYS`, IPv4 and IPv6.
pub fn scenario(firewall: Firewall, clusters: &[&str]) -> Scenario {
    let clusters = clusters.iter().map(|text| text.parse::<ClusterScenario>().expect("a cluster of a test"));
    Scenario { firewall, clusters: clusters.collect(), ..Scenario::default() }
}

/// A sandbox with everything applied. `None` where this machine cannot have one: said aloud, and a failure in CI.
pub fn joined(name: &str, scenario: &Scenario) -> Option<Sandbox> {
    let sandbox = up(scenario, &UpOptions::named(unique(name)))?;
    if let Err(error) = sandbox.wait_applied(PATIENCE) {
        panic!("{error}\n{}", logs(&sandbox));
    }
    Some(sandbox)
}

/// The same clusters with no controller and no agent.
pub fn unjoined(name: &str, scenario: &Scenario) -> Option<Sandbox> {
    up(scenario, &UpOptions { without_components: true, ..UpOptions::named(unique(name)) })
}

fn up(scenario: &Scenario, options: &UpOptions) -> Option<Sandbox> {
    if let Err(why) = namespaces() {
        skip::skip(why);
        return None;
    }
    Some(Sandbox::up(scenario, options, |_| {}).unwrap_or_else(|error| panic!("{error}")))
}

/// A name that no other run of this test has.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// Whether this user may make namespaces.
///
/// # Errors
/// Why not.
pub fn namespaces() -> Result<(), String> {
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount", "--pid", "--fork", "true"])
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("no namespaces: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("no unshare: {error}")),
    }
}

/// What a command printed in a place of the sandbox; it must succeed.
pub fn sh(sandbox: &Sandbox, place: &str, script: &str) -> String {
    let output = sandbox.exec(place, ["sh", "-c", script]).unwrap_or_else(|error| panic!("{error}"));
    printed(&format!("{place}: {script}"), &output)
}

/// What `kubectl` printed against a cluster; it must succeed. `None` where there is no kubectl.
pub fn kubectl(sandbox: &Sandbox, cluster: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let program = std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into());
    match kubectl_by(program, sandbox, cluster, arguments, input) {
        Ok(output) => Some(output),
        Err(error) => {
            skip::skip(format!("no kubectl: {error}"));
            None
        }
    }
}

fn kubectl_by(
    program: OsString,
    sandbox: &Sandbox,
    cluster: &str,
    arguments: &[&str],
    input: &str,
) -> io::Result<Output> {
    let home = sandbox.state().path().join("kubectl-home");
    let mut command = Command::new(program);
    command.env("KUBECONFIG", sandbox.kubeconfig(cluster)).env("HOME", home).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().expect("its standard input is a pipe");
    stdin.write_all(input.as_bytes()).expect("kubectl reads its standard input");
    drop(stdin);
    child.wait_with_output()
}

/// What the `kubectl` of real control planes printed: it is built with them.
pub fn real_kubectl(sandbox: &Sandbox, cluster: &str, arguments: &[&str], input: &str) -> Output {
    let program = kubernetes::Binaries::find().unwrap_or_else(|missing| panic!("{missing}")).path("kubectl");
    kubectl_by(program.into(), sandbox, cluster, arguments, input)
        .unwrap_or_else(|error| panic!("kubectl: {error}"))
}

/// Standard output of a command that must have succeeded.
pub fn printed(what: &str, output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Asks again until the answer is `Ok`; the last `Err` is what the test says when it never is.
pub fn eventually<T>(mut ask: impl FnMut() -> Result<T, String>) -> T {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(problem) => assert!(std::time::Instant::now() < until, "{problem}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The end of every process's log, for a test that failed.
fn logs(sandbox: &Sandbox) -> String {
    let status = sandbox.status().map(|status| status.processes).unwrap_or_default();
    let tail = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    };
    status.iter().map(|process| format!("== {}\n{}\n", process.name, tail(&process.log))).collect()
}
