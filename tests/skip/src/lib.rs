//! How a test says that this machine cannot run it: aloud, counted, and never under CI.

use std::{
    collections::HashSet,
    fmt::Display,
    io::Write,
    sync::{Mutex, PoisonError},
    thread,
};

/// Says on standard error that the calling test does not run, or not whole, and why: once for each test. The test
/// runner hides what a test that passes has printed, but not this. `build/test` counts these lines.
///
/// # Panics
///
/// Where the environment has `CI`: there a test that cannot run has failed.
pub fn skip(why: impl Display) {
    assert!(std::env::var_os("CI").is_none(), "under CI nothing may be skipped: {why}");
    static SAID: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let test = thread::current().name().unwrap_or("unnamed").to_owned();
    let line = format!("skipped: {test}: {why}\n");
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.get_or_insert_default().insert(test) {
        // Not `eprintln!`: that is what the test runner hides. There is nobody to tell that this cannot be written.
        _ = std::io::stderr().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        process::{Command, Output},
    };

    const SKIPPING: &str = "CLUSTERLINK_TEST_SKIPS";

    /// Does nothing, unless the other test runs it.
    #[test]
    fn skips() {
        if env::var_os(SKIPPING).is_some() {
            super::skip("no moon");
            super::skip("no stars");
        }
    }

    #[test]
    fn a_test_that_skips_is_heard_though_it_passes_and_fails_under_ci() {
        let run = |ci: Option<&str>| -> Output {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", "tests::skips"]).env(SKIPPING, "").env_remove("CI");
            command.envs(ci.map(|ci| ("CI", ci))).output().unwrap()
        };
        let alone = run(None);
        assert!(alone.status.success());
        assert_eq!(String::from_utf8_lossy(&alone.stderr), "skipped: tests::skips: no moon\n");
        assert!(!run(Some("true")).status.success());
    }
}
