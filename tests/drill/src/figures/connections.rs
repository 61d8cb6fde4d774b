//! What became of connections over TCP.

use netperf::stream::Break;

use super::{Row, Told, after, last};
use crate::probes::Stream;

/// How many breaks a row names.
const MOST_NAMED: usize = 8;

/// Adds connections to a row. One that breaks is a problem, unless loss is expected or what was done last excuses it.
pub(super) fn add(row: &mut Row, streams: &[&Stream], told: &Told<'_>) {
    row.connections = streams.len() as u64;
    let longest = streams.iter().max_by_key(|stream| stream.report.longest_stall_us);
    if let Some(stream) = longest {
        row.stall_ms = Some(stream.report.longest_stall_us as f64 / 1e3);
        let exchanges: u64 = streams.iter().map(|stream| stream.report.exchanges).sum();
        let when = after(told.marks, stream.report.stalled_at_us);
        row.notes.push(format!(
            "{} connections, {exchanges} exchanges; {} stood still for {:.0} ms, {when}",
            streams.len(),
            name(stream),
            stream.report.longest_stall_us as f64 / 1e3
        ));
    }
    let (mut notes, mut problems) = (Vec::new(), Vec::new());
    for stream in streams {
        let mut excused = false;
        for ended in &stream.report.breaks {
            // that none came about at once is of the one before
            let mark = last(told.marks, ended.at_us);
            let why = ended.local.and_then(|local| mark?.excused.get(&local.port()));
            excused = why.is_some() || (excused && ended.local.is_none());
            let text = text(stream, ended, why.map(String::as_str), told);
            let into = if excused || told.loss_expected.is_some() { &mut notes } else { &mut problems };
            into.push(text);
        }
    }
    row.notes.extend(named(notes));
    row.problems.extend(named(problems));
}

fn text(stream: &Stream, ended: &Break, why: Option<&str>, told: &Told<'_>) -> String {
    let when = after(told.marks, ended.at_us);
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    match ended.local {
        Some(local) => format!(
            "{}: the connection from port {} broke {when}: {}{why}",
            name(stream),
            local.port(),
            ended.failure
        ),
        None => format!("{}: no other connection came about {when}: {}", name(stream), ended.failure),
    }
}

fn name(stream: &Stream) -> String {
    format!("{} → {} {}", stream.way.from, stream.report.address.ip(), stream.family)
}

fn named(mut all: Vec<String>) -> Vec<String> {
    let more = all.len().saturating_sub(MOST_NAMED);
    all.truncate(MOST_NAMED);
    all.extend((more > 0).then(|| format!("and {more} more connections")));
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::{Family, NetworkType};
    use netperf::failure::Failure;
    use netperf::stream::StreamReport;

    use super::*;
    use crate::figures::Mark;
    use crate::probes::Way;

    fn stream(ports: &[u16]) -> Stream {
        let failure = Failure::Refused;
        let local = |port: &u16| Some(([10, 0, 0, 1], *port).into());
        let breaks =
            ports.iter().map(|port| Break { at_us: 9, local: local(port), failure: failure.clone() });
        let report = StreamReport {
            target: "b".to_owned(),
            address: ([10, 2, 0, 1], 80).into(),
            exchanges: 3,
            longest_stall_us: 7000,
            stalled_at_us: 5,
            breaks: breaks.collect(),
        };
        let (from, to) = ("a".to_owned(), "b".to_owned());
        let way = Way { from, to, addresses: Vec::new(), mode: NetworkType::P2p, connections: 1 };
        Stream { way, family: Family::V4, report }
    }

    #[test]
    fn a_connection_that_breaks_is_a_problem_unless_it_was_excused_or_loss_is_expected() {
        let broken = stream(&[1000, 2000]);
        let excused = BTreeMap::from([(1000, "its gateway went".to_owned())]);
        let gone = Mark { at_us: 3, what: "a gateway goes".to_owned(), excused };
        let back = Mark { at_us: 8, what: "it comes back".to_owned(), excused: BTreeMap::new() };
        let mut told = Told { marks: std::slice::from_ref(&gone), loss_expected: None };
        let mut row = Row::default();
        add(&mut row, &[&broken, &stream(&[])], &told);
        assert_eq!((row.connections, row.stall_ms, row.problems.len()), (2, Some(7.0), 1));
        assert!(row.problems[0].contains("port 2000"), "{row:?}");
        assert!(row.notes.iter().any(|note| note.contains("its gateway went")), "{row:?}");
        let marks = [gone.clone(), back];
        told.marks = &marks;
        let mut row = Row::default();
        add(&mut row, &[&broken], &told);
        assert_eq!(row.problems.len(), 2, "an excuse ends with what is done next: {row:?}");
        told.loss_expected = Some("a gateway is away");
        let mut row = Row::default();
        add(&mut row, &[&broken], &told);
        assert!(row.is_good(), "{row:?}");
    }
}
