//! What is told of a process that has ended.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

/// How much of a log is worth repeating.
const LAST_LINES: usize = 12;
const LAST_BYTES: u64 = 8192;

/// How it ended, in words.
pub fn exit_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of a log that were written since it had that length, each on a line of its own.
pub fn last_lines(log: &Path, since: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(since.max(length.saturating_sub(LAST_BYTES))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines[from..].iter().map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_long_log_is_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("p.log");
        let text: String = (0..1000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, &text).unwrap();
        let last = last_lines(&log, 0);
        assert_eq!(last.lines().filter(|line| !line.is_empty()).count(), LAST_LINES);
        assert!(last.ends_with("line 999"));
        assert_eq!(last_lines(&log, text.len() as u64), "");
    }
}
