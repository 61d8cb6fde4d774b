//! Progress: a spinner on a terminal, plain lines elsewhere.
#![expect(clippy::print_stderr, reason = "progress goes to standard error")]

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;

pub(crate) struct Display {
    start: Instant,
    /// On a terminal only.
    spinner: Option<ProgressBar>,
}

impl Display {
    pub(crate) fn new(start: Instant) -> Self {
        let spinner = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let Some(spinner) = &spinner {
            spinner.enable_steady_tick(Duration::from_millis(80));
        }
        Display { start, spinner }
    }

    /// What begins now.
    pub(crate) fn step(&self, text: &str) {
        let text = format!("[{:4.1} s] {text}", self.start.elapsed().as_secs_f64());
        match &self.spinner {
            Some(spinner) => spinner.set_message(text),
            None => eprintln!("{text}"),
        }
    }

    /// Prints without the spinner in between.
    pub(crate) fn pause<T>(&self, print: impl FnOnce() -> Result<T>) -> Result<T> {
        match &self.spinner {
            Some(spinner) => spinner.suspend(print),
            None => print(),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
