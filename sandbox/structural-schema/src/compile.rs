//! From an OpenAPI v3 schema to the table of nodes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::cel::Rule;
use crate::limits::Limits;
use crate::metadata;
use crate::node::{Additional, JsonType, ListType, Node, NodeId, PatchStrategy};

/// Schemas nested deeper than this are refused: no real type comes near it, and every walk recurses as deep.
const MAX_DEPTH: usize = 100;

/// Why a schema cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema{path}: {message}")]
pub struct CompileError {
    /// Where in the schema, as a path of its keywords: `.properties[spec].pattern`.
    pub path: String,
    /// What is wrong there, and what to do about it.
    pub message: String,
}

/// A compiled structural schema. Compile once, share by reference (it is `Send + Sync`).
#[derive(Debug)]
pub struct Schema {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: NodeId,
    pub(crate) status_subresource: bool,
}

impl Schema {
    /// Compiles a CRD's `openAPIV3Schema`, or the JSON schema of a built-in type (`$ref`s point into the same document).
    /// `apiVersion`, `kind` and `metadata` of the root are always those of a Kubernetes object.
    pub fn compile(open_api_v3: &Value) -> Result<Schema, CompileError> {
        let mut compiler = Compiler { document: open_api_v3, nodes: Vec::new(), by_text: BTreeMap::new() };
        let root = match compiler.resolve(open_api_v3, "")? {
            Cow::Borrowed(Value::Object(root)) => metadata::as_resource(root),
            Cow::Owned(Value::Object(root)) => metadata::as_resource(&root),
            other => return Err(fault("", format!("the schema of a resource is an object, not `{other}`"))),
        };
        let root = compiler.node(&Value::Object(root), "", 0)?;
        Ok(Schema { nodes: compiler.nodes, root, status_subresource: false })
    }

    /// The same schema for a resource with a status subresource: writes to the object leave `status` alone, and writes
    /// to its status leave everything else alone (see [`Schema::reset_fields`]).
    #[must_use]
    pub fn with_status_subresource(mut self) -> Schema {
        self.status_subresource = true;
        self
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }
}

struct Compiler<'a> {
    /// Where `$ref`s point.
    document: &'a Value,
    nodes: Vec<Node>,
    /// Nodes by their text, for those that (may) contain themselves.
    by_text: BTreeMap<String, NodeId>,
}

impl Compiler<'_> {
    fn node(&mut self, schema: &Value, path: &str, depth: usize) -> Result<NodeId, CompileError> {
        if depth > MAX_DEPTH {
            return Err(fault(path, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let text = schema.get("$ref").map(|_| without_docs(schema).to_string());
        if let Some(known) = text.as_ref().and_then(|text| self.by_text.get(text)) {
            return Ok(*known);
        }
        let id = self.nodes.len();
        self.nodes.push(Node::default());
        if let Some(text) = text {
            self.by_text.insert(text, id);
        }
        let schema = self.resolve(schema, path)?.into_owned();
        self.nodes[id] = match &schema {
            Value::Bool(_) => Node { preserve_unknown: true, ..Node::default() },
            Value::Object(keywords) => self.fill(keywords, path, depth)?,
            other => return Err(fault(path, format!("a schema is an object or a boolean, not `{other}`"))),
        };
        Ok(id)
    }

    fn fill(
        &mut self,
        keywords: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<Node, CompileError> {
        let (types, null_type) = types(keywords, path)?;
        let embedded = flag(keywords, "x-kubernetes-embedded-resource");
        let with_metadata = if embedded { Some(metadata::as_embedded(keywords)) } else { None };
        let keywords = with_metadata.as_ref().unwrap_or(keywords);
        let mut node = Node {
            types,
            nullable: null_type || flag(keywords, "nullable"),
            int_or_string: flag(keywords, "x-kubernetes-int-or-string")
                || keywords.get("format") == Some(&json!("int-or-string")),
            required: strings(keywords, "required"),
            default: keywords.get("default").filter(|value| !value.is_null()).cloned(),
            preserve_unknown: flag(keywords, "x-kubernetes-preserve-unknown-fields"),
            list_type: list_type(keywords, path)?,
            atomic_map: matches!(
                keywords.get("x-kubernetes-map-type").and_then(Value::as_str),
                Some("atomic")
            ),
            patch: patch_strategy(keywords),
            limits: Limits::compile(keywords, path)?,
            rules: Rule::compile_all(keywords, path)?,
            ..Node::default()
        };
        self.children(&mut node, keywords, path, depth)?;
        self.branches(&mut node, keywords, path, depth)?;
        node.preserve_unknown |= says_nothing(&node);
        Ok(node)
    }

    fn children(
        &mut self,
        node: &mut Node,
        keywords: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(), CompileError> {
        for (name, schema) in keywords.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let id = self.node(schema, &format!("{path}.properties[{name}]"), depth + 1)?;
            node.properties.insert(name.clone(), id);
        }
        node.additional = match keywords.get("additionalProperties") {
            None | Some(Value::Null | Value::Bool(false)) => Additional::Forbidden,
            Some(Value::Bool(true)) => Additional::Any,
            Some(schema) => {
                Additional::Typed(self.node(schema, &format!("{path}.additionalProperties"), depth + 1)?)
            }
        };
        if let Some(schema) = keywords.get("items") {
            node.items = Some(self.node(schema, &format!("{path}.items"), depth + 1)?);
        }
        Ok(())
    }

    fn branches(
        &mut self,
        node: &mut Node,
        keywords: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(), CompileError> {
        node.all_of = self.list(keywords, "allOf", path, depth)?;
        node.any_of = self.list(keywords, "anyOf", path, depth)?;
        node.one_of = self.list(keywords, "oneOf", path, depth)?;
        if let Some(schema) = keywords.get("not") {
            node.not = Some(self.node(schema, &format!("{path}.not"), depth + 1)?);
        }
        Ok(())
    }

    fn list(
        &mut self,
        keywords: &Map<String, Value>,
        keyword: &str,
        path: &str,
        depth: usize,
    ) -> Result<Vec<NodeId>, CompileError> {
        let schemas = keywords.get(keyword).and_then(Value::as_array).into_iter().flatten();
        schemas
            .enumerate()
            .map(|(i, schema)| self.node(schema, &format!("{path}.{keyword}[{i}]"), depth + 1))
            .collect()
    }

    /// The schema itself once its `$ref` and the two idioms that stand for a reference with siblings are followed.
    fn resolve<'v>(&self, schema: &'v Value, path: &str) -> Result<Cow<'v, Value>, CompileError> {
        let mut schema = Cow::Borrowed(schema);
        for _ in 0..MAX_DEPTH {
            let next = self.follow(&schema, path)?;
            match next {
                Some(next) => schema = Cow::Owned(next),
                None => return Ok(schema),
            }
        }
        Err(fault(path, "its $ref leads back to itself".to_owned()))
    }

    fn follow(&self, schema: &Value, path: &str) -> Result<Option<Value>, CompileError> {
        let Some(keywords) = schema.as_object() else { return Ok(None) };
        if let Some(reference) = keywords.get("$ref").and_then(Value::as_str) {
            let target = self.pointed_at(reference).ok_or_else(|| {
                fault(path, format!("$ref `{reference}` points at nothing in this document"))
            })?;
            return Ok(Some(overlay(target, keywords, "$ref")));
        }
        let plain = !keywords.contains_key("type") && !keywords.contains_key("properties");
        if let (true, Some([only])) =
            (plain, keywords.get("allOf").and_then(Value::as_array).map(Vec::as_slice))
        {
            return Ok(Some(overlay(only, keywords, "allOf")));
        }
        // Option<T> of schemars: anyOf [T, null].
        if let (true, Some([one, two])) =
            (plain, keywords.get("anyOf").and_then(Value::as_array).map(Vec::as_slice))
        {
            let inner = match (is_null_schema(one), is_null_schema(two)) {
                (false, true) => one,
                (true, false) => two,
                _ => return Ok(None),
            };
            let mut merged = overlay(inner, keywords, "anyOf");
            merged["nullable"] = Value::Bool(true);
            return Ok(Some(merged));
        }
        Ok(None)
    }

    /// JSON pointer into the document, for every usual home of definitions.
    fn pointed_at(&self, reference: &str) -> Option<&Value> {
        let pointer = reference.strip_prefix('#')?;
        self.document.pointer(pointer)
    }
}

/// `schema` with the siblings of a reference laid over it.
fn overlay(schema: &Value, siblings: &Map<String, Value>, except: &str) -> Value {
    let mut merged = schema.as_object().cloned().unwrap_or_default();
    for (keyword, value) in
        siblings.iter().filter(|(keyword, _)| *keyword != except && !is_definitions(keyword))
    {
        merged.insert(keyword.clone(), value.clone());
    }
    Value::Object(merged)
}

fn is_definitions(keyword: &str) -> bool {
    matches!(keyword, "definitions" | "$defs" | "components" | "$schema")
}

fn without_docs(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(keywords) = schema.as_object_mut() {
        keywords.retain(|keyword, _| {
            !matches!(keyword.as_str(), "description" | "title" | "example" | "examples")
        });
    }
    schema
}

fn is_null_schema(schema: &Value) -> bool {
    schema.get("type") == Some(&json!("null"))
        || (schema.get("enum") == Some(&json!([null])) && schema.get("type").is_none())
        || schema.get("const").is_some_and(Value::is_null)
}

/// Nothing said about a place means that anything may stand there (`true`, `{}`), unless this is one branch of a `oneOf`.
fn says_nothing(node: &Node) -> bool {
    let branches = node.all_of.len() + node.any_of.len() + node.one_of.len();
    node.types.is_empty()
        && !node.int_or_string
        && node.properties.is_empty()
        && node.items.is_none()
        && !node.is_map()
        && branches == 0
}

fn types(keywords: &Map<String, Value>, path: &str) -> Result<(Vec<JsonType>, bool), CompileError> {
    let names: Vec<&str> = match keywords.get("type") {
        None => return Ok((Vec::new(), false)),
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(other) => return Err(fault(path, format!("type `{other}` is not a name"))),
    };
    let null = names.contains(&"null");
    let known = names.into_iter().filter(|name| *name != "null" && !name.is_empty());
    let types: Result<Vec<_>, _> = known
        .map(|name| {
            JsonType::parse(name).ok_or_else(|| {
                fault(
                    path,
                    format!(
                        "type `{name}` is unknown: use object, array, string, integer, number or boolean"
                    ),
                )
            })
        })
        .collect();
    Ok((types?, null))
}

fn list_type(keywords: &Map<String, Value>, path: &str) -> Result<ListType, CompileError> {
    let keys = strings(keywords, "x-kubernetes-list-map-keys");
    match keywords.get("x-kubernetes-list-type").and_then(Value::as_str) {
        None | Some("atomic") => Ok(ListType::Atomic),
        Some("set") => Ok(ListType::Set),
        Some("map") if keys.is_empty() => {
            Err(fault(path, "x-kubernetes-list-type `map` needs x-kubernetes-list-map-keys".to_owned()))
        }
        Some("map") => Ok(ListType::Map(keys)),
        Some(other) => {
            Err(fault(path, format!("x-kubernetes-list-type `{other}` is unknown: use atomic, set or map")))
        }
    }
}

fn patch_strategy(keywords: &Map<String, Value>) -> PatchStrategy {
    let words: Vec<&str> = keywords
        .get("x-kubernetes-patch-strategy")
        .and_then(Value::as_str)
        .map(|words| words.split(',').collect())
        .unwrap_or_default();
    PatchStrategy {
        merge: words.contains(&"merge"),
        replace: words.contains(&"replace"),
        merge_key: keywords.get("x-kubernetes-patch-merge-key").and_then(Value::as_str).map(str::to_owned),
    }
}

fn flag(keywords: &Map<String, Value>, keyword: &str) -> bool {
    keywords.get(keyword).and_then(Value::as_bool).unwrap_or(false)
}

fn strings(keywords: &Map<String, Value>, keyword: &str) -> Vec<String> {
    let words = keywords.get(keyword).and_then(Value::as_array).into_iter().flatten();
    words.filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(crate) fn fault(path: &str, message: String) -> CompileError {
    CompileError { path: path.to_owned(), message }
}
