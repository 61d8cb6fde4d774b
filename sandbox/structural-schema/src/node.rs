//! The compiled form of a schema: a table of nodes that point at each other by number, so that recursive types are finite.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cel::Rule;
use crate::limits::Limits;

/// A row of [`crate::Schema`]'s table.
pub(crate) type NodeId = usize;

/// What is known of one place of an object.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// JSON types allowed here; empty: any.
    pub(crate) types: Vec<JsonType>,
    pub(crate) nullable: bool,
    pub(crate) int_or_string: bool,
    pub(crate) properties: BTreeMap<String, NodeId>,
    pub(crate) additional: Additional,
    pub(crate) items: Option<NodeId>,
    pub(crate) required: Vec<String>,
    pub(crate) default: Option<Value>,
    pub(crate) preserve_unknown: bool,
    pub(crate) list_type: ListType,
    pub(crate) atomic_map: bool,
    pub(crate) patch: PatchStrategy,
    pub(crate) limits: Limits,
    pub(crate) all_of: Vec<NodeId>,
    pub(crate) any_of: Vec<NodeId>,
    pub(crate) one_of: Vec<NodeId>,
    pub(crate) not: Option<NodeId>,
    pub(crate) rules: Vec<Rule>,
}

impl Node {
    /// The node of member `name`, whether it is declared or falls under `additionalProperties`.
    pub(crate) fn member(&self, name: &str) -> Option<NodeId> {
        self.properties.get(name).copied().or(match self.additional {
            Additional::Typed(id) => Some(id),
            Additional::Forbidden | Additional::Any => None,
        })
    }

    /// Whether the only thing known here is that anything may stand here.
    pub(crate) fn is_free_form(&self) -> bool {
        self.preserve_unknown && self.properties.is_empty() && self.items.is_none() && self.types.is_empty()
    }

    /// Whether this is a map from free keys to values, and not an object of named fields.
    pub(crate) fn is_map(&self) -> bool {
        !matches!(self.additional, Additional::Forbidden)
    }

    pub(crate) fn is_scalar(&self) -> bool {
        self.int_or_string
            || self.types.iter().any(|kind| !matches!(kind, JsonType::Object | JsonType::Array))
    }
}

/// The types of OpenAPI v3; null is not one of them but `nullable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonType {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl JsonType {
    pub(crate) fn parse(name: &str) -> Option<JsonType> {
        Some(match name {
            "object" => JsonType::Object,
            "array" => JsonType::Array,
            "string" => JsonType::String,
            "integer" => JsonType::Integer,
            "number" => JsonType::Number,
            "boolean" => JsonType::Boolean,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            JsonType::Object => "object",
            JsonType::Array => "array",
            JsonType::String => "string",
            JsonType::Integer => "integer",
            JsonType::Number => "number",
            JsonType::Boolean => "boolean",
        }
    }
}

/// `additionalProperties`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Additional {
    /// Absent or `false`: members that are not declared are unknown fields.
    #[default]
    Forbidden,
    /// `true`: anything.
    Any,
    /// Members of one type.
    Typed(NodeId),
}

/// `x-kubernetes-list-type` with its keys.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key` of a built-in type's field.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct PatchStrategy {
    pub(crate) merge: bool,
    pub(crate) replace: bool,
    pub(crate) merge_key: Option<String>,
}
