//! Objects and reports as text: YAML, JSON, names.

use clap::ValueEnum;
use kube::api::DynamicObject;
use serde::Serialize;

use crate::object::Name;

/// How objects are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A YAML stream.
    Yaml,
    /// A JSON List.
    Json,
    /// kind.group/name, one a line.
    Name,
}

/// Objects as text.
pub fn objects(objects: &[DynamicObject], output: Output) -> anyhow::Result<String> {
    match output {
        Output::Name => Ok(objects.iter().map(|object| format!("{}\n", Name::of(object))).collect()),
        Output::Json => {
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
            Ok(serde_json::to_string_pretty(&list)? + "\n")
        }
        Output::Yaml => {
            let documents: Result<Vec<String>, _> = objects.iter().map(yaml).collect();
            Ok(documents?.join("---\n"))
        }
    }
}

/// A value as one YAML document that ends with a line's end.
pub fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    // By way of a value, so that everything is ordered.
    let text = serde_saphyr::to_string(&serde_json::to_value(value)?)?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// Rows under their headings, in columns as kubectl sets them.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("   ").trim_end())
    };
    let head = line(&mut headings.iter().copied());
    let body = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(head).chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "x".to_owned()], vec!["longer".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "AGE"], &rows), "NAME     AGE\na        x\nlonger\n");
    }
}
