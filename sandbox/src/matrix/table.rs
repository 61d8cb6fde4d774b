//! The matrix as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::cells::{EndKind, Probe};
use super::run::{Cell, Matrix, Outcome};

/// One table for each target cluster: a row for each asker, a column for each end, the fastest round trip in
/// microseconds (over families, protocols and sizes) or how many exchanges failed.
pub(super) fn by_place(matrix: &Matrix) -> String {
    let mut text = String::new();
    let clusters: BTreeSet<&str> = matrix.cells.iter().map(|cell| cell.probe.to.cluster.as_str()).collect();
    for cluster in clusters {
        let cells: Vec<&Cell> = matrix.cells.iter().filter(|cell| cell.probe.to.cluster == cluster).collect();
        let title = if cluster.is_empty() { "to".to_owned() } else { format!("to {cluster}") };
        let _ = writeln!(text, "{}", grid(&title, &cells));
    }
    text
}

fn grid(title: &str, cells: &[&Cell]) -> String {
    let mut columns: Vec<String> = Vec::new();
    let mut rows: Vec<(String, BTreeMap<usize, Vec<&Cell>>)> = Vec::new();
    for &cell in cells {
        let column = column_of(&cell.probe);
        let at = columns.iter().position(|known| *known == column).unwrap_or_else(|| {
            columns.push(column);
            columns.len() - 1
        });
        let from = cell.probe.from.name.as_str();
        if rows.last().is_none_or(|(last, _)| last != from) {
            rows.push((from.to_owned(), BTreeMap::new()));
        }
        if let Some((_, row)) = rows.last_mut() {
            row.entry(at).or_default().push(cell);
        }
    }
    let header = std::iter::once(title.to_owned()).chain(columns.iter().cloned()).collect();
    let body = rows.into_iter().map(|(from, row)| {
        let values = (0..columns.len()).map(|at| row.get(&at).map_or_else(String::new, |cells| value(cells)));
        std::iter::once(from).chain(values).collect()
    });
    aligned(std::iter::once(header).chain(body).collect())
}

/// A service by its name alone: the table already says of which cluster.
fn column_of(probe: &Probe) -> String {
    match (probe.to.kind, probe.to.name.split_once('/')) {
        (EndKind::Service, Some((_, service))) => format!("svc {service}"),
        _ => probe.to.name.clone(),
    }
}

fn value(cells: &[&Cell]) -> String {
    let failed = cells.iter().filter(|cell| !cell.is_ok()).count();
    if failed > 0 {
        return format!("{failed}/{} FAIL", cells.len());
    }
    let fastest = cells.iter().filter_map(|cell| cell.rtt_us()).min_by(f64::total_cmp);
    fastest.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt:.0}"))
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// One line for each (from, to) of kinds and roles.
pub(super) fn by_class(matrix: &Matrix) -> String {
    let mut classes: BTreeMap<(String, String), Vec<&Cell>> = BTreeMap::new();
    for cell in &matrix.cells {
        classes.entry((cell.probe.from.class(), cell.probe.to.class())).or_default().push(cell);
    }
    let header = ["FROM", "TO", "EXCHANGES", "OK", "MEDIAN µs", "SEEN AS"].map(str::to_owned).to_vec();
    let row = |((from, to), cells): ((String, String), Vec<&Cell>)| {
        let ok = cells.iter().filter(|cell| cell.is_ok()).count();
        let rtt = median(cells.iter().filter_map(|cell| cell.rtt_us()));
        let rtt = rtt.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt:.0}"));
        vec![from, to, cells.len().to_string(), ok.to_string(), rtt, seen(&cells)]
    };
    aligned(std::iter::once(header).chain(classes.into_iter().map(row)).collect())
}

/// The kinds of sources that were seen: `itself`, `cni0`, `overlay`, ...
fn seen(cells: &[&Cell]) -> String {
    let kind = |cell: &&Cell| match &cell.outcome {
        Outcome::Ok { seen_as: Some(name), .. } if *name == cell.probe.from.name => Some("itself".to_owned()),
        Outcome::Ok { seen_as: Some(name), .. } => {
            let (node, kind) = name.split_once(' ').unwrap_or(("", name));
            let own = cell.probe.from.name == node;
            Some(if own { format!("own {kind}") } else { format!("a node's {kind}") })
        }
        Outcome::Ok { seen: Some(address), .. } => Some(address.to_string()),
        _ => None,
    };
    cells.iter().filter_map(kind).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

/// Every failed exchange, and every end without an address.
pub(super) fn failures(matrix: &Matrix) -> String {
    let mut text = String::new();
    for cell in matrix.failed() {
        let Outcome::Failed(failure) = &cell.outcome else { continue };
        let Probe { from, to, target, .. } = &cell.probe;
        let _ = writeln!(
            text,
            "{} ({}) → {} ({}) {} {} {} bytes: {failure}",
            from.name,
            from.class(),
            to.name,
            to.class(),
            target.address.ip(),
            cell.protocol,
            cell.bytes,
        );
    }
    for missing in &matrix.missing {
        let _ = writeln!(text, "{missing}");
    }
    text
}

/// Columns wide enough for their longest value, the first to the left, numbers to the right.
fn aligned(rows: Vec<Vec<String>>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let length = |text: &String| text.chars().count();
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(length).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let numeric = |column: usize| {
        let values = rows.iter().skip(1).filter_map(|row| row.get(column)).filter(|value| !value.is_empty());
        column > 0 && values.clone().all(|value| value.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
    };
    let right: Vec<bool> = (0..columns).map(numeric).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, value) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if right[column] {
                write!(line, "{value:>width$}  ")
            } else {
                write!(line, "{value:<width$}  ")
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::run::tests::asked;

    #[test]
    fn a_table_for_each_target_cluster_shows_every_pair() {
        let text = asked("").by_place();
        let tables: Vec<&str> = text.split("\n\n").collect();
        assert_eq!(
            tables[1].lines().next().unwrap(),
            "to b     b1-pod1   b1  b2-pod1   b2  b3-pod1   b3  svc first  svc last"
        );
        assert_eq!(
            tables[1].lines().nth(1).unwrap(),
            "a1-pod1      100  100      100  100      100  100        100       100"
        );
        assert_eq!(tables[1].lines().count(), 1 + 10);
    }

    #[test]
    fn a_failure_stands_out_and_is_listed() {
        let matrix = asked("c2");
        assert!(matrix.by_place().contains("4/4 FAIL"));
        let failures = matrix.failures();
        assert_eq!(failures.lines().count(), matrix.failed().count());
        assert!(failures.starts_with("a1-pod1 (gateway pod) → c2 (P2P host) "), "{failures}");
        assert!(failures.contains("timeout"), "{failures}");
    }

    #[test]
    fn a_class_says_as_whom_its_askers_were_seen() {
        let text = asked("").by_class();
        let line = |from: &str, to: &str| {
            text.lines().find(|line| line.starts_with(from) && line.contains(to)).unwrap().to_owned()
        };
        assert!(line("internal pod", "P2P pod").ends_with("itself"), "{text}");
        assert!(line("gateway host", "P2P pod").ends_with("own cni0"), "{text}");
    }
}
