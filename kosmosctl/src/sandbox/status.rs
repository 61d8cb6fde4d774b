//! `kosmosctl sandbox status`.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use sandbox::Sandbox;
use sandbox::addressing::{ClusterLayout, NodeLayout};
use sandbox::state::ProcessStatus;
use serde_json::json;

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    name: super::NameArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How a command prints.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

pub(crate) fn print(args: &StatusArgs) -> Result<ExitCode> {
    let sandbox = Sandbox::attach(&args.name.name)?;
    match args.output {
        Output::Text => print_text(&sandbox)?,
        Output::Json => print_json(&sandbox)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_json(sandbox: &Sandbox) -> Result<()> {
    let status = json!({
        "status": sandbox.status()?,
        "layout": sandbox.layout(),
        "nodeConfigs": sandbox.node_configs()?,
    });
    println!("{}", serde_json::to_string_pretty(&status)?);
    Ok(())
}

pub(crate) fn print_text(sandbox: &Sandbox) -> Result<()> {
    let status = sandbox.status()?;
    println!("sandbox {} ({})", status.name, sandbox.state().path().display());
    println!("{}", nodes(sandbox)?.trim_fmt());
    let mut table = plain(["PROCESS", "PLACE", "PID", "RESTARTS", "LAST EXIT"]);
    let (quiet, listed): (Vec<_>, Vec<_>) =
        status.processes.iter().partition(|process| process.name.starts_with("netperf-") && is_well(process));
    for process in listed {
        table.add_row(process_row(process));
    }
    if !quiet.is_empty() {
        table.add_row(vec![format!("netperf ({})", quiet.len()), "pods, nodes, outside".to_owned()]);
    }
    println!("\n{}\n", table.trim_fmt());
    for process in &status.processes {
        if let Some(last_exit) = &process.last_exit {
            println!("{} {last_exit}\n", process.name);
        }
    }
    let mut table = plain(["API", "URL", "KUBECONFIG"]);
    for api in status.apis {
        table.add_row(vec![api.cluster, api.url, api.kubeconfig.display().to_string()]);
    }
    println!("{}", table.trim_fmt());
    Ok(())
}

fn nodes(sandbox: &Sandbox) -> Result<Table> {
    let configs = sandbox.node_configs()?;
    let mut table = plain(["NODE", "MODE", "UNDERLAY", "PODS", "NODECONFIG"]);
    for (cluster, node) in sandbox.layout().nodes() {
        let name = api::NodeId::new(&cluster.name, &node.name).object_name();
        let state = configs.get(&name).map_or("none", String::as_str);
        table.add_row(vec![
            format!("{} ({name})", node.place),
            role(cluster, node).to_owned(),
            joined(&node.underlay),
            node.pods
                .iter()
                .map(|pod| format!("{} {}", pod.place, joined(&pod.addresses)))
                .collect::<Vec<_>>()
                .join("\n"),
            state.to_owned(),
        ]);
    }
    Ok(table)
}

/// What a node is to the overlay.
pub(crate) fn role(cluster: &ClusterLayout, node: &NodeLayout) -> &'static str {
    match (cluster.mode, node.gateway) {
        (api::NetworkType::P2p, _) => "P2P",
        (api::NetworkType::Gateway, true) => "gateway",
        (api::NetworkType::Gateway, false) => "internal",
    }
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn is_well(process: &ProcessStatus) -> bool {
    process.pid.is_some() && process.restarts == 0
}

fn process_row(process: &ProcessStatus) -> Vec<String> {
    let pid = process.pid.map_or_else(|| "down".to_owned(), |pid| pid.to_string());
    // Its last lines follow the table.
    let last_exit = process.last_exit.as_deref().and_then(|text| text.lines().next()).unwrap_or_default();
    vec![process.name.clone(), process.place.clone(), pid, process.restarts.to_string(), last_exit.to_owned()]
}

/// A table without lines.
pub(crate) fn plain<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}
