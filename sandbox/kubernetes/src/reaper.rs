//! Whoever outlives an owner that was killed: it removes the directory. It waits in a read of a pipe that only the owner
//! holds open.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Some rounds, because a process that has just been killed may still write.
const SCRIPT: &str = r#"cat >/dev/null; for round in 1 2 3 4 5; do rm -rf -- "$1" && exit; sleep 1; done"#;

/// The process.
#[derive(Debug)]
pub(crate) struct Reaper(Child);

impl Reaper {
    /// From now on the directory goes when this does, or when this process does.
    pub(crate) fn start(directory: &Path) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "reaper"]).arg(directory).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self)
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
