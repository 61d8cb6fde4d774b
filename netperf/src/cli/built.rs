//! From options to the command line that means them.

use std::time::Duration;

use crate::outage::{OutageOptions, ProbeOptions};
use crate::reach::ReachOptions;
use crate::rtt::RttOptions;
use crate::serve::ServeOptions;
use crate::throughput::ThroughputOptions;

/// A duration as [`super::duration`] reads it.
pub(super) fn duration_text(duration: Duration) -> String {
    format!("{}us", duration.as_micros())
}

impl ServeOptions {
    /// The arguments that make `clusterlink-netperf` do this.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let mut args =
            vec!["serve".to_owned(), format!("--port={}", self.port), format!("--name={}", self.name)];
        args.extend(self.bind.iter().map(|ip| format!("--bind={ip}")));
        args.extend(self.cpu.map(|cpu| format!("--cpu={cpu}")));
        args
    }
}

impl ReachOptions {
    /// The arguments that make `clusterlink-netperf` do this and print a [`crate::reach::ReachReport`] as JSON.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![
            "reach".to_owned(),
            "--output=json".to_owned(),
            format!("--protocols={}", commas(&self.protocols)),
            format!("--bytes={}", self.tcp_bytes),
            format!("--udp-bytes={}", commas(&self.udp_bytes)),
            format!("--icmp-bytes={}", commas(&self.icmp_bytes)),
            format!("--timeout={}", duration_text(self.timeout)),
            format!("--retries={}", self.retries),
            format!("--flows={}", self.flows),
            format!("--parallel={}", self.parallel),
        ];
        args.extend(self.targets.iter().map(|target| format!("--target={target}")));
        args
    }
}

impl RttOptions {
    /// The arguments that make `clusterlink-netperf` do this and print JSON: an [`crate::rtt::RttReport`] for one target, an
    /// [`crate::rtt::RttComparison`] for several.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![
            "rtt".to_owned(),
            "--output=json".to_owned(),
            format!("--protocol={}", self.protocol),
            format!("--count={}", self.count),
            format!("--interval={}", duration_text(self.interval)),
            format!("--warmup={}", self.warmup),
            format!("--bytes={}", self.bytes),
            format!("--timeout={}", duration_text(self.timeout)),
        ];
        args.extend(self.cpu.map(|cpu| format!("--cpu={cpu}")));
        args.push(if self.targets.len() == 1 { "--target" } else { "--compare" }.to_owned());
        args.extend(self.targets.iter().map(ToString::to_string));
        args
    }
}

impl ThroughputOptions {
    /// The arguments that make `clusterlink-netperf` do this and print a [`crate::throughput::ThroughputReport`] as JSON.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![
            "throughput".to_owned(),
            "--output=json".to_owned(),
            format!("--target={}", self.target),
            format!("--duration={}", duration_text(self.duration)),
            format!("--streams={}", self.streams),
        ];
        args.extend(self.reverse.then(|| "--reverse".to_owned()));
        args
    }
}

impl OutageOptions {
    /// The arguments that make `clusterlink-netperf` do this and print an [`crate::outage::OutageReport`] as JSON.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        vec![
            "outage".to_owned(),
            "--output=json".to_owned(),
            format!("--target={}", self.target),
            format!("--rate={}", self.rate),
            format!("--duration={}", duration_text(self.duration)),
            format!("--late={}", duration_text(self.late)),
            format!("--wait={}", duration_text(self.wait)),
        ]
    }
}

impl ProbeOptions {
    /// The arguments that make `clusterlink-netperf` do this, say `started`, and print an [`crate::outage::OutageReport`] as
    /// JSON for each target, a line each, once its standard input has ended.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![
            "probe".to_owned(),
            format!("--rate={}", self.rate),
            format!("--late={}", duration_text(self.late)),
            format!("--wait={}", duration_text(self.wait)),
        ];
        args.extend(self.targets.iter().map(|target| format!("--target={target}")));
        args
    }
}

fn commas<'a, T: ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> String {
    items.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::PORT;
    use crate::cli::{Cli, Command, Output};
    use crate::stream::StreamOptions;
    use crate::target::{Protocol, Target};

    fn parse(args: Vec<String>) -> Command {
        Cli::try_parse_from(std::iter::once("clusterlink-netperf".to_owned()).chain(args)).unwrap().command
    }

    fn target() -> Target {
        Target::new("b/web", [10, 2, 0, 5]).port(80).answered_by(["b1", "b2"]).only([Protocol::Tcp])
    }

    #[test]
    fn built_command_lines_parse_to_what_was_meant() {
        let options =
            ReachOptions { flows: 3, ..ReachOptions::new(vec![target(), Target::new("v6", [0xfd; 16])]) };
        let Command::Reach(args) = parse(options.to_args()) else { panic!("not reach") };
        assert_eq!((args.target, args.udp_bytes, args.flows), (options.targets, options.udp_bytes, 3));
        assert_eq!((args.timeout, args.output, args.protocols.len()), (options.timeout, Output::Json, 3));

        let options =
            RttOptions { cpu: Some(1), ..RttOptions::new(vec![target(), Target::new("c", [10, 0, 0, 1])]) };
        let Command::Rtt(args) = parse(options.to_args()) else { panic!("not rtt") };
        assert_eq!((args.compare, args.target, args.cpu), (options.targets, None, Some(1)));
        let Command::Rtt(args) = parse(RttOptions::new(vec![target()]).to_args()) else { panic!("not rtt") };
        assert_eq!(args.target, Some(target()));

        let options = ThroughputOptions { reverse: true, ..ThroughputOptions::new(target()) };
        let Command::Throughput(args) = parse(options.to_args()) else { panic!("not throughput") };
        assert_eq!((args.target, args.duration, args.reverse), (target(), options.duration, true));

        let options = OutageOptions::new(target());
        let Command::Outage(args) = parse(options.to_args()) else { panic!("not outage") };
        assert_eq!(
            (args.target, args.rate, args.late, args.wait),
            (target(), 1000, options.late, options.wait)
        );

        let options = ProbeOptions::new(vec![target(), Target::new("v6", [0xfd; 16])]);
        let Command::Probe(args) = parse(options.to_args()) else { panic!("not probe") };
        assert_eq!((args.target, args.rate, args.late), (options.targets, 1000, options.late));

        let options = StreamOptions { connections: 3, ..StreamOptions::new(vec![target()]) };
        let Command::Stream(args) = parse(options.to_args()) else { panic!("not stream") };
        assert_eq!(StreamOptions::from(args), options);

        let options = ServeOptions { bind: vec![[10, 0, 0, 1].into()], ..ServeOptions::new("pod") };
        let Command::Serve(args) = parse(options.to_args()) else { panic!("not serve") };
        assert_eq!((args.name, args.bind, args.port), (Some("pod".to_owned()), options.bind, PORT));
    }
}
