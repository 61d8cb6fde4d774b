//! What left nodes outside of tunnels. Nothing excuses it.

use super::{Mark, Row, after, word};
use crate::captures::{Captured, Leak};

/// How many leaks of a node a row names.
const MOST_NAMED: usize = 8;

/// Adds what was captured on each node to the row of its cluster's mode, or to the first one.
pub fn add(rows: &mut [Row], captured: &[Captured], marks: &[Mark]) {
    rows.iter_mut().for_each(|row| row.leaked = Some(0));
    for node in captured {
        let row = rows.iter().position(|row| row.mode == word(node.mode)).unwrap_or(0);
        let Some(row) = rows.get_mut(row) else { continue };
        let packets = node.leaks.iter().map(|leak| leak.packets).sum::<u64>();
        row.leaked = row.leaked.map(|before| before + packets);
        row.problems.extend(node.leaks.iter().take(MOST_NAMED).map(|leak| text(&node.node, leak, marks)));
        let more = node.leaks.len().saturating_sub(MOST_NAMED);
        row.problems.extend((more > 0).then(|| format!("{}: and {more} more leaks", node.node)));
        row.problems.extend(node.problems.iter().cloned());
    }
}

fn text(node: &str, leak: &Leak, marks: &[Mark]) -> String {
    let duration = (leak.until_us - leak.from_us) as f64 / 1e3;
    let when = after(marks, leak.from_us);
    format!(
        "{node}: {} left outside of a tunnel within {duration:.1} ms, {when}; the first: {}",
        leak.packets, leak.first
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::NetworkType;

    use super::*;

    #[test]
    fn a_leak_is_a_problem_of_the_row_of_its_mode_also_where_loss_is_expected() {
        let expected = Some("a peer is away".to_owned());
        let row = |mode| Row { loss_expected: expected.clone(), ..Row::of("gateway-lost", mode, 1) };
        let mut rows = vec![row("gateway"), row("p2p")];
        let first = "IP 10.3.1.2.9 > 10.4.1.2.9: UDP, length 1".to_owned();
        let leak = Leak { from_us: 9_000, until_us: 12_500, packets: 4, first };
        let of =
            |node: &str, mode, leaks| Captured { node: node.to_owned(), mode, leaks, problems: Vec::new() };
        let captured = [
            of("a1", NetworkType::Gateway, Vec::new()),
            of("c1", NetworkType::P2p, vec![leak.clone(), leak]),
        ];
        let mark = Mark { at_us: 8_000, what: "c goes".to_owned(), excused: BTreeMap::new() };
        add(&mut rows, &captured, &[mark]);
        assert!(rows[0].is_good() && rows[0].leaked == Some(0), "{rows:?}");
        assert_eq!((rows[1].leaked, rows[1].problems.len()), (Some(8), 2));
        assert_eq!(
            rows[1].problems[0],
            "c1: 4 left outside of a tunnel within 3.5 ms, 1.0 ms after c goes; the first: \
             IP 10.3.1.2.9 > 10.4.1.2.9: UDP, length 1"
        );
    }

    #[test]
    fn a_capture_that_sees_nothing_is_a_problem() {
        let mut rows = vec![Row::of("mode-changed", "gateway", 1)];
        let problems = vec!["the capture on e1 sees nothing of IPv4 when it ends".to_owned()];
        let captured =
            Captured { node: "e1".to_owned(), mode: NetworkType::P2p, leaks: Vec::new(), problems };
        add(&mut rows, &[captured], &[]);
        assert!(!rows[0].is_good() && rows[0].problems[0].contains("e1 sees nothing"), "{rows:?}");
    }
}
