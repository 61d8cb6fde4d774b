//! From what was sent, what came back and what the server's ledger says to counts and events by direction. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::Direction;
use crate::statistics::Quantiles;
use crate::wire::{Page, ServerTimes, Stamp};

/// One answer as it arrived; times are microseconds since the start of the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Which packet it answers.
    pub seq: u64,
    /// When it arrived: the kernel's time, so an asker that slept delays nothing.
    pub at_us: u64,
    /// Which life of the server answered.
    pub epoch: u64,
    /// What the server saw.
    pub stamp: Stamp,
    /// When, by the server's own clock.
    pub times: ServerTimes,
}

/// All that is known of a flow.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// When each packet was sent, by sequence number. A packet that the sender slept through has no number.
    pub sent_us: Vec<u64>,
    /// Packets whose sending took long: how long after `sent_us` the kernel gave the sender its processor back.
    pub held_us: BTreeMap<u64, u64>,
    /// The answers in the order of their arrival.
    pub arrivals: Vec<Arrival>,
    /// What could be read of the server's ledger after the flow.
    pub pages: Vec<Page>,
    /// A packet is late that was on one way for so much longer than the fastest one on it.
    pub late_after_us: u64,
}

/// The longest time during which no packet got through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// When the first lost packet was sent.
    pub from_us: u64,
    /// When the next packet that got through was sent, or the last packet of the flow if none did.
    pub until_us: u64,
    /// Packets lost in between.
    pub lost: u64,
}

impl Gap {
    /// How long it lasted.
    #[must_use]
    pub const fn duration_us(&self) -> u64 {
        self.until_us - self.from_us
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, at) = (self.duration_us() as f64 / 1e3, self.from_us as f64 / 1e6);
        write!(f, "{ms:.1} ms at {at:.3} s, {} lost", self.lost)
    }
}

/// What happened on one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneWay {
    /// Packets that did not arrive.
    pub lost: u64,
    /// Packets that arrived late.
    #[serde(default)]
    pub late: u64,
    /// Arrivals of a packet that had arrived before.
    pub duplicated: u64,
    /// Packets that arrived after one that was sent later.
    pub reordered: u64,
    /// The longest run of losses.
    pub longest_gap: Option<Gap>,
}

/// What happened to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It did not arrive; the event's time is that of sending.
    Lost,
    /// It was on its way for too long; the event's time is that of the packet's sending.
    Late,
    /// It arrived once more; the event's time is that of the answer.
    Duplicated,
    /// It arrived after a later one; the event's time is that of the answer.
    Reordered,
}

/// One thing that went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Event {
    /// When, since the start of the flow.
    pub at_us: u64,
    /// Which packet.
    pub seq: u64,
    /// What.
    pub kind: EventKind,
    /// On which way.
    pub direction: Direction,
}

/// What happened to a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Packets sent.
    pub sent: u64,
    /// Packets of which at least one answer came.
    pub answered: u64,
    /// From the asker to the server. Duplicates and re-ordering are the server's own count.
    pub forward: OneWay,
    /// From the server to the asker.
    pub backward: OneWay,
    /// Losses of which the server could not be asked.
    pub unknown: OneWay,
    /// The longest time between two answers in a row, between start and first, or between last answer and end of sending.
    pub longest_silence_us: u64,
    /// How often another life of the server answered.
    pub server_restarts: u64,
    /// Round-trip times of the first answers.
    pub rtt: Option<Quantiles>,
    /// Each loss, late answer, duplicate and re-ordering, by time. Duplicates and re-orderings on the way there are known
    /// by time only if their answer arrived, so there can be fewer of them here than in the count.
    pub events: Vec<Event>,
}

/// Accounts for a flow.
#[must_use]
pub fn account(observation: &Observation) -> Account {
    let mut events = Vec::new();
    let mut forward = OneWay::default();
    let mut backward = OneWay::default();
    let first = first_answers(observation);
    stamps(observation, &mut forward, &mut backward, &mut events);
    late(observation, &first, &mut forward, &mut backward, &mut events);
    let fates = fates(observation, &first);
    let mut unknown = OneWay::default();
    for (one, direction) in [
        (&mut forward, Direction::Forward),
        (&mut backward, Direction::Backward),
        (&mut unknown, Direction::Unknown),
    ] {
        losses(&fates, &observation.sent_us, direction, one, &mut events);
    }
    events.sort_unstable();
    let epochs: BTreeSet<u64> = observation.arrivals.iter().map(|arrival| arrival.epoch).collect();
    Account {
        sent: observation.sent_us.len() as u64,
        answered: first.len() as u64,
        forward,
        backward,
        unknown,
        longest_silence_us: longest_silence(observation),
        server_restarts: epochs.len().saturating_sub(1) as u64,
        rtt: Quantiles::of(&round_trips(observation, &first)),
        events,
    }
}

/// The first answer to each packet that was sent.
fn first_answers(observation: &Observation) -> BTreeMap<u64, Arrival> {
    let mut first = BTreeMap::new();
    for arrival in &observation.arrivals {
        if arrival.seq < observation.sent_us.len() as u64 {
            first.entry(arrival.seq).or_insert(*arrival);
        }
    }
    first
}

/// Duplicates and re-ordering, from the stamps. A stamp's counter never repeats within one life of the server: if it does,
/// the answer was duplicated; if it is lower than one before, the answers changed places.
fn stamps(observation: &Observation, forward: &mut OneWay, backward: &mut OneWay, events: &mut Vec<Event>) {
    let mut counters: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for &Arrival { seq, at_us, epoch, stamp, .. } in &observation.arrivals {
        let mut note = |count: &mut u64, kind, direction| {
            *count += 1;
            events.push(Event { at_us, seq, kind, direction });
        };
        let seen = counters.entry(epoch).or_default();
        if seen.contains(&stamp.counter) {
            note(&mut backward.duplicated, EventKind::Duplicated, Direction::Backward);
            continue;
        }
        if seen.last().is_some_and(|highest| *highest > stamp.counter) {
            note(&mut backward.reordered, EventKind::Reordered, Direction::Backward);
        }
        seen.insert(stamp.counter);
        if stamp.duplicate {
            note(&mut forward.duplicated, EventKind::Duplicated, Direction::Forward);
        }
        if stamp.reordered {
            note(&mut forward.reordered, EventKind::Reordered, Direction::Forward);
        }
    }
    // the ledger also knows those whose answer was lost
    for page in &observation.pages {
        forward.duplicated = forward.duplicated.max(page.duplicates);
        forward.reordered = forward.reordered.max(page.reordered);
    }
}

fn round_trips(observation: &Observation, first: &BTreeMap<u64, Arrival>) -> Vec<u64> {
    let rtt = |(seq, arrival): (&u64, &Arrival)| {
        arrival.at_us.saturating_sub(observation.sent_us[*seq as usize]) * 1000
    };
    first.iter().map(rtt).collect()
}

/// Finds the packets that were on one way for longer than the fastest one by more than is allowed. The two ends' clocks need
/// not agree: what they differ by is in every packet, the fastest included. What the sender or the server slept is in none.
fn late(
    observation: &Observation,
    first: &BTreeMap<u64, Arrival>,
    forward: &mut OneWay,
    backward: &mut OneWay,
    events: &mut Vec<Event>,
) {
    let sent_us = |seq: u64| observation.sent_us[seq as usize];
    let there = |arrival: &Arrival| difference(arrival.times.received_us, sent_us(arrival.seq));
    let back = |arrival: &Arrival| difference(arrival.at_us, arrival.times.answered_us);
    let (Some(least_there), Some(least_back)) =
        (first.values().map(there).min(), first.values().map(back).min())
    else {
        return;
    };
    let allowed = i128::from(observation.late_after_us);
    for (&seq, arrival) in first {
        let held = i128::from(observation.held_us.get(&seq).copied().unwrap_or(0));
        let ways = [
            (there(arrival) - least_there - held, &mut *forward, Direction::Forward),
            (back(arrival) - least_back, &mut *backward, Direction::Backward),
        ];
        for (excess, one, direction) in ways {
            if excess > allowed {
                one.late += 1;
                events.push(Event { at_us: sent_us(seq), seq, kind: EventKind::Late, direction });
            }
        }
    }
}

fn difference(later: u64, earlier: u64) -> i128 {
    i128::from(later) - i128::from(earlier)
}

/// Where each packet was lost; `None` if it was answered.
fn fates(observation: &Observation, first: &BTreeMap<u64, Arrival>) -> Vec<Option<Direction>> {
    let pages: Vec<(&Page, u64)> =
        observation.pages.iter().map(|page| (page, ledger_begins(page.epoch, first))).collect();
    let sent = 0..observation.sent_us.len() as u64;
    sent.map(|seq| (!first.contains_key(&seq)).then(|| lost_where(seq, &pages))).collect()
}

/// The first packet of which this life of the server can say that it did not come: a server that has restarted knows
/// nothing of what its former life received.
fn ledger_begins(epoch: u64, first: &BTreeMap<u64, Arrival>) -> u64 {
    if first.values().all(|arrival| arrival.epoch == epoch) {
        return 0;
    }
    first.values().find(|arrival| arrival.epoch == epoch).map_or(u64::MAX, |arrival| arrival.seq)
}

fn lost_where(seq: u64, pages: &[(&Page, u64)]) -> Direction {
    let told = pages.iter().find_map(|(page, begins)| Some((page.received(seq)?, seq >= *begins)));
    match told {
        Some((true, _)) => Direction::Backward,
        Some((false, true)) => Direction::Forward,
        Some((false, false)) | None => Direction::Unknown,
    }
}

/// Counts what was lost in `direction`, and finds the longest run. A packet that was lost on the way there says nothing of
/// the way back: it neither lengthens nor ends a gap there.
fn losses(
    fates: &[Option<Direction>],
    sent_us: &[u64],
    direction: Direction,
    one: &mut OneWay,
    events: &mut Vec<Event>,
) {
    let mut run: Option<Gap> = None;
    for (seq, (fate, at_us)) in fates.iter().zip(sent_us.iter().copied()).enumerate() {
        if *fate == Some(direction) {
            one.lost += 1;
            events.push(Event { at_us, seq: seq as u64, kind: EventKind::Lost, direction });
            let gap = run.get_or_insert(Gap { from_us: at_us, until_us: at_us, lost: 0 });
            gap.lost += 1;
            gap.until_us = at_us;
        } else if passed(*fate, direction)
            && let Some(gap) = run.take()
        {
            keep_longest(&mut one.longest_gap, Gap { until_us: at_us, ..gap });
        }
    }
    if let (Some(gap), Some(end)) = (run, sent_us.last()) {
        keep_longest(&mut one.longest_gap, Gap { until_us: *end, ..gap });
    }
}

/// Whether a packet that met `fate` elsewhere has passed the way in question.
fn passed(fate: Option<Direction>, direction: Direction) -> bool {
    match (direction, fate) {
        (_, None) => true,
        (Direction::Forward, Some(lost)) => lost == Direction::Backward,
        (Direction::Backward, Some(_)) => false,
        (Direction::Unknown, Some(lost)) => lost != Direction::Unknown,
    }
}

fn keep_longest(longest: &mut Option<Gap>, gap: Gap) {
    let rank = |gap: &Gap| (gap.duration_us(), gap.lost);
    if longest.as_ref().is_none_or(|longest| rank(longest) < rank(&gap)) {
        *longest = Some(gap);
    }
}

fn longest_silence(observation: &Observation) -> u64 {
    let (Some(start), Some(end)) = (observation.sent_us.first(), observation.sent_us.last()) else {
        return 0;
    };
    let arrivals = observation.arrivals.iter().map(|arrival| arrival.at_us);
    let last = observation.arrivals.last().map_or(*start, |arrival| arrival.at_us).max(*end);
    let mut before = *start;
    let mut longest = 0;
    for at_us in arrivals.chain([last]) {
        longest = longest.max(at_us.saturating_sub(before));
        before = at_us;
    }
    longest
}
