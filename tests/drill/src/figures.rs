//! What a scenario measured, and the table of all.

mod connections;
pub mod leaks;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use api::NetworkType;
use netperf::failure::Direction;
use netperf::outage::{EventKind, OneWay};
use serde::Serialize;

use crate::probes::{Flow, Seen, Stream};

/// Losses that are closer to each other are one.
const TOGETHER_US: u64 = 50_000;
/// How many of them a row names.
const MOST_NAMED: usize = 12;

/// When something was done, by the clock of the probes.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Microseconds since 1970.
    pub at_us: u64,
    /// What.
    pub what: String,
    /// Connections (by the asker's port) that it may break, until something else is done; and why.
    pub excused: BTreeMap<u16, String>,
}

/// Times from damage to repair.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Repairs {
    /// Half of them took at most so long.
    pub p50_ms: f64,
    /// All but one in a hundred did.
    pub p99_ms: f64,
    /// None took longer.
    pub max_ms: f64,
}

impl Repairs {
    /// Of single times; `None` of none.
    pub fn of(times: &[Duration]) -> Option<Self> {
        let mut sorted: Vec<Duration> = times.to_vec();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        // the nearest rank
        let at = |share: usize| {
            sorted[(sorted.len() * share).div_ceil(100).clamp(1, last + 1) - 1].as_secs_f64() * 1e3
        };
        Some(Repairs { p50_ms: at(50), p99_ms: at(99), max_ms: at(100) })
    }
}

/// One line of the table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Which scenario.
    pub scenario: String,
    /// What carried the packets, or what was repaired.
    pub mode: String,
    /// How often.
    pub rounds: u32,
    /// Packets, both directions together.
    pub sent: u64,
    /// Packets that did not arrive.
    pub lost: u64,
    /// Packets that left a node outside of a tunnel; `None` where nobody looked.
    pub leaked: Option<u64>,
    /// Packets that arrived late.
    pub late: u64,
    /// Packets that arrived twice.
    pub duplicated: u64,
    /// Packets that were overtaken.
    pub reordered: u64,
    /// Connections over TCP.
    pub connections: u64,
    /// The longest time in which nothing came through on one of them.
    pub stall_ms: Option<f64>,
    /// From damage to repair.
    pub repair: Option<Repairs>,
    /// Losses are expected here, for this reason.
    pub loss_expected: Option<String>,
    /// What is to be known beside.
    pub notes: Vec<String>,
    /// What is wrong.
    pub problems: Vec<String>,
}

impl Row {
    /// A row without figures yet.
    pub fn of(scenario: &str, mode: impl Into<String>, rounds: u32) -> Self {
        Row { scenario: scenario.to_owned(), mode: mode.into(), rounds, ..Row::default() }
    }

    /// Whether everything is as it must be.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What is known of a scenario beside what the probes have seen.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// What was done, and when.
    pub marks: &'a [Mark],
    /// Why packets may be lost, where they may.
    pub loss_expected: Option<&'a str>,
}

/// One row for each mode that was used. A loss, or a connection that breaks, is a problem unless it is expected.
pub fn rows(scenario: &str, rounds: u32, seen: &Seen, told: &Told<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for mode in [NetworkType::Gateway, NetworkType::P2p] {
        let flows: Vec<&Flow> = seen.flows.iter().filter(|flow| flow.way.mode == mode).collect();
        let streams: Vec<&Stream> = seen.streams.iter().filter(|stream| stream.way.mode == mode).collect();
        if flows.is_empty() {
            continue;
        }
        let mut row = Row::of(scenario, word(mode), rounds);
        row.loss_expected = told.loss_expected.map(str::to_owned);
        flows.iter().for_each(|flow| add(&mut row, flow, told.marks));
        slept(&mut row, &flows);
        connections::add(&mut row, &streams, told);
        rows.push(row);
    }
    rows
}

fn word(mode: NetworkType) -> &'static str {
    match mode {
        NetworkType::Gateway => "gateway",
        NetworkType::P2p => "p2p",
    }
}

fn add(row: &mut Row, flow: &Flow, marks: &[Mark]) {
    let account = &flow.report.account;
    row.sent += account.sent + account.answered + account.backward.lost;
    let before = row.lost;
    for way in [&account.forward, &account.backward, &account.unknown] {
        let OneWay { lost, late, duplicated, reordered, .. } = *way;
        row.lost += lost;
        row.late += late;
        row.duplicated += duplicated;
        row.reordered += reordered;
    }
    let told = losses(flow, marks);
    let into = if row.loss_expected.is_some() { &mut row.notes } else { &mut row.problems };
    if row.lost > before {
        into.extend(told);
    }
    if account.server_restarts > 0 {
        row.problems.push(format!("{}: the answering process restarted", name(flow)));
    }
    for (error, count) in &flow.report.errors {
        row.notes.push(format!("{}: {count} × {error}", name(flow)));
    }
}

/// What the senders slept through, of all of a row's flows: it was not measured.
fn slept(row: &mut Row, flows: &[&Flow]) {
    let skipped: u64 = flows.iter().map(|flow| flow.report.skipped).sum();
    let due = flows.iter().map(|flow| flow.report.account.sent).sum::<u64>() + skipped;
    let longest = flows.iter().map(|flow| flow.report.longest_pause_us).max().unwrap_or(0) / 1000;
    if skipped > 0 {
        row.notes.push(format!("the senders slept through {skipped} of {due} beats, at most {longest} ms"));
    }
}

fn name(flow: &Flow) -> String {
    format!("{} → {} {}", flow.way.from, flow.way.to, flow.family)
}

/// What was done last.
fn last(marks: &[Mark], at_us: u64) -> Option<&Mark> {
    marks.iter().rev().find(|mark| mark.at_us <= at_us)
}

fn after(marks: &[Mark], at_us: u64) -> String {
    last(marks, at_us).map_or_else(
        || "before anything was done".to_owned(),
        |mark| format!("{:.1} ms after {}", (at_us - mark.at_us) as f64 / 1e3, mark.what),
    )
}

/// Each run of losses with what was done last before it.
fn losses(flow: &Flow, marks: &[Mark]) -> Vec<String> {
    let mut runs: Vec<(u64, u64, u64, Direction)> = Vec::new();
    for event in flow.report.account.events.iter().filter(|event| event.kind == EventKind::Lost) {
        let at_us = flow.report.started_us + event.at_us;
        match runs.iter_mut().rev().find(|run| run.3 == event.direction) {
            Some(run) if at_us.saturating_sub(run.1) <= TOGETHER_US => {
                run.1 = at_us;
                run.2 += 1;
            }
            _ => runs.push((at_us, at_us, 1, event.direction)),
        }
    }
    let count = runs.len();
    let tell = |(from, until, lost, direction): (u64, u64, u64, Direction)| {
        let after = after(marks, from);
        let duration = (until - from) as f64 / 1e3;
        let way = match direction {
            Direction::Forward => "there",
            Direction::Backward => "back",
            Direction::Unknown => "on an unknown way",
        };
        format!("{}: {lost} lost {way} within {duration:.1} ms, {after}", name(flow))
    };
    let mut told: Vec<String> = runs.into_iter().take(MOST_NAMED).map(tell).collect();
    if count > MOST_NAMED {
        told.push(format!("{}: and {} more", name(flow), count - MOST_NAMED));
    }
    told
}

/// The table with all rows, and below it what is to be said of single ones.
pub fn table(rows: &[Row]) -> String {
    let headings = [
        "SCENARIO", "MODE", "ROUNDS", "SENT", "LOST", "LEAKED", "LATE", "DUP", "REORD", "STALL ms", "P50 ms",
        "P99 ms", "MAX ms", "",
    ];
    let mut lines = vec![headings.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 | 1 | 13 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let padded: Vec<String> = padded.collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    }
    for row in rows {
        for (word, said) in [("problem", &row.problems), ("note", &row.notes)] {
            for each in said {
                let _ = writeln!(text, "{word}: {} ({}): {each}", row.scenario, row.mode);
            }
        }
    }
    text
}

fn cells(row: &Row) -> [String; 14] {
    let packets = |count: u64| if row.sent == 0 { "-".to_owned() } else { count.to_string() };
    let time = |of: fn(&Repairs) -> f64| {
        row.repair.as_ref().map_or_else(|| "-".to_owned(), |r| format!("{:.1}", of(r)))
    };
    let verdict = match (row.is_good(), &row.loss_expected) {
        (false, _) => "PROBLEM".to_owned(),
        (true, Some(why)) => why.clone(),
        (true, None) => "ok".to_owned(),
    };
    [
        row.scenario.clone(),
        row.mode.clone(),
        row.rounds.to_string(),
        packets(row.sent),
        packets(row.lost),
        row.leaked.map_or_else(|| "-".to_owned(), |leaked| leaked.to_string()),
        packets(row.late),
        packets(row.duplicated),
        packets(row.reordered),
        row.stall_ms.map_or_else(|| "-".to_owned(), |stall| format!("{stall:.0}")),
        time(|r| r.p50_ms),
        time(|r| r.p99_ms),
        time(|r| r.max_ms),
        verdict,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=500).map(Duration::from_millis).collect();
        let repairs = Repairs::of(&times).unwrap();
        assert_eq!((repairs.p50_ms, repairs.p99_ms, repairs.max_ms), (250.0, 495.0, 500.0));
        assert!(Repairs::of(&[]).is_none());
        let one = Repairs::of(&times[..1]).unwrap();
        assert_eq!((one.p50_ms, one.p99_ms, one.max_ms), (1.0, 1.0, 1.0));
    }

    #[test]
    fn a_table_shows_what_is_wrong_and_what_was_not_measured() {
        let mut row = Row::of("agent-killed", "p2p", 3);
        row.problems.push("a1 has lost its table".to_owned());
        let text = table(&[row, Row { sent: 10, ..Row::of("mtu", "gateway", 2) }]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains('-') && lines[1].ends_with("PROBLEM"), "{text}");
        assert!(lines[2].ends_with("ok"), "{text}");
        assert_eq!(lines[3], "problem: agent-killed (p2p): a1 has lost its table");
    }
}
