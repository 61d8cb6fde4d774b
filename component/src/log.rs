//! The log: lines on standard error, as text or as JSON.

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// How a program logs.
#[derive(Args, Clone, Debug)]
pub struct LogOptions {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "LOG_FORMAT")]
    log_format: LogFormat,
    /// Which log lines: a level, or directives as in RUST_LOG.
    #[arg(long, global = true, env = "RUST_LOG", default_value = "info")]
    log_level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Directives that say nothing.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log-level {directives:?}: {source}; write a level (error, warn, info, debug, trace) or directives such as agent=debug"
)]
pub struct LogError {
    directives: String,
    source: ParseError,
}

impl LogOptions {
    /// Starts the log of this process; once.
    pub fn start(&self) -> Result<(), LogError> {
        let wrong = |source| LogError { directives: self.log_level.clone(), source };
        let filter = EnvFilter::try_new(&self.log_level).map_err(wrong)?;
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => log.init(),
            LogFormat::Json => log.json().init(),
        }
        Ok(())
    }
}
