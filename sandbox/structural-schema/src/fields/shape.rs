//! How server-side apply sees a value: as one thing, or as parts that each have an owner.

use serde_json::Value;

use super::element::{Atom, Element};
use crate::Schema;
use crate::node::{ListType, Node, NodeId};

/// The type of a place: known, or deduced from what stands there (objects by field, lists as one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Node(NodeId),
    Deduced,
}

/// What has owners here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape<'s> {
    /// The whole value: scalars, atomic lists and atomic maps.
    Leaf,
    /// Each member.
    Fields,
    /// Each item, by its value.
    Set,
    /// Each item, by its keys.
    Keyed(&'s [String]),
}

impl Schema {
    pub(crate) fn root_type(&self) -> Type {
        Type::Node(self.root)
    }

    /// The shape of `value` at a place of this type. A value that the type does not allow is judged by itself.
    pub(crate) fn shape(&self, at: Type, value: &Value) -> Shape<'_> {
        let node = match at {
            Type::Node(id) => Some(self.node(id)),
            Type::Deduced => None,
        };
        match value {
            Value::Object(_) => object_shape(node),
            Value::Array(_) => self.list_shape(node),
            Value::Null => match node {
                Some(node) if node.items.is_some() => self.list_shape(Some(node)),
                Some(node) if node.is_scalar() => Shape::Leaf,
                node => object_shape(node),
            },
            _ => Shape::Leaf,
        }
    }

    fn list_shape<'s>(&'s self, node: Option<&'s Node>) -> Shape<'s> {
        match node.map(|node| &node.list_type) {
            Some(ListType::Set) => Shape::Set,
            Some(ListType::Map(keys)) => Shape::Keyed(keys),
            Some(ListType::Atomic) | None => Shape::Leaf,
        }
    }

    /// The type of member `name`; none where the schema knows no such member.
    pub(crate) fn type_of_field(&self, at: Type, name: &str) -> Option<Type> {
        let Type::Node(id) = at else { return Some(Type::Deduced) };
        let node = self.node(id);
        let free = node.preserve_unknown || matches!(node.additional, crate::node::Additional::Any);
        node.member(name).map(Type::Node).or(free.then_some(Type::Deduced))
    }

    pub(crate) fn type_of_items(&self, at: Type) -> Type {
        let Type::Node(id) = at else { return Type::Deduced };
        self.node(id).items.map_or(Type::Deduced, Type::Node)
    }

    /// Whether `name` is a field of its own, and not one key among others of a map.
    pub(crate) fn declares(&self, at: Type, name: &str) -> bool {
        matches!(at, Type::Node(id) if self.node(id).properties.contains_key(name))
    }

    /// How an item of a list is found again.
    pub(crate) fn element_of(&self, at: Type, shape: Shape<'_>, item: &Value) -> Result<Element, String> {
        match (shape, item) {
            (Shape::Keyed(keys), Value::Object(_)) => self.key_of(at, keys, item),
            (Shape::Keyed(_), Value::Null) => {
                Err("associative list with keys may not have a null element".to_owned())
            }
            (Shape::Keyed(_), _) => {
                Err("associative list with keys may not have non-map elements".to_owned())
            }
            (_, Value::Object(_)) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            (_, Value::Array(_)) => Err("not supported: associative list with lists as elements".to_owned()),
            (_, Value::Null) => {
                Err("associative list without keys has an element that's an explicit null".to_owned())
            }
            (_, scalar) => Ok(Element::Value(Atom(scalar.clone()))),
        }
    }

    fn key_of(&self, at: Type, keys: &[String], item: &Value) -> Result<Element, String> {
        let items = self.type_of_items(at);
        let pair = |key: &String| {
            let value = item.get(key).or_else(|| self.default_of_field(items, key))?;
            Some((key.clone(), Atom(value.clone())))
        };
        let mut pairs: Vec<(String, Atom)> = keys.iter().filter_map(pair).collect();
        if pairs.is_empty() {
            return Err(format!(
                "associative list with keys has an element that omits all key fields {keys:?} (and doesn't have default values for any key fields)"
            ));
        }
        pairs.sort();
        Ok(Element::Key(pairs))
    }

    fn default_of_field(&self, at: Type, name: &str) -> Option<&Value> {
        let Some(Type::Node(id)) = self.type_of_field(at, name) else { return None };
        self.node(id).default.as_ref()
    }

    /// The items of a list with their elements, or none if some item cannot be found again: such a list (it can only be
    /// a stored one, from before its type became what it is) is taken as one thing.
    pub(crate) fn items<'v>(
        &self,
        at: Type,
        shape: Shape<'_>,
        list: Option<&'v Value>,
    ) -> Option<Vec<(Element, &'v Value)>> {
        let items = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().map(|item| Some((self.element_of(at, shape, item).ok()?, item))).collect()
    }
}

fn object_shape<'s>(node: Option<&Node>) -> Shape<'s> {
    if node.is_some_and(|node| node.atomic_map) { Shape::Leaf } else { Shape::Fields }
}
