//! The command that keeps TCP connections up.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use super::built::duration_text;
use super::{end_of_input, positive_duration, print_json};
use crate::stream::{self, StreamOptions};
use crate::target::Target;
use crate::wire::MAX_PAYLOAD;

/// Arguments of `stream`.
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// Target, repeatable.
    #[arg(long, required = true)]
    pub target: Vec<Target>,
    /// Connections to each target.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub connections: u32,
    /// From one exchange of a connection to the next.
    #[arg(long, default_value = "10ms", value_parser = positive_duration)]
    pub interval: Duration,
    /// Payload bytes in each direction.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_PAYLOAD)))]
    pub bytes: u32,
    /// An exchange that takes longer counts as the end of its connection.
    #[arg(long, default_value = "60s", value_parser = positive_duration)]
    pub timeout: Duration,
}

impl From<StreamArgs> for StreamOptions {
    fn from(args: StreamArgs) -> Self {
        let StreamArgs { target, connections, interval, bytes, timeout } = args;
        StreamOptions { targets: target, connections, interval, bytes, timeout }
    }
}

impl StreamOptions {
    /// The arguments that make `clusterlink-netperf` do this, say `started`, and print a [`stream::StreamReport`] as JSON for
    /// each connection, a line each, once its standard input has ended.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![
            "stream".to_owned(),
            format!("--connections={}", self.connections),
            format!("--interval={}", duration_text(self.interval)),
            format!("--bytes={}", self.bytes),
            format!("--timeout={}", duration_text(self.timeout)),
        ];
        args.extend(self.targets.iter().map(|target| format!("--target={target}")));
        args
    }
}

/// Says `started` once every connection has carried something, and one report per connection at the end.
pub(super) fn run(args: StreamArgs, out: &mut impl Write) -> Result<()> {
    let stop = end_of_input()?;
    let mut said = Ok(());
    let options = StreamOptions::from(args);
    let reports =
        stream::keep(&options, &stop, || said = writeln!(out, "started").and_then(|()| out.flush()))?;
    said.context("cannot write the result")?;
    reports.iter().try_for_each(|report| print_json(out, report))
}
