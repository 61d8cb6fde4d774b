//! Packets that leave a node for another cluster outside of a tunnel are seen, counted and named.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says why it does not begin"
)]

use drill::captures;
use drill::figures::{Row, table};
use drill::scenario::{Drill, Scenario};
use drill::world::World;

const RATE: u32 = 100;
/// Of each family: each of them is counted.
const PACKETS: u64 = 200;
const SCENARIO: Scenario = Scenario {
    name: "leak",
    what: "packets go around the tunnels",
    few: 1,
    full: 1,
    run: |_| Ok(Vec::new()),
};

/// The row of what a shell in a place does while captures run; losses are expected in it.
fn row(world: &World, what: &str, place: &str, script: &str) -> Row {
    let mut drill = Drill::new(world, &SCENARIO, 1, 1);
    let rows = drill.captured(|drill| {
        drill.mark(what);
        drill.world.sh(place, script)?;
        Ok(vec![Row { loss_expected: Some(what.to_owned()), ..Row::of(SCENARIO.name, "p2p", 1) }])
    });
    let rows = rows.unwrap();
    println!("{}", table(&rows));
    rows.into_iter().next().unwrap()
}

#[test]
fn what_leaves_a_node_outside_of_a_tunnel_is_counted_and_named() {
    if let Some(why) = e2e::namespaces().err().or_else(captures::missing) {
        return skip::skip(why);
    }
    let world = World::up("drill-leak", &["a:p2p:1", "b:p2p:1"], RATE).unwrap();
    let pings = |verdict| {
        let ping = |address| format!("ping -n -q -c {PACKETS} -i 0.002 -W 1 {address} {verdict}; ");
        world.pod("b1-pod1").unwrap().iter().map(ping).collect::<String>()
    };

    let tunnelled = row(&world, "all is well", "a1-pod1", &pings("|| exit 1"));
    assert_eq!((tunnelled.leaked, tunnelled.is_good()), (Some(0), true), "{tunnelled:?}");

    // the table behind our rule, with its unreachable routes, is never asked: the default route of `main` takes them
    let bypass = |verb| {
        format!(
            "ip rule {verb} pref 100 to 10.2.0.0/16 table main; ip -6 rule {verb} pref 100 to fd00:10:2::/48 table main"
        )
    };
    world.sh("a1", &bypass("add")).unwrap();
    let leaking = row(&world, "the table is bypassed", "a1-pod1", &pings("|| true"));
    world.sh("a1", &bypass("del")).unwrap();
    assert_eq!(leaking.leaked, Some(2 * PACKETS), "{leaking:?}");
    let problem = &leaking.problems[0];
    assert!(problem.starts_with("a1: ") && problem.contains("ms after the table is bypassed"), "{problem}");
    assert!(problem.contains(" > 10.2.1.2: ICMP echo request"), "{problem}");

    let rule = "OUTPUT -d 233.252.0.77 -j DROP";
    world.sh("b1", &format!("iptables -I {rule}")).unwrap();
    let blind = row(&world, "the markers do not arrive", "b1", &format!("iptables -D {rule}"));
    let wanted = ["the capture on b1 sees nothing of IPv4 when it begins"];
    assert_eq!((blind.leaked, blind.problems.as_slice()), (Some(0), &wanted.map(str::to_owned)[..]));
}
