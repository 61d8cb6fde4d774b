//! A status for people.

use super::Status;
use crate::print::table;

pub(super) fn render(status: &Status) -> String {
    let mut text = String::new();
    let mut section = |part: String| {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&part);
    };
    if !status.components.is_empty() {
        section(components(status));
    }
    if !status.clusters.is_empty() {
        section(clusters(status));
    }
    if !status.nodes.is_empty() {
        section(nodes(status));
    }
    for (heading, lines) in [("NOTICES", &status.notices), ("PROBLEMS", &status.problems)] {
        if !lines.is_empty() {
            section(format!(
                "{heading}\n{}",
                lines.iter().map(|line| format!("  {line}\n")).collect::<String>()
            ));
        }
    }
    section(verdict(status));
    text
}

fn verdict(status: &Status) -> String {
    let sizes = format!("{} clusters, {} nodes", status.clusters.len(), status.nodes.len());
    if status.well {
        format!("{sizes}: all is well\n")
    } else {
        format!("{sizes}: NOT well, {} problems\n", status.problems.len())
    }
}

fn components(status: &Status) -> String {
    let rows: Vec<Vec<String>> = status
        .components
        .iter()
        .map(|part| {
            vec![
                part.cluster.clone(),
                part.name.clone(),
                part.version.clone().unwrap_or_else(|| "unknown".to_owned()),
                format!("{}/{}", part.available, part.wanted),
            ]
        })
        .collect();
    table(&["CLUSTER", "COMPONENT", "VERSION", "AVAILABLE"], &rows)
}

fn clusters(status: &Status) -> String {
    let rows: Vec<Vec<String>> = status
        .clusters
        .iter()
        .map(|cluster| {
            let words: Vec<&str> = cluster.conditions.keys().map(String::as_str).collect();
            vec![
                cluster.name.clone(),
                cluster.mode.clone(),
                format!("{}/{}", cluster.applied, cluster.nodes),
                listed(&cluster.pod_cidrs),
                listed(&cluster.service_cidrs),
                if words.is_empty() { "-".to_owned() } else { words.join(",") },
            ]
        })
        .collect();
    table(&["CLUSTER", "MODE", "APPLIED", "PODS", "SERVICES", "NOT TRUE"], &rows)
}

fn nodes(status: &Status) -> String {
    let rows: Vec<Vec<String>> = status
        .nodes
        .iter()
        .map(|node| {
            vec![
                node.cluster.clone(),
                node.node.clone(),
                listed(&node.addresses),
                if node.gateway { "gateway" } else { "-" }.to_owned(),
                node.state.clone(),
                node.entries.map_or("-".to_owned(), |entries| entries.to_string()),
                node.differing.len().to_string(),
            ]
        })
        .collect();
    table(&["CLUSTER", "NODE", "ADDRESSES", "ROLE", "STATE", "ENTRIES", "DIFFERING"], &rows)
}

fn listed(texts: &[String]) -> String {
    if texts.is_empty() { "-".to_owned() } else { texts.join(",") }
}
