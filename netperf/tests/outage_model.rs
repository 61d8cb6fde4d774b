//! The loss accounting against a model of a network that drops, duplicates, delays and re-orders in both directions.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use netperf::failure::Direction;
use netperf::ledger::Ledger;
use netperf::outage::account::{Arrival, Observation, account};
use netperf::outage::{Account, EventKind};
use netperf::wire::{PAGE, ServerTimes, Stamp};
use proptest::prelude::*;

const INTERVAL_US: u64 = 1000;
const LATE_US: u64 = 3000;
/// How long the server sleeps over each packet.
const SLEPT_US: u64 = 5;

/// The delay of each copy of a packet on the way there; of each copy, the delays of the answer's copies on the way back.
type Fate = Vec<(u64, Vec<u64>)>;

struct Ran {
    observation: Observation,
    /// Sequence numbers in the order in which the server received them.
    received: Vec<u64>,
    /// Server counters in the order in which the answers arrived.
    arrived: Vec<u64>,
}

/// The server's clock is another one, and it takes its time before it answers.
fn times(at: u64) -> ServerTimes {
    const FAST: u64 = 1 << 40;
    ServerTimes { received_us: FAST + at - SLEPT_US, answered_us: FAST + at }
}

fn run(fates: &[Fate]) -> Ran {
    let mut server: Vec<(u64, u64, &Vec<u64>)> = Vec::new();
    for (seq, copies) in fates.iter().enumerate() {
        server
            .extend(copies.iter().map(|(delay, back)| (seq as u64 * INTERVAL_US + delay, seq as u64, back)));
    }
    server.sort_by_key(|(at, ..)| *at);
    let mut ledger = Ledger::default();
    let mut arrivals = Vec::new();
    for (at, seq, back) in &server {
        let stamp = ledger.record(*seq).unwrap();
        let times = times(*at);
        arrivals.extend(back.iter().map(|delay| Arrival {
            seq: *seq,
            at_us: at + delay,
            epoch: 1,
            stamp,
            times,
        }));
    }
    arrivals.sort_by_key(|arrival| arrival.at_us);
    Ran {
        received: server.iter().map(|(_, seq, _)| *seq).collect(),
        arrived: arrivals.iter().map(|arrival| arrival.stamp.counter).collect(),
        observation: Observation {
            sent_us: (0..fates.len() as u64).map(|seq| seq * INTERVAL_US).collect(),
            arrivals,
            pages: (0..=fates.len() as u64 / PAGE).map(|page| ledger.page(page * PAGE, 1)).collect(),
            late_after_us: LATE_US,
            held_us: BTreeMap::new(),
        },
    }
}

/// How many of the items come a second time, and how many come for the first time after a higher one.
fn repeated_and_overtaken(items: &[u64]) -> (u64, u64) {
    let first: BTreeMap<u64, usize> = items.iter().enumerate().rev().map(|(at, item)| (*item, at)).collect();
    let overtaken = first.iter().filter(|(item, at)| items[..**at].iter().any(|before| before > item));
    ((items.len() - first.len()) as u64, overtaken.count() as u64)
}

fn lost_seqs(account: &Account, direction: Direction) -> BTreeSet<u64> {
    let lost =
        account.events.iter().filter(|event| event.kind == EventKind::Lost && event.direction == direction);
    lost.map(|event| event.seq).collect()
}

/// Of the first answer to each packet, how many were on each way for too much longer than the fastest.
fn late_ways(fates: &[Fate]) -> (u64, u64) {
    let first = |fate: &Fate| {
        let answers =
            fate.iter().flat_map(|(there, back)| back.iter().map(move |back| (there + back, *there, *back)));
        answers.min().map(|(_, there, back)| (there, back))
    };
    let ways: Vec<(u64, u64)> = fates.iter().filter_map(first).collect();
    let late = |way: fn(&(u64, u64)) -> u64| {
        let least = ways.iter().map(way).min().unwrap_or(0);
        ways.iter().filter(|one| way(one) - least > LATE_US).count() as u64
    };
    (late(|way| way.0), late(|way| way.1))
}

fn any_fate() -> impl Strategy<Value = Fate> {
    let copies = |most: usize| prop_oneof![3 => Just(1), 1 => 0..=most];
    let back = copies(2).prop_flat_map(|n| proptest::collection::vec(10u64..4000, n));
    copies(3).prop_flat_map(move |n| proptest::collection::vec((10u64..4000, back.clone()), n))
}

proptest! {
    #[test]
    fn the_account_is_what_the_network_did(fates in proptest::collection::vec(any_fate(), 1..300)) {
        let ran = run(&fates);
        let account = account(&ran.observation);
        let seqs = |keep: &dyn Fn(&Fate) -> bool| -> BTreeSet<u64> {
            fates.iter().enumerate().filter(|(_, fate)| keep(fate)).map(|(seq, _)| seq as u64).collect()
        };
        let lost_there = seqs(&|fate| fate.is_empty());
        let lost_back = seqs(&|fate| !fate.is_empty() && fate.iter().all(|(_, back)| back.is_empty()));
        prop_assert_eq!(lost_seqs(&account, Direction::Forward), lost_there.clone());
        prop_assert_eq!(lost_seqs(&account, Direction::Backward), lost_back.clone());
        prop_assert_eq!(account.forward.lost, lost_there.len() as u64);
        prop_assert_eq!(account.backward.lost, lost_back.len() as u64);
        prop_assert_eq!(account.unknown.lost, 0);
        prop_assert_eq!(account.answered + account.forward.lost + account.backward.lost, account.sent);
        prop_assert_eq!((account.forward.duplicated, account.forward.reordered), repeated_and_overtaken(&ran.received));
        prop_assert_eq!((account.backward.duplicated, account.backward.reordered), repeated_and_overtaken(&ran.arrived));
        let (there, back) = late_ways(&fates);
        prop_assert_eq!((account.forward.late, account.backward.late), (there, back));
        prop_assert!(account.events.is_sorted());
    }

    #[test]
    fn without_the_ledger_no_direction_is_invented(fates in proptest::collection::vec(any_fate(), 1..100)) {
        let mut observation = run(&fates).observation;
        observation.pages.clear();
        let account = account(&observation);
        prop_assert_eq!((account.forward.lost, account.backward.lost), (0, 0));
        prop_assert_eq!(account.answered + account.unknown.lost, account.sent);
    }
}

fn good() -> Fate {
    vec![(20, vec![20])]
}

#[test]
fn gaps_are_told_apart_by_direction() {
    let mut fates = vec![good(); 100];
    fates[10..15].fill(Vec::new());
    fates[12] = vec![(20, Vec::new())];
    fates[40..60].fill(vec![(20, Vec::new())]);
    fates[45] = Vec::new();
    fates[90..].fill(Vec::new());
    let account = account(&run(&fates).observation);
    let there = account.forward.longest_gap.unwrap();
    assert_eq!((there.from_us, there.until_us, there.lost), (90_000, 99_000, 10), "to the end of the flow");
    let back = account.backward.longest_gap.unwrap();
    assert_eq!(
        (back.from_us, back.until_us, back.lost),
        (40_000, 60_000, 19),
        "not ended by a loss on the way there"
    );
    assert_eq!(account.longest_silence_us, 21_000);
    assert_eq!((account.forward.lost, account.backward.lost), (15, 20));
}

#[test]
fn a_sender_that_was_held_up_blames_nobody() {
    let mut fates = vec![good(); 50];
    fates[7] = vec![(9000, vec![20])];
    let mut observation = run(&fates).observation;
    assert_eq!(account(&observation).forward.late, 1);
    observation.held_us.insert(7, 8000);
    let account = account(&observation);
    assert_eq!((account.forward.late, account.backward.late, account.events.len()), (0, 0, 1), "{account:?}");
    assert_eq!(account.events[0].kind, EventKind::Reordered, "it was overtaken all the same");
}

#[test]
fn a_clean_flow_has_no_event() {
    let account = account(&run(&vec![good(); 50]).observation);
    assert_eq!((account.answered, account.events.len(), account.forward.longest_gap), (50, 0, None));
    assert_eq!(account.rtt.unwrap().max_us, 40.0);
}

#[test]
fn a_dead_path_has_lost_everything_and_knows_not_where() {
    let mut observation = run(&vec![Vec::new(); 50]).observation;
    observation.pages.clear();
    let account = account(&observation);
    assert_eq!((account.unknown.lost, account.answered, account.rtt), (50, 0, None));
    assert_eq!(account.longest_silence_us, 49_000);
}

#[test]
fn a_restarted_server_cannot_speak_for_its_former_life() {
    let mut first_life = Ledger::default();
    let mut second_life = Ledger::default();
    let arrival = |seq, epoch, stamp: Stamp| {
        let at_us = seq * INTERVAL_US + 40;
        Arrival { seq, at_us, epoch, stamp, times: times(at_us - 20) }
    };
    let mut arrivals: Vec<Arrival> =
        (0..10).map(|seq| arrival(seq, 1, first_life.record(seq).unwrap())).collect();
    // 10..20 while the server is away; 25 is lost on the way there
    let later = (20..30).filter(|seq| *seq != 25);
    arrivals.extend(later.map(|seq| arrival(seq, 2, second_life.record(seq).unwrap())));
    let observation = Observation {
        sent_us: (0..30).map(|seq| seq * INTERVAL_US).collect(),
        arrivals,
        pages: vec![second_life.page(0, 2)],
        late_after_us: LATE_US,
        held_us: BTreeMap::new(),
    };
    let account = account(&observation);
    assert_eq!(lost_seqs(&account, Direction::Forward), BTreeSet::from([25]));
    assert_eq!(lost_seqs(&account, Direction::Unknown), (10..20).collect());
    assert_eq!((account.backward.reordered, account.server_restarts), (0, 1));
}
