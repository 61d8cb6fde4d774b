//! What a supervisor says while it starts: lines of JSON on its standard output, until it is ready or has failed.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

/// One step of the way up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Progress {
    /// Something begins.
    Step(String),
    /// Everything runs.
    Ready,
    /// It cannot be built, and why.
    Failed(String),
}

impl Progress {
    /// Tells whoever started this; nobody may be listening any more.
    pub(crate) fn tell(&self) {
        let line = serde_json::to_string(self).expect("a step is plain data");
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    pub(crate) fn step(text: impl Into<String>) {
        Progress::Step(text.into()).tell();
    }

    /// The next message; nothing when the supervisor has ended.
    pub(crate) fn read(from: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        match from.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            // A line that is none of ours (a panic, for instance) is said as it is.
            Ok(_) => Some(
                serde_json::from_str(&line).unwrap_or_else(|_| Progress::Step(line.trim_end().to_owned())),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_told() {
        let messages =
            [Progress::Step("namespaces".into()), Progress::Failed("no\nway".into()), Progress::Ready];
        let text: String = messages.iter().map(|m| serde_json::to_string(m).unwrap() + "\n").collect();
        let mut from = text.as_bytes();
        for message in messages {
            assert_eq!(Progress::read(&mut from), Some(message));
        }
        assert_eq!(Progress::read(&mut from), None);
    }
}
