//! A set of paths, as a tree.

use std::collections::{BTreeMap, BTreeSet};

use super::element::Element;
use super::shape::Type;
use crate::Schema;

/// Paths into an object. A path may be a member, have members below it, or both. No child is ever empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) members: BTreeSet<Element>,
    pub(crate) children: BTreeMap<Element, Set>,
}

impl Set {
    pub(crate) fn of<const N: usize>(paths: [&[&str]; N]) -> Set {
        let mut set = Set::default();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    /// The object itself (the empty path) is nobody's.
    pub(crate) fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => _ = self.members.insert(last.clone()),
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Set::is_empty)
    }

    pub(crate) fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|child| child.has(rest)),
        }
    }

    pub(crate) fn union(&self, other: &Set) -> Set {
        let mut union = self.clone();
        union.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            let own = union.children.entry(element.clone()).or_default();
            *own = own.union(child);
        }
        union
    }

    pub(crate) fn intersection(&self, other: &Set) -> Set {
        let children = self.children.iter().filter_map(|(element, child)| {
            let common = child.intersection(other.children.get(element)?);
            (!common.is_empty()).then(|| (element.clone(), common))
        });
        Set {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// Takes away the paths of `other`, but nothing below them.
    pub(crate) fn difference(&self, other: &Set) -> Set {
        let children = self.children.iter().filter_map(|(element, child)| {
            let rest =
                other.children.get(element).map_or_else(|| child.clone(), |taken| child.difference(taken));
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Set {
            members: self.members.difference(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// Without member `name` and all that is below it.
    pub(crate) fn without_field(mut self, name: &str) -> Set {
        self.members.remove(&Element::field(name));
        self.children.remove(&Element::field(name));
        self
    }

    /// Only member `name` and what is below it.
    pub(crate) fn only_field(mut self, name: &str) -> Set {
        let name = Element::field(name);
        self.members.retain(|element| *element == name);
        self.children.retain(|element, _| *element == name);
        self
    }

    /// With every declared field a member that has members below it: owning `spec.a` is reason enough to keep `spec`.
    pub(crate) fn with_named_parents(&self, schema: &Schema, at: Type) -> Set {
        let named = self
            .children
            .keys()
            .filter(|element| matches!(element, Element::Field(name) if schema.declares(at, name)));
        let members = self.members.iter().chain(named).cloned().collect();
        let children = self.children.iter().map(|(element, child)| {
            let below = match element {
                Element::Field(name) => schema.type_of_field(at, name).unwrap_or(Type::Deduced),
                Element::Key(_) => schema.type_of_items(at),
                Element::Value(_) | Element::Index(_) => Type::Deduced,
            };
            (element.clone(), child.with_named_parents(schema, below))
        });
        Set { members, children: children.collect() }
    }

    /// Every path, parents first.
    pub(crate) fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths: Vec<Vec<Element>> = self.members.iter().map(|element| vec![element.clone()]).collect();
        for (element, child) in &self.children {
            paths.extend(child.paths().into_iter().map(|mut path| {
                path.insert(0, element.clone());
                path
            }));
        }
        paths
    }
}
