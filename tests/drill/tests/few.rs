//! A few rounds of every scenario: packets are counted and end states compared, no clock is asserted.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and shows its table"
)]

use drill::figures::{Row, table};
use drill::scenario::{ALL, Drill};
use drill::world::{CLUSTERS, World};

/// Half the beat of the drill: two cores carry the tests of the whole project.
const RATE: u32 = 500;
const SEED: u64 = 1;

#[test]
fn nothing_is_lost_and_everything_is_repaired() {
    if let Err(why) = e2e::namespaces() {
        return skip::skip(why);
    }
    let world = World::up("drill-few", &CLUSTERS, RATE).unwrap();
    let mut rows: Vec<Row> = Vec::new();
    for scenario in ALL.iter().filter(|scenario| scenario.few > 0) {
        let mut drill = Drill::new(&world, scenario, scenario.few, SEED);
        rows.extend(
            (scenario.run)(&mut drill).unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name)),
        );
    }
    let text = table(&rows);
    println!("{text}");
    let unseen = drill::captures::missing();
    if let Some(why) = &unseen {
        skip::skip(format!("nobody looked for leaks: {why}"));
    }
    assert!(rows.iter().all(Row::is_good), "{text}");
    // these measure no packets
    let silent = ["cold-boot", "leftovers", "foreign-kept", "repaired", "fought-over"];
    let measured = rows.iter().filter(|row| !silent.contains(&row.scenario.as_str()));
    assert!(
        measured.clone().count() >= 2 && measured.clone().all(|row| row.sent > 0 && row.connections > 0),
        "{text}"
    );
    assert!(measured.into_iter().all(|row| row.leaked.is_some() == unseen.is_none()), "{text}");
}
