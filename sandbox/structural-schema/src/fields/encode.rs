//! `FieldsV1`: `{"f:spec":{".":{},"f:ports":{"k:{\"port\":80}":{}}}}`.

use serde_json::{Map, Value, json};

use super::element::{Atom, Element};
use super::set::Set;
use crate::cause::{number_text, quoted};

impl Set {
    /// The set as the object that stands in `managedFields[].fieldsV1`.
    pub(crate) fn encode(&self) -> Value {
        let mut fields: Vec<(String, Value)> = Vec::new();
        for element in self.members.iter().filter(|element| !self.children.contains_key(element)) {
            fields.push((encode_element(element), json!({})));
        }
        for (element, child) in &self.children {
            let mut below = child.encode();
            if self.members.contains(element) {
                below["."] = json!({});
            }
            fields.push((encode_element(element), below));
        }
        fields.sort_by(|left, right| left.0.cmp(&right.0));
        Value::Object(fields.into_iter().collect::<Map<String, Value>>())
    }

    /// Reads a set. Elements of kinds yet unknown are passed over; malformed ones are an error.
    pub(crate) fn decode(fields: &Value) -> Result<Set, String> {
        Ok(decode_level(fields)?.0)
    }
}

/// The paths below, and whether the place itself is a member: it is when it says so, or has nothing below it.
fn decode_level(fields: &Value) -> Result<(Set, bool), String> {
    let fields = fields.as_object().ok_or_else(|| format!("managed fields are objects, not `{fields}`"))?;
    let mut set = Set::default();
    let mut is_member = false;
    for (key, below) in fields {
        if key == "." {
            is_member = true;
            continue;
        }
        let Some(element) = decode_element(key)? else { continue };
        let (child, child_is_member) = decode_level(below)?;
        if child_is_member {
            set.members.insert(element.clone());
        }
        if !child.is_empty() {
            set.children.insert(element, child);
        }
    }
    is_member |= set.is_empty();
    Ok((set, is_member))
}

fn encode_element(element: &Element) -> String {
    match element {
        Element::Field(name) => format!("f:{name}"),
        Element::Key(pairs) => {
            let pairs: Vec<String> = pairs
                .iter()
                .map(|(name, value)| format!("{}:{}", quoted(name), encode_atom(&value.0)))
                .collect();
            format!("k:{{{}}}", pairs.join(","))
        }
        Element::Value(value) => format!("v:{}", encode_atom(&value.0)),
        Element::Index(index) => format!("i:{index}"),
    }
}

/// JSON as Go writes it: whole numbers without a fraction, and the characters that HTML cares about escaped.
fn encode_atom(value: &Value) -> String {
    let text = match value {
        Value::Number(number) => number_text(number),
        other => other.to_string(),
    };
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn decode_element(key: &str) -> Result<Option<Element>, String> {
    let (kind, content) = key
        .split_once(':')
        .filter(|(kind, _)| kind.len() == 1)
        .ok_or_else(|| format!("managed field `{key}` has no kind (f:, k:, v: or i:)"))?;
    let json =
        || serde_json::from_str::<Value>(content).map_err(|error| format!("managed field `{key}`: {error}"));
    Ok(Some(match kind {
        "f" => Element::field(content),
        "v" => Element::Value(Atom(json()?)),
        "k" => match json()? {
            Value::Object(pairs) => {
                let mut pairs: Vec<(String, Atom)> =
                    pairs.into_iter().map(|(name, value)| (name, Atom(value))).collect();
                pairs.sort();
                Element::Key(pairs)
            }
            other => {
                return Err(format!(
                    "managed field `{key}`: the keys of an item are an object, not `{other}`"
                ));
            }
        },
        "i" => Element::Index(content.parse().map_err(|error| format!("managed field `{key}`: {error}"))?),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Documents taken from kube-apiserver and from structured-merge-diff's golden tests, as kubectl prints them.
    #[test]
    fn known_documents_come_back_byte_for_byte() {
        let documents = [
            r#"{"f:data":{".":{},"f:key":{}},"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}}}}"#,
            r#"{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:status":{},"f:type":{}}}}}"#,
            r#"{"f:metadata":{"f:finalizers":{".":{},"v:\"kosmos.io/cluster\"":{}}}}"#,
            r#"{"f:aaf":{},"i:1":{},"i:2":{},"k:{\"name\":\"second\"}":{},"k:{\"port\":443,\"protocol\":\"tcp\"}":{},"v:\"ab\"":{},"v:1":{},"v:true":{}}"#,
            r#"{"f:spec":{".":{},"f:apps":{".":{},"k:{\"name\":\" app-🚀\"}":{".":{},"f:name":{}}}}}"#,
            r#"{"v:\"a\\u003cb\\u0026c\"":{}}"#,
            r#"{"k:{\"optionalField\":null}":{"f:x":{}}}"#,
        ];
        for document in documents {
            let set = Set::decode(&serde_json::from_str(document).unwrap()).unwrap();
            assert_eq!(set.encode().to_string(), document);
        }
    }

    #[test]
    fn what_others_write_differently_is_read_alike() {
        let loose = json!({"k:{ \"protocol\":\"udp\",\"port\":443}": {}, "v: 3": {}, "r:future": {}});
        assert_eq!(
            Set::decode(&loose).unwrap().encode(),
            json!({"k:{\"port\":443,\"protocol\":\"udp\"}": {}, "v:3": {}})
        );
    }

    #[test]
    fn malformed_elements_are_errors() {
        for key in [
            "",
            "no-colon",
            "i:index is not a number",
            "i:1.23",
            "i:",
            "i: 0",
            "v:",
            "v:invalid",
            "k:invalid json",
            "k:[1]",
            "v",
            "f",
            "v:{\"a\":\"b\"",
            "v:1 2",
        ] {
            assert!(Set::decode(&json!({ key: {} })).is_err(), "{key:?} is read");
        }
        assert!(Set::decode(&json!({"f:a": 1})).is_err());
    }

    fn element() -> impl Strategy<Value = Element> {
        let scalar = prop_oneof![
            any::<i32>().prop_map(Value::from),
            "[a-z<>&\"\\\\é]{0,4}".prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        let pairs = proptest::collection::btree_map("[a-z]{1,3}", scalar.clone(), 1..3);
        prop_oneof![
            "[a-zA-Z0-9./ -]{0,5}".prop_map(Element::Field),
            pairs.prop_map(|pairs| Element::Key(
                pairs.into_iter().map(|(name, value)| (name, Atom(value))).collect()
            )),
            scalar.prop_map(|value| Element::Value(Atom(value))),
            any::<u16>().prop_map(|index| Element::Index(index.into())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn decoding_undoes_encoding(paths in proptest::collection::vec(proptest::collection::vec(element(), 1..5), 0..20)) {
            let mut set = Set::default();
            paths.iter().for_each(|path| set.insert(path));
            prop_assert_eq!(Set::decode(&set.encode()).unwrap(), set);
        }

        #[test]
        fn sets_obey_the_laws_of_sets(a in proptest::collection::vec(proptest::collection::vec(element(), 1..4), 0..12), b in proptest::collection::vec(proptest::collection::vec(element(), 1..4), 0..12)) {
            let (mut left, mut right) = (Set::default(), Set::default());
            a.iter().for_each(|path| left.insert(path));
            a.iter().take(3).chain(&b).for_each(|path| right.insert(path));
            let (union, common) = (left.union(&right), left.intersection(&right));
            prop_assert_eq!(&union, &right.union(&left));
            prop_assert_eq!(&left.difference(&right).union(&common), &left);
            prop_assert!(left.difference(&right).intersection(&right).is_empty());
            prop_assert!(a.iter().chain(&b).all(|path| union.has(path)));
        }
    }
}
