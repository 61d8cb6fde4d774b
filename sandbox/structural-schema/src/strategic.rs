//! Strategic merge patch (`k8s.io/apimachinery/pkg/util/strategicpatch`): a merge patch in which lists are merged by keys.

use serde_json::{Map, Value};

use crate::Schema;
use crate::fields::Type;
use crate::limits::same;
use crate::node::{ListType, Node};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Why a strategic merge patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("strategic merge patch{path}: {message}")]
pub struct StrategicMergeError {
    /// The field of the patch, `.spec.ports[0]`.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// Applies a strategic merge patch to `target`.
///
/// A list is merged if its schema says so with `x-kubernetes-patch-strategy: merge` (by `x-kubernetes-patch-merge-key`)
/// or, failing that, with `x-kubernetes-list-type: map` (by all its keys) or `set`; other lists are replaced. `$patch`
/// (`replace`, `delete`, `merge`), `$retainKeys`, `$deleteFromPrimitiveList` and `$setElementOrder` are honoured.
/// `target` is left as it was when the patch is refused.
pub fn strategic_merge(
    schema: &Schema,
    target: &mut Value,
    patch: &Value,
) -> Result<(), StrategicMergeError> {
    let patch = patch.as_object().ok_or_else(|| fault("", "a patch is an object"))?;
    let current = target.as_object().ok_or_else(|| fault("", "only an object can be patched"))?;
    let merged = Patching { schema }.object(schema.root_type(), current, patch, "")?;
    *target = Value::Object(merged.unwrap_or_default());
    Ok(())
}

struct Patching<'s> {
    schema: &'s Schema,
}

type Members = Map<String, Value>;

impl Patching<'_> {
    /// The object after the patch; none if the patch deletes it.
    fn object(
        &self,
        at: Type,
        current: &Members,
        patch: &Members,
        path: &str,
    ) -> Result<Option<Members>, StrategicMergeError> {
        match patch.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
            Some("delete") => return Ok(None),
            Some("replace") => {
                return Ok(Some(patch.iter().filter(|(name, _)| *name != DIRECTIVE).map(owned).collect()));
            }
            None | Some("merge") => {}
            Some(other) => {
                return Err(fault(
                    path,
                    &format!("{DIRECTIVE} `{other}` is unknown: use replace, delete or merge"),
                ));
            }
        }
        let mut merged = current.clone();
        if let Some(kept) = patch.get(RETAIN_KEYS) {
            let kept = list_at(kept, path)?;
            merged.retain(|name, _| kept.iter().any(|kept| kept.as_str() == Some(name)));
        }
        for (name, value) in patch {
            let below = format!("{path}.{name}");
            if let Some(list) = name.strip_prefix(DELETE_FROM) {
                delete_from(&mut merged, list, list_at(value, &below)?);
            } else if !name.starts_with('$') {
                self.member(at, &mut merged, (name, value), &below)?;
            }
        }
        for (name, order) in patch {
            if let Some(list) = name.strip_prefix(SET_ORDER) {
                let order = list_at(order, &format!("{path}.{name}"))?;
                self.reorder(at, &mut merged, current, list, order);
            }
        }
        Ok(Some(merged))
    }

    fn member(
        &self,
        at: Type,
        merged: &mut Members,
        (name, value): (&str, &Value),
        path: &str,
    ) -> Result<(), StrategicMergeError> {
        let below = self.schema.type_of_field(at, name).unwrap_or(Type::Deduced);
        let patched = match value {
            Value::Null => None,
            Value::Object(patch) if self.replaces(below) && !patch.contains_key(DIRECTIVE) => {
                Some(value.clone())
            }
            Value::Object(patch) => {
                let nothing = Map::new();
                let current = merged.get(name).and_then(Value::as_object).unwrap_or(&nothing);
                self.object(below, current, patch, path)?.map(Value::Object)
            }
            // A list that is not there is taken as it comes, whatever in it has the same key.
            Value::Array(patch) if !merged.contains_key(name) && !patch.iter().any(has_directive) => {
                Some(value.clone())
            }
            Value::Array(patch) => {
                let current =
                    merged.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                Some(Value::Array(self.list(below, current, patch, path)?))
            }
            scalar => Some(scalar.clone()),
        };
        match patched {
            Some(value) => _ = merged.insert(name.to_owned(), value),
            None => _ = merged.remove(name),
        }
        Ok(())
    }

    fn list(
        &self,
        at: Type,
        current: &[Value],
        patch: &[Value],
        path: &str,
    ) -> Result<Vec<Value>, StrategicMergeError> {
        let replace = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some("replace");
        if patch.iter().any(replace) {
            return Ok(patch.iter().filter(|item| !replace(item)).cloned().collect());
        }
        match self.keys(at) {
            Keys::None => Ok(patch.to_vec()),
            Keys::Itself => {
                let mut merged = current.to_vec();
                merged.extend(
                    patch.iter().filter(|item| !current.iter().any(|known| same(known, item))).cloned(),
                );
                Ok(merged)
            }
            Keys::Fields(keys) => {
                self.keyed_list(self.schema.type_of_items(at), current, patch, (&keys, path))
            }
        }
    }

    fn keyed_list(
        &self,
        below: Type,
        current: &[Value],
        patch: &[Value],
        (keys, path): (&[String], &str),
    ) -> Result<Vec<Value>, StrategicMergeError> {
        let mut merged = current.to_vec();
        let mut patched = Vec::new();
        for (i, item) in patch.iter().enumerate() {
            let path = format!("{path}[{i}]");
            let fields = item
                .as_object()
                .ok_or_else(|| fault(&path, "an item of a list that is merged by key is an object"))?;
            if keys.iter().all(|key| !fields.contains_key(key)) {
                return Err(fault(
                    &path,
                    &format!("does not contain declared merge key: {}", keys.join(", ")),
                ));
            }
            let place = merged.iter().position(|known| keys_agree(keys, known, item));
            let known = place.and_then(|place| merged[place].as_object()).cloned().unwrap_or_default();
            match (place, self.object(below, &known, fields, &path)?) {
                (Some(place), Some(item)) => merged[place] = Value::Object(item),
                (Some(place), None) => _ = merged.remove(place),
                (None, Some(item)) => merged.push(Value::Object(item)),
                (None, None) => {}
            }
            patched.push(item);
        }
        Ok(in_order(merged, current, &patched, keys))
    }

    /// Items that the client ordered stand in its order; those it does not know keep their place among them.
    fn reorder(&self, at: Type, merged: &mut Members, before: &Members, name: &str, order: &[Value]) {
        let keys = self.keys(self.schema.type_of_field(at, name).unwrap_or(Type::Deduced));
        let alike = |left: &Value, right: &Value| match &keys {
            Keys::Fields(keys) => keys_agree(keys, left, right),
            Keys::Itself | Keys::None => same(left, right),
        };
        let Some(items) = merged.get_mut(name).and_then(Value::as_array_mut) else { return };
        let before = before.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let place_before = |item: &Value| before.iter().position(|known| alike(known, item));
        let (mut ordered, others): (Vec<Value>, Vec<Value>) =
            items.drain(..).partition(|item| order.iter().any(|known| alike(known, item)));
        ordered.sort_by_key(|item| order.iter().position(|known| alike(known, item)));
        let mut others = others.into_iter().peekable();
        for item in ordered {
            while let Some(other) = others.next_if(|other| matches!((place_before(other), place_before(&item)), (Some(other), Some(item)) if other < item)) {
                items.push(other);
            }
            items.push(item);
        }
        items.extend(others);
    }

    fn keys(&self, at: Type) -> Keys {
        let Type::Node(id) = at else { return Keys::None };
        let node: &Node = self.schema.node(id);
        match (&node.patch.merge_key, &node.list_type) {
            _ if node.patch.replace => Keys::None,
            (Some(key), _) if node.patch.merge => Keys::Fields(vec![key.clone()]),
            (_, ListType::Map(keys)) => Keys::Fields(keys.clone()),
            (_, ListType::Set) => Keys::Itself,
            _ if node.patch.merge => Keys::Itself,
            _ => Keys::None,
        }
    }

    fn replaces(&self, at: Type) -> bool {
        matches!(at, Type::Node(id) if self.schema.node(id).patch.replace)
    }
}

/// How items of a list are told apart.
enum Keys {
    /// They are not: the list is replaced.
    None,
    Itself,
    Fields(Vec<String>),
}

fn has_directive(item: &Value) -> bool {
    item.get(DIRECTIVE).is_some()
}

/// What the patch names stands in the patch's order; what it does not name stays before what came after it, and comes after
/// what is new.
fn in_order(merged: Vec<Value>, current: &[Value], patch: &[&Value], keys: &[String]) -> Vec<Value> {
    let in_patch = |item: &Value| patch.iter().position(|known| keys_agree(keys, known, item));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| in_patch(item).is_some());
    named.sort_by_key(in_patch);
    let before = |item: &Value| current.iter().position(|known| keys_agree(keys, known, item));
    let mut others = others.into_iter().peekable();
    let mut ordered = Vec::new();
    for item in named {
        while let Some(other) = others.next_if(
            |other| matches!((before(other), before(&item)), (Some(other), Some(item)) if other < item),
        ) {
            ordered.push(other);
        }
        ordered.push(item);
    }
    ordered.extend(others);
    ordered
}

fn keys_agree(keys: &[String], left: &Value, right: &Value) -> bool {
    // A key that the patch leaves out does not tell items apart, as when only the first of two keys is the merge key.
    keys.iter().all(|key| right.get(key).is_none() || left.get(key) == right.get(key))
}

fn delete_from(merged: &mut Members, name: &str, gone: &[Value]) {
    if let Some(items) = merged.get_mut(name).and_then(Value::as_array_mut) {
        items.retain(|item| !gone.iter().any(|gone| same(gone, item)));
    }
}

fn list_at<'v>(value: &'v Value, path: &str) -> Result<&'v [Value], StrategicMergeError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| fault(path, "must be a list"))
}

fn owned((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

fn fault(path: &str, message: &str) -> StrategicMergeError {
    StrategicMergeError { path: path.to_owned(), message: message.to_owned() }
}
