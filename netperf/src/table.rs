//! Plain tables: columns as wide as their widest cell, two spaces between.

use std::fmt::Write;

/// Whether a column's cells stand left or right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// The rows under their headings, each line ended, without trailing spaces.
pub(crate) fn render<const N: usize>(columns: [(&str, Align); N], rows: &[[String; N]]) -> String {
    let headings = columns.map(|(heading, _)| heading.to_owned());
    let lines = || std::iter::once(&headings).chain(rows);
    let widths: [usize; N] =
        std::array::from_fn(|column| lines().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut out = String::new();
    for row in lines() {
        let mut line = String::new();
        for ((cell, width), (_, align)) in row.iter().zip(widths).zip(columns) {
            let written = match align {
                Align::Left => write!(line, "{cell:<width$}  "),
                Align::Right => write!(line, "{cell:>width$}  "),
            };
            written.expect("writing to a String cannot fail");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1.5".to_owned()], ["über".to_owned(), "12.5".to_owned()]];
        let text = render([("NAME", Align::Left), ("µs", Align::Right)], &rows);
        assert_eq!(text, "NAME    µs\na      1.5\nüber  12.5\n");
    }
}
