//! `get`: the resources of the mesh, as the API server sets them into columns, or as they are.

use anyhow::bail;
use clap::{Args, ValueEnum};
use http::{Request, header::ACCEPT};
use kube::{
    ResourceExt,
    api::{DynamicObject, ListParams},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    connect::{Connection, ControlArgs},
    object::{CLUSTER, CLUSTER_NODE, Kind, NODE_CONFIG, is_absent, said},
    print::{self, Output},
    say::Say,
    write::live_with_types,
};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Show Clusters, ClusterNodes or NodeConfigs of the control cluster.
#[derive(Args, Clone, Debug)]
pub struct GetArgs {
    /// What.
    #[arg(value_enum)]
    pub what: What,
    /// Which of them [default: all].
    pub names: Vec<String>,
    /// Where.
    #[command(flatten)]
    pub control: ControlArgs,
    /// Only those of this cluster.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Only those with these labels.
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
    /// How they are printed [default: a table].
    #[arg(short, long, value_enum)]
    pub output: Option<GetOutput>,
    /// Leave the headings out.
    #[arg(long)]
    pub no_headers: bool,
}

/// A kind of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Clusters.
    #[value(alias = "cluster")]
    Clusters,
    /// ClusterNodes.
    #[value(aliases = ["clusternode", "clusternodes", "node"])]
    Nodes,
    /// NodeConfigs.
    #[value(name = "nodeconfigs", alias = "nodeconfig")]
    NodeConfigs,
}

/// How resources are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GetOutput {
    /// A table with more columns.
    Wide,
    /// A YAML stream.
    Yaml,
    /// A JSON List.
    Json,
    /// kind.group/name, one a line.
    Name,
}

impl What {
    fn kind(self) -> Kind {
        match self {
            What::Clusters => CLUSTER,
            What::Nodes => CLUSTER_NODE,
            What::NodeConfigs => NODE_CONFIG,
        }
    }
}

/// Runs the command.
pub async fn run(args: &GetArgs, say: &mut Say) -> anyhow::Result<()> {
    check(args)?;
    get(&Connection::control(&args.control).await?, args, say).await
}

/// Prints what a cluster that is spoken to already has.
pub async fn get(control: &Connection, args: &GetArgs, say: &mut Say) -> anyhow::Result<()> {
    let output = match args.output {
        Some(GetOutput::Yaml) => Output::Yaml,
        Some(GetOutput::Json) => Output::Json,
        Some(GetOutput::Name) => Output::Name,
        None | Some(GetOutput::Wide) => return columns(control, args, say).await,
    };
    let found = objects(control, args).await.map_err(|error| refused(control, args, &error))?;
    Ok(say.text(&print::objects(&found, output)?)?)
}

fn refused(control: &Connection, args: &GetArgs, error: &kube::Error) -> anyhow::Error {
    let plural = args.what.kind().plural;
    let no_such_name = matches!(error, kube::Error::Api(status) if status.details.as_ref().is_some_and(|details| !details.name.is_empty()));
    if is_absent(error) && !no_such_name {
        return anyhow::anyhow!(
            "the cluster {} ({}) serves no {plural}: is it the control cluster? kosmosctl install makes it one",
            control.server,
            control.from
        );
    }
    anyhow::anyhow!("get {plural}: {}", said(error))
}

fn selected(args: &GetArgs) -> ListParams {
    let mut labels: Vec<String> = args.selector.iter().cloned().collect();
    let mut params = ListParams::default();
    match &args.cluster {
        Some(cluster) if args.what == What::Clusters => {
            params = params.fields(&format!("metadata.name={cluster}"));
        }
        Some(cluster) => labels.push(format!("{}={cluster}", api::CLUSTER_LABEL)),
        None => {}
    }
    if labels.is_empty() { params } else { params.labels(&labels.join(",")) }
}

async fn objects(control: &Connection, args: &GetArgs) -> Result<Vec<DynamicObject>, kube::Error> {
    let kind = args.what.kind();
    let api = kind.api(&control.client, None);
    let mut found = Vec::new();
    if args.names.is_empty() {
        found = api.list(&selected(args)).await?.items;
    }
    for name in &args.names {
        found.push(api.get(name).await?);
    }
    let typed = kind.object(None, "");
    let plain = |object: DynamicObject| {
        let mut object = live_with_types(object, &typed);
        object.managed_fields_mut().clear();
        object
    };
    Ok(found.into_iter().map(plain).collect())
}

/// A Table (meta.k8s.io/v1): the API server's own columns.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Table {
    column_definitions: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Column {
    name: String,
    priority: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Row {
    cells: Vec<Value>,
}

async fn columns(control: &Connection, args: &GetArgs, say: &mut Say) -> anyhow::Result<()> {
    let mut table = Table::default();
    for path in paths(args) {
        let request = Request::get(path).header(ACCEPT, TABLE).body(Vec::new())?;
        let part: Table =
            control.client.request(request).await.map_err(|error| refused(control, args, &error))?;
        table.column_definitions = part.column_definitions;
        table.rows.extend(part.rows);
    }
    if table.rows.is_empty() {
        return Ok(say.remark(format_args!("no {} found", args.what.kind().plural))?);
    }
    let text = set(&table, args.output == Some(GetOutput::Wide));
    let text =
        if args.no_headers { text.split_once('\n').map_or("", |(_, rows)| rows).to_owned() } else { text };
    Ok(say.text(&text)?)
}

fn paths(args: &GetArgs) -> Vec<String> {
    let kind = args.what.kind();
    let all = format!("/apis/{}/{}/{}", kind.group, kind.version, kind.plural);
    if !args.names.is_empty() {
        return args.names.iter().map(|name| format!("{all}/{name}?includeObject=None")).collect();
    }
    let params = selected(args);
    let mut path = format!("{all}?includeObject=None");
    for (name, value) in [("labelSelector", params.label_selector), ("fieldSelector", params.field_selector)]
    {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escaped(&value)));
        }
    }
    vec![path]
}

/// A value in a query (RFC 3986, section 2.1).
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn set(table: &Table, wide: bool) -> String {
    let shown: Vec<usize> = (0..table.column_definitions.len())
        .filter(|at| wide || table.column_definitions[*at].priority == 0)
        .collect();
    let headings: Vec<String> =
        shown.iter().map(|at| table.column_definitions[*at].name.to_uppercase()).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let cell = |value: Option<&Value>| match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let rows: Vec<Vec<String>> =
        table.rows.iter().map(|row| shown.iter().map(|at| cell(row.cells.get(*at))).collect()).collect();
    print::table(&headings, &rows)
}

/// Refuses what makes no sense.
fn check(args: &GetArgs) -> anyhow::Result<()> {
    if !args.names.is_empty() && (args.cluster.is_some() || args.selector.is_some()) {
        bail!("names leave nothing to select: give either names, or --cluster and --selector");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn columns_of_lower_priority_are_for_wide() {
        let table: Table = serde_json::from_value(serde_json::json!({
            "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "POD_CIDRS", "priority": 1}, {"name": "Planned"}],
            "rows": [{"cells": ["east", ["10.1.0.0/16"], null]}]}))
        .unwrap();
        assert_eq!(set(&table, false), "NAME   PLANNED\neast\n");
        assert_eq!(set(&table, true), "NAME   POD_CIDRS         PLANNED\neast   [\"10.1.0.0/16\"]\n");
    }

    #[test]
    fn selectors_are_escaped() {
        assert_eq!(escaped("a=b,c in (d)"), "a%3Db%2Cc%20in%20%28d%29");
    }
}
