//! Traffic inside each cluster and to the outside is the same with us and without us.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use e2e::{joined, scenario, unjoined};
use sandbox::Sandbox;
use sandbox::matrix::{MatrixOptions, Outcome, Scope};
use sandbox::scenario::Firewall;

/// Every cell of the own clusters and the outside: whether it is answered, and as whom the asker is seen.
fn own_traffic(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let scope = Scope { remote: false, own: true };
    let matrix = sandbox.matrix(&MatrixOptions { scope, ..MatrixOptions::default() }).unwrap();
    assert!(!matrix.cells.is_empty());
    let cells = matrix.cells.into_iter().map(|cell| {
        let (from, to) = (&cell.probe.from.name, &cell.probe.to.name);
        let key = format!("{from} -> {to} {} {:?} {}", cell.probe.target.address, cell.protocol, cell.bytes);
        let answer = match cell.outcome {
            Outcome::Ok { seen, .. } => format!("seen as {seen:?}"),
            Outcome::Failed(why) => format!("failed: {why}"),
        };
        (key, answer)
    });
    cells.collect()
}

#[test]
fn own_pods_services_and_the_outside_do_not_notice_us() {
    for firewall in [Firewall::Iptables, Firewall::Nft] {
        let scenario = scenario(firewall, &["a:gateway:3:2", "c:p2p:2"]);
        let Some(without) = unjoined("ordinary-without", &scenario) else { return };
        let before = own_traffic(&without);
        drop(without);
        let Some(with) = joined("ordinary-with", &scenario) else { return };
        assert!(before.values().all(|answer| answer.starts_with("seen")), "{before:#?}");
        similar(&before, &own_traffic(&with));
    }
}

fn similar(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    let changed: Vec<_> = before.iter().filter(|(key, answer)| after.get(*key) != Some(answer)).collect();
    let told: Vec<String> =
        changed.iter().map(|(key, was)| format!("{key}: {was}, now {:?}", after.get(*key))).collect();
    assert!(told.is_empty() && before.len() == after.len(), "{}", told.join("\n"));
}
